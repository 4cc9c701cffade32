// The sample provider, found inside a running `patchbay demo` and steered through its /admin routes.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { Patchbay } from './process.mjs';

/** Published in the source of the sample provider; made up, like everything there. */
export const CLIENT_ID = 'sample-client';
export const CLIENT_SECRET = 'sample-client-secret-4f1d9c';
export const API_KEY = 'sample-key-7b3e52a0';
export const BASIC = { username: 'ada', password: 'sample-password-c81a' };

export class Sample {
  /** Starts `patchbay demo` for the sake of its provider. */
  static async start() {
    const key = randomUUID();
    const demo = await Patchbay.start('demo', { name: 'sample', env: { PATCHBAY_API_KEY_DEV: key } });
    const sample = await Sample.of(demo, key);
    return sample;
  }

  /** The sample provider of a demo: where its OAuth integration sends people. */
  static async of(demo, key) {
    const response = await fetch(`${demo.url}/providers`, { headers: { authorization: `Bearer ${key}` } });
    assert.equal(response.status, 200);
    const { data } = await response.json();
    const provider = data.find(({ authorization_url: url }) => /^http:\/\/(127\.0\.0\.1|localhost):/.test(url ?? ''));
    assert.ok(provider, 'the demo has no provider on loopback');
    const sample = new Sample();
    sample.demo = demo;
    sample.url = new URL(provider.authorization_url).origin;
    return sample;
  }

  async #admin(method, path, body) {
    const response = await fetch(`${this.url}/admin/${path}`, {
      method,
      headers: { 'content-type': 'application/json' },
      body: body && JSON.stringify(body)
    });
    assert.ok(response.ok, `${method} /admin/${path}: ${response.status} ${await response.clone().text()}`);
    return response.status === 204 ? null : response.json();
  }

  /** Replaces all switches; what is not named behaves. */
  behave(behaviours = {}) {
    return this.#admin('PUT', 'behaviours', behaviours);
  }

  /** `{counts, token_requests}`. */
  state() {
    return this.#admin('GET', 'state');
  }

  revokeAll() {
    return this.#admin('POST', 'revoke-all');
  }

  expireAccessTokens() {
    return this.#admin('POST', 'expire-access-tokens');
  }

  /** Tokens as the provider issues them to somebody who approved: for importing. */
  async issue(scope = 'contacts.read') {
    const redirect = 'http://127.0.0.1/elsewhere';
    const approval = await fetch(`${this.url}/oauth/authorize`, {
      method: 'POST',
      redirect: 'manual',
      body: new URLSearchParams({ client_id: CLIENT_ID, redirect_uri: redirect, response_type: 'code', scope, decision: 'approve' })
    });
    const code = new URL(approval.headers.get('location')).searchParams.get('code');
    const answer = await fetch(`${this.url}/oauth/token`, {
      method: 'POST',
      body: new URLSearchParams({
        grant_type: 'authorization_code',
        code,
        redirect_uri: redirect,
        client_id: CLIENT_ID,
        client_secret: CLIENT_SECRET
      })
    });
    assert.equal(answer.status, 200);
    return answer.json();
  }

  stop() {
    return this.demo.stop();
  }
}
