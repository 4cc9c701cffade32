// The last page of a popup: tells whoever opened it how it ended, and closes.
'use strict';

const orders = JSON.parse(document.getElementById('orders').textContent);

const isAck = (event) => event.data && event.data.type === 'nango_oauth_callback_ack';
const closeOnAck = (event) => {
  if (isAck(event)) window.close();
};

window.addEventListener('message', closeOnAck);
if ('BroadcastChannel' in window) {
  // For openers that were cut off by a provider's Cross-Origin-Opener-Policy.
  const channel = new BroadcastChannel('nango-oauth-callback');
  channel.addEventListener('message', closeOnAck);
  channel.postMessage(orders.message);
}
if (window.opener) {
  try {
    window.opener.postMessage(orders.message, '*');
  } catch {
    // The opener is gone; the channel and the WebSocket remain.
  }
}
if (orders.close_after !== null) setTimeout(() => window.close(), orders.close_after);

if (orders.debug) {
  const shown = {
    url: location.href,
    parameters: Object.fromEntries(new URLSearchParams(location.search)),
    opener: window.opener ? 'present' : 'absent',
    posted: orders.message,
  };
  const pre = document.getElementById('debug');
  pre.textContent = JSON.stringify(shown, null, 2);
  pre.hidden = false;
}
