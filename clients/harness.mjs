// What every test file starts with: a sample provider, a server with integrations over it, and a webhook receiver.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Nango } from '@nangohq/node';
import { Patchbay, scratch } from './support/process.mjs';
import { providers } from './support/providers.mjs';
import { Receiver } from './support/receiver.mjs';
import { API_KEY, BASIC, CLIENT_ID, CLIENT_SECRET, Sample } from './support/sample.mjs';

export { until } from './support/wait.mjs';
export { Patchbay, Sample, Receiver, API_KEY, BASIC, CLIENT_ID, CLIENT_SECRET };

const OAUTH = { type: 'OAUTH2', client_id: CLIENT_ID, client_secret: CLIENT_SECRET };

/** The integrations of a world: unique key, provider, and the operator's credentials if the mode has some. */
export const INTEGRATIONS = [
  { unique_key: 'oauth', provider: 'test-oauth', credentials: OAUTH },
  { unique_key: 'oauth-tenant', provider: 'test-oauth-tenant', credentials: OAUTH },
  { unique_key: 'api-key', provider: 'test-api-key' },
  { unique_key: 'basic', provider: 'test-basic' },
  { unique_key: 'client-credentials', provider: 'test-client-credentials' },
  { unique_key: 'none', provider: 'test-none' }
];

/** A variable of the environment, set in the configuration file. */
export const VARIABLE = { name: 'GREETING', value: 'planted-variable-bonjour' };

/**
 * A sample provider, a server with an integration for each built mode, a receiver of its webhooks, and a client.
 * `env` adds settings, `publicUrl` overrides where the world finds the server, `port` fixes its port,
 * `catalog` adds providers over the sample one, `more` integrations of them, `settings` lines of `[environments.dev]`,
 * `args` further flags.
 */
export class World {
  static async start({ env = {}, publicUrl = null, integrations = true, port = null, catalog = () => ({}), more = [], settings = [], args = [] } = {}) {
    const world = new World();
    world.key = randomUUID();
    world.receiver = await Receiver.start();
    world.sample = await Sample.start();
    world.files = scratch('catalog');
    const catalogFile = path.join(world.files, 'test-providers.json');
    writeFileSync(catalogFile, JSON.stringify({ ...providers(world.sample.url), ...catalog(world.sample.url) }, null, 2));
    const config = [
      '[environments.dev]',
      `webhooks.primary_url = "${world.receiver.url}/app"`,
      `variables.${VARIABLE.name} = "${VARIABLE.value}"`,
      ...settings,
      ''
    ].join('\n');
    world.server = await Patchbay.start('serve', {
      port,
      config,
      args: ['--catalog', catalogFile, ...args],
      env: {
        PATCHBAY_API_KEY_DEV: world.key,
        PATCHBAY_ALLOW_PRIVATE_NETWORKS: '127.0.0.0/8',
        PATCHBAY_WEBHOOK_RETRIES: '200ms,500ms',
        ...(publicUrl ? { PATCHBAY_PUBLIC_URL: publicUrl } : {}),
        ...env
      }
    });
    for (const secret of [world.key, API_KEY, BASIC.password, CLIENT_SECRET, VARIABLE.value]) world.server.secret(secret);
    world.host = publicUrl ?? world.server.url;
    world.nango = world.client();
    if (integrations) for (const integration of [...INTEGRATIONS, ...more]) await world.nango.createIntegration({ ...integration });
    return world;
  }

  /** A client of this server. */
  client(config = {}) {
    return new Nango({ host: this.server.url, ...(config.apiKey ? {} : { secretKey: this.key }), ...config });
  }

  /** A plain request with the API key; gives `{status, headers, body}`. */
  async api(method, path, { body, headers = {}, key = this.key } = {}) {
    const response = await fetch(this.server.url + path, {
      method,
      redirect: 'manual',
      headers: {
        ...(key ? { authorization: `Bearer ${key}` } : {}),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers
      },
      body: body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body)
    });
    const text = await response.text();
    const json = response.headers.get('content-type')?.startsWith('application/json');
    return { status: response.status, headers: response.headers, body: json && text !== '' ? JSON.parse(text) : text };
  }

  /** Imports a connection; credentials that the sample provider accepts unless given. Gives the stored connection. */
  async import(integration, { credentials, ...rest } = {}) {
    const body = { provider_config_key: integration, credentials: credentials ?? (await this.#credentials(integration)), ...rest };
    const { status, body: answer } = await this.api('POST', '/connections', { body });
    assert.equal(status, 201, JSON.stringify(answer));
    return answer;
  }

  async #credentials(integration) {
    switch (integration) {
      case 'api-key':
        return { type: 'API_KEY', apiKey: API_KEY };
      case 'basic':
        return { type: 'BASIC', ...BASIC };
      case 'none':
        return { type: 'NONE' };
      case 'client-credentials':
        return { type: 'OAUTH2_CC', token: 'planted-cc-token', client_id: CLIENT_ID, client_secret: CLIENT_SECRET };
      default: {
        const issued = await this.sample.issue();
        this.server.secret(issued.access_token);
        this.server.secret(issued.refresh_token);
        return {
          type: 'OAUTH2',
          access_token: issued.access_token,
          refresh_token: issued.refresh_token,
          expires_at: new Date(Date.now() + issued.expires_in * 1000).toISOString()
        };
      }
    }
  }

  /** A key of `dev` with these scopes only, made by command. */
  async scopedKey(...scopes) {
    const name = `test ${randomUUID()}`;
    const printed = await this.server.command('keys', 'create', '--env', 'dev', '--name', name, ...scopes.flatMap((scope) => ['--scope', scope]));
    const key = printed.match(/\b[0-9a-f-]{36}\b/g)?.filter((id) => !name.includes(id)).at(-1);
    assert.ok(key, printed);
    return this.server.secret(key);
  }

  /** A connect session; its token is a secret too. */
  async session(body) {
    const { data } = await this.nango.createConnectSession(body);
    this.server.secret(data.token);
    return data;
  }

  async stop() {
    // In this order: the server may still want to reach the two others.
    await this.server.stop();
    await this.receiver.stop();
    await this.sample.stop();
    rmSync(this.files, { recursive: true, force: true });
  }
}

/** What a client's promise was rejected with: `{status, code, error, headers}` of the server's answer. */
export async function refused(promise) {
  const failure = await promise.then(
    (value) => assert.fail(`expected a rejection, got ${JSON.stringify(value?.data ?? value)}`),
    (error) => error
  );
  assert.ok(failure.isAxiosError, `no answer of the server: ${failure.stack}`);
  assert.ok(failure.response, `no answer of the server: ${failure.message}`);
  const { status, data, headers } = failure.response;
  assert.equal(typeof data?.error?.code, 'string', `no error envelope: ${JSON.stringify(data)}`);
  return { status, code: data.error.code, error: data.error, headers };
}

/** The client's promise was rejected with this status and code. Gives what `refused` gives. */
export async function assertRefused(promise, status, code) {
  const failure = await refused(promise);
  assert.deepEqual({ status: failure.status, code: failure.code }, { status, code }, JSON.stringify(failure.error));
  return failure;
}

export const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
export const TIME_Z = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
export const TIME_OFFSET = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?\+00:00$/;
