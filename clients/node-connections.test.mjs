import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { API_KEY, BASIC, CLIENT_ID, TIME_OFFSET, UUID, World, assertRefused } from './harness.mjs';

describe('@nangohq/node: connections, tags, metadata', () => {
  let world;
  before(async () => {
    world = await World.start();
  });
  after(() => world.stop());

  const ids = ({ connections }) => connections.map(({ connection_id: id }) => id);

  test('listConnections filters by id, integration, user and tags, in both forms', async () => {
    const tags = { end_user_id: 'u-list', end_user_email: 'ada@example.com', end_user_display_name: 'Ada Lovelace', organization_id: 'o-list', plan: 'pro' };
    await world.import('none', { connection_id: 'list-1', tags });
    await world.import('none', { connection_id: 'list-2', tags: { ...tags, plan: 'free' } });
    await world.import('api-key', { connection_id: 'list-1', tags: { plan: 'list-other' } });
    const list = (filter) => world.nango.listConnections(filter).then(ids);

    assert.deepEqual(await list({ connectionId: 'list-1' }), ['list-1', 'list-1']);
    assert.deepEqual(await list({ connectionId: 'list-1', integrationId: 'api-key' }), ['list-1']);
    assert.deepEqual(await list({ userId: 'u-list' }), ['list-2', 'list-1'], 'the newest first');
    assert.deepEqual(await list({ tags: { plan: 'pro' } }), ['list-1']);
    assert.deepEqual(await list({ tags: { Plan: 'free', email: 'ada@example.com', displayName: 'Ada Lovelace' } }), ['list-2']);
    assert.deepEqual(await list({ tags: { plan: 'pro', end_user_id: 'someone-else' } }), [], 'all of them must match');
    assert.deepEqual(await list({ tags: { plan: 'PRO' } }), [], 'values are compared exactly');
    assert.equal((await list({ userId: 'u-list', integrationId: ['api-key', 'none'] })).length, 2);

    const legacy = (id, search, queries) => world.nango.listConnections(id, search, queries).then(ids);
    assert.deepEqual(await legacy('list-2'), ['list-2']);
    assert.deepEqual(await legacy(undefined, 'LOVELACE', undefined), ['list-2', 'list-1']);
    assert.deepEqual(await legacy(undefined, 'ist-2', undefined), ['list-2']);
    assert.deepEqual(await legacy(undefined, undefined, { endUserId: 'u-list', limit: 1 }), ['list-2']);
    assert.deepEqual(await legacy(undefined, undefined, { endUserOrganizationId: 'o-list' }), ['list-2', 'list-1']);
  });

  test('listConnections describes each connection, without credentials', async () => {
    await world.import('basic', { connection_id: 'described', metadata: { a: 1 }, tags: { k: 'v' } });
    const { connections } = await world.nango.listConnections({ connectionId: 'described' });
    const [{ id, created, ...rest }] = connections;
    assert.ok(Number.isSafeInteger(id) && id > 0);
    assert.match(created, TIME_OFFSET);
    assert.deepEqual(rest, {
      connection_id: 'described', provider_config_key: 'basic', provider: 'test-basic',
      errors: [], end_user: null, tags: { k: 'v' }, metadata: { a: 1 }
    });
  });

  test('listConnections pages without gap or repetition', async () => {
    for (let index = 0; index < 5; index += 1) await world.import('none', { connection_id: `page-${index}`, tags: { batch: 'page' } });
    const pages = [];
    for (const page of [0, 1, 2, 3]) pages.push(ids(await world.nango.listConnections({ tags: { batch: 'page' }, limit: 2, page })));
    assert.deepEqual(pages, [['page-4', 'page-3'], ['page-2', 'page-1'], ['page-0'], []]);
  });

  test('listConnections refuses bad filters', async () => {
    const { error } = await assertRefused(world.nango.listConnections({ limit: 2001 }), 400, 'invalid_query_params');
    assert.deepEqual(error.errors, [{ code: 'too_big', message: 'Too big: expected number to be <=2000', path: ['limit'] }]);
    const { error: tag } = await assertRefused(world.nango.listConnections({ tags: { '1a': 'x' } }), 400, 'invalid_query_params');
    assert.deepEqual(tag.errors, [{ code: 'invalid_key', message: 'Invalid key in record', path: ['tags', '1a'] }]);
    const eleven = Object.fromEntries(Array.from({ length: 11 }, (_, index) => [`k${index}`, 'v']));
    const { error: many } = await assertRefused(world.nango.listConnections({ tags: eleven }), 400, 'invalid_query_params');
    assert.deepEqual(many.errors.map(({ code, path }) => [code, path]), [['custom', ['tags']]]);
  });

  test('getConnection gives everything, and the refresh token only on request', async () => {
    const imported = await world.import('oauth', { connection_id: 'get-1', metadata: { k: 1 }, connection_config: { subdomain: 'acme' }, tags: { a: 'b' } });
    const connection = await world.nango.getConnection('oauth', 'get-1');
    const { id, created_at: created, updated_at: updated, last_fetched_at: fetched, credentials, ...rest } = connection;
    assert.equal(id, imported.id);
    for (const time of [created, updated, fetched]) assert.match(time, TIME_OFFSET);
    assert.deepEqual(rest, {
      connection_id: 'get-1', provider_config_key: 'oauth', provider: 'test-oauth', errors: [], end_user: null, tags: { a: 'b' },
      metadata: { k: 1 }, connection_config: { subdomain: 'acme' }, webhook_url_override: null
    });
    assert.equal(credentials.type, 'OAUTH2');
    assert.equal(credentials.access_token, imported.credentials.access_token);
    assert.ok(!JSON.stringify(connection).includes(imported.credentials.refresh_token), 'stripped at every depth');
    const full = await world.nango.getConnection('oauth', 'get-1', false, true);
    assert.equal(full.credentials.refresh_token, imported.credentials.refresh_token);
  });

  test('getConnection refreshes when forced, once, and keeps the result', async () => {
    const imported = await world.import('oauth', { connection_id: 'forced' });
    const before = (await world.sample.state()).counts.token_refresh;
    const forced = await world.nango.getConnection('oauth', 'forced', true, true);
    assert.notEqual(forced.credentials.access_token, imported.credentials.access_token);
    assert.notEqual(forced.credentials.refresh_token, imported.credentials.refresh_token, 'the provider rotates');
    assert.ok(new Date(forced.credentials.expires_at) > new Date());
    assert.equal((await world.nango.getConnection('oauth', 'forced')).credentials.access_token, forced.credentials.access_token);
    assert.equal((await world.sample.state()).counts.token_refresh, before + 1);
    // The flag for GitHub apps changes nothing elsewhere.
    const again = await world.nango.getConnection('oauth', 'forced', false, false, true);
    assert.equal(again.credentials.access_token, forced.credentials.access_token);
  });

  test('getConnection refreshes an expired token by itself', async () => {
    const { access_token: stale, refresh_token } = await world.sample.issue();
    await world.import('oauth', {
      connection_id: 'expired',
      credentials: { type: 'OAUTH2', access_token: stale, refresh_token, expires_at: new Date(Date.now() - 60_000).toISOString() }
    });
    const { credentials } = await world.nango.getConnection('oauth', 'expired');
    assert.notEqual(credentials.access_token, stale);
    assert.ok(new Date(credentials.expires_at) > new Date());
  });

  test('getConnection without a refresh token gives the token as it is, even when forced', async () => {
    await world.import('oauth', {
      connection_id: 'no-refresh',
      credentials: { type: 'OAUTH2', access_token: 'planted-access-token', expires_at: new Date(Date.now() - 60_000).toISOString() }
    });
    assert.equal((await world.nango.getConnection('oauth', 'no-refresh', true)).credentials.access_token, 'planted-access-token');
  });

  test('getConnection names a refused refresh, and says so in errors', async () => {
    const { access_token, refresh_token } = await world.sample.issue();
    await world.import('oauth', {
      connection_id: 'revoked',
      credentials: { type: 'OAUTH2', access_token, refresh_token, expires_at: new Date(Date.now() - 60_000).toISOString() }
    });
    await world.sample.behave({ refresh_token: { failure: { kind: 'invalid_grant' } } });
    try {
      const { error } = await assertRefused(world.nango.getConnection('oauth', 'revoked'), 400, 'invalid_credentials');
      assert.equal(error.payload.connection.connection_id, 'revoked');
      assert.deepEqual(error.payload.connection.credentials, {});
      assert.equal(error.payload.connection.errors[0].type, 'auth');
      // Within the cooldown the provider is not asked again.
      const before = (await world.sample.state()).counts.token_refresh;
      await assertRefused(world.nango.getConnection('oauth', 'revoked'), 424, 'invalid_credentials');
      assert.equal((await world.sample.state()).counts.token_refresh, before);
      const [listed] = (await world.nango.listConnections({ connectionId: 'revoked' })).connections;
      assert.equal(listed.errors.length, 1);
    } finally {
      await world.sample.behave();
    }
    // Forcing asks at once, and the recovery clears the error.
    const recovered = await world.nango.getConnection('oauth', 'revoked', true);
    assert.deepEqual(recovered.errors, []);
  });

  test('getConnection refuses what does not exist', async () => {
    await assertRefused(world.nango.getConnection('oauth', 'no-such'), 404, 'not_found');
    await assertRefused(world.nango.getConnection('no-such', 'get-1'), 400, 'unknown_provider_config');
    const { error } = await assertRefused(world.nango.getConnection('', 'get-1'), 400, 'invalid_query_params');
    assert.deepEqual(error.errors[0].path, ['provider_config_key']);
  });

  test('getConnection without the credentials scope gives none, and does not refresh for it', async () => {
    const imported = await world.import('oauth', { connection_id: 'scoped' });
    const reader = world.client({ apiKey: await world.scopedKey('environment:connections:read') });
    const connection = await reader.getConnection('oauth', 'scoped');
    assert.deepEqual(connection.credentials, {});
    assert.deepEqual(new Date(connection.last_fetched_at), new Date(imported.last_fetched_at), 'not counted as a use');
    await assertRefused(reader.getConnection('oauth', 'scoped', true), 403, 'forbidden');
    await assertRefused(reader.getConnection('oauth', 'scoped', false, true), 403, 'forbidden');
  });

  test('getToken gives what the mode has', async () => {
    const oauth = await world.import('oauth', { connection_id: 'token' });
    await world.import('api-key', { connection_id: 'token' });
    await world.import('basic', { connection_id: 'token' });
    await world.import('none', { connection_id: 'token' });
    await world.import('client-credentials', { connection_id: 'token' });
    assert.equal(await world.nango.getToken('oauth', 'token'), oauth.credentials.access_token);
    assert.deepEqual(await world.nango.getToken('api-key', 'token'), { type: 'API_KEY', apiKey: API_KEY });
    assert.deepEqual(await world.nango.getToken('basic', 'token'), { type: 'BASIC', ...BASIC });
    assert.deepEqual(await world.nango.getToken('none', 'token'), {});
    const forced = await world.nango.getToken('client-credentials', 'token', true);
    assert.equal(forced.type, 'OAUTH2_CC');
    assert.equal(forced.client_id, CLIENT_ID);
    assert.notEqual(forced.token, 'planted-cc-token');
    await assertRefused(world.nango.getToken('oauth', 'no-such'), 404, 'not_found');
  });

  test('getRawTokenResponse gives the provider\'s answer', async () => {
    await world.import('oauth', { connection_id: 'raw' });
    const raw = await world.nango.getRawTokenResponse('oauth', 'raw', true);
    assert.equal(raw.token_type, 'Bearer');
    assert.equal(raw.scope, 'contacts.read');
    assert.ok(!('refresh_token' in raw));
    await assertRefused(world.nango.getRawTokenResponse('oauth', 'no-such'), 404, 'not_found');
  });

  test('getMetadata, setMetadata and updateMetadata', async () => {
    await world.import('none', { connection_id: 'meta-1' });
    await world.import('none', { connection_id: 'meta-2', metadata: { old: true } });
    const set = await world.nango.setMetadata('none', ['meta-1', 'meta-2'], { deep: { a: 1 }, list: [1, 2] });
    assert.equal(set.status, 201);
    assert.deepEqual(set.data, { metadata: { deep: { a: 1 }, list: [1, 2] }, connection_id: ['meta-1', 'meta-2'], provider_config_key: 'none' });
    assert.deepEqual(await world.nango.getMetadata('none', 'meta-2'), { deep: { a: 1 }, list: [1, 2] });
    const updated = await world.nango.updateMetadata('none', 'meta-1', { deep: { b: 2 }, more: null });
    assert.equal(updated.status, 200);
    assert.deepEqual(await world.nango.getMetadata('none', 'meta-1'), { deep: { b: 2 }, list: [1, 2], more: null }, 'merged at the top only');
    assert.deepEqual(await world.nango.getMetadata('none', 'meta-2'), { deep: { a: 1 }, list: [1, 2] });
  });

  test('metadata is refused for unknown connections, and then changes nothing', async () => {
    await world.import('none', { connection_id: 'meta-3', metadata: { kept: true } });
    await assertRefused(world.nango.setMetadata('none', ['meta-3', 'no-such'], { lost: 1 }), 404, 'unknown_connection');
    await assertRefused(world.nango.updateMetadata('none', ['meta-3', 'no-such'], { lost: 1 }), 404, 'unknown_connection');
    assert.deepEqual(await world.nango.getMetadata('none', 'meta-3'), { kept: true });
    const { error } = await assertRefused(world.nango.setMetadata('none', 'meta-3', 'text'), 400, 'invalid_body');
    assert.deepEqual(error.errors[0].path, ['metadata']);
    await assertRefused(world.nango.getMetadata('none', 'no-such'), 404, 'not_found');
    await assert.rejects(world.nango.getMetadata('none', ''), /Connection Id is required/);
  });

  test('patchConnection replaces tags, merges metadata, sets and clears the override', async () => {
    await world.import('none', { connection_id: 'patched', tags: { a: '1', b: '2' }, metadata: { kept: 1 } });
    const where = { connectionId: 'patched', provider_config_key: 'none' };
    const read = () => world.nango.getConnection('none', 'patched');
    assert.deepEqual(await world.nango.patchConnection(where, { tags: { B: '3' } }), { success: true });
    assert.deepEqual((await read()).tags, { b: '3' });
    await world.nango.patchConnection(where, { metadata: { more: 2 } });
    assert.deepEqual((await read()).metadata, { kept: 1, more: 2 });
    await world.nango.patchConnection(where, { webhook_url_override: `${world.receiver.url}/override` });
    assert.equal((await read()).webhook_url_override, `${world.receiver.url}/override`);
    await world.nango.patchConnection(where, { webhook_url_override: '' });
    assert.equal((await read()).webhook_url_override, null);
    await world.nango.patchConnection(where, { end_user: { id: 'u9', email: 'u9@example.com' } });
    assert.deepEqual((await read()).tags, { end_user_id: 'u9', end_user_email: 'u9@example.com' });
    assert.equal((await read()).end_user.id, 'u9');
    await world.nango.patchConnection(where, { tags: {} });
    assert.deepEqual((await read()).tags, {});
  });

  test('patchConnection refuses bad bodies and unknown connections', async () => {
    const where = { connectionId: 'patched', provider_config_key: 'none' };
    const { error } = await assertRefused(world.nango.patchConnection(where, { surprise: 1 }), 400, 'invalid_body');
    assert.deepEqual(error.errors, [{ code: 'unrecognized_keys', message: 'Unrecognized key: "surprise"', path: [] }]);
    const { error: tags } = await assertRefused(world.nango.patchConnection(where, { tags: { a: '', B: 'x', b: 'y' } }), 400, 'invalid_body');
    assert.deepEqual(tags.errors.map(({ code, path }) => [code, path]), [['too_small', ['tags', 'a']], ['custom', ['tags']]]);
    await assertRefused(world.nango.patchConnection({ ...where, connectionId: 'no-such' }, {}), 404, 'not_found');
    await assertRefused(world.nango.patchConnection({ ...where, provider_config_key: 'no-such' }, {}), 400, 'unknown_provider_config');
  });

  test('deleteConnection removes it, and gives the response', async () => {
    await world.import('none', { connection_id: 'deleted' });
    const response = await world.nango.deleteConnection('none', 'deleted');
    assert.equal(response.status, 200);
    assert.deepEqual(response.data, { success: true });
    await assertRefused(world.nango.getConnection('none', 'deleted'), 404, 'not_found');
    await assertRefused(world.nango.deleteConnection('none', 'deleted'), 400, 'unknown_connection');
    await assertRefused(world.nango.deleteConnection('no-such', 'deleted'), 400, 'unknown_connection');
    // The id is free again.
    const { connection_id: again } = await world.import('none', { connection_id: 'deleted' });
    assert.equal(again, 'deleted');
  });

  test('ids with every legal character go through the client as they are', async () => {
    const id = 'a b{"x":[1]}|@=+~,;:$\'_';
    await world.import('none', { connection_id: id, metadata: { odd: true } });
    assert.deepEqual(await world.nango.getMetadata('none', id), { odd: true });
    assert.equal((await world.nango.listConnections({ connectionId: id })).connections.length, 1);
    assert.equal((await world.nango.deleteConnection('none', id)).status, 200);
  });

  test('an import without an id gets a UUID, and a refused one leaves no row', async () => {
    const { connection_id: id } = await world.import('none');
    assert.match(id, UUID);
    const body = { provider_config_key: 'api-key', connection_id: 'refused', credentials: { type: 'API_KEY', apiKey: 'planted-wrong-key' } };
    const { status, body: answer } = await world.api('POST', '/connections', { body });
    assert.deepEqual([status, answer.error.code], [400, 'connection_test_failed']);
    await assertRefused(world.nango.getConnection('api-key', 'refused'), 404, 'not_found');
  });
});
