import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Nango } from '@nangohq/node';
import { TIME_Z, World, assertRefused } from './harness.mjs';

describe('@nangohq/node: connect sessions', () => {
  let world;
  before(async () => {
    world = await World.start();
  });
  after(() => world.stop());

  /** The browser's part for a mode without a popup. */
  async function connect(token, integration = 'none', path = `/auth/unauthenticated/${integration}`, body = undefined) {
    return world.api('POST', `${path}?connect_session_token=${token}`, { key: null, body, headers: { 'content-type': 'application/json' } });
  }

  test('createConnectSession gives token, link and expiry', async () => {
    const { data } = await world.nango.createConnectSession({ tags: { end_user_id: 'u1' }, allowed_integrations: ['none'] });
    assert.match(data.token, /^nango_connect_session_[0-9a-f]{64}$/);
    const link = new URL(data.connect_link);
    assert.ok(link.pathname.endsWith('/'));
    assert.equal(link.searchParams.get('session_token'), data.token);
    assert.match(data.expires_at, TIME_Z);
    const minutes = (new Date(data.expires_at) - Date.now()) / 60_000;
    assert.ok(minutes > 28 && minutes <= 30, `${minutes} minutes`);
  });

  test('createConnectSession takes every field', async () => {
    const { data } = await world.nango.createConnectSession({
      end_user: { id: 'u2', email: 'u2@example.com', display_name: 'Uma', tags: { plan: 'pro' } },
      organization: { id: 'o2', display_name: 'Org' },
      tags: { extra: 'x' },
      allowed_integrations: ['oauth', 'none'],
      integrations_config_defaults: { oauth: { authorization_params: { prompt: 'consent' }, connection_config: { oauth_scopes_override: 'a,b' } } },
      overrides: { oauth: { docs_connect: 'https://docs.example.com/connect' } },
      webhook_url_override: `${world.receiver.url}/session`
    });
    const { status, body } = await world.api('GET', '/connect/session', { key: data.token });
    assert.equal(status, 200);
    assert.deepEqual(body.data.endUser, {
      id: 'u2', email: 'u2@example.com', display_name: 'Uma', tags: { plan: 'pro' }, organization: { id: 'o2', display_name: 'Org' }
    });
    assert.deepEqual(body.data.allowed_integrations, ['oauth', 'none']);
    assert.deepEqual(body.data.overrides, { oauth: { docs_connect: 'https://docs.example.com/connect' } });
    assert.ok(!('isReconnecting' in body.data));
    const { body: integrations } = await world.api('GET', '/integrations', { key: data.token });
    assert.deepEqual(integrations.data.map(({ unique_key: key }) => key).sort(), ['none', 'oauth'], 'only what is allowed');
    const made = await connect(data.token);
    assert.equal(made.status, 200);
    const connection = await world.nango.getConnection('none', made.body.connectionId);
    assert.deepEqual(connection.tags, {
      end_user_id: 'u2', end_user_email: 'u2@example.com', end_user_display_name: 'Uma', plan: 'pro',
      organization_id: 'o2', organization_display_name: 'Org', extra: 'x'
    });
    assert.equal(connection.webhook_url_override, `${world.receiver.url}/session`);
  });

  test('createConnectSession refuses bad bodies', async () => {
    const create = (body) => world.nango.createConnectSession(body);
    const { error: lacking } = await assertRefused(create({}), 400, 'invalid_body');
    assert.deepEqual(lacking.errors, [{ code: 'invalid_type', message: 'Invalid input: expected object, received undefined', path: ['end_user'] }]);
    const { error: unknown } = await assertRefused(create({ tags: {}, allowed_integrations: ['none', 'no-such'], overrides: { other: {} } }), 400, 'invalid_body');
    assert.deepEqual(unknown.errors.map(({ code, path }) => [code, path]), [['custom', ['allowed_integrations', '1']], ['custom', ['overrides', 'other']]]);
    const { error: email } = await assertRefused(create({ tags: { end_user_email: 'a@localhost' } }), 400, 'invalid_body');
    assert.equal(email.errors[0].code, 'custom');
    await assertRefused(create(undefined), 415, 'invalid_content_type');
    await assertRefused(world.client({ secretKey: '8f14e45f-ceea-467a-9af0-fd1ae0e1b4c4' }).createConnectSession({ tags: {} }), 401, 'unknown_account');
    const key = await world.scopedKey('environment:connections:read');
    await assertRefused(world.client({ apiKey: key }).createConnectSession({ tags: {} }), 403, 'forbidden');
  });

  test('a session serves several authorizations until it is deleted', async () => {
    const { token } = await world.session({ tags: { end_user_id: 'u3' } });
    const [first, second] = [await connect(token), await connect(token)];
    assert.equal(first.status, 200);
    assert.equal(second.status, 200);
    assert.notEqual(first.body.connectionId, second.body.connectionId);
    assert.equal((await world.api('DELETE', '/connect/session', { key: token })).status, 204);
    const { status, body } = await world.api('GET', '/connect/session', { key: token });
    assert.deepEqual([status, body.error.code], [401, 'unknown_connect_session_token']);
    const late = await connect(token);
    assert.deepEqual([late.status, late.body.error.code], [401, 'unknown_connect_session_token']);
    assert.equal(late.headers.get('access-control-allow-origin'), '*');
  });

  test('a session is limited to its integrations', async () => {
    const { token } = await world.session({ tags: {}, allowed_integrations: ['oauth'] });
    const { status, body } = await connect(token);
    assert.deepEqual([status, body.error.code], [400, 'integration_not_allowed']);
  });

  test('createReconnectSession binds to its connection and keeps tags and metadata', async () => {
    const made = await world.import('api-key', { connection_id: 'again', tags: { end_user_id: 'u4' }, metadata: { kept: 1 } });
    const { data } = await world.nango.createReconnectSession({ connection_id: 'again', integration_id: 'api-key' });
    const { body: session } = await world.api('GET', '/connect/session', { key: data.token });
    assert.equal(session.data.isReconnecting, true);
    assert.deepEqual(session.data.allowed_integrations, ['api-key']);
    const { status, body } = await connect(data.token, 'api-key', '/api-auth/api-key/api-key', { apiKey: 'sample-key-7b3e52a0' });
    assert.equal(status, 200, JSON.stringify(body));
    assert.equal(body.connectionId, 'again');
    const connection = await world.nango.getConnection('api-key', 'again');
    assert.equal(connection.id, made.id);
    assert.deepEqual(connection.tags, { end_user_id: 'u4' });
    assert.deepEqual(connection.metadata, { kept: 1 });
  });

  test('createReconnectSession refuses what is not there', async () => {
    const again = (body) => world.nango.createReconnectSession(body);
    const { error } = await assertRefused(again({ connection_id: 'no-such', integration_id: 'api-key' }), 400, 'invalid_body');
    assert.equal(typeof error.message, 'string');
    await assertRefused(again({ connection_id: 'again', integration_id: 'oauth' }), 400, 'invalid_body');
    const { error: fields } = await assertRefused(again({ connection_id: 'again' }), 400, 'invalid_body');
    assert.deepEqual(fields.errors[0].path, ['integration_id']);
  });

  test('waitForConnection finds the connection of a session that has only tags', async () => {
    const { token } = await world.session({ tags: { end_user_id: 'awaited' } });
    const { body } = await connect(token);
    const connection = await world.nango.waitForConnection('none', 'awaited');
    assert.equal(connection.connection_id, body.connectionId);
    assert.equal(connection.provider_config_key, 'none');
    assert.deepEqual(connection.tags, { end_user_id: 'awaited' });
  });

  test('waitForConnection ends when its caller gives up, and when the key is refused', async () => {
    const giveUp = new AbortController();
    // After the first poll was answered: the client looks at its signal between polls only.
    const onFulfilled = (response) => {
      setImmediate(() => giveUp.abort());
      return response;
    };
    const impatient = new Nango({ host: world.server.url, secretKey: world.key }, { interceptors: { response: { onFulfilled } } });
    const waiting = impatient.waitForConnection('none', 'nobody', { signal: giveUp.signal });
    await assert.rejects(waiting, /aborted/);
    const stranger = world.client({ secretKey: '8f14e45f-ceea-467a-9af0-fd1ae0e1b4c4' });
    await assertRefused(stranger.waitForConnection('none', 'nobody'), 401, 'unknown_account');
  });
});
