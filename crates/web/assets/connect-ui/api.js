// The server. Every failure becomes a `Refusal` with the code that the screens know.

import { language, settingsOfServer } from './texts.js';

/** Why a call came to nothing: the server's code, or `network`, `server`. */
export class Refusal extends Error {
  constructor(code, message, { status = 0, errors = [] } = {}) {
    super(message);
    this.code = code;
    this.status = status;
    this.errors = errors;
  }

  /** The session's token is no longer good. */
  get isExpired() {
    return this.status === 401 || this.code === 'unknown_connect_session_token' || this.code === 'invalid_connect_session_token_format';
  }
}

let token = null;

/** Takes the token for all further calls. */
export function setToken(next) {
  token = next;
}

export function getToken() {
  return token;
}

function trimmed(url) {
  return `${url.origin}${url.pathname.replace(/\/+$/, '')}`;
}

function isLoopback(url) {
  return ['localhost', '127.0.0.1', '[::1]'].includes(url.hostname);
}

/** The API: our own server's, or `wished` if the operator allows it. A link cannot send the token elsewhere. */
function choose(wished) {
  const own = settingsOfServer.api;
  if (!wished) return own;
  let url;
  try {
    url = new URL(wished);
  } catch {
    return own;
  }
  if (!/^https?:$/.test(url.protocol)) return own;
  const asked = trimmed(url);
  const allowed = [own, ...settingsOfServer.api_urls].map((text) => trimmed(new URL(text)));
  if (allowed.includes(asked) || (settingsOfServer.loopback && isLoopback(url))) return asked;
  return own;
}

/** Base of every call, without a slash at its end. */
export const base = choose(new URLSearchParams(location.search).get('apiURL'));
export const origin = new URL(base).origin;

async function call(method, path, { body, authorized = true } = {}) {
  const headers = { 'Accept-Language': language };
  if (authorized) headers.Authorization = `Bearer ${token}`;
  if (method === 'POST') headers['Content-Type'] = 'application/json';
  let response;
  try {
    response = await fetch(`${base}/${path}`, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: 'omit',
      cache: 'no-store',
      referrerPolicy: 'no-referrer'
    });
  } catch (error) {
    throw new Refusal('network', error.message);
  }
  let answer = null;
  try {
    answer = await response.json();
  } catch {
    // Not our server's words: a proxy in between, or an empty answer.
  }
  if (response.status === 200 && answer !== null && typeof answer === 'object' && !answer.error) return answer;
  const code = answer?.error?.code ?? (response.status >= 500 || response.status === 200 ? 'server' : `http_${response.status}`);
  throw new Refusal(code, answer?.error?.message ?? `HTTP ${response.status}`, {
    status: response.status,
    errors: answer?.error?.errors ?? []
  });
}

export async function session() {
  return (await call('GET', 'connect/session')).data;
}

export async function integrations() {
  return (await call('GET', 'integrations')).data;
}

export async function form(key) {
  return (await call('GET', `connect/form/${encodeURIComponent(key)}`)).data;
}

/** How an attempt ended, or null. */
export async function result(attempt) {
  return (await call('GET', `connect/session/result?attempt=${attempt}`)).data;
}

/** The query of a call that authorizes: the token has no other place there. */
export function authorization(params, more = {}) {
  const query = new URLSearchParams({ connect_session_token: token });
  for (const [name, value] of Object.entries(params)) query.append(`params[${name}]`, value);
  for (const [name, value] of Object.entries(more)) query.append(name, value);
  return query;
}

/** Address of a path with the integration's key at its end. */
export function address(path) {
  return `${base}/${path.replace(/^\/+/, '').split('/').map(encodeURIComponent).join('/')}`;
}

/** Posts what was typed; gives the connection. */
export async function submit(path, params, body) {
  const target = address(path).slice(base.length + 1);
  return call('POST', `${target}?${authorization(params)}`, { body, authorized: false });
}

/** Tells the operator's log how far the end user came. Nothing depends on it. */
export function report(event, integration) {
  if (!token) return;
  const words = {
    token,
    event,
    timestamp: new Date().toISOString(),
    ...(integration ? { dimensions: { integration } } : {})
  };
  try {
    navigator.sendBeacon?.(`${base}/connect/telemetry`, new Blob([JSON.stringify(words)], { type: 'application/json' }));
  } catch {
    // Some blockers throw.
  }
}
