// The Connect UI as a product uses it: the published SDK opens it in an iframe on another site, or a customer opens a
// link. Each point of the protocol's conformance list is one test here, under its number.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { API_KEY, UUID, World, until } from './harness.mjs';
import { Browser } from './support/browser.mjs';
import { RICH, approve, openLink, openUi, richProviders } from './support/connect-ui.mjs';
import { freePort } from './support/process.mjs';
import { PREFIX, reverseProxy } from './support/reverse-proxy.mjs';

describe('Connect UI: conformance', () => {
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

  const noSecrets = async (page) => assert.deepEqual(page.problems, []);

  test('1. a page of another site, the unmodified SDK: ready, token, list, an API key connects; connect, then close', async () => {
    const ui = await openUi(browser, world, { session: { tags: { end_user_id: 'one' } } });
    await ui.row('Test API key').click();
    await ui.heading('Connect Test API key').waitFor();
    await ui.field('API key').fill(API_KEY);
    await ui.primary.click();
    await ui.heading('Test API key is connected').waitFor();
    await ui.frame.getByRole('button', { name: 'Done' }).click();
    await ui.page.locator('#connect-ui').waitFor({ state: 'detached' });
    const events = await ui.events();
    assert.deepEqual(events.map((event) => event.type), ['ready', 'connect', 'close']);
    const { payload } = events[1];
    assert.equal(payload.providerConfigKey, 'api-key');
    assert.match(payload.connectionId, UUID);
    assert.deepEqual((await world.nango.getConnection('api-key', payload.connectionId)).tags, { end_user_id: 'one' });
    await world.receiver.one('creation', (hook) => hook.body.connectionId === payload.connectionId && hook.body.success);
    await noSecrets(ui.page);
  });

  test('2. the token may come later, also after the words that there is none; another one after it expired', async () => {
    const ui = await openUi(browser, world, { session: null, prepare: (page) => page.clock.install() });
    await ui.event('ready');
    await ui.frame.locator('[data-screen=loading]').waitFor();
    await ui.page.clock.fastForward(11_000);
    await ui.heading('Please start in your app').waitFor();
    const first = await world.session({ tags: {}, allowed_integrations: ['api-key', 'fields'] });
    await ui.setToken(first.token);
    await ui.row('Northwind Freight').click();
    await ui.field('Subdomain').fill('acme');
    await world.api('DELETE', '/connect/session', { key: first.token });
    await ui.field('Account number').fill('NW-1234');
    await ui.field('API key').fill(API_KEY);
    await ui.primary.click();
    await ui.heading('This session has expired').waitFor();
    await ui.event('session_expired');
    const second = await world.session({ tags: { end_user_id: 'renewed' }, allowed_integrations: ['api-key', 'fields'] });
    await ui.setToken(second.token);
    // Where it was left, with what was typed.
    await ui.heading('Connect Northwind Freight').waitFor();
    assert.equal(await ui.field('Subdomain').inputValue(), 'acme');
    await ui.primary.click();
    await ui.heading('Northwind Freight is connected').waitFor();
    const { payload } = await ui.event('connect');
    const connection = await world.nango.getConnection('fields', payload.connectionId);
    assert.deepEqual(connection.tags, { end_user_id: 'renewed' });
    assert.equal(connection.connection_config.subdomain, 'acme');
    assert.equal(connection.connection_config.version, 'v1', 'hidden fields are filled in by the server');
  });

  test('3. OAuth 2: window, WebSocket, callback, event; the window closes', async () => {
    const ui = await openUi(browser, world, { session: { tags: {}, allowed_integrations: ['oauth'] } });
    await ui.heading('Connect Test OAuth').waitFor();
    assert.equal(await ui.frame.getByRole('button', { name: 'Back' }).count(), 0, 'there is no list to go back to');
    const popup = await ui.popup();
    await ui.heading('Continue in the other window').waitFor();
    await approve(popup);
    await ui.heading('Test OAuth is connected').waitFor();
    const { payload } = await ui.event('connect');
    assert.equal(payload.isPending, false);
    await until('the window is closed', () => popup.isClosed());
    assert.equal((await world.nango.getConnection('oauth', payload.connectionId)).connection_id, payload.connectionId);
    await noSecrets(ui.page);
  });

  test('3b. also below a path prefix, with a WebSocket path of its own', async () => {
    const port = await freePort();
    const proxy = await reverseProxy(port);
    const prefixed = await World.start({ port, publicUrl: proxy.url, env: { PATCHBAY_WEBSOCKETS_PATH: '/ws' } });
    try {
      const ui = await openUi(browser, prefixed, { session: { tags: {}, allowed_integrations: ['oauth'] }, host: proxy.url });
      const sockets = [];
      ui.page.on('websocket', (socket) => sockets.push(new URL(socket.url()).pathname));
      const popup = await ui.popup();
      await approve(popup);
      await ui.heading('Test OAuth is connected').waitFor();
      assert.deepEqual(sockets, [`${PREFIX}/ws`]);
      const link = (await prefixed.session({ tags: {}, allowed_integrations: ['api-key'] })).connect_link;
      const page = await openLink(browser, link);
      await page.getByRole('textbox', { name: 'API key' }).fill(API_KEY);
      await page.getByRole('button', { name: 'Connect', exact: true }).click();
      await page.getByRole('heading', { name: 'Test API key is connected' }).waitFor();
      await page.context().close();
      await ui.page.context().close();
    } finally {
      await prefixed.stop();
      await proxy.stop();
    }
  });

  test('4. the provider denies: one error event, its words on the screen, the window closes', async () => {
    const ui = await openUi(browser, world, { session: { tags: {}, allowed_integrations: ['oauth'] } });
    const popup = await ui.popup();
    await popup.getByRole('button', { name: 'Deny' }).click();
    await ui.heading('Test OAuth is not connected').waitFor();
    await ui.frame.getByText('Access was declined at Test OAuth.').waitFor();
    await ui.frame.getByText('Details').click();
    assert.match(await ui.frame.locator('pre').innerText(), /denied the request/);
    await until('the window is closed', () => popup.isClosed());
    const errors = (await ui.events()).filter((event) => event.type === 'error');
    assert.equal(errors.length, 1);
    assert.equal(errors[0].payload.errorType, 'callback_err');
    assert.match(errors[0].payload.errorMessage, /denied the request/);
    await ui.frame.getByRole('button', { name: 'Try again' }).click();
    await ui.heading('Connect Test OAuth').waitFor();
  });

  test('5. a session that ended before the window opened is said, not waited for', async () => {
    const ui = await openUi(browser, world, { session: { tags: {}, allowed_integrations: ['oauth'] } });
    await ui.heading('Connect Test OAuth').waitFor();
    await world.api('DELETE', '/connect/session', { key: ui.token });
    const popup = await ui.popup();
    await ui.event('error');
    await ui.heading('This session has expired').waitFor();
    await ui.event('session_expired');
    await until('the window is closed', () => popup.isClosed());
  });

  test('6. 401 is an expired session; an error inside a 200 is a failure', async () => {
    const ui = await openUi(browser, world, { session: null });
    await ui.setToken(`nango_connect_session_${'0'.repeat(64)}`);
    await ui.heading('This session has expired').waitFor();
    await ui.event('session_expired');
    const answer = { status: 200, contentType: 'application/json', headers: { 'access-control-allow-origin': '*' }, body: '{"error":{"code":"x"}}' };
    const wrong = await openUi(browser, world, { prepare: (page) => page.route('**/connect/session', (route) => route.fulfill(answer)) });
    await wrong.heading('This did not work').waitFor();
    await wrong.page.unroute('**/connect/session');
    await wrong.frame.getByRole('button', { name: 'Try again' }).click();
    await wrong.heading('Connect an account').waitFor();
  });

  test('7. messages of other windows and origins are ignored: token and callback', async () => {
    const ui = await openUi(browser, world, { session: null });
    await ui.event('ready');
    const planted = await world.session({ tags: { end_user_id: 'planted' } });
    // A frame beside ours, of the same page, says what only the page around us may say.
    await ui.page.evaluate(async (token) => {
      const other = document.body.appendChild(document.createElement('iframe'));
      const script = other.contentDocument.createElement('script');
      script.textContent = `parent.document.getElementById('connect-ui').contentWindow.postMessage({ type: 'session_token', sessionToken: '${token}' }, '*')`;
      other.contentDocument.body.append(script);
    }, planted.token);
    await ui.setToken((await world.session({ tags: {}, allowed_integrations: ['oauth'] })).token);
    await ui.heading('Connect Test OAuth').waitFor();
    const popup = await ui.popup();
    await popup.getByRole('button', { name: 'Approve' }).waitFor();
    await ui.page.evaluate(() => {
      const target = document.getElementById('connect-ui').contentWindow;
      target.postMessage({ type: 'nango_oauth_callback_error', payload: { message: 'planted', errorType: 'connection_validation_failed' } }, '*');
      target.postMessage({ type: 'settings_changed', payload: { theme: { light: { primary: 'red' } } } }, '*');
    });
    await approve(popup);
    await ui.heading('Test OAuth is connected').waitFor();
    assert.deepEqual((await ui.events()).map((event) => event.type), ['ready', 'connect']);
  });

  test('8. a connect link works in a fresh profile with no other parameter: form and window', async () => {
    for (const [key, name] of [['api-key', 'Test API key'], ['oauth', 'Test OAuth']]) {
      const { connect_link: link } = await world.session({ tags: { end_user_id: `link-${key}` } });
      assert.deepEqual([...new URL(link).searchParams.keys()], ['session_token']);
      const page = await openLink(browser, link);
      await page.getByRole('button', { name: `Connect ${name}`, exact: true }).click();
      if (key === 'oauth') {
        const opened = page.waitForEvent('popup');
        await page.getByRole('button', { name: `Continue to ${name}` }).click();
        await approve(await opened);
      } else {
        await page.getByRole('textbox', { name: 'API key' }).fill(API_KEY);
        await page.getByRole('button', { name: 'Connect', exact: true }).click();
      }
      await page.getByRole('heading', { name: `${name} is connected` }).waitFor();
      await page.getByText('You can close this tab.').waitFor();
      assert.equal(await page.getByRole('button', { name: 'Close' }).count(), 0, 'nobody would hear it');
      assert.equal((await world.nango.listConnections({ userId: `link-${key}` })).connections.length, 1);
      await page.context().close();
    }
  });

  test('9. apiURL of another server does not get the token', async () => {
    const { connect_link: link, token } = await world.session({ tags: {} });
    const asked = [];
    const page = await openLink(browser, `${link}&apiURL=${encodeURIComponent('https://evil.example/api')}`, {
      prepare: (one) => one.context().on('request', (request) => asked.push(request.url()))
    });
    await page.getByRole('heading', { name: 'Connect an account' }).waitFor();
    assert.deepEqual(asked.filter((url) => url.includes('evil.example') && !url.startsWith(world.host)), []);
    assert.ok(asked.some((url) => url === `${world.host}/connect/session`));
    assert.ok(!page.url().includes(token));
    await page.context().close();
  });

  test('10. forms without a body are accepted; answers carry CORS headers whatever they say', async () => {
    const { token } = await world.session({ tags: {} });
    const origin = { origin: 'https://app.example', 'content-type': 'application/json' };
    const post = (path, init = {}) => fetch(world.host + path, { method: 'POST', headers: origin, ...init });
    const created = await post(`/auth/unauthenticated/none?connect_session_token=${token}`);
    assert.equal(created.status, 200);
    assert.equal((await created.json()).providerConfigKey, 'none');
    const outbound = await post(`/auth/oauth-outbound/outbound?connect_session_token=${token}`);
    assert.equal(outbound.status, 200);
    assert.equal((await outbound.json()).providerConfigKey, 'outbound');
    const answers = [
      [400, await post(`/api-auth/api-key/api-key?connect_session_token=${token}`, { body: '{' })],
      [401, await fetch(`${world.host}/connect/session`, { headers: origin })],
      [404, await post(`/api-auth/api-key/no-such?connect_session_token=${token}`, { body: '{"apiKey":"planted-x"}' })]
    ];
    for (const [status, answer] of answers) {
      assert.equal(answer.status, status);
      assert.equal(answer.headers.get('access-control-allow-origin'), '*');
      assert.equal(typeof (await answer.json()).error.code, 'string');
    }
    const preflight = await fetch(`${world.host}/api-auth/api-key/api-key`, {
      method: 'OPTIONS',
      headers: { origin: 'https://app.example', 'access-control-request-method': 'POST', 'access-control-request-headers': 'content-type,accept-language' }
    });
    assert.equal(preflight.headers.get('access-control-allow-origin'), '*');
    const limited = await World.start({ env: { PATCHBAY_RATE_LIMIT_PER_MIN: '12' } });
    try {
      const session = await limited.session({ tags: {} });
      const answer = await until('the limit is reached', async () => {
        const one = await fetch(`${limited.host}/connect/session`, { headers: { authorization: `Bearer ${session.token}` } });
        return one.status === 429 && one;
      });
      assert.equal(answer.headers.get('access-control-allow-origin'), '*');
      assert.equal((await answer.json()).error.code, 'too_many_request');
    } finally {
      await limited.stop();
    }
  });

  test('11. brackets of the query are the same encoded and not', async () => {
    const { token } = await world.session({ tags: {} });
    const configs = [];
    for (const params of ['params%5Bsubdomain%5D=a', 'params[subdomain]=a']) {
      const answer = await fetch(`${world.host}/auth/unauthenticated/none?connect_session_token=${token}&${params}`, { method: 'POST' });
      const { connectionId } = await answer.json();
      configs.push((await world.nango.getConnection('none', connectionId)).connection_config);
    }
    assert.deepEqual(configs, [{ subdomain: 'a' }, { subdomain: 'a' }]);
    const scopes = [];
    for (const scope of ['user_scope=a%2Cb', 'user_scope=a,b']) {
      const answer = await fetch(`${world.host}/oauth/connect/oauth?connect_session_token=${token}&${scope}`, { redirect: 'manual' });
      assert.equal(answer.status, 302);
      scopes.push(new URL(answer.headers.get('location')).searchParams.get('scope'));
    }
    assert.equal(scopes[0], scopes[1]);
  });

  test('13. no cookie, no storage, no foreign request, no violation of the policy; no token in history or Referer', async () => {
    const asked = [];
    const violations = [];
    const { connect_link: link, token } = await world.session({ tags: {}, allowed_integrations: ['oauth', 'api-key'] });
    const page = await openLink(browser, link, {
      prepare: async (one) => {
        one.context().on('request', async (request) => asked.push({ url: request.url(), headers: await request.allHeaders().catch(() => request.headers()) }));
        one.on('console', (message) => /Content Security Policy/.test(message.text()) && violations.push(message.text()));
        await one.addInitScript(() => {
          window.violated = [];
          document.addEventListener('securitypolicyviolation', (event) => window.violated.push(event.violatedDirective));
        });
      }
    });
    await page.getByRole('button', { name: 'Connect Test OAuth' }).click();
    const opened = page.waitForEvent('popup');
    await page.getByRole('button', { name: 'Continue to Test OAuth' }).click();
    await approve(await opened);
    await page.getByRole('heading', { name: 'Test OAuth is connected' }).waitFor();
    const kept = await page.evaluate(async () => ({
      cookie: document.cookie,
      local: localStorage.length,
      session: sessionStorage.length,
      databases: (await indexedDB.databases()).length,
      violated: window.violated,
      state: history.state
    }));
    assert.deepEqual(kept, { cookie: '', local: 0, session: 0, databases: 0, violated: [], state: null });
    assert.deepEqual(violations, []);
    assert.deepEqual(await page.context().cookies(), [], 'the cookie of the attempt is gone with it');
    for (const request of asked) {
      assert.ok([world.host, world.sample.url].some((own) => request.url.startsWith(own)), request.url);
      const { referer = '' } = request.headers;
      assert.ok(!referer.includes(token), `the token stands in the Referer of ${request.url}`);
    }
    assert.ok(!page.url().includes('session_token'));
    await page.reload();
    await page.getByRole('heading', { name: 'Please start in your app' }).waitFor();
    assert.deepEqual(page.problems, []);
    await page.context().close();
  });
});

describe('Connect UI: ways and failures', () => {
  let world;
  let browser;
  before(async () => {
    world = await World.start({ catalog: richProviders, more: RICH, settings: ['connect_ui.theme.light.primary = "#ffdd00"', 'connect_ui.theme.dark.primary = "#002244"'] });
    browser = await Browser.start(world.host);
  });
  after(async () => {
    await browser?.stop();
    await world?.stop();
  });

  const phone = { viewport: { width: 375, height: 720 }, hasTouch: true, isMobile: true };

  test('on a telephone a link goes to the provider and comes back: connected', async () => {
    const { connect_link: link, token } = await world.session({ tags: { end_user_id: 'phone' } });
    const page = await openLink(browser, `${link}&lang=de&theme=dark`, { options: phone });
    await page.getByRole('button', { name: 'Test OAuth verbinden', exact: true }).tap();
    await page.getByRole('button', { name: 'Weiter zu Test OAuth' }).tap();
    await approve(page);
    await page.getByRole('heading', { name: 'Test OAuth ist verbunden' }).waitFor();
    assert.equal(await page.locator('html').getAttribute('data-theme'), 'dark', 'language and theme came back too');
    assert.ok(!page.url().includes(token) && !page.url().includes('attempt'), page.url());
    assert.equal((await world.nango.listConnections({ userId: 'phone' })).connections.length, 1);
    await page.context().close();
  });

  test('on a telephone a denial comes back in words, and the second try works', async () => {
    const { connect_link: link } = await world.session({ tags: { end_user_id: 'phone-2' }, allowed_integrations: ['oauth-tenant'] });
    const page = await openLink(browser, link, { options: phone });
    await page.getByRole('textbox', { name: 'Tenant' }).fill('acme');
    await page.getByRole('button', { name: 'Continue to' }).tap();
    await page.getByRole('button', { name: 'Deny' }).tap();
    await page.getByText('Access was declined at').waitFor();
    await page.getByRole('button', { name: 'Try again' }).tap();
    await page.getByRole('textbox', { name: 'Tenant' }).fill('acme');
    await page.getByRole('button', { name: 'Continue to' }).tap();
    await approve(page);
    await page.getByRole('heading', { name: 'is connected' }).waitFor();
    const { connections } = await world.nango.listConnections({ userId: 'phone-2' });
    assert.equal((await world.nango.getConnection('oauth-tenant', connections[0].connection_id)).connection_config.tenant, 'acme');
    await page.context().close();
  });

  test('a link whose windows are blocked goes on in its own tab', async () => {
    const { connect_link: link } = await world.session({ tags: {}, allowed_integrations: ['oauth'] });
    const page = await openLink(browser, link, { prepare: (one) => one.addInitScript(() => { window.open = () => null; }) });
    await page.getByRole('button', { name: 'Continue to Test OAuth' }).click();
    await page.getByRole('alert').getByText('Your browser blocked the window').waitFor();
    await page.getByRole('button', { name: 'Go on in this tab' }).click();
    await approve(page);
    await page.getByRole('heading', { name: 'Test OAuth is connected' }).waitFor();
    await page.context().close();
  });

  test('a frame whose windows are blocked offers a link, and asks the server how it went', async () => {
    const ui = await openUi(browser, world, {
      session: { tags: {}, allowed_integrations: ['oauth'] },
      prepare: (page) => page.context().addInitScript(() => { if (window.parent !== window) window.open = () => null; })
    });
    await ui.primary.click();
    const { payload } = await ui.event('error');
    assert.equal(payload.errorType, 'blocked_by_browser');
    const opened = ui.page.context().waitForEvent('page');
    await ui.frame.getByRole('link', { name: 'Go on in a new tab' }).click();
    const tab = await opened;
    await approve(tab);
    await ui.heading('Test OAuth is connected').waitFor();
    await ui.event('connect');
  });

  test('without WebSockets the outcome is asked for', async () => {
    const ui = await openUi(browser, world, {
      session: { tags: {}, allowed_integrations: ['oauth'] },
      prepare: (page) => page.context().addInitScript(() => { window.WebSocket = class { constructor() { throw new Error('blocked'); } }; })
    });
    await approve(await ui.popup());
    await ui.heading('Test OAuth is connected').waitFor();
  });

  test('a closed window: open it again, or stop', async () => {
    const ui = await openUi(browser, world, { session: { tags: {}, allowed_integrations: ['oauth'] } });
    const first = await ui.popup();
    await first.getByRole('button', { name: 'Approve' }).waitFor();
    await first.close();
    const opened = ui.page.waitForEvent('popup');
    await ui.frame.getByRole('button', { name: 'Open the window again' }).click();
    const second = await opened;
    await second.getByRole('button', { name: 'Approve' }).waitFor();
    // A stray click beside the card must not end what is going on.
    await ui.page.mouse.click(5, 5);
    await ui.heading('Continue in the other window').waitFor();
    await ui.frame.getByRole('button', { name: 'Cancel' }).click();
    await ui.heading('Connect Test OAuth').waitFor();
    await until('the window is closed', () => second.isClosed());
    await approve(await ui.popup());
    await ui.heading('Test OAuth is connected').waitFor();
  });

  test('detectClosedAuthWindow says that the window was closed', async () => {
    const ui = await openUi(browser, world, { session: { tags: {}, allowed_integrations: ['oauth'] }, props: { detectClosedAuthWindow: true } });
    const popup = await ui.popup();
    await popup.getByRole('button', { name: 'Approve' }).waitFor();
    await popup.close();
    await ui.frame.getByRole('alert').getByText('The window was closed before').waitFor();
    assert.equal((await ui.event('error')).payload.errorType, 'window_closed');
  });

  test('credentials the provider refuses: words, details, back to what was typed', async () => {
    const ui = await openUi(browser, world, { session: { tags: {}, allowed_integrations: ['fields'] } });
    await ui.field('Subdomain').fill('https://acme.northwind.example/settings');
    await ui.field('Account number').fill('NW-0001');
    assert.equal(await ui.field('Subdomain').inputValue(), 'acme', 'an address is cut down to the part that is asked for');
    await ui.field('API key').fill('planted-wrong');
    await ui.primary.click();
    await ui.frame.getByText('did not accept what you entered').waitFor();
    assert.equal((await ui.event('error')).payload.errorType, 'connection_test_failed');
    await ui.frame.getByRole('button', { name: 'Try again' }).click();
    assert.equal(await ui.field('Account number').inputValue(), 'NW-0001');
    await ui.field('API key').fill(API_KEY);
    await ui.primary.click();
    await ui.heading('Northwind Freight is connected').waitFor();
    const { payload } = await ui.event('connect');
    const { connection_config: config } = await world.nango.getConnection('fields', payload.connectionId);
    assert.equal(config.subdomain, 'acme');
    assert.equal(config.region, 'eu');
  });

  test('a server that is away is said, and asked again', async () => {
    const ui = await openUi(browser, world, { prepare: (page) => page.route('**/integrations', (route) => route.abort()) });
    await ui.frame.getByText('The server cannot be reached').waitFor();
    await ui.page.unroute('**/integrations');
    await ui.frame.getByRole('button', { name: 'Try again' }).click();
    await ui.heading('Connect an account').waitFor();
    await ui.page.route('**/api-auth/**', (route) => route.fulfill({ status: 503, contentType: 'text/html', body: '<h1>proxy</h1>' }));
    await ui.row('Test API key').click();
    await ui.field('API key').fill(API_KEY);
    await ui.primary.click();
    await ui.frame.getByText('The server has a problem').waitFor();
    assert.equal((await ui.event('error')).payload.errorType, 'unknown_error');
  });

  test('an integration that went away meanwhile is said', async () => {
    await world.nango.createIntegration({ unique_key: 'brief', provider: 'test-none' });
    const ui = await openUi(browser, world);
    await ui.row('Test without authentication').first().waitFor();
    await world.nango.deleteIntegration('brief');
    const rows = ui.row('Test without authentication');
    await rows.last().click();
    await ui.frame.getByText('can no longer be connected here').waitFor();
    await ui.frame.getByRole('button', { name: 'Back' }).click();
    await ui.heading('Connect an account').waitFor();
    const gone = { status: 404, json: { error: { code: 'unknown_provider_config', message: 'no such integration' } } };
    const prepare = (page) => page.route('**/connect/form/**', (route) => route.fulfill(gone));
    const single = await openUi(browser, world, { session: { tags: {}, allowed_integrations: ['none'] }, prepare });
    await single.frame.getByText('No service has been set up here').waitFor();
    await single.frame.locator('.foot').getByRole('button', { name: 'Close' }).click();
    await single.page.locator('#connect-ui').waitFor({ state: 'detached' });
  });

  test('what only the server finds wrong stands beside its field, until that is changed', async () => {
    const findings = [{ code: 'custom', message: 'API key: is one of a test account', path: ['credentials', 'apiKey'] }];
    const refusal = { status: 400, json: { error: { code: 'invalid_body', errors: findings } } };
    const ui = await openUi(browser, world, {
      session: { tags: {}, allowed_integrations: ['api-key'] },
      prepare: (page) => page.route('**/api-auth/**', (route) => route.fulfill(refusal))
    });
    await ui.field('API key').fill('planted-test-key');
    await ui.primary.click();
    await ui.frame.getByText('API key is one of a test account').waitFor();
    assert.equal(await ui.field('API key').evaluate((input) => input === document.activeElement), true);
    await ui.page.unroute('**/api-auth/**');
    await ui.field('API key').fill(API_KEY);
    await ui.frame.getByText('API key is one of a test account').waitFor({ state: 'hidden' });
    await ui.primary.click();
    await ui.heading('Test API key is connected').waitFor();
  });

  test('no integrations: words and a way out', async () => {
    const empty = await World.start({ integrations: false });
    try {
      const ui = await openUi(browser, empty, { host: empty.host });
      await ui.heading('Nothing to connect yet').waitFor();
      await ui.frame.locator('.foot').getByRole('button', { name: 'Close' }).click();
      await ui.page.locator('#connect-ui').waitFor({ state: 'detached' });
      await ui.page.context().close();
    } finally {
      await empty.stop();
    }
  });

  test('leaving with typed values asks first; without it does not', async () => {
    const ui = await openUi(browser, world);
    await ui.row('Northwind Freight').click();
    await ui.field('Subdomain').fill('acme');
    await ui.page.keyboard.press('Escape');
    await ui.frame.getByRole('dialog', { name: 'Leave without connecting?' }).waitFor();
    await ui.frame.getByRole('button', { name: 'Stay' }).click();
    assert.equal(await ui.field('Subdomain').inputValue(), 'acme');
    await ui.frame.getByRole('button', { name: 'Close' }).click();
    await ui.frame.getByRole('button', { name: 'Leave' }).click();
    await ui.page.locator('#connect-ui').waitFor({ state: 'detached' });
    const other = await openUi(browser, world);
    await other.heading('Connect an account').waitFor();
    await other.page.mouse.click(5, 5);
    await other.page.locator('#connect-ui').waitFor({ state: 'detached' });
  });

  test('preset values are not asked for, and their secrets never reach the browser', async () => {
    const secret = world.server.secret('planted-preset-secret');
    const defaults = { fields: { connection_config: { subdomain: 'preset', account: 'NW-7777', apiKey: secret } }, oauth: { connection_config: { oauth_client_secret_override: secret } } };
    const bodies = [];
    const ui = await openUi(browser, world, {
      session: { tags: {}, allowed_integrations: ['fields', 'oauth'], integrations_config_defaults: defaults },
      prepare: (page) => page.on('response', async (response) => bodies.push(await response.text().catch(() => '')))
    });
    await ui.row('Northwind Freight').click();
    await ui.heading('Connect Northwind Freight').waitFor();
    assert.equal(await ui.field('Subdomain').count(), 0);
    await ui.field('API key').fill(API_KEY);
    await ui.primary.click();
    await ui.heading('Northwind Freight is connected').waitFor();
    const { payload } = await ui.event('connect');
    assert.equal((await world.nango.getConnection('fields', payload.connectionId)).connection_config.account, 'NW-7777');
    assert.ok(bodies.some((body) => body.includes('integrations_config_defaults')));
    assert.ok(!bodies.some((body) => body.includes(secret)));
  });

  test('a preset the provider would refuse is the product\'s fault, and said so', async () => {
    const defaults = { fields: { connection_config: { account: 'wrong' } } };
    const ui = await openUi(browser, world, { session: { tags: {}, allowed_integrations: ['fields'], integrations_config_defaults: defaults } });
    await ui.frame.getByRole('alert').getByText('not valid: Account number').waitFor();
    assert.equal(await ui.primary.getAttribute('aria-disabled'), 'true');
  });

  test('fields are checked while they are filled in', async () => {
    const ui = await openUi(browser, world, { session: { tags: {}, allowed_integrations: ['fields'] } });
    await ui.heading('Connect Northwind Freight').waitFor();
    assert.equal(await ui.primary.getAttribute('aria-disabled'), 'true');
    await ui.primary.click({ force: true });
    await ui.frame.getByText('Please fill this in.').first().waitFor();
    assert.equal(await ui.field('Subdomain').evaluate((input) => input === document.activeElement), true, 'the first wrong field is where one is');
    for (const [name, wrong, right, words] of [
      ['Subdomain', 'a b', 'acme', 'Please enter a host name such as acme.'],
      ['Account number', '12', 'NW-1234', 'An example: NW-1234'],
      ['Contact', 'ada@', 'ada@example.com', 'Please enter an e-mail address'],
      ['Site', 'nowhere', 'https://example.com', 'Please enter a full address']
    ]) {
      await ui.field(name).fill(wrong);
      await ui.field(name).blur();
      await ui.frame.getByText(words).waitFor();
      assert.equal(await ui.field(name).getAttribute('aria-invalid'), 'true');
      await ui.field(name).fill(right);
      await ui.frame.getByText(words).waitFor({ state: 'hidden' });
    }
    const key = ui.frame.getByRole('textbox', { name: 'API key', exact: true });
    assert.equal(await key.getAttribute('type'), 'password');
    await key.fill(API_KEY);
    await ui.frame.getByRole('button', { name: 'Show API key' }).click();
    assert.equal(await key.getAttribute('type'), 'text');
    assert.equal(await ui.primary.getAttribute('aria-disabled'), 'false');
  });

  test('reconnect names itself, keeps the connection and its id', async () => {
    await world.import('api-key', { connection_id: 'again', tags: { end_user_id: 'u' }, metadata: { kept: 1 } });
    const { data } = await world.nango.createReconnectSession({ connection_id: 'again', integration_id: 'api-key' });
    const ui = await openUi(browser, world, { session: null });
    await ui.setToken(world.server.secret(data.token));
    await ui.heading('Reconnect Test API key').waitFor();
    await ui.field('API key').fill(API_KEY);
    await ui.primary.click();
    await ui.heading('Test API key is connected').waitFor();
    assert.equal((await ui.event('connect')).payload.connectionId, 'again');
    assert.deepEqual((await world.nango.getConnection('api-key', 'again')).metadata, { kept: 1 });
  });

  test('colours come from the environment, with text on them that can be read', async () => {
    for (const [theme, ground, text] of [['light', 'rgb(255, 221, 0)', 'rgb(22, 25, 29)'], ['dark', 'rgb(0, 34, 68)', 'rgb(255, 255, 255)']]) {
      const ui = await openUi(browser, world, { session: { tags: {}, allowed_integrations: ['none'] }, props: { themeOverride: theme } });
      await ui.heading('Connect Test without authentication').waitFor();
      const style = await ui.primary.evaluate((button) => ({ ground: getComputedStyle(button).backgroundColor, text: getComputedStyle(button).color }));
      assert.deepEqual(style, { ground, text });
    }
  });

  test('the operator reads in the log how far somebody came', async () => {
    const answers = [];
    const ui = await openUi(browser, world, {
      prepare: async (page) => {
        page.on('response', (response) => response.url().endsWith('/connect/telemetry') && answers.push(response.status()));
        await page.context().addInitScript(() => {
          const send = navigator.sendBeacon.bind(navigator);
          window.steps = [];
          navigator.sendBeacon = (url, words) => {
            words.text().then((text) => window.steps.push(JSON.parse(text).event));
            return send(url, words);
          };
        });
      }
    });
    await ui.row('Test without authentication').first().click();
    await ui.primary.click();
    await ui.heading('Test without authentication is connected').waitFor();
    const wanted = ['open', 'view:list', 'click:integration', 'view:integration', 'click:connect', 'view:success'];
    await until('the steps are sent', async () => (await ui.document().evaluate(() => window.steps.length)) === wanted.length);
    assert.deepEqual(await ui.document().evaluate(() => window.steps), wanted);
    await until('they are taken', () => answers.filter((status) => status === 204).length === wanted.length);
  });
});
