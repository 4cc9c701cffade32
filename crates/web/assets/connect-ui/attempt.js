// One attempt with a provider's own page: in a window, or by leaving this page and coming back.
//
// A window's outcome arrives on a WebSocket. Where that is blocked or lost, the server is asked; what the window's last
// page says only makes the words better. Whoever closed the window, or never got one, is not left waiting: the screen
// offers to open it again or to stop.

import { Refusal, address, authorization, base, origin, result } from './api.js';
import { randomId } from './dom.js';
import { language, t } from './texts.js';

/** How long the WebSocket may take to greet, in milliseconds. */
const GREETING = 4000;
/** Between questions while there is no WebSocket, and while there is one. */
const POLL = 2000;
const POLL_BESIDE_SOCKET = 15_000;
/** The window's page and the WebSocket report the same failure: the better words win if they come this soon. */
const WORDS = 300;
const SIZE = { width: 500, height: 640 };

function features() {
  const width = Math.min(SIZE.width, screen.availWidth);
  const height = Math.min(SIZE.height, screen.availHeight);
  const left = Math.max(0, (window.screenX || 0) + (window.outerWidth - width) / 2);
  const top = Math.max(0, (window.screenY || 0) + (window.outerHeight - height) / 2);
  return `popup,width=${width},height=${height},left=${Math.round(left)},top=${Math.round(top)}`;
}

/** Says in a new, empty window what it is waiting for. */
function greet(popup, name) {
  try {
    const { document: page } = popup;
    page.title = t('connectTo', { provider: name });
    page.documentElement.lang = language;
    page.body.style.cssText = 'display:grid;place-items:center;min-height:100vh;margin:0;font:16px system-ui,sans-serif;color:#5b6470';
    page.body.textContent = t('loading');
  } catch {
    // Already somewhere else: then it needs no greeting.
  }
}

/** What a provider said, out of the JSON that the callback page passes on. */
export function wordsOf(message) {
  let said;
  try {
    said = JSON.parse(message);
  } catch {
    return { message };
  }
  if (typeof said !== 'object' || said === null) return { message };
  const words = said.error_description || said.error_message || said.error_reason || said.error;
  return { message: words || message, reason: said.error };
}

function overrides(credentials) {
  const given = Object.entries(credentials).filter(([, value]) => value !== '');
  return Object.fromEntries(given.map(([name, value]) => [`credentials[${name}]`, value]));
}

export class PopupAttempt {
  #name = randomId();
  #form;
  #params;
  #credentials;
  #popup = null;
  #socket = null;
  #socketId = null;
  #timers = new Set();
  #settled = false;
  #failure = null;
  #stop = new AbortController();

  constructor(form, { params, credentials }, { websocketsPath, detectClosed }) {
    this.#form = form;
    this.#params = params;
    this.#credentials = credentials;
    this.websocketsPath = websocketsPath;
    this.detectClosed = detectClosed;
    this.done = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    this.done.catch(() => {});
  }

  /** Opens the window; call it in the click itself. False if the browser refused. */
  open() {
    this.#popup = window.open('', '_blank', features());
    if (!this.#popup || this.#popup.closed) return false;
    greet(this.#popup, this.#form.display_name);
    this.#begin();
    return true;
  }

  /** Opens the window again, for people who lost it. */
  reopen() {
    if (this.#popup && !this.#popup.closed) this.#popup.close();
    this.#popup = window.open(this.url(), '_blank', features());
    return this.#popup !== null;
  }

  /** For a link that opens the provider's page where windows are blocked. */
  url() {
    const more = { attempt: this.#name, ...(this.#socketId ? { ws_client_id: this.#socketId } : {}), ...overrides(this.#credentials) };
    return `${address(this.#form.path)}?${authorization(this.#params, more)}`;
  }

  /** Waits for the outcome of a page that was opened by a link. */
  wait() {
    this.#begin({ navigate: false });
  }

  focus() {
    this.#popup?.focus?.();
  }

  cancel() {
    this.#finish(() => this.reject(new Refusal('cancelled', '')), { closeNow: true });
  }

  async #begin({ navigate = true } = {}) {
    this.#listen();
    if (navigate) await this.#connect();
    if (this.#settled) return;
    if (navigate) {
      if (this.#popup.closed) return this.#fail(new Refusal('window_closed', ''));
      this.#popup.location.replace(this.url());
      if (this.detectClosed) this.#every(500, () => this.#popup.closed && this.#closed());
    }
    this.#every(this.#socket ? POLL_BESIDE_SOCKET : POLL, () => this.#ask());
  }

  /** The WebSocket, greeted; without one if it does not come. */
  #connect() {
    return new Promise((ready) => {
      const url = new URL(base + (this.websocketsPath === '/' ? '/' : this.websocketsPath));
      url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
      let socket;
      try {
        socket = new WebSocket(url);
      } catch {
        return ready();
      }
      const late = setTimeout(() => {
        socket.close();
        ready();
      }, GREETING);
      this.#timers.add(late);
      socket.onmessage = ({ data }) => {
        const frame = JSON.parse(data);
        if (frame.message_type === 'connection_ack') {
          clearTimeout(late);
          this.#socket = socket;
          this.#socketId = frame.ws_client_id;
          ready();
        } else if (frame.message_type === 'success') {
          this.#succeed({ providerConfigKey: frame.provider_config_key, connectionId: frame.connection_id, isPending: frame.is_pending });
        } else if (frame.message_type === 'error') {
          this.#fail(new Refusal(frame.error_type, frame.error_desc));
        }
      };
      socket.onclose = () => {
        clearTimeout(late);
        ready();
        if (this.#settled || this.#socket !== socket) return;
        // Lost on the way: from now on we ask.
        this.#socket = null;
        this.#every(POLL, () => this.#ask());
      };
    });
  }

  #listen() {
    const { signal } = this.#stop;
    window.addEventListener(
      'message',
      (event) => {
        if (event.origin !== origin || !event.source || event.source !== this.#popup) return;
        const { type, payload } = event.data ?? {};
        if (type !== 'nango_oauth_callback_error' && type !== 'nango_oauth_callback_success') return;
        event.source.postMessage({ type: 'nango_oauth_callback_ack' }, event.origin);
        if (type === 'nango_oauth_callback_error') {
          this.#fail(new Refusal(payload?.errorType ?? 'connection_validation_failed', String(payload?.message ?? '')), { isWords: true });
        } else {
          this.#after(WORDS, () => this.#ask());
        }
      },
      { signal }
    );
    // Back at this page is a good moment to look.
    const look = () => document.visibilityState === 'visible' && this.#ask();
    window.addEventListener('focus', look, { signal });
    document.addEventListener('visibilitychange', look, { signal });
  }

  async #ask() {
    if (this.#settled) return;
    try {
      const ended = await result(this.#name);
      if (ended?.error) this.#fail(new Refusal(ended.error.type, ended.error.message));
      else if (ended) this.#succeed(ended);
    } catch (error) {
      // Unreachable now may be reachable in a moment; an ended session is for good, unless the socket still stands.
      if (error.isExpired && !this.#socket) this.#fail(error);
    }
  }

  async #closed() {
    await this.#ask();
    this.#fail(new Refusal('window_closed', ''));
  }

  #succeed(connection) {
    this.#finish(() => this.resolve(connection));
  }

  /** One failure is told in two places: code of the first that has one, words of the window's page. */
  #fail(refusal, { isWords = false } = {}) {
    if (this.#settled) return;
    const earlier = this.#failure;
    if (!earlier) {
      this.#failure = { refusal, isWords };
      const immediate = ['window_closed', 'cancelled'].includes(refusal.code);
      this.#after(immediate ? 0 : WORDS, () => this.#finish(() => this.reject(this.#failure.refusal)));
      return;
    }
    if (earlier.isWords === isWords) return;
    const [words, code] = isWords ? [refusal, earlier.refusal] : [earlier.refusal, refusal];
    this.#failure = { refusal: new Refusal(code.code, words.message || code.message, { status: code.status }), isWords: true };
  }

  #every(milliseconds, act) {
    this.#timers.add(setInterval(act, milliseconds));
  }

  #after(milliseconds, act) {
    this.#timers.add(setTimeout(act, milliseconds));
  }

  #finish(settle, { closeNow = false } = {}) {
    if (this.#settled) return;
    this.#settled = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#stop.abort();
    this.#socket?.close();
    const popup = this.#popup;
    // A moment for the window's own page to say its words.
    if (popup) setTimeout(() => popup.close(), closeNow ? 0 : 500);
    settle();
  }
}

/** Leaves this page for the provider's; the server sends the browser back. */
export function goThere(form, { params, credentials }, theme) {
  const more = { attempt: randomId(), back: 'page', lang: language, ...(theme ? { theme } : {}), ...overrides(credentials) };
  location.assign(`${address(form.path)}?${authorization(params, more)}`);
}
