// The first two minutes of a newcomer: the demonstration's page in a browser, then a client with the key it shows.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { Nango } from '@nangohq/node';
import { Patchbay, Sample, until } from './harness.mjs';
import { Browser } from './support/browser.mjs';

describe('patchbay demo', () => {
  const key = randomUUID();
  let demo;
  let browser;
  let page;
  before(async () => {
    // As it is started by hand: the public URL is http://localhost:<port>.
    demo = await Patchbay.start('demo', { env: { PATCHBAY_PUBLIC_URL: '', PATCHBAY_API_KEY_DEV: key } });
    browser = await Browser.start(`http://localhost:${demo.port}`);
    page = await browser.open();
  });
  after(async () => {
    await browser?.stop();
    await demo?.stop();
  });

  test('it prints where to go', () => {
    const [url] = demo.printed.match(/http:\/\/localhost:\d+/) ?? [];
    assert.equal(url, `http://localhost:${demo.port}`, demo.printed);
  });

  test('its page leads from Connect to a customer\'s data and a genuine webhook', async () => {
    const problems = page.problems;
    await page.goto(`http://localhost:${demo.port}/`);
    assert.equal(await page.getByRole('heading', { level: 1 }).innerText(), 'From a click to a customer\'s data');
    const opened = page.waitForEvent('popup');
    await page.getByRole('button', { name: /^Connect / }).click();
    const popup = await opened;
    await popup.getByRole('button', { name: 'Approve' }).click();
    await page.locator('#connect.done').waitFor();
    await until('the popup is closed', () => popup.isClosed());
    await page.getByRole('button', { name: 'Read the token' }).click();
    await page.locator('#token.done').waitFor();
    await page.getByRole('button', { name: 'Fetch contacts' }).click();
    await page.locator('#contacts.done').waitFor();
    assert.match(await page.locator('#contacts-result').innerText(), /@kestrel-finch\.example/);
    await page.locator('#webhook.done').waitFor();
    assert.deepEqual(problems, []);
  });

  test('a backend with the shown key reads the same connection', async () => {
    const nango = new Nango({ host: `http://localhost:${demo.port}`, secretKey: key });
    const { connections } = await nango.listConnections({ userId: 'customer-17' });
    assert.equal(connections.length, 1);
    const [{ provider_config_key: providerConfigKey, connection_id: connectionId, tags }] = connections;
    assert.equal(tags.end_user_display_name, 'Ada Eklund');
    const { data } = await nango.get({ endpoint: '/whoami', providerConfigKey, connectionId });
    assert.equal(data.authenticated_by, 'oauth2');
    const before = await nango.getToken(providerConfigKey, connectionId);
    assert.notEqual(await nango.getToken(providerConfigKey, connectionId, true), before);
    const sample = await Sample.of(demo, key);
    const { counts } = await sample.state();
    assert.ok(counts.token_refresh >= 1);
    assert.equal(counts.hooks, 1);
  });

  test('the Connect UI opens from it, and what it connects shows on the page', async () => {
    await page.goto(`http://localhost:${demo.port}/`);
    const opened = page.context().waitForEvent('page');
    await page.getByRole('button', { name: 'Open the Connect UI' }).click();
    const tab = await opened;
    const window = tab.waitForEvent('popup');
    await tab.getByRole('button', { name: /^Continue to / }).click();
    await (await window).getByRole('button', { name: 'Approve' }).click();
    await tab.getByRole('heading', { name: /is connected$/ }).waitFor();
    const nango = new Nango({ host: `http://localhost:${demo.port}`, secretKey: key });
    assert.equal((await nango.listConnections({ userId: 'customer-17' })).connections.length, 2);
    await tab.close();
  });

  test('the overview names the customer, without any secret', async () => {
    await page.goto(`http://localhost:${demo.port}/overview`);
    const shown = await page.locator('body').innerText();
    assert.doesNotMatch(await page.content(), new RegExp(key));
    assert.match(shown, /\S/);
  });
});
