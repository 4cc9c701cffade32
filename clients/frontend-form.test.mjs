import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { API_KEY, BASIC, CLIENT_ID, CLIENT_SECRET, UUID, World } from './harness.mjs';
import { Browser } from './support/browser.mjs';

describe('@nangohq/frontend in Chromium: forms', () => {
  let world;
  let browser;
  let page;
  before(async () => {
    world = await World.start();
    browser = await Browser.start(world.host);
    page = await browser.open();
  });
  after(async () => {
    await browser?.stop();
    await world?.stop();
  });

  async function submit(method, key, options, session = { tags: { end_user_id: `via-${key}` } }) {
    const { token } = await world.session(session);
    await browser.call(page, { connectSessionToken: token }, method, key, ...(options ? [options] : []));
    return browser.outcome(page);
  }

  async function works(outcome, key, via) {
    const { resolved } = outcome;
    assert.ok(resolved, JSON.stringify(outcome));
    assert.equal(resolved.providerConfigKey, key);
    assert.match(resolved.connectionId, UUID);
    const { connectionId } = resolved;
    assert.deepEqual((await world.nango.getConnection(key, connectionId)).tags, { end_user_id: `via-${key}` });
    if (via) {
      const { data } = await world.nango.get({ endpoint: '/whoami', providerConfigKey: key, connectionId });
      assert.equal(data.authenticated_by, via);
    }
    const { body } = await world.receiver.one('creation', (hook) => hook.body.connectionId === connectionId);
    assert.deepEqual([body.operation, body.success, body.tags], ['creation', true, { end_user_id: `via-${key}` }]);
    return connectionId;
  }

  test('auth with an API key', async () => {
    const id = await works(await submit('auth', 'api-key', { credentials: { apiKey: API_KEY } }), 'api-key', 'api_key');
    assert.deepEqual(await world.nango.getToken('api-key', id), { type: 'API_KEY', apiKey: API_KEY });
  });

  test('auth with user name and password', async () => {
    const id = await works(await submit('auth', 'basic', { credentials: BASIC }), 'basic', 'basic');
    assert.deepEqual(await world.nango.getToken('basic', id), { type: 'BASIC', ...BASIC });
  });

  test('auth with a client of the customer\'s own', async () => {
    const credentials = { client_id: CLIENT_ID, client_secret: CLIENT_SECRET };
    const id = await works(await submit('auth', 'client-credentials', { credentials }), 'client-credentials', 'client_credentials');
    assert.equal((await world.nango.getToken('client-credentials', id)).type, 'OAUTH2_CC');
  });

  test('create without credentials', async () => {
    await works(await submit('create', 'none'), 'none');
  });

  test('params become the connection\'s configuration', async () => {
    const { resolved } = await submit('create', 'none', { params: { subdomain: 'a b&c=d+e', number: 1 } });
    const { connection_config: config } = await world.nango.getConnection('none', resolved.connectionId);
    assert.equal(config.subdomain, 'a b&c=d+e');
    assert.ok(!('number' in config), 'the client sends strings only');
  });

  test('credentials the provider refuses are connection_test_failed, and leave nothing', async () => {
    for (const [key, credentials] of [['api-key', { apiKey: 'planted-wrong-key' }], ['basic', { username: 'ada', password: 'planted-wrong-password' }]]) {
      const { rejected } = await submit('auth', key, { credentials }, { tags: { end_user_id: 'refused' } });
      assert.deepEqual([rejected?.isAuthError, rejected?.type], [true, 'connection_test_failed']);
      assert.ok(rejected.message.length > 0);
    }
    const credentials = { client_id: CLIENT_ID, client_secret: 'planted-wrong-secret' };
    const { rejected } = await submit('auth', 'client-credentials', { credentials }, { tags: { end_user_id: 'refused' } });
    assert.equal(rejected.type, 'client_credentials_fetch_error');
    assert.deepEqual((await world.nango.listConnections({ userId: 'refused' })).connections, []);
  });

  test('other refusals carry code and message', async () => {
    for (const [method, key, options, type] of [
      ['auth', 'no-such', { credentials: { apiKey: 'planted-x' } }, 'unknown_provider_config'],
      ['auth', 'basic', { credentials: { apiKey: 'planted-x' } }, 'invalid_auth_mode'],
      ['create', 'api-key', undefined, 'invalid_auth_mode'],
      ['auth', 'api-key', { credentials: { apiKey: '' } }, 'invalid_body']
    ]) {
      const { rejected } = await submit(method, key, options);
      assert.deepEqual([rejected?.isAuthError, rejected?.type], [true, type], `${method} ${key}`);
    }
    const limited = await submit('create', 'none', undefined, { tags: {}, allowed_integrations: ['oauth'] });
    assert.equal(limited.rejected.type, 'integration_not_allowed');
  });

  test('an ended session rejects', async () => {
    const { token } = await world.session({ tags: {} });
    await world.api('DELETE', '/connect/session', { key: token });
    await browser.call(page, { connectSessionToken: token }, 'auth', 'api-key', { credentials: { apiKey: API_KEY } });
    assert.equal((await browser.outcome(page)).rejected.type, 'unknown_connect_session_token');
  });

  test('reconnect with a new API key keeps the connection', async () => {
    const imported = await world.import('api-key', { connection_id: 'rekeyed', tags: { end_user_id: 'u1' }, metadata: { kept: 1 } });
    const { data: session } = await world.nango.createReconnectSession({ connection_id: 'rekeyed', integration_id: 'api-key', tags: { end_user_id: 'u2' } });
    await browser.call(page, { connectSessionToken: session.token }, 'reconnect', 'api-key', { credentials: { apiKey: API_KEY } });
    const { resolved } = await browser.outcome(page);
    assert.equal(resolved.connectionId, 'rekeyed');
    const connection = await world.nango.getConnection('api-key', 'rekeyed');
    assert.equal(connection.id, imported.id);
    assert.deepEqual(connection.tags, { end_user_id: 'u2' }, 'tags of the session replace');
    assert.deepEqual(connection.metadata, { kept: 1 });
    await world.receiver.one('override', (hook) => hook.body.connectionId === 'rekeyed' && hook.body.operation === 'override');
  });

  test('errors can be read by a page of another origin', async () => {
    const ask = (path, init) =>
      page.evaluate(async ([url, options]) => {
        const response = await fetch(url, options);
        return { status: response.status, code: (await response.json()).error.code };
      }, [world.host + path, init]);
    const json = { 'content-type': 'application/json' };
    assert.deepEqual(await ask('/connect/session', { headers: { authorization: 'Bearer planted-x' } }), { status: 401, code: 'invalid_connect_session_token_format' });
    assert.deepEqual(await ask('/api-auth/api-key/api-key', { method: 'POST', headers: json, body: '{"broken' }), { status: 400, code: 'invalid_json' });
    assert.deepEqual(await ask('/api-auth/api-key/api-key', { method: 'POST', headers: { 'content-type': 'text/plain' }, body: 'x' }), { status: 415, code: 'invalid_content_type' });
    const { token } = await world.session({ tags: {} });
    assert.deepEqual(await ask(`/api-auth/api-key/no-such?connect_session_token=${token}`, { method: 'POST', headers: json, body: '{"apiKey":"planted-x"}' }), { status: 404, code: 'unknown_provider_config' });
    assert.deepEqual(await ask('/no/such/path', { method: 'POST', headers: json, body: '{}' }), { status: 404, code: 'not_found' });
  });
});
