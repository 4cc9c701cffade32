// What keeps the flow from being turned against those who use it, in a browser: where the token goes, who may show our
// pages, whose answer counts. That an attempt lasts an hour is tested with a clock that leaps, in `crates/web`.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import { after, before, describe, test } from 'node:test';
import { World, until } from './harness.mjs';
import { Browser } from './support/browser.mjs';
import { RICH, approve, openLink, openUi, richProviders } from './support/connect-ui.mjs';

const phone = { viewport: { width: 375, height: 720 }, hasTouch: true, isMobile: true };

/** A server of somebody else, which notes what it is asked. */
class Stranger {
  static async start(page = '') {
    const stranger = new Stranger();
    stranger.asked = [];
    stranger.server = http.createServer((request, response) => {
      stranger.asked.push(`${request.url} ${JSON.stringify(request.headers)}`);
      response.setHeader('content-type', 'text/html');
      response.setHeader('access-control-allow-origin', '*');
      response.setHeader('access-control-allow-headers', '*');
      response.end(page);
    });
    stranger.server.listen(0, '127.0.0.1');
    await once(stranger.server, 'listening');
    stranger.url = `http://localhost:${stranger.server.address().port}`;
    return stranger;
  }

  async stop() {
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
  }
}

describe('Connect UI: security of the flow', () => {
  let world;
  let browser;
  before(async () => {
    world = await World.start({
      catalog: richProviders,
      more: RICH,
      env: { PATCHBAY_CONNECT_UI_API_URLS: 'https://api.allowed.example/base', PATCHBAY_CONNECT_UI_FRAME_ANCESTORS: 'https://app.example.com' }
    });
    browser = await Browser.start(world.host);
  });
  after(async () => {
    await browser?.stop();
    await world?.stop();
  });

  /** All requests of a profile, with what each says of where it comes from. */
  function noting(page, asked) {
    page.context().on('request', (request) => asked.push(request.allHeaders().then((headers) => ({ url: request.url(), referer: headers.referer ?? '' }), () => ({ url: request.url(), referer: '' }))));
  }

  test('the token stands in no Referer: same tab to the provider and back', async () => {
    const asked = [];
    const { connect_link: link, token } = await world.session({ tags: {}, allowed_integrations: ['oauth'] });
    const page = await openLink(browser, link, { options: phone, prepare: (one) => noting(one, asked) });
    await page.getByRole('button', { name: 'Continue to Test OAuth' }).tap();
    await page.getByRole('button', { name: 'Approve' }).waitFor();
    assert.equal(await page.evaluate(() => document.referrer), '', 'the provider learns nothing');
    await approve(page);
    await page.getByRole('heading', { name: 'Test OAuth is connected' }).waitFor();
    assert.ok(!page.url().includes(token), 'it has left the address bar');
    const requests = await Promise.all(asked);
    assert.ok(requests.some(({ url }) => url.startsWith(world.sample.url)));
    for (const { url, referer } of requests) {
      assert.ok(!referer.includes(token) && !referer.includes('session_token'), `Referer of ${url}`);
      if (!url.startsWith(world.host)) assert.ok(!url.includes(token), url);
    }
    await page.goBack();
    assert.ok(!page.url().includes(token), 'nor is it in the history');
    await page.context().close();
  });

  test('apiURL: another server is not asked, one that the operator allows is', async () => {
    const { connect_link: link } = await world.session({ tags: {} });
    const allowed = [];
    const answer = { status: 200, headers: { 'access-control-allow-origin': '*', 'access-control-allow-headers': '*' }, json: { data: [] } };
    const page = await openLink(browser, `${link}&apiURL=${encodeURIComponent('https://api.allowed.example/base/')}`, {
      prepare: (one) =>
        one.route('https://api.allowed.example/**', (route) => {
          allowed.push(route.request().url());
          return route.fulfill(answer);
        })
    });
    await until('the allowed server is asked', () => allowed.includes('https://api.allowed.example/base/connect/session'));
    await page.context().close();
    for (const wrong of ['https://api.allowed.example/other', 'https://api.allowed.example.evil.example/base', 'https://api.allowed.example@evil.example/base', 'javascript:alert(1)', 'http://api.allowed.example/base']) {
      const asked = [];
      const other = await openLink(browser, `${link}&apiURL=${encodeURIComponent(wrong)}`, {
        prepare: async (one) => {
          one.context().on('request', (request) => asked.push(new URL(request.url()).origin));
        }
      });
      await other.getByRole('heading', { name: 'Connect an account' }).waitFor();
      assert.deepEqual([...new Set(asked)], [world.host], wrong);
      await other.context().close();
    }
  });

  test('clickjacking: only those whom the operator names may show the Connect UI, and nobody our other pages', async () => {
    const { connect_link: link } = await world.session({ tags: {} });
    const framed = [link, `${world.host}/`, `${world.host}/oauth/callback?error=x`, `${world.host}/oauth/connect/oauth?connect_session_token=x`];
    const page = await browser.open();
    for (const address of framed) {
      const refused = page.waitForEvent('console', (message) => /frame-ancestors|X-Frame-Options/i.test(message.text()));
      await page.evaluate((src) => {
        const frame = document.createElement('iframe');
        frame.src = src;
        document.body.replaceChildren(frame);
      }, address);
      await refused;
      assert.deepEqual(page.frames().filter((frame) => frame.url().startsWith(world.host)), [], `${address} is shown in a stranger's frame`);
    }
    await page.context().close();
  });

  test('a state serves once, also in the browser that began', async () => {
    const { token } = await world.session({ tags: { end_user_id: 'once' } });
    const context = await browser.context();
    const page = await context.newPage();
    await page.goto(`${world.host}/oauth/connect/oauth?connect_session_token=${token}`);
    await approve(page);
    await page.getByRole('heading', { name: 'Connected', exact: true }).waitFor();
    await page.reload();
    await page.getByText('unknown, already used, or too old').waitFor();
    assert.equal((await world.nango.listConnections({ userId: 'once' })).connections.length, 1);
    await context.close();
  });
});

describe('Connect UI: security towards the page around it', () => {
  let world;
  let browser;
  before(async () => {
    world = await World.start({ catalog: richProviders, more: RICH });
    browser = await Browser.start(world.host);
  });
  after(async () => {
    await browser?.stop();
    await world?.stop();
  });

  test('whoever gave the token is whom we talk to; the window learns no token', async () => {
    const ui = await openUi(browser, world, { session: { tags: {}, allowed_integrations: ['oauth'] } });
    const popup = await ui.popup();
    await popup.getByRole('button', { name: 'Approve' }).waitFor();
    assert.ok(!popup.url().includes(ui.token));
    await approve(popup);
    await ui.heading('Test OAuth is connected').waitFor();
    const events = await ui.events();
    assert.ok(!JSON.stringify(events).includes(ui.token));
    await ui.page.context().close();
  });

  test('what the page around us is told never holds the token, not even of a link', async () => {
    const stranger = await Stranger.start('<script>window.heard = []; window.addEventListener("message", (event) => window.heard.push(event.data));</script>');
    try {
      const page = await (await browser.context()).newPage();
      await page.goto(stranger.url);
      const { connect_link: link, token } = await world.session({ tags: {}, allowed_integrations: ['none'] });
      await page.evaluate((src) => {
        const inner = document.createElement('iframe');
        inner.src = src;
        document.body.append(inner);
      }, link);
      await page.frameLocator('iframe').getByRole('button', { name: 'Connect', exact: true }).click();
      const heard = await until('it says that it is connected', () => page.evaluate(() => window.heard.some((one) => one.type === 'connect') && window.heard));
      assert.deepEqual(heard.map((one) => one.type), ['ready', 'connect']);
      assert.ok(!JSON.stringify(heard).includes(token));
      assert.ok(!JSON.stringify(stranger.asked).includes(token));
      await page.context().close();
    } finally {
      await stranger.stop();
    }
  });
});
