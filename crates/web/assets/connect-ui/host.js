// The page around the frame: what it is told, and what it may tell us. Only the window that embeds us is listened to.

const framed = window.parent !== window;
let origin = '*';

/** Whether we are a page of our own: a connect link. */
export const isLink = !framed;

/** Tells the page around us; nobody, if there is none. */
export function tell(type, payload) {
  if (framed) window.parent.postMessage(payload === undefined ? { type } : { type, payload }, origin);
}

/** Calls `handlers[type](message)` for messages of the page around us. */
export function listen(handlers) {
  if (!framed) return;
  window.addEventListener('message', (event) => {
    if (event.source !== window.parent || typeof event.data !== 'object' || event.data === null) return;
    const handler = handlers[event.data.type];
    if (!handler || !Object.hasOwn(handlers, event.data.type)) return;
    // Whoever gave us the token is whom we talk to from now on. Pages without an origin of their own are called null.
    if (event.data.type === 'session_token' && origin === '*' && event.origin !== 'null') origin = event.origin;
    if (origin !== '*' && event.origin !== origin) return;
    handler(event.data);
  });
}
