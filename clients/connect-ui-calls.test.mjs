// Conformance 12: which call the published SDK makes for each way of connecting, and that our own Connect UI makes the
// same one. The calls are caught on their way, so that their form is compared and nothing else.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { World } from './harness.mjs';
import { Browser } from './support/browser.mjs';
import { RICH, openUi, richProviders } from './support/connect-ui.mjs';

const PEM = '-----BEGIN PRIVATE KEY-----\nplanted\n-----END PRIVATE KEY-----';

/**
 * One row of the table each: what the application gives the SDK, the call that must follow, and what a customer types
 * into our form, if there is one of that kind.
 */
const CALLS = [
  { mode: 'TWO_STEP', key: 'two-step', options: { credentials: { type: 'TWO_STEP', key: 'k', secret: 's' } }, path: '/auth/two-step/two-step', body: { type: 'TWO_STEP', key: 'k', secret: 's' }, typed: { Key: 'k', Secret: 's' } },
  { mode: 'SIGNATURE', key: 'signature', options: { credentials: { type: 'SIGNATURE', username: 'u', password: 'p' } }, path: '/auth/signature/signature', body: { type: 'SIGNATURE', username: 'u', password: 'p' }, typed: { 'User name': 'u', Password: 'p' } },
  { mode: 'AWS_SIGV4', key: 'aws', options: { params: { region: 'eu-west-1' }, credentials: { type: 'AWS_SIGV4', role_arn: 'arn:aws:iam::1:role/x' } }, path: '/auth/aws-sigv4/aws', body: { role_arn: 'arn:aws:iam::1:role/x' }, typed: { Region: 'eu-west-1', 'Role ARN': 'arn:aws:iam::1:role/x' } },
  { mode: 'BILL', key: 'bill', options: { credentials: { username: 'u', password: 'p', organization_id: 'o', dev_key: 'd' } }, path: '/auth/bill/bill', body: { username: 'u', password: 'p', organization_id: 'o', dev_key: 'd' }, typed: { 'User name': 'u', Password: 'p', 'Organization ID': 'o', 'Developer key': 'd' } },
  { mode: 'API_KEY', key: 'api-key', options: { credentials: { apiKey: 'k' } }, path: '/api-auth/api-key/api-key', body: { apiKey: 'k' }, typed: { 'API key': 'k' } },
  { mode: 'BASIC', key: 'basic', options: { credentials: { username: 'u', password: 'p' } }, path: '/api-auth/basic/basic', body: { username: 'u', password: 'p' }, typed: { 'User name': 'u', Password: 'p' } },
  { mode: 'JWT', key: 'jwt', options: { credentials: { type: 'JWT', issuerId: 'i', privateKey: PEM } }, path: '/auth/jwt/jwt', body: { type: 'JWT', issuerId: 'i', privateKey: PEM }, typed: { Issuer: 'i', 'Private key': PEM } },
  { mode: 'TBA', key: 'tba', options: { params: { accountId: '1' }, credentials: { token_id: 'i', token_secret: 's' } }, path: '/auth/tba/tba', body: { token_id: 'i', token_secret: 's' }, typed: { Account: '1', 'Token ID': 'i', 'Token secret': 's' } },
  { mode: 'OAUTH2_CC', key: 'client-credentials', options: { credentials: { client_id: 'i', client_secret: 's' } }, path: '/oauth2/auth/client-credentials', body: { client_id: 'i', client_secret: 's' }, typed: { 'Client ID': 'i', 'Client secret': 's' } },
  { mode: 'outbound', key: 'outbound', options: { installation: 'outbound', credentials: {} }, path: '/auth/oauth-outbound/outbound', body: null, typed: {} },
  { mode: 'NONE', key: 'none', method: 'create', options: {}, path: '/auth/unauthenticated/none', body: null, typed: {} }
];

/** `Promise.withResolvers`, which older Nodes lack. */
function withResolvers() {
  let resolve;
  const promise = new Promise((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

describe('Connect UI: calls', () => {
  let world;
  let browser;
  before(async () => {
    world = await World.start({ catalog: richProviders, more: RICH });
    browser = await Browser.start(world.host);
  });
  after(async () => {
    await browser?.stop();
    await world?.stop();
  });

  /**
   * Catches the form call; `call` gives it as `{path, body, params, contentType}`. Set it before a frame of another site
   * is in the page: its traffic is not seen by what is set later.
   */
  async function catching(page) {
    const { promise: call, resolve } = withResolvers();
    await page.route(/\/(auth|api-auth|oauth2)\//, async (route) => {
      const request = route.request();
      if (request.method() === 'OPTIONS') return route.continue();
      const url = new URL(request.url());
      const params = Object.fromEntries([...url.searchParams].filter(([name]) => name.startsWith('params[')));
      // Answered first: before that the browser may not say which headers it sends.
      await route.fulfill({ json: { providerConfigKey: url.pathname.split('/').at(-1), connectionId: 'c' }, headers: { 'access-control-allow-origin': '*' } });
      const headers = await request.allHeaders();
      return resolve({ path: url.pathname, body: request.postDataJSON(), params, contentType: headers['content-type'], authorization: headers.authorization, cookie: headers.cookie });
    });
    return { call };
  }

  for (const { mode, key, method = 'auth', options, path, body, typed } of CALLS) {
    test(`12. ${mode}: the SDK's call${typed ? ', and ours is the same' : ''}`, async () => {
      const { token } = await world.session({ tags: {} });
      const page = await browser.open();
      const sdk = await catching(page);
      await browser.call(page, { connectSessionToken: token }, method, key, options);
      const call = await sdk.call;
      assert.deepEqual([call.path, call.body, call.contentType], [path, body, 'application/json']);
      assert.deepEqual([call.authorization, call.cookie], [undefined, undefined]);
      assert.deepEqual((await browser.outcome(page)).resolved, { providerConfigKey: key, connectionId: 'c' });
      if (!typed) return;

      let own;
      const prepare = async (one) => {
        own = await catching(one);
      };
      const ui = await openUi(browser, world, { session: { tags: {}, allowed_integrations: [key] }, prepare });
      await ui.frame.locator('[data-screen=form]').waitFor();
      for (const [label, value] of Object.entries(typed)) await ui.field(label).fill(value);
      await ui.primary.click();
      const ours = await own.call;
      const { 'params[external_id]': externalId, ...params } = ours.params;
      assert.deepEqual({ ...ours, params }, call);
      assert.equal(externalId !== undefined, mode === 'AWS_SIGV4');
      await ui.frame.locator('[data-screen=success]').waitFor();
    });
  }

  test('12. a client of the connection\'s own opens a window, with the overrides in its address', async () => {
    const defaults = { oauth: { connection_config: { oauth_client_id_override: '', oauth_client_secret_override: '' } } };
    const ui = await openUi(browser, world, { session: { tags: {}, allowed_integrations: ['oauth'], integrations_config_defaults: defaults } });
    await ui.field('OAuth client ID').fill('sample-client');
    await ui.field('OAuth client secret').fill(world.server.secret('planted-override'));
    const asked = ui.page.context().waitForEvent('request', (request) => request.url().includes('/oauth/connect/'));
    await ui.popup();
    const { searchParams } = new URL((await asked).url());
    assert.equal(searchParams.get('credentials[oauth_client_id_override]'), 'sample-client');
    assert.equal(searchParams.get('credentials[oauth_client_secret_override]'), 'planted-override');
  });
});
