import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { CLIENT_ID, CLIENT_SECRET, INTEGRATIONS, TIME_Z, World, assertRefused } from './harness.mjs';

const credentials = { type: 'OAUTH2', client_id: 'some-id', client_secret: 'planted-client-secret', scopes: 'a,b' };

describe('@nangohq/node: integrations', () => {
  let world;
  before(async () => {
    world = await World.start();
    world.server.secret('planted-client-secret');
  });
  after(() => world.stop());

  test('listIntegrations gives them under configs, without credentials', async () => {
    const { configs } = await world.nango.listIntegrations();
    const keys = configs.map(({ unique_key: key }) => key);
    for (const { unique_key: key } of INTEGRATIONS) assert.ok(keys.includes(key), key);
    const providers = configs.map(({ provider }) => provider);
    assert.deepEqual(providers, [...providers].sort(), 'ordered by provider');
    for (const config of configs) {
      assert.ok(!('credentials' in config));
      assert.match(config.created_at, TIME_Z);
      assert.equal(config.forward_webhooks, true);
      assert.match(config.logo, /\/images\/template-logos\/test-.*\.svg$/);
    }
  });

  test('listIntegrations refuses a key without the scope', async () => {
    const key = await world.scopedKey('environment:proxy');
    await assertRefused(world.client({ apiKey: key }).listIntegrations(), 403, 'forbidden');
  });

  test('getIntegration gives one, with credentials and webhook URL only when asked', async () => {
    const { data } = await world.nango.getIntegration({ uniqueKey: 'oauth' });
    assert.deepEqual(Object.keys(data).sort(), [
      'created_at', 'display_name', 'forward_webhooks', 'logo', 'provider', 'unique_key', 'updated_at'
    ]);
    assert.equal(data.display_name, 'Test OAuth');
    const { data: full } = await world.nango.getIntegration({ uniqueKey: 'oauth' }, { include: ['credentials'] });
    assert.deepEqual(full.credentials, {
      type: 'OAUTH2', client_id: CLIENT_ID, client_secret: CLIENT_SECRET, scopes: 'contacts.read', webhook_secret: null
    });
    assert.ok(!('webhook_url' in full));
    // Of an array the client sends the last element only.
    const { data: webhook } = await world.nango.getIntegration({ uniqueKey: 'oauth' }, { include: ['credentials', 'webhook'] });
    assert.ok('webhook_url' in webhook && !('credentials' in webhook));
    const { data: none } = await world.nango.getIntegration({ uniqueKey: 'api-key' }, { include: ['credentials'] });
    assert.equal(none.credentials, null);
  });

  test('getIntegration leaves credentials out for a key without that scope', async () => {
    const key = await world.scopedKey('environment:integrations:read');
    const { data } = await world.client({ apiKey: key }).getIntegration({ uniqueKey: 'oauth' }, { include: ['credentials'] });
    assert.ok(!('credentials' in data));
  });

  test('getIntegration refuses unknown keys and unknown includes', async () => {
    await assertRefused(world.nango.getIntegration({ uniqueKey: 'no-such' }), 404, 'not_found');
    await assertRefused(world.nango.getIntegration({ uniqueKey: 'oauth' }, { include: ['secrets'] }), 400, 'invalid_query_params');
  });

  test('createIntegration stores what was given', async () => {
    const { data } = await world.nango.createIntegration({
      provider: 'test-oauth', unique_key: 'created', display_name: 'Made by test', forward_webhooks: false, credentials
    });
    assert.equal(data.unique_key, 'created');
    assert.equal(data.display_name, 'Made by test');
    assert.equal(data.forward_webhooks, false);
    const { data: read } = await world.nango.getIntegration({ uniqueKey: 'created' }, { include: ['credentials'] });
    assert.deepEqual(read.credentials, { ...credentials, webhook_secret: null });
  });

  test('createIntegration refuses what cannot be', async () => {
    const create = (body) => world.nango.createIntegration(body);
    const { error: taken } = await assertRefused(create({ provider: 'test-none', unique_key: 'none' }), 400, 'invalid_body');
    assert.deepEqual(taken.errors.map(({ code, path }) => [code, path]), [['invalid_string', ['uniqueKey']]]);
    const { error: unknown } = await assertRefused(create({ provider: 'no-such', unique_key: 'x' }), 400, 'invalid_body');
    assert.deepEqual(unknown.errors.map(({ code, path }) => [code, path]), [['invalid_string', ['provider']]]);
    const { error: lacking } = await assertRefused(create({ provider: 'test-oauth', unique_key: 'x' }), 400, 'invalid_body');
    assert.equal(typeof lacking.message, 'string');
    await assertRefused(create({ provider: 'test-api-key', unique_key: 'x', credentials }), 400, 'invalid_body');
    const { error: fields } = await assertRefused(create({ unique_key: 'a/b', surprise: 1 }), 400, 'invalid_body');
    assert.deepEqual(fields.errors.map(({ code, path }) => [code, path]), [
      ['invalid_type', ['provider']],
      ['invalid_format', ['unique_key']],
      ['unrecognized_keys', []]
    ]);
  });

  test('createQuickstartIntegration is refused: there is no shared developer app', async () => {
    await assertRefused(world.nango.createQuickstartIntegration({ provider: 'test-oauth', unique_key: 'quick' }), 400, 'invalid_body');
    await assertRefused(world.nango.createQuickstartIntegration({ provider: 'test-none', unique_key: 'quick' }), 400, 'invalid_body');
    await assertRefused(world.nango.getIntegration({ uniqueKey: 'quick' }), 404, 'not_found');
  });

  test('updateIntegration changes only what is given', async () => {
    await world.nango.createIntegration({ provider: 'test-oauth', unique_key: 'before', credentials });
    const { data } = await world.nango.updateIntegration({ uniqueKey: 'before' }, { unique_key: 'after', display_name: 'Renamed' });
    assert.equal(data.unique_key, 'after');
    assert.equal(data.display_name, 'Renamed');
    assert.ok(new Date(data.updated_at) > new Date(data.created_at));
    const { data: read } = await world.nango.getIntegration({ uniqueKey: 'after' }, { include: ['credentials'] });
    assert.equal(read.credentials.client_id, 'some-id');
    await assertRefused(world.nango.getIntegration({ uniqueKey: 'before' }), 404, 'not_found');
  });

  test('updateIntegration refuses unknown keys, taken names, and renaming under live connections', async () => {
    await assertRefused(world.nango.updateIntegration({ uniqueKey: 'no-such' }, { display_name: 'x' }), 404, 'not_found');
    await world.nango.createIntegration({ provider: 'test-none', unique_key: 'occupied' });
    await assertRefused(world.nango.updateIntegration({ uniqueKey: 'occupied' }, { unique_key: 'none' }), 400, 'invalid_body');
    await world.import('occupied', { credentials: { type: 'NONE' } });
    await assertRefused(world.nango.updateIntegration({ uniqueKey: 'occupied' }, { unique_key: 'elsewhere' }), 400, 'invalid_body');
    await assertRefused(world.nango.updateIntegration({ uniqueKey: 'occupied' }, { credentials }), 400, 'invalid_body');
  });

  test('deleteIntegration takes its connections along, and gives the response', async () => {
    await world.nango.createIntegration({ provider: 'test-none', unique_key: 'doomed' });
    const { connection_id: id } = await world.import('doomed', { credentials: { type: 'NONE' } });
    const response = await world.nango.deleteIntegration('doomed');
    assert.equal(response.status, 200);
    assert.deepEqual(response.data, { success: true });
    assert.deepEqual(await world.nango.listConnections({ connectionId: id }), { connections: [] });
    await assertRefused(world.nango.deleteIntegration('doomed'), 404, 'not_found');
  });
});
