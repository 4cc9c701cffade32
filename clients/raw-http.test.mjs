// What the published clients and the operator's tools send in ways no client method can be made to send.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { World } from './harness.mjs';

describe('the wire below the clients', () => {
  let world;
  before(async () => {
    world = await World.start();
    await world.import('none', { connection_id: 'raw', metadata: { raw: true } });
    await world.import('none', { connection_id: 'a[1]|b', metadata: { odd: true } });
  });
  after(() => world.stop());

  /** Sends bytes as they are: `fetch` would normalise the path. */
  async function raw(method, target, headers = {}) {
    const socket = net.connect(world.server.port, '127.0.0.1');
    await once(socket, 'connect');
    const all = { host: `127.0.0.1:${world.server.port}`, authorization: `Bearer ${world.key}`, connection: 'close', ...headers };
    const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.write(`${method} ${target} HTTP/1.1\r\n${lines.join('')}\r\n`);
    const answer = await text(socket);
    const [head, ...rest] = answer.split('\r\n\r\n');
    return { status: Number(head.split(' ')[1]), head, body: rest.join('\r\n\r\n') };
  }

  test('a JSON content type without a body is fine on GET and DELETE', async () => {
    const headers = { 'content-type': 'application/json' };
    assert.equal((await world.api('GET', '/connections', { headers })).status, 200);
    assert.equal((await world.api('GET', '/connections/raw?provider_config_key=none', { headers })).status, 200);
    await world.import('none', { connection_id: 'gone' });
    assert.equal((await world.api('DELETE', '/connections/gone?provider_config_key=none', { headers })).status, 200);
  });

  test('another content type is refused, before the key is looked at', async () => {
    const headers = { 'content-type': 'text/plain' };
    const { status, body } = await world.api('GET', '/connections', { headers, key: null });
    assert.deepEqual([status, body.error.code], [415, 'invalid_content_type']);
    assert.equal((await world.api('GET', '/CONNECTIONS', { headers })).status, 415);
  });

  test('one trailing slash and the case of the path do not matter', async () => {
    for (const path of ['/connections/', '/Connections', '/CONNECTIONS/', '/connection', '/Connection/']) {
      assert.equal((await world.api('GET', path)).status, 200, path);
    }
    const { status, body } = await world.api('GET', '/Connections/raw/?provider_config_key=none');
    assert.deepEqual([status, body.connection_id], [200, 'raw'], 'parameters keep their case');
    assert.equal((await world.api('GET', '/connections/RAW?provider_config_key=none')).status, 404);
    assert.equal((await world.api('GET', '/connections//')).status, 404);
  });

  test('brackets and bars arrive unencoded', async () => {
    for (const target of ['/connections/a[1]|b?provider_config_key=none', '/connections/a%5B1%5D%7Cb?provider_config_key=none']) {
      const { status, body } = await raw('GET', target);
      assert.equal(status, 200, target);
      assert.match(body, /"odd":true/);
    }
    const listed = await raw('GET', '/connections?tags[a]=b');
    assert.equal(listed.status, 200);
  });

  test('a space is a plus in the query and %20 in both', async () => {
    await world.nango.createIntegration({ provider: 'test-none', unique_key: 'with space' });
    await world.import('with space', { connection_id: 'a b', credentials: { type: 'NONE' } });
    for (const key of ['with+space', 'with%20space']) {
      assert.equal((await world.api('GET', `/connections/a%20b?provider_config_key=${key}`)).status, 200, key);
    }
    assert.equal((await world.api('GET', '/connections/a+b?provider_config_key=with+space')).status, 404, 'a plus in a path is a plus');
  });

  test('params[x] and params%5Bx%5D are the same', async () => {
    const { token } = await world.session({ tags: {} });
    for (const name of ['params[subdomain]', 'params%5Bsubdomain%5D']) {
      const { status, body } = await world.api('POST', `/auth/unauthenticated/none?connect_session_token=${token}&${name}=acme`, {
        key: null, headers: { 'content-type': 'application/json' }
      });
      assert.equal(status, 200, name);
      const { connection_config: config } = await world.nango.getConnection('none', body.connectionId);
      assert.equal(config.subdomain, 'acme', name);
    }
    const tagged = await world.import('none', { tags: { city: 'Basel' } });
    for (const name of ['tags[city]', 'tags%5Bcity%5D', 'tags%5BCITY%5D']) {
      const { body } = await world.api('GET', `/connections?${name}=Basel`);
      assert.deepEqual(body.connections.map(({ connection_id: id }) => id), [tagged.connection_id], name);
    }
  });

  test('broken encodings are the caller\'s fault', async () => {
    const path = await raw('GET', '/connections/%E0%A4%A?provider_config_key=none');
    assert.equal(path.status, 400);
    assert.match(path.body, /"invalid_uri_params"/);
    const json = await world.api('POST', '/connect/sessions', { body: '{"tags":' });
    assert.deepEqual([json.status, json.body.error.code], [400, 'invalid_json']);
    const scalar = await world.api('POST', '/connect/sessions', { body: '"text"' });
    assert.deepEqual([scalar.status, scalar.body.error.code], [400, 'invalid_json']);
  });

  test('the alias of the command line answers', async () => {
    const headers = { 'nango-is-sync': 'true', 'nango-is-dry-run': 'true', 'accept-encoding': 'application/json' };
    const { status, body } = await world.api('GET', '/connection/raw?provider_config_key=none', { headers });
    assert.equal(status, 200);
    assert.deepEqual(body.metadata, { raw: true });
  });

  test('unknown paths and methods are told in JSON', async () => {
    const path = await world.api('GET', '/no/such/path', { headers: { accept: 'application/json' } });
    assert.deepEqual([path.status, path.body.error.code], [404, 'not_found']);
    const method = await world.api('PUT', '/connections/raw', { body: {} });
    assert.deepEqual([method.status, method.body.error.code], [405, 'method_not_allowed']);
    assert.match(method.headers.get('allow'), /PATCH/);
  });

  test('HEAD is answered as GET without a body', async () => {
    const { status, headers, body } = await world.api('HEAD', '/connections');
    assert.deepEqual([status, body], [200, '']);
    assert.match(headers.get('content-type'), /^application\/json/);
  });

  test('preflights are answered, on any path', async () => {
    for (const path of ['/connections', '/api-auth/api-key/x', '/no/such/path']) {
      const { status, headers } = await world.api('OPTIONS', path, { key: null, headers: { origin: 'https://product.example', 'access-control-request-method': 'POST' } });
      assert.equal(status, 204, path);
      assert.equal(headers.get('access-control-allow-origin'), '*');
      assert.match(headers.get('access-control-allow-methods'), /PATCH/);
      assert.match(headers.get('access-control-allow-headers'), /content-type/i);
      assert.equal(headers.get('access-control-max-age'), '600');
    }
  });

  test('authentication is told apart', async () => {
    const code = async (authorization) => {
      const response = await world.api('GET', '/connections', { key: null, headers: authorization === null ? {} : { authorization } });
      assert.equal(response.status, 401);
      assert.equal(response.headers.get('access-control-allow-origin'), '*');
      assert.deepEqual(response.body.error.payload, {});
      return response.body.error.code;
    };
    assert.equal(await code(null), 'missing_auth_header');
    assert.equal(await code('Bearer planted-no-uuid'), 'invalid_secret_key_format');
    assert.equal(await code('Bearer 8f14e45f-ceea-467a-9af0-fd1ae0e1b4c4'), 'unknown_account');
  });

  test('metrics, health and the description of the API are served', async () => {
    assert.deepEqual((await world.api('GET', '/health', { key: null })).body, { result: 'ok' });
    assert.match((await world.api('GET', '/metrics', { key: null })).body, /^# (HELP|TYPE) /m);
    const { status, body } = await world.api('GET', '/openapi.json', { key: null });
    assert.equal(status, 200);
    assert.match(body.openapi, /^3\.1\./);
    assert.ok(body.paths['/connections/{connectionId}'], Object.keys(body.paths).join(' '));
  });
});

describe('rate limits', () => {
  let world;
  before(async () => {
    world = await World.start({ integrations: false, env: { PATCHBAY_RATE_LIMIT_PER_MIN: '3' } });
  });
  after(() => world.stop());

  test('the fourth call of a minute is refused, readably for every origin', async () => {
    const answers = [];
    for (let index = 0; index < 4; index += 1) answers.push(await world.api('GET', '/integrations?x=1'));
    assert.deepEqual(answers.map(({ status }) => status), [400, 400, 400, 429], 'refused requests count too');
    assert.deepEqual(answers.map(({ headers }) => headers.get('x-ratelimit-remaining')), ['2', '1', '0', '0']);
    const { headers, body } = answers[3];
    assert.deepEqual(body, { error: { code: 'too_many_request', method: 'GET', path: '/integrations' } });
    assert.equal(headers.get('access-control-allow-origin'), '*');
    assert.equal(headers.get('x-ratelimit-limit'), '3');
    const wait = Number(headers.get('retry-after'));
    assert.ok(wait >= 1 && wait <= 60, `${wait}`);
    assert.match(headers.get('access-control-expose-headers'), /retry-after/i);
  });
});
