import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { World, assertRefused } from './harness.mjs';

describe('@nangohq/node: providers', () => {
  let world;
  before(async () => {
    world = await World.start({ integrations: false });
  });
  after(() => world.stop());

  test('listProviders gives the whole catalogue, with our own definitions', async () => {
    const { data } = await world.nango.listProviders({});
    assert.ok(data.length >= 40, `${data.length} providers`);
    for (const provider of data) {
      for (const field of ['name', 'display_name', 'auth_mode', 'docs', 'logo_url']) {
        assert.equal(typeof provider[field], 'string', `${field} of ${provider.name}`);
      }
      assert.equal(provider.logo_url, `${world.server.url}/images/template-logos/${provider.name}.svg`);
      assert.ok(!('alias' in provider), `${provider.name} still has an alias`);
    }
    assert.ok(data.some(({ name }) => name === 'test-oauth'));
    assert.ok(data.some(({ name }) => name === 'github'));
  });

  test('listProviders searches names without regard to case', async () => {
    const { data } = await world.nango.listProviders({ search: 'TEST-O' });
    assert.deepEqual(data.map(({ name }) => name).sort(), ['test-oauth', 'test-oauth-tenant']);
    assert.deepEqual(await world.nango.listProviders({ search: 'no-such-provider-anywhere' }), { data: [] });
  });

  test('listProviders refuses a bad search and a bad key', async () => {
    const { error } = await assertRefused(world.nango.listProviders({ search: 'a!b' }), 400, 'invalid_query_params');
    assert.deepEqual(error.errors[0].path, ['search']);
    const stranger = world.client({ secretKey: 'planted-not-a-uuid' });
    const { error: malformed } = await assertRefused(stranger.listProviders({}), 401, 'invalid_secret_key_format');
    assert.deepEqual(malformed.payload, {});
  });

  test('getProvider gives one definition', async () => {
    const { data } = await world.nango.getProvider({ provider: 'test-api-key' });
    assert.equal(data.name, 'test-api-key');
    assert.equal(data.auth_mode, 'API_KEY');
    assert.equal(data.proxy.base_url, world.sample.url);
    assert.equal(data.credentials.apiKey.secret, true);
  });

  test('getProvider refuses an unknown name and a malformed one', async () => {
    await assertRefused(world.nango.getProvider({ provider: 'no-such-provider' }), 404, 'not_found');
    const { error } = await assertRefused(world.nango.getProvider({ provider: 'a!b' }), 400, 'invalid_uri_params');
    assert.equal(error.errors[0].code, 'invalid_format');
    assert.deepEqual(error.errors[0].path, ['provider']);
  });

  test('getProviderTemplates gives a list, empty for providers without templates', async () => {
    assert.ok(Array.isArray((await world.nango.getProviderTemplates({ provider: 'test-oauth' })).data));
    assert.deepEqual(await world.nango.getProviderTemplates({ provider: 'no-such-provider' }), { data: [] });
  });

  test('getProviderTemplates refuses a malformed name and an unknown key', async () => {
    await assertRefused(world.nango.getProviderTemplates({ provider: 'a!b' }), 400, 'invalid_uri_params');
    const stranger = world.client({ secretKey: '8f14e45f-ceea-467a-9af0-fd1ae0e1b4c4' });
    await assertRefused(stranger.getProviderTemplates({ provider: 'github' }), 401, 'unknown_account');
  });
});
