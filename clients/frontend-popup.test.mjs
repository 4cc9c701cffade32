// `auth-flows N`: point N of the conformance list of the authorization flows.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { UUID, World, until } from './harness.mjs';
import { Browser } from './support/browser.mjs';

describe('@nangohq/frontend in Chromium: popup', () => {
  let world;
  let browser;
  before(async () => {
    world = await World.start();
    browser = await Browser.start(world.host);
  });
  after(async () => {
    await browser?.stop();
    await world?.stop();
  });

  /** Goes through the provider's page as a person does. */
  async function approve(popup) {
    await popup.getByRole('button', { name: 'Approve' }).click();
  }

  async function closed(popup) {
    await until('the popup is closed', () => popup.isClosed());
  }

  test('auth-flows 1: popup, consent, connection with tags, token, proxied call, signed webhook', async () => {
    const tags = { end_user_id: 'u1', end_user_email: 'ada@example.com', plan: 'Pro' };
    const { token } = await world.session({ tags, allowed_integrations: ['oauth'] });
    const page = await browser.open();
    const popup = await browser.popup(page, { connectSessionToken: token }, 'auth', 'oauth');
    await popup.getByText('contacts.read').waitFor();
    await approve(popup);
    const { resolved } = await browser.outcome(page);
    assert.deepEqual(resolved, { providerConfigKey: 'oauth', connectionId: resolved?.connectionId, isPending: false });
    assert.match(resolved.connectionId, UUID);
    await closed(popup);
    assert.deepEqual(page.problems, []);

    const { connectionId } = resolved;
    const connection = await world.nango.getConnection('oauth', connectionId, false, true);
    assert.deepEqual(connection.tags, tags);
    for (const secret of [connection.credentials.access_token, connection.credentials.refresh_token]) world.server.secret(secret);
    assert.equal(await world.nango.getToken('oauth', connectionId), connection.credentials.access_token);
    const { data } = await world.nango.get({ endpoint: '/whoami', providerConfigKey: 'oauth', connectionId });
    assert.equal(data.authenticated_by, 'oauth2');
    assert.equal(data.scope, 'contacts.read');

    const { raw, headers, body } = await world.receiver.one('auth', (hook) => hook.body.connectionId === connectionId);
    assert.equal(body.operation, 'creation');
    assert.equal(body.success, true);
    assert.deepEqual(body.tags, tags);
    assert.equal(world.nango.verifyIncomingWebhookRequest(raw, headers), true);

    const { token_requests: requests } = await world.sample.state();
    const exchange = Object.fromEntries(requests.at(-1).parameters);
    assert.equal(exchange.grant_type, 'authorization_code');
    assert.equal(exchange.redirect_uri, `${world.host}/oauth/callback`);
    assert.ok(exchange.code_verifier.length >= 43, 'PKCE');
  });

  test('auth-flows 2: a denial rejects, the page says so in the provider\'s words, and the popup closes', async () => {
    const { token } = await world.session({ tags: { end_user_id: 'denier' } });
    const page = await browser.open();
    await page.evaluate(() => {
      window.told = [];
      window.addEventListener('message', (event) => window.told.push({ origin: event.origin, data: event.data }));
    });
    const answers = [];
    page.context().on('response', (response) => response.url().includes('/oauth/callback?') && answers.push(response));
    const popup = await browser.popup(page, { connectSessionToken: token }, 'auth', 'oauth');
    await popup.getByRole('button', { name: 'Deny' }).click();
    const { rejected } = await browser.outcome(page);
    await until('the opener is told', () => page.evaluate(() => window.told.length > 0));
    const [{ origin, data }] = await page.evaluate(() => window.told);
    assert.equal(origin, world.host);
    assert.deepEqual([data.type, data.payload.errorType], ['nango_oauth_callback_error', 'connection_validation_failed']);
    assert.equal(JSON.parse(data.payload.message).error, 'access_denied');
    assert.deepEqual(answers.map((answer) => [answer.status(), answer.headers()['content-type']]), [[400, 'text/html; charset=utf-8']]);
    assert.equal(rejected.isAuthError, true);
    assert.equal(rejected.type, 'callback_err');
    assert.match(rejected.message, /denied/);
    await closed(popup);
    assert.deepEqual((await world.nango.listConnections({ userId: 'denier' })).connections, []);
  });

  test('a provider whose token endpoint fails rejects', async () => {
    await world.sample.behave({ authorization_code: { next_failures: [{ kind: 'status', status: 500 }] } });
    const { token } = await world.session({ tags: { end_user_id: 'unlucky' } });
    const page = await browser.open();
    const popup = await browser.popup(page, { connectSessionToken: token }, 'auth', 'oauth');
    await approve(popup);
    const { rejected } = await browser.outcome(page);
    assert.equal(rejected.isAuthError, true);
    assert.equal(typeof rejected.type, 'string');
    await world.sample.behave();
    const { body } = await world.receiver.one('failed auth', (hook) => hook.body.success === false);
    assert.equal(body.operation, 'creation');
    assert.equal(typeof body.error.type, 'string');
    assert.deepEqual((await world.nango.listConnections({ userId: 'unlucky' })).connections, []);
  });

  test('a window closed early rejects with detectClosedAuthWindow', async () => {
    const { token } = await world.session({ tags: {} });
    const page = await browser.open();
    const popup = await browser.popup(page, { connectSessionToken: token }, 'auth', 'oauth', { detectClosedAuthWindow: true });
    await popup.getByRole('button', { name: 'Approve' }).waitFor();
    await popup.close();
    const { rejected } = await browser.outcome(page);
    assert.equal(rejected.type, 'window_closed');
  });

  test('connect-ui 5: a session that has ended rejects instead of hanging', async () => {
    const { token } = await world.session({ tags: {} });
    assert.equal((await world.api('DELETE', '/connect/session', { key: token })).status, 204);
    const page = await browser.open();
    for (const [dead, type] of [[token, 'unknown_connect_session_token'], ['planted-no-token', 'invalid_connect_session_token_format']]) {
      const popup = await browser.popup(page, { connectSessionToken: dead }, 'auth', 'oauth');
      const { rejected } = await browser.outcome(page);
      assert.deepEqual([rejected?.isAuthError, rejected?.type], [true, type]);
      await closed(popup);
    }
  });

  test('auth-flows 4 and 5: every other refusal of the first step rejects too', async () => {
    const page = await browser.open();
    const { token } = await world.session({ tags: {}, allowed_integrations: ['oauth', 'none'] });
    for (const [key, args, type] of [
      ['no-such', [], 'provider_config_err'],
      ['oauth-tenant', [], 'integration_not_allowed'],
      ['none', [], 'auth_mode_err'],
      ['oauth', ['an-id-of-my-own'], 'invalid_query_params']
    ]) {
      const popup = await browser.popup(page, { connectSessionToken: token }, 'auth', key, ...args);
      const { rejected } = await browser.outcome(page);
      assert.equal(rejected?.type, type, `${key}: ${JSON.stringify(rejected)}`);
      await closed(popup);
    }
  });

  test('params, authorization_params and the session\'s presets reach the provider', async () => {
    const page = await browser.open();
    const asked = async (session, options) => {
      const { token } = await world.session({ tags: {}, ...session });
      const popup = await browser.popup(page, { connectSessionToken: token }, 'auth', 'oauth-tenant', options);
      await popup.getByRole('button', { name: 'Approve' }).waitFor();
      const { searchParams } = new URL(popup.url());
      await approve(popup);
      const { resolved } = await browser.outcome(page);
      const { connection_config: config } = await world.nango.getConnection('oauth-tenant', resolved.connectionId);
      return { searchParams, config };
    };
    const own = await asked({}, { params: { tenant: 'north sea' }, authorization_params: { prompt: 'consent' } });
    assert.equal(own.searchParams.get('tenant'), 'north sea');
    assert.equal(own.searchParams.get('prompt'), 'consent');
    assert.equal(own.config.tenant, 'north sea');
    const defaults = { 'oauth-tenant': { connection_config: { tenant: 'preset' }, authorization_params: { prompt: 'login' } } };
    const preset = await asked({ integrations_config_defaults: defaults }, { params: { tenant: 'mine' }, authorization_params: { prompt: 'none' } });
    assert.equal(preset.searchParams.get('tenant'), 'preset', 'the session wins');
    assert.equal(preset.searchParams.get('prompt'), 'login');
    assert.equal(preset.config.tenant, 'preset');
    const without = await asked({}, { params: { tenant: 'x' }, authorization_params: { response_mode: undefined } });
    assert.equal(without.searchParams.has('response_mode'), false);
  });

  test('auth-flows 8: reconnect keeps id, tags and metadata, and says override', async () => {
    const imported = await world.import('oauth', { connection_id: 'reconnected', tags: { end_user_id: 'u7' }, metadata: { kept: 1 } });
    const { data: session } = await world.nango.createReconnectSession({ connection_id: 'reconnected', integration_id: 'oauth' });
    const page = await browser.open();
    const popup = await browser.popup(page, { connectSessionToken: session.token }, 'reconnect', 'oauth');
    await approve(popup);
    const { resolved } = await browser.outcome(page);
    assert.deepEqual(resolved, { providerConfigKey: 'oauth', connectionId: 'reconnected', isPending: false });
    const connection = await world.nango.getConnection('oauth', 'reconnected');
    assert.equal(connection.id, imported.id);
    assert.notEqual(connection.credentials.access_token, imported.credentials.access_token);
    assert.deepEqual(connection.tags, { end_user_id: 'u7' });
    assert.deepEqual(connection.metadata, { kept: 1 });
    const { body } = await world.receiver.one('override', (hook) => hook.body.connectionId === 'reconnected' && hook.body.operation === 'override');
    assert.deepEqual(body.tags, { end_user_id: 'u7' });
  });

  test('a callback from another browser is refused', async () => {
    const { token } = await world.session({ tags: { end_user_id: 'thief' } });
    const page = await browser.open();
    const popup = await browser.popup(page, { connectSessionToken: token }, 'auth', 'oauth');
    await popup.getByRole('button', { name: 'Approve' }).waitFor();
    const { searchParams } = new URL(popup.url());
    // Somebody else's consent, carried to our callback with the state of this popup.
    const approval = await fetch(`${world.sample.url}/oauth/authorize`, {
      method: 'POST', redirect: 'manual', body: new URLSearchParams([...searchParams, ['decision', 'approve']])
    });
    const answer = await fetch(approval.headers.get('location'));
    assert.equal(answer.status, 400);
    assert.match(answer.headers.get('content-type'), /^text\/html/);
    assert.deepEqual((await world.nango.listConnections({ userId: 'thief' })).connections, []);
    const { rejected } = await browser.outcome(page);
    assert.equal(rejected.type, 'state_cookie_err');
  });

  test('the client itself refuses to start without a token', async () => {
    const page = await browser.open();
    await browser.call(page, {}, 'auth', 'oauth');
    assert.equal((await browser.outcome(page)).rejected.type, 'missing_auth_token');
    await browser.call(page, {}, 'reconnect', 'oauth');
    assert.equal((await browser.outcome(page)).rejected.type, 'missing_connect_session_token');
  });
});
