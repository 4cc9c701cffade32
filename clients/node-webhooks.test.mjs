import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { VARIABLE, World, assertRefused } from './harness.mjs';

describe('@nangohq/node: webhook verification and environment variables', () => {
  let world;
  before(async () => {
    world = await World.start();
  });
  after(() => world.stop());

  const of = (id, operation) => ({ body }) => body.connectionId === id && (!operation || body.operation === operation);

  test('a delivered webhook satisfies both verifiers', async () => {
    await world.import('oauth', { connection_id: 'hook-1', tags: { end_user_id: 'u1', city: 'Zürich 🚢' } });
    const { raw, body, headers, method, path } = await world.receiver.one('creation', of('hook-1'));
    assert.deepEqual([method, path], ['POST', '/app']);
    assert.deepEqual(body, {
      from: 'nango', type: 'auth', operation: 'creation', connectionId: 'hook-1', providerConfigKey: 'oauth', provider: 'test-oauth',
      authMode: 'OAUTH2', environment: 'dev', success: true, tags: { end_user_id: 'u1', city: 'Zürich 🚢' }
    });
    assert.equal(raw, JSON.stringify(body), 'the deprecated verifier writes the JSON again');
    assert.match(headers['content-type'], /^application\/json/);
    for (const client of [world.client(), world.client({ apiKey: world.key, webhookSigningKey: world.key })]) {
      assert.equal(client.verifyIncomingWebhookRequest(raw, headers), true);
      assert.equal(client.verifyWebhookSignature(headers['x-nango-signature'], body), true);
    }
    assert.match(headers['webhook-id'], /\S/);
    assert.match(headers['webhook-timestamp'], /^\d+$/);
    assert.match(headers['webhook-signature'], /^v1,/);
  });

  test('a changed body, a missing header and a foreign key do not verify', async () => {
    await world.import('none', { connection_id: 'hook-2' });
    const { raw, body, headers } = await world.receiver.one('creation', of('hook-2'));
    const nango = world.client();
    assert.equal(nango.verifyIncomingWebhookRequest(raw.replace('hook-2', 'hook-3'), headers), false);
    assert.equal(nango.verifyWebhookSignature(headers['x-nango-signature'], { ...body, success: false }), false);
    const { 'x-nango-hmac-sha256': _, ...without } = headers;
    assert.equal(nango.verifyIncomingWebhookRequest(raw, without), false);
    assert.equal(nango.verifyIncomingWebhookRequest(raw, { ...headers, 'x-nango-hmac-sha256': 'short' }), false);
    const stranger = world.client({ secretKey: randomUUID() });
    assert.equal(stranger.verifyIncomingWebhookRequest(raw, headers), false);
    assert.equal(stranger.verifyWebhookSignature(headers['x-nango-signature'], body), false);
    assert.equal(world.client({ apiKey: world.key }).verifyIncomingWebhookRequest(raw, headers), false, 'an API key never verifies');
  });

  test('an import over a connection says override', async () => {
    await world.import('none', { connection_id: 'hook-4' });
    await world.import('none', { connection_id: 'hook-4', tags: { again: 'yes' } });
    const { body } = await world.receiver.one('override', of('hook-4', 'override'));
    assert.deepEqual(body.tags, { again: 'yes' });
  });

  test('an override URL replaces the environment\'s', async () => {
    await world.import('none', { connection_id: 'hook-5', webhook_url_override: `${world.receiver.url}/override` });
    const { path, raw, headers } = await world.receiver.one('creation', of('hook-5'));
    assert.equal(path, '/override');
    assert.equal(world.nango.verifyIncomingWebhookRequest(raw, headers), true);
  });

  test('a refused delivery is repeated with the same id and bytes', async () => {
    world.receiver.answer('/retry', 500, 503);
    await world.import('none', { connection_id: 'hook-6', webhook_url_override: `${world.receiver.url}/retry` });
    const attempts = await world.receiver.wait('three attempts', of('hook-6'), 3);
    assert.equal(new Set(attempts.map(({ raw }) => raw)).size, 1);
    assert.equal(new Set(attempts.map(({ headers }) => headers['webhook-id'])).size, 1);
    for (const { raw, headers } of attempts) assert.equal(world.nango.verifyIncomingWebhookRequest(raw, headers), true);
  });

  test('a failed refresh says so', async () => {
    const { access_token, refresh_token } = await world.sample.issue();
    await world.import('oauth', { connection_id: 'hook-7', credentials: { type: 'OAUTH2', access_token, refresh_token, expires_at: new Date(0).toISOString() } });
    await world.sample.behave({ refresh_token: { failure: { kind: 'invalid_grant' } } });
    await assertRefused(world.nango.getConnection('oauth', 'hook-7'), 400, 'invalid_credentials');
    await world.sample.behave();
    const { body, raw, headers } = await world.receiver.one('refresh failure', of('hook-7', 'refresh'));
    assert.equal(body.success, false);
    assert.equal(typeof body.error.type, 'string');
    assert.equal(typeof body.error.description, 'string');
    assert.equal(world.nango.verifyIncomingWebhookRequest(raw, headers), true);
  });

  test('after a rotation the new key signs', async () => {
    const { status, body } = await world.api('POST', '/environment/webhook-signing-key/rotate');
    assert.equal(status, 200);
    const { webhook_signing_key: signingKey } = body.data;
    world.server.secret(signingKey);
    await world.import('none', { connection_id: 'hook-8' });
    const { raw, headers, body: payload } = await world.receiver.one('creation', of('hook-8'));
    const rotated = world.client({ apiKey: world.key, webhookSigningKey: signingKey });
    assert.equal(rotated.verifyIncomingWebhookRequest(raw, headers), true);
    assert.equal(rotated.verifyWebhookSignature(headers['x-nango-signature'], payload), true);
    assert.equal(world.client().verifyIncomingWebhookRequest(raw, headers), false, 'the API key is no longer the signing key');
  });

  test('getEnvironmentVariables gives a bare list', async () => {
    assert.deepEqual(await world.nango.getEnvironmentVariables(), [VARIABLE]);
  });

  test('getEnvironmentVariables gives an empty list where there are none', async () => {
    const printed = await world.server.command('keys', 'create', '--env', 'prod');
    const [key] = printed.match(/[0-9a-f-]{36}/);
    assert.deepEqual(await world.client({ secretKey: world.server.secret(key) }).getEnvironmentVariables(), []);
  });

  test('getEnvironmentVariables is refused without the scope', async () => {
    const key = await world.scopedKey('environment:proxy');
    await assertRefused(world.client({ apiKey: key }).getEnvironmentVariables(), 403, 'forbidden');
  });
});
