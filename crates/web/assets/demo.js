// The demonstration's page. `connect` speaks the popup protocol in a few lines: open the window in the click, wait
// for the socket's id, send the window on its way, wait for the one result.

const settings = JSON.parse(document.getElementById('settings').textContent);
const $ = (id) => document.getElementById(id);
const here = (path) => new URL(path, document.baseURI);

let connection = null;
let expiresAt = null;
let reading = false;
let shownWebhook = '';

// --- talking to our own server ---

async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  };
  const response = await fetch(here(path), options);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error?.message ?? answer.error?.code ?? `HTTP ${response.status}`);
  return answer;
}

function connect(token) {
  const popup = window.open('', '_blank', 'popup,width=500,height=640');
  if (!popup) return Promise.reject(new Error('The browser blocked the window. Allow popups for this page and try again.'));
  return new Promise((resolve, reject) => {
    const address = here(settings.socket);
    address.protocol = address.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(address);
    let settled = false;
    const settle = (finish, value) => {
      if (settled) return;
      settled = true;
      clearInterval(watch);
      socket.close();
      setTimeout(() => popup.close(), 500);
      finish(value);
    };
    const watch = setInterval(() => {
      if (popup.closed) settle(reject, new Error('The window was closed before the account was connected.'));
    }, 500);
    socket.onerror = () => settle(reject, new Error('The WebSocket could not be opened.'));
    socket.onmessage = async ({ data }) => {
      const frame = JSON.parse(data);
      if (frame.message_type === 'connection_ack') {
        try {
          const url = here(`oauth/connect/${encodeURIComponent(settings.integration)}`);
          url.searchParams.set('connect_session_token', await token);
          url.searchParams.set('ws_client_id', frame.ws_client_id);
          popup.location = url;
        } catch (error) {
          settle(reject, error);
        }
      } else if (frame.message_type === 'success') {
        settle(resolve, frame.connection_id);
      } else if (frame.message_type === 'error') {
        settle(reject, new Error(frame.error_desc));
      }
    };
  });
}

window.addEventListener('message', ({ data, origin, source }) => {
  if (origin === location.origin && data?.type?.startsWith('nango_oauth_callback_')) {
    source.postMessage({ type: 'nango_oauth_callback_ack' }, origin);
  }
});

// --- showing ---

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function definitions(pairs) {
  const list = element('dl');
  for (const [name, value] of pairs) list.append(element('dt', name), element('dd', value));
  return list;
}

function show(step, ...content) {
  $(`${step}-result`).replaceChildren(...content);
}

function fail(step, error) {
  show(step, element('p', error.message, 'problem'));
}

function done(step) {
  $(step).classList.add('done');
}

// The one button to press next looks like it.
function lead() {
  const order = ['connect', 'token', 'contacts'];
  const next = order.find((step) => !$(step).classList.contains('done'));
  for (const step of order) {
    const button = $(`${step}-button`);
    button.classList.toggle('primary', step === next);
    button.disabled = button.dataset.busy === 'yes' || (step !== 'connect' && !connection);
  }
}

async function press(step, act) {
  const button = $(`${step}-button`);
  button.dataset.busy = 'yes';
  lead();
  try {
    await act();
    done(step);
  } catch (error) {
    fail(step, error);
  } finally {
    delete button.dataset.busy;
    lead();
  }
}

function setConnection(row) {
  connection = row.connection_id;
  for (const span of document.querySelectorAll('[data-connection]')) span.textContent = connection;
  show('connect', definitions([['connection', connection], ...Object.entries(row.tags)]));
  $('connect-button').textContent = 'Connect another account';
  done('connect');
  lead();
}

function count(seconds) {
  return seconds > 0 ? `${seconds} s` : 'now';
}

async function readToken() {
  const token = await ask('demo/token', { connection_id: connection });
  expiresAt = token.expires_at ? Date.parse(token.expires_at) : null;
  const left = element('dd', '');
  left.id = 'countdown';
  const list = definitions([['access token', token.masked]]);
  list.append(element('dt', 'expires in'), left, element('dt', 'refreshes at the provider'), element('dd', token.refreshes));
  show('token', list, element('p', 'Nearly expired tokens are refreshed when they are read. Stay a minute and watch the count.', 'quiet'));
  tick();
}

function tick() {
  const left = $('countdown');
  if (!left || expiresAt === null) return;
  left.textContent = count(Math.round((expiresAt - Date.now()) / 1000));
}

async function readContacts() {
  const answer = await ask('demo/contacts', { connection_id: connection });
  const table = element('table');
  table.append(element('caption', `HTTP ${answer.status} in ${answer.milliseconds} ms`));
  const head = element('tr');
  head.append(element('th', 'Name'), element('th', 'E-mail'));
  table.createTHead().append(head);
  const body = table.createTBody();
  for (const contact of answer.contacts) {
    const row = element('tr');
    row.append(element('td', contact.name), element('td', contact.email));
    body.append(row);
  }
  show('contacts', table);
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function showWebhooks(webhooks) {
  const last = webhooks.at(-1);
  if (!last || last.at === shownWebhook) return;
  shownWebhook = last.at;
  const verdict = last.genuine ? 'Signature checked: genuine' : 'The signature does not fit';
  const headers = last.headers.map(([name, value]) => `${name}: ${value}`).join('\n');
  const pre = element('pre', `${headers}\n\n${pretty(last.body)}`);
  pre.tabIndex = 0;
  show('webhook', element('p', verdict, last.genuine ? 'good' : 'problem'), pre);
  if (last.genuine) done('webhook');
}

// --- the rhythm ---

async function look() {
  const state = await ask('demo/state');
  if (!connection && state.connections.length > 0) setConnection(state.connections[0]);
  showWebhooks(state.provider.webhooks);
}

async function beat() {
  if (document.visibilityState !== 'visible') return;
  tick();
  try {
    await look();
    // The server decides when a token is too near its end; asking shortly before is what makes it refresh.
    if (expiresAt !== null && !reading && expiresAt - Date.now() < 9000 && $('token').classList.contains('done')) {
      reading = true;
      await readToken().catch((error) => {
        expiresAt = null;
        fail('token', error);
      });
    }
    $('offline').hidden = true;
  } catch {
    $('offline').hidden = false;
  } finally {
    reading = false;
  }
}

$('connect-button').addEventListener('click', () => press('connect', async () => {
  // The window must open in the click itself; its address may come later.
  const session = ask('demo/session', {}).then((made) => made.token);
  session.catch(() => {});
  const made = await connect(session);
  const state = await ask('demo/state');
  setConnection(state.connections.find((row) => row.connection_id === made) ?? { connection_id: made, tags: {} });
  expiresAt = null;
  for (const step of ['token', 'contacts']) {
    $(step).classList.remove('done');
    show(step);
  }
  $('token-button').focus();
}));
$('ui-button').addEventListener('click', async () => {
  // The same link that a session's `connect_link` is. Opened in the click; its address may come later.
  const tab = window.open('', '_blank');
  try {
    const { token } = await ask('demo/session', {});
    const link = here('connect-ui/');
    link.searchParams.set('session_token', token);
    if (tab) tab.location.replace(link);
    else location.assign(link);
  } catch (error) {
    tab?.close();
    fail('connect', error);
  }
});
$('token-button').addEventListener('click', () => press('token', readToken));
$('contacts-button').addEventListener('click', () => press('contacts', readContacts));

for (const button of document.querySelectorAll('[data-copy]')) {
  if (!navigator.clipboard) {
    button.hidden = true;
    continue;
  }
  button.addEventListener('click', async () => {
    await navigator.clipboard.writeText($(button.dataset.copy).textContent);
    button.textContent = 'Copied';
    setTimeout(() => { button.textContent = 'Copy'; }, 1500);
  });
}

lead();
beat();
setInterval(beat, 1000);
