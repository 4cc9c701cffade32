import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { World } from './harness.mjs';
import { Browser } from './support/browser.mjs';
import { freePort } from './support/process.mjs';
import { PREFIX, reverseProxy } from './support/reverse-proxy.mjs';

describe('@nangohq/frontend behind a reverse proxy with a path prefix', () => {
  let proxy;
  let world;
  let browser;
  before(async () => {
    const port = await freePort();
    proxy = await reverseProxy(port);
    world = await World.start({ port, publicUrl: proxy.url, env: { PATCHBAY_WEBSOCKETS_PATH: '/ws' } });
    browser = await Browser.start(proxy.url);
  });
  after(async () => {
    await browser?.stop();
    await world?.stop();
    await proxy?.stop();
  });

  test('the popup flow works with a path in the host and a WebSocket path', async () => {
    const { token } = await world.session({ tags: { end_user_id: 'prefixed' } });
    const page = await browser.open();
    const popup = await browser.popup(page, { connectSessionToken: token, websocketsPath: `${PREFIX}/ws` }, 'auth', 'oauth');
    await popup.getByRole('button', { name: 'Approve' }).click();
    const outcome = await browser.outcome(page);
    assert.equal(outcome.resolved?.isPending, false, JSON.stringify(outcome));
    const { token_requests: requests } = await world.sample.state();
    assert.equal(Object.fromEntries(requests.at(-1).parameters).redirect_uri, `${proxy.url}/oauth/callback`);
    const client = world.client({ host: `${proxy.url}/` });
    const { data } = await client.get({ endpoint: '/whoami', providerConfigKey: 'oauth', connectionId: outcome.resolved.connectionId });
    assert.equal(data.authenticated_by, 'oauth2');
  });

  test('forms work there too, and links carry the prefix', async () => {
    const session = await world.session({ tags: {} });
    assert.ok(session.connect_link.startsWith(`${proxy.url}/connect-ui/?session_token=`), session.connect_link);
    const page = await browser.open();
    await browser.call(page, { connectSessionToken: session.token }, 'create', 'none');
    const { resolved } = await browser.outcome(page);
    assert.equal(resolved.providerConfigKey, 'none');
    const { data } = await world.nango.getIntegration({ uniqueKey: 'none' });
    assert.ok(data.logo.startsWith(`${proxy.url}/images/`), data.logo);
  });
});
