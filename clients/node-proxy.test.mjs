import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { API_KEY, BASIC, World, assertRefused, until } from './harness.mjs';
import { freePort } from './support/process.mjs';

describe('@nangohq/node: proxy', () => {
  let world;
  let nango;
  let token;
  before(async () => {
    world = await World.start();
    token = (await world.import('oauth', { connection_id: 'c' })).credentials.access_token;
    await world.import('api-key', { connection_id: 'c' });
    await world.import('basic', { connection_id: 'c' });
    await world.import('none', { connection_id: 'c' });
    // As in a backend that mostly serves one connection.
    nango = world.client({ connectionId: 'c', providerConfigKey: 'none' });
  });
  after(() => world.stop());

  /** The headers the provider saw, by name. */
  const seen = ({ data }) => Object.fromEntries(data.headers);
  const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

  test('each mode\'s credentials are put on the request', async () => {
    const who = async (providerConfigKey) => (await nango.get({ endpoint: '/whoami', providerConfigKey })).data.authenticated_by;
    assert.equal(await who('oauth'), 'oauth2');
    assert.equal(await who('api-key'), 'api_key');
    assert.equal(await who('basic'), 'basic');
    const echo = (providerConfigKey) => nango.get({ endpoint: '/echo', providerConfigKey }).then(seen);
    assert.equal((await echo('oauth')).authorization, `Bearer ${token}`);
    assert.equal((await echo('api-key'))['x-api-key'], API_KEY);
    assert.equal((await echo('basic')).authorization, `Basic ${Buffer.from(`${BASIC.username}:${BASIC.password}`).toString('base64')}`);
    const bare = await echo('none');
    assert.ok(!('authorization' in bare) && !('x-api-key' in bare));
    for (const name of Object.keys(bare)) assert.ok(!/^(nango-|connection-id|provider-config-key|base-url-override|retries)/.test(name), name);
  });

  test('get passes parameters, as object, as string and in the path', async () => {
    const target = async (config) => (await nango.get(config)).data.target;
    assert.equal(await target({ endpoint: '/echo', params: { a: '1', list: ['x', 'y'] } }), '/echo?a=1&list=x%2Cy');
    assert.equal(await target({ endpoint: '/echo', params: 'a=1&b[]=x&b[]=y' }), '/echo?a=1&b[]=x&b[]=y');
    assert.equal(await target({ endpoint: 'echo/deep/er?x=1&x=2' }), '/echo/deep/er?x=1&x=2');
    await assert.rejects(nango.get({ endpoint: '/echo?x=1', params: 'y=2' }), /Can not set query params/);
  });

  test('proxy passes method, headers and JSON', async () => {
    const response = await nango.proxy({
      method: 'post', endpoint: '/echo', data: { deep: { ünïcode: '🚢' }, list: [1, null] }, headers: { 'X-Custom': 'a, b', 'Content-Type': 'application/json' }
    });
    assert.equal(response.data.method, 'POST');
    assert.deepEqual(JSON.parse(response.data.body), { deep: { ünïcode: '🚢' }, list: [1, null] });
    assert.equal(seen(response)['x-custom'], 'a, b');
    assert.equal(seen(response)['content-type'], 'application/json');
    for (const method of ['PROPFIND', 'REPORT']) {
      assert.equal((await nango.proxy({ method, endpoint: '/echo', data: { q: 1 } })).data.method, method);
    }
  });

  test('post, put, patch and delete change the provider\'s records', async () => {
    const config = { providerConfigKey: 'api-key' };
    const created = await nango.post({ ...config, endpoint: '/contacts', data: { first_name: 'Noor' } });
    assert.equal(created.status, 201, 'the status is the provider\'s');
    const { id } = created.data;
    const patched = await nango.patch({ ...config, endpoint: `/contacts/${id}`, data: { first_name: 'Nora' } });
    assert.equal(patched.data.first_name, 'Nora');
    assert.equal((await nango.get({ ...config, endpoint: `/contacts/${id}` })).data.first_name, 'Nora');
    const put = await nango.put({ ...config, endpoint: '/echo', data: { whole: true } });
    assert.deepEqual([put.data.method, put.data.body], ['PUT', '{"whole":true}']);
    const deleted = await nango.delete({ ...config, endpoint: `/contacts/${id}` });
    assert.equal(deleted.status, 204);
    assert.equal(deleted.data, '');
    const withBody = await nango.delete({ ...config, endpoint: '/echo', data: { why: 'test' } });
    assert.deepEqual([withBody.data.method, withBody.data.body], ['DELETE', '{"why":"test"}']);
  });

  test('the provider\'s own refusals come through: status, headers, body', async () => {
    for (const [method, endpoint, config] of [
      ['get', '/contacts/no-such', {}], ['patch', '/contacts/no-such', { data: { a: 1 } }], ['delete', '/contacts/no-such', {}],
      ['post', '/no-such', { data: { a: 1 } }]
    ]) {
      const failure = await assertRefused(nango[method]({ endpoint, providerConfigKey: 'api-key', ...config }), 404, 'not_found');
      assert.equal(failure.error.message, 'There is nothing here.', `${method} ${endpoint}`);
    }
    const denied = await assertRefused(nango.get({ endpoint: '/whoami' }), 401, 'unauthorized');
    assert.equal(denied.headers['www-authenticate'], 'Bearer error="invalid_token"');
    const put = await nango.put({ endpoint: '/status/409', data: { a: 1 } }).catch((error) => error);
    assert.equal(put.response.status, 409);
  });

  test('pages can be followed: link headers come through', async () => {
    const { headers, data } = await nango.get({ endpoint: '/issues', providerConfigKey: 'api-key', params: { per_page: '50' } });
    assert.equal(data.length, 50);
    assert.match(headers.link, /rel="next"/);
  });

  test('FormData with a file arrives as multipart', async () => {
    const form = new FormData();
    form.set('title', 'Lettre');
    form.set('file', new Blob(['planted-file-content'], { type: 'text/plain' }), 'letter.txt');
    const response = await nango.post({ endpoint: '/echo', data: form, headers: { 'Content-Type': 'multipart/form-data' } });
    assert.match(seen(response)['content-type'], /^multipart\/form-data; ?boundary=/);
    const { body } = response.data;
    assert.match(body, /name="title"\r\n\r\nLettre\r\n/);
    assert.match(body, /name="file"; filename="letter.txt"\r\nContent-Type: text\/plain\r\n\r\nplanted-file-content\r\n/i);
    const boundary = seen(response)['content-type'].split('boundary=')[1];
    assert.ok(body.trimEnd().endsWith(`--${boundary}--`));
  });

  test('string bodies go as typed, and as JSON when the client says nothing', async () => {
    const xml = '<order id="1">ü</order>';
    const typed = await nango.post({ endpoint: '/echo', data: xml, headers: { 'Content-Type': 'application/xml' } });
    assert.equal(typed.data.body, xml);
    assert.equal(seen(typed)['content-type'], 'application/xml');
    const form = await nango.post({ endpoint: '/echo', data: 'a=1&b=x+y', headers: { 'Content-Type': 'application/x-www-form-urlencoded' } });
    assert.equal(form.data.body, 'a=1&b=x+y');
    const untyped = await nango.post({ endpoint: '/echo', data: 'a=1&b=2' });
    assert.deepEqual(JSON.parse(untyped.data.body), { a: '1', b: '2' });
    assert.match(seen(untyped)['content-type'], /^application\/json/);
  });

  test('numbers are not rounded on the way', async () => {
    const exact = '{"id":12345678901234567890,"price":1.0}';
    const { data } = await nango.post({ endpoint: '/echo', data: exact, headers: { 'Content-Type': 'application/json' } });
    assert.equal(data.body, exact);
  });

  test('binary bodies come through both ways, of several megabytes', async () => {
    const bytes = Buffer.alloc(3 * 1024 * 1024, 'planted');
    const { data } = await nango.post({ endpoint: '/upload', data: bytes, headers: { 'Content-Type': 'application/octet-stream' } });
    assert.deepEqual(data, { length: bytes.length, sha256: sha256(bytes) });
    const download = await nango.get({ endpoint: '/download', params: { bytes: String(5_000_000) }, responseType: 'arraybuffer' });
    assert.equal(download.data.length, 5_000_000);
    const period = Buffer.from(Array.from({ length: 251 }, (_, index) => index));
    assert.equal(sha256(download.data), sha256(Buffer.alloc(5_000_000, period)));
    assert.equal(download.headers['content-type'], 'application/octet-stream');
  });

  test('streams begin before they end', async () => {
    await fetch(`${world.sample.url}/admin/gates/hold/stream`, { method: 'POST' });
    const { data: stream } = await nango.get({ endpoint: '/stream', params: { chunks: '3', size: '4' }, responseType: 'stream' });
    const [first] = await new Promise((resolve, reject) => {
      stream.once('readable', () => resolve([stream.read()]));
      stream.once('error', reject);
    });
    assert.equal(first.toString(), 'xxxx');
    await fetch(`${world.sample.url}/admin/gates/release/stream`, { method: 'POST' });
    assert.equal(await text(stream), 'xxxxxxxx');
  });

  test('Retries and Retry-On ask again', async () => {
    await world.sample.behave({ api_failures: [{ kind: 'status', status: 503 }] });
    const recovered = await nango.get({ endpoint: '/contacts', providerConfigKey: 'api-key', retries: 1, params: { limit: '1' } });
    assert.equal(recovered.data.contacts.length, 1);
    await world.sample.behave({ api_failures: [{ kind: 'status', status: 418 }] });
    const { counts: before } = await world.sample.state();
    const again = await nango.get({ endpoint: '/contacts', providerConfigKey: 'api-key', retries: 1, retryOn: [418, 409] });
    assert.equal(again.status, 200);
    assert.equal((await world.sample.state()).counts.api, before.api + 2);
  });

  test('without Retries a failure is the answer', async () => {
    await world.sample.behave({ api_failures: [{ kind: 'status', status: 503 }] });
    const failure = await nango.get({ endpoint: '/contacts', providerConfigKey: 'api-key' }).catch((error) => error);
    assert.equal(failure.response.status, 503);
    const { counts: before } = await world.sample.state();
    await world.sample.behave({ api_failures: [{ kind: 'status', status: 418 }] });
    const unlisted = await nango.get({ endpoint: '/contacts', providerConfigKey: 'api-key', retries: 3 }).catch((error) => error);
    assert.equal(unlisted.response.status, 418);
    assert.equal((await world.sample.state()).counts.api, before.api + 1, 'a 418 is not worth asking again');
    await world.sample.behave();
  });

  test('baseUrlOverride replaces the base URL', async () => {
    const { data } = await nango.get({ endpoint: '/there', baseUrlOverride: `${world.sample.url}/echo`, params: { a: '1' } });
    assert.equal(data.target, '/echo/there?a=1');
    const { error } = await assertRefused(nango.get({ endpoint: '/x', baseUrlOverride: 'not a url' }), 400, 'invalid_headers');
    assert.deepEqual(error.errors[0].path, ['base-url-override']);
  });

  test('baseUrlOverride reaches no network the operator has not opened', async () => {
    const blocked = (baseUrlOverride) => assertRefused(nango.get({ endpoint: '/latest/meta-data', baseUrlOverride }), 400, 'base_url_override_not_allowed');
    await blocked('http://169.254.169.254');
    await blocked('http://[::ffff:169.254.169.254]');
    await blocked('http://10.0.0.1');
    await assertRefused(nango.get({ endpoint: '/x', baseUrlOverride: 'http://nowhere.invalid' }), 502, 'dns_resolution_failed');
  });

  test('redirects are followed, to the same host', async () => {
    const { data } = await nango.get({ endpoint: '/redirect', params: { to: '/echo/landed' }, providerConfigKey: 'api-key' });
    assert.equal(data.target, '/echo/landed');
    assert.equal(Object.fromEntries(data.headers)['x-api-key'], API_KEY);
  });

  test('a redirect to another origin loses the credentials, unless the caller wants them forwarded', async () => {
    const to = `${world.receiver.url}/landed`;
    const landed = () => world.receiver.received.filter(({ path }) => path === '/landed');
    const config = { endpoint: '/redirect', params: { to }, providerConfigKey: 'api-key', headers: { 'X-Plain': 'kept' } };
    await nango.get(config);
    assert.ok(!('x-api-key' in landed()[0].headers), 'the key stays at its origin');
    assert.ok(!Object.values(landed()[0].headers).includes(API_KEY));
    await nango.get({ ...config, forwardHeadersOnRedirect: true });
    assert.equal(landed()[1].headers['x-api-key'], API_KEY);
    assert.equal(landed()[1].headers['x-plain'], 'kept');
  });

  test('an expired token is refreshed before the request', async () => {
    const { access_token: stale, refresh_token } = await world.sample.issue();
    await world.import('oauth', {
      connection_id: 'stale',
      credentials: { type: 'OAUTH2', access_token: stale, refresh_token, expires_at: new Date(Date.now() - 60_000).toISOString() }
    });
    await world.sample.expireAccessTokens();
    const { data } = await nango.get({ endpoint: '/whoami', providerConfigKey: 'oauth', connectionId: 'stale' });
    assert.equal(data.authenticated_by, 'oauth2');
  });

  test('proxy refuses what it cannot send', async () => {
    await assertRefused(nango.get({ endpoint: '/echo', connectionId: 'no-such' }), 404, 'unknown_connection');
    await assertRefused(nango.get({ endpoint: '/echo', providerConfigKey: 'no-such' }), 404, 'unknown_provider_config');
    await assertRefused(nango.post({ endpoint: '/echo', connectionId: 'no-such', data: { a: 1 } }), 404, 'unknown_connection');
    await assertRefused(nango.put({ endpoint: '/echo', connectionId: 'no-such', data: { a: 1 } }), 404, 'unknown_connection');
    await assertRefused(nango.patch({ endpoint: '/echo', connectionId: 'no-such', data: { a: 1 } }), 404, 'unknown_connection');
    await assertRefused(nango.delete({ endpoint: '/echo', connectionId: 'no-such' }), 404, 'unknown_connection');
    const { error } = await assertRefused(nango.get({ endpoint: '/echo', headers: {}, providerConfigKey: 'a/b', retryOn: ['x'] }), 400, 'invalid_headers');
    assert.deepEqual(error.errors.map(({ path }) => path), [['provider-config-key'], ['retry-on']]);
    await assert.rejects(world.client().get({ endpoint: '/echo', providerConfigKey: 'none' }), /connectionId is missing/);
    const key = await world.scopedKey('environment:connections:read');
    await assertRefused(world.client({ apiKey: key, connectionId: 'c', providerConfigKey: 'none' }).get({ endpoint: '/echo' }), 403, 'forbidden');
  });

  test('an unreachable provider is told in the shape that clients know', async () => {
    const closed = await freePort();
    const { response } = await nango.get({ endpoint: '/x', baseUrlOverride: `http://127.0.0.1:${closed}` }).catch((error) => error);
    assert.equal(response.status, 500);
    assert.deepEqual({ code: response.data.code, method: response.data.method }, { code: 'ECONNREFUSED', method: 'get' });
    assert.equal(typeof response.data.message, 'string');
  });

  test('a caller who leaves ends the request at the provider\'s side of the server', async () => {
    const giveUp = new AbortController();
    const { counts: before } = await world.sample.state();
    const waiting = fetch(`${world.server.url}/proxy/slow`, {
      headers: { authorization: `Bearer ${world.key}`, 'connection-id': 'c', 'provider-config-key': 'none' },
      signal: giveUp.signal
    });
    await until('the provider was asked', async () => (await world.sample.state()).counts.probe > before.probe);
    giveUp.abort();
    await assert.rejects(waiting, { name: 'AbortError' });
    // The server must still be able to stop in order, which `after` asserts.
  });
});
