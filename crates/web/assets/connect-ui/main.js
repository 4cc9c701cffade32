// The Connect UI: what happens when. Screens are drawn in screens.js, fields in form.js, one attempt in attempt.js.
//
// The token lives in memory and in the address bar only until it has been read: it is taken out of the address at once,
// so that neither the history, nor a reload, nor a Referer carries it.

import * as api from './api.js';
import { PopupAttempt, goThere, wordsOf } from './attempt.js';
import { el, icon } from './dom.js';
import { FormView } from './form.js';
import { isLink, listen, tell } from './host.js';
import * as screens from './screens.js';
import { t } from './texts.js';
import * as theme from './theme.js';
import { body } from './values.js';

const address = new URL(location.href);
const wish = (name) => address.searchParams.get(name);
const isEmbedded = wish('embedded') === 'true';
const isPreview = wish('preview') === 'true';
const detectClosed = wish('detectClosedAuthWindow') === 'true';
const ownTheme = ['light', 'dark', 'system'].includes(wish('theme')) ? wish('theme') : null;

/** How long a frame waits for its token before it says that it has none. */
const TOKEN_PATIENCE = 10_000;

/** Without windows: in-app browsers and telephones, where a second window is easily lost, go there and come back. */
const prefersPage = isLink && matchMedia('(pointer: coarse)').matches;

const card = document.getElementById('card');
const stage = document.getElementById('stage');

let session = null;
let integrations = [];
let isSingle = false;
/** The form on screen or behind the screen: `{integration, form, view, screen}`. */
let current = null;
let attempt = null;
let isSubmitting = false;
let shown = null;
/** What an expired session covered. */
let covered = null;
let expiry = null;
let generation = 0;

function report(event, key) {
  if (!isPreview) api.report(event, key);
}

// --- showing ---

function bar(screen) {
  const back = screen.back && el('button', { type: 'button', class: 'round', 'aria-label': t('back'), onclick: screen.back }, icon('back'));
  const close = !isLink && el('button', { type: 'button', class: 'round close', 'aria-label': t('close'), onclick: () => leave('click:close') }, icon('close'));
  const url = session?.connectUISettings?.logoUrl;
  const brand = url && el('img', { class: 'brand', src: url, alt: '', onerror: (event) => event.target.remove() });
  return el('div', { class: 'bar' }, el('span', { class: 'side' }, back), brand, el('span', { class: 'side' }, close));
}

function legal() {
  const settings = session?.connectUISettings;
  const link = settings?.privacyUrl && el('a', { href: settings.privacyUrl, target: '_blank', rel: 'noopener noreferrer', text: t('privacy') });
  const mark = settings?.showWatermark && el('span', { text: t('madeWith', { product: 'Patchbay' }) });
  return link || mark ? el('div', { class: 'legal' }, link, mark) : null;
}

function show(screen) {
  shown = screen;
  card.dataset.screen = screen.name;
  card.setAttribute('aria-busy', String(screen.name === 'loading'));
  const heading = screen.title && el('h1', { id: 'heading', tabindex: '-1', text: screen.title });
  const inside = el(
    'div',
    { class: `screen${screen.centered ? ' centered' : ''}` },
    screen.emblem,
    screen.head ?? heading,
    screen.intro && el('p', { class: 'intro', text: screen.intro }),
    screen.body
  );
  const scroll = el('div', { class: 'scroll' }, inside);
  const buttons = (screen.foot ?? []).filter(Boolean);
  const foot = buttons.length > 0 && el('div', { class: 'foot' }, buttons);
  card.replaceChildren(...[bar(screen), scroll, foot, legal()].filter(Boolean));
  document.title = screen.title ?? t('title');
  const title = document.getElementById('heading');
  if (title) {
    card.setAttribute('aria-labelledby', 'heading');
    card.removeAttribute('aria-label');
  } else {
    card.setAttribute('aria-label', t('title'));
    card.removeAttribute('aria-labelledby');
  }
  (title ?? card).focus({ preventScroll: true });
}

// --- leaving ---

async function leave(event) {
  if (isPreview || isLink) return;
  if (isSubmitting) {
    if (event === 'click:outside') return;
  } else if (shown?.name === 'waiting' && event === 'click:outside') {
    return;
  }
  report(event);
  const mayLose = current?.view.isDirty && ['form', 'failed', 'waiting'].includes(shown?.name);
  if (mayLose && !(await screens.askToLeave())) return;
  attempt?.cancel();
  tell('close');
}

// --- the session ---

async function start() {
  const mine = (generation += 1);
  show(screens.loading());
  try {
    const answer = await api.session();
    if (mine !== generation) return;
    useSession(answer);
    integrations = await api.integrations();
    if (mine !== generation) return;
  } catch (error) {
    if (mine === generation) cannotStart(error, start);
    return;
  }
  const returned = wish('attempt');
  if (returned) {
    address.searchParams.delete('attempt');
    if (await showReturned(returned)) return;
  }
  isSingle = session.allowed_integrations?.length === 1 && integrations.length === 1;
  if (isSingle) await openForm(integrations[0]);
  else showList();
}

function useSession(answer) {
  session = answer;
  theme.use(session.connectUISettings, ownTheme);
  clearTimeout(expiry);
  if (session.expiresIn) expiry = setTimeout(() => tell('session_expired'), session.expiresIn * 1000);
}

function cannotStart(error, again) {
  if (error.isExpired) return expired();
  report('view:unknown_error');
  const text = error.code === 'network' ? t('failedNetwork') : error.code === 'too_many_request' ? t('failedRate') : t('failedServer');
  show(screens.error(t('errorTitle'), text, { retry: again, close: () => leave('click:close') }));
}

/** The session is over. A page around us may give us another, and then we go on where we were. */
function expired() {
  if (shown?.name !== 'expired') covered = shown?.name === 'loading' ? null : shown;
  tell('session_expired');
  report('view:unknown_error');
  const text = isLink ? t('expiredLink') : t('expiredText');
  show({ ...screens.error(t('expiredTitle'), text, { close: () => leave('click:close') }), name: 'expired' });
}

async function takeToken(token) {
  if (typeof token !== 'string' || token === '' || token === api.getToken()) return;
  const isFirst = api.getToken() === null;
  api.setToken(token);
  if (isFirst) {
    report('open');
    return start();
  }
  if (shown?.name === 'expired' && covered && current) {
    try {
      useSession(await api.session());
    } catch (error) {
      return cannotStart(error, start);
    }
    const before = covered;
    covered = null;
    return show(before);
  }
  if (['expired', 'error', 'loading'].includes(shown?.name)) return start();
  // Work goes on undisturbed; only what follows uses the new session.
  try {
    useSession(await api.session());
  } catch (error) {
    if (error.isExpired) expired();
  }
}

// --- the list ---

function showList() {
  current = null;
  if (integrations.length === 0) return show(screens.empty(() => leave('click:close')));
  report('view:list');
  show(
    screens.list(integrations, (integration, row) => {
      report('click:integration', integration.unique_key);
      row.classList.add('busy');
      openForm(integration);
    })
  );
}

// --- the form ---

async function openForm(integration) {
  const mine = (generation += 1);
  const slow = setTimeout(() => mine === generation && show(screens.loading()), 250);
  try {
    const form = await api.form(integration.unique_key);
    if (mine !== generation) return;
    current = { integration, form, view: new FormView(form, refreshButton) };
  } catch (error) {
    if (mine !== generation) return;
    clearTimeout(slow);
    if (error.isExpired) return expired();
    if (error.status === 404 || error.code === 'integration_not_allowed') return fail(integration, error);
    return cannotStart(error, () => openForm(integration));
  } finally {
    clearTimeout(slow);
  }
  report('view:integration', integration.unique_key);
  showForm();
}

/** Draws the form around the fields there are, so that what was typed stays. */
function showForm(notice = null) {
  const { form, view } = current;
  const provider = form.display_name;
  const isPopup = form.via === 'popup';
  const title = t(form.is_reconnecting ? 'reconnectTitle' : 'formTitle', { provider });
  const hint =
    form.installation === 'outbound'
      ? t('outboundHint', { provider })
      : isPopup
        ? t(prefersPage ? 'pageHint' : 'popupHint', { provider })
        : form.fields.length === 0
          ? t('noFieldsHint', { provider })
          : null;
  const button = el('button', { type: 'submit', class: 'primary', form: 'form', text: isPopup ? t('continueTo', { provider }) : t('connect') });
  const wrong = form.invalid_presets.length > 0 && screens.alert(t('presetWrong', { field: form.invalid_presets.join(', ') }));
  const formElement = el(
    'form',
    {
      id: 'form',
      novalidate: true,
      onsubmit: (event) => {
        event.preventDefault();
        connect();
      }
    },
    wrong,
    el('div', { class: 'notice' }, notice),
    view.node
  );
  current.button = button;
  show({
    name: 'form',
    title,
    head: el('div', { class: 'head' }, screens.logo(form), el('h1', { id: 'heading', tabindex: '-1', text: title })),
    intro: hint,
    body: [formElement, screens.guide(form)],
    foot: [button],
    back: isSingle ? null : () => !isSubmitting && showList()
  });
  refreshButton();
}

/** The button looks ready when the form is; pressed before, it shows what is missing. */
function refreshButton() {
  const { button, view } = current;
  button.setAttribute('aria-disabled', String(!view.isValid));
}

function busy(isBusy) {
  isSubmitting = isBusy;
  const { button, form } = current;
  const text = isBusy ? t('checking', { provider: form.display_name }) : t(form.via === 'popup' ? 'continueTo' : 'connect', { provider: form.display_name });
  button.replaceChildren(...(isBusy ? [el('span', { class: 'spinner small', 'aria-hidden': 'true' })] : []), el('span', { role: isBusy ? 'status' : null, text }));
  button.classList.toggle('busy', isBusy);
  card.querySelector('form')?.toggleAttribute('inert', isBusy);
}

function connect() {
  if (isSubmitting || isPreview) return;
  const { form, view } = current;
  if (!view.validate()) return;
  report('click:connect', form.unique_key);
  if (form.via === 'popup') {
    if (prefersPage) goToProvider();
    else openWindow();
  } else {
    submit();
  }
}

async function submit() {
  const { form, view, integration } = current;
  const { params, credentials, assertion } = view.values();
  busy(true);
  try {
    const made = await api.submit(form.path, params, body(form, credentials, assertion));
    view.clear();
    busy(false);
    succeed(integration, { ...made, isOutbound: form.installation === 'outbound' });
  } catch (error) {
    busy(false);
    if (error.isExpired) {
      tellFailure(error);
      return expired();
    }
    fail(integration, error);
  }
}

function openWindow() {
  const { form, view, integration } = current;
  const owner = current;
  attempt = new PopupAttempt(form, view.values(), { websocketsPath: session.websocketsPath ?? '/', detectClosed });
  const mine = attempt;
  if (!mine.open()) {
    report('popup:blocked_by_browser');
    tell('error', { errorType: 'blocked_by_browser', errorMessage: t('blocked', { provider: form.display_name }) });
    return showBlocked(mine);
  }
  follow(mine, integration, owner);
}

/** Waits for the outcome of an attempt. */
async function follow(mine, integration, owner) {
  const reopen = () => mine.reopen() || showBlocked(mine);
  show(screens.waiting(owner.form, { reopen, cancel: () => mine.cancel() }));
  try {
    const made = await mine.done;
    if (mine === attempt) succeed(integration, made);
  } catch (error) {
    if (mine !== attempt) return;
    attempt = null;
    current = owner;
    if (error.code === 'cancelled') return showForm();
    if (error.isExpired) {
      tellFailure(error);
      showForm();
      return expired();
    }
    fail(integration, error);
  }
}

/** No window: this tab, if it is ours, or a link, which browsers do not block. */
function showBlocked(mine) {
  const { form, integration } = current;
  const owner = current;
  const way = isLink
    ? screens.secondary(t('blockedPage'), goToProvider)
    : el('a', {
        class: 'secondary',
        href: mine.url(),
        target: '_blank',
        rel: 'noreferrer',
        text: t('blockedTab'),
        onclick: () => {
          mine.wait();
          setTimeout(() => follow(mine, integration, owner));
        }
      });
  showForm(screens.alert(t('blocked', { provider: form.display_name }), 'warn', way));
}

function goToProvider() {
  const { form, view } = current;
  const values = view.values();
  show(screens.leaving(form));
  goThere(form, values, ownTheme);
}

// --- outcomes ---

function succeed(integration, { providerConfigKey, connectionId, isPending, isOutbound }) {
  attempt = null;
  report('view:success');
  tell('connect', { providerConfigKey, connectionId, ...(isPending === undefined ? {} : { isPending }) });
  const finish = () => {
    report('click:finish');
    tell('close');
  };
  const named = current?.form ?? integration;
  current = null;
  show(screens.success(named, { isPending, isOutbound }, finish));
}

/** Codes that an application may branch on keep their names; what has none is `unknown_error`. */
function tellFailure({ code, message }) {
  const known = code && code !== 'network' && code !== 'server' && !code.startsWith('http_');
  tell('error', { errorType: known ? code : 'unknown_error', errorMessage: message });
}

const WORDS = {
  connection_test_failed: 'failedTest',
  client_credentials_fetch_error: 'failedTest',
  invalid_two_step_credentials: 'failedTest',
  two_step_credentials_fetch_error: 'failedTest',
  resource_capped: 'failedLimit',
  integration_not_allowed: 'failedGone',
  unknown_provider_config: 'failedGone',
  unknown_provider_template: 'failedGone',
  too_many_request: 'failedRate',
  network: 'failedNetwork',
  server: 'failedServer',
  server_error: 'failedServer',
  service_unavailable: 'failedServer'
};

function fail(integration, error) {
  const provider = (current?.form ?? integration).display_name;
  const { message, reason } = wordsOf(error.message ?? '');
  tellFailure({ code: error.code, message });
  if (error.code === 'window_closed') {
    report('popup:closed_early');
    return showForm(screens.alert(t('closed', { provider }), 'warn'));
  }
  if (current && error.errors?.length > 0) {
    showForm(screens.alert(t('errorSummary')));
    if (current.view.blame(error.errors)) return;
  }
  report('view:credentials_error');
  const isDenied = reason === 'access_denied' || /\baccess_denied\b/.test(message);
  // Words that somebody wrote for this end user are shown as they are.
  const isForPeople = error.code === 'connection_validation_failed' && message !== '';
  const words = WORDS[error.code] ?? 'failedOther';
  const isGone = words === 'failedGone';
  // Of one service there is no other to choose.
  const text = isDenied ? t('failedDenied', { provider }) : isForPeople ? message : isGone && isSingle ? t('emptyText') : t(words, { provider });
  const again = current ? () => showForm() : () => openForm(integration);
  const back = isSingle || !session ? (isGone ? null : again) : isGone || !current ? showList : again;
  show(screens.failed(integration, { text, code: error.code, message, form: current?.form }, { retry: isGone ? null : again, back, close: () => leave('click:close') }));
}

/** The page left for the provider and is back: says how that ended. */
async function showReturned(name) {
  let ended;
  try {
    ended = await api.result(name);
  } catch (error) {
    cannotStart(error, () => showReturned(name));
    return true;
  }
  if (!ended) return false;
  const integration = integrations.find((one) => one.unique_key === ended.providerConfigKey);
  if (!integration) return false;
  isSingle = session.allowed_integrations?.length === 1 && integrations.length === 1;
  if (ended.error) fail(integration, new api.Refusal(ended.error.type, ended.error.message));
  else succeed(integration, ended);
  return true;
}

// --- the frame ---

function keepFocus(event) {
  if (event.key !== 'Tab' || isLink || document.querySelector('dialog[open]')) return;
  const all = [...card.querySelectorAll('a[href], button, input, select, textarea, summary, pre[tabindex="0"]')];
  const usable = all.filter((one) => !one.disabled && one.tabIndex >= 0 && one.getClientRects().length > 0 && !one.closest('[inert]'));
  if (usable.length === 0) return;
  const [first, last] = [usable[0], usable.at(-1)];
  const inside = card.contains(document.activeElement) && document.activeElement.id !== 'heading' && document.activeElement !== card;
  if (event.shiftKey && (document.activeElement === first || !inside)) last.focus();
  else if (!event.shiftKey && document.activeElement === last) first.focus();
  else return;
  event.preventDefault();
}

function boot() {
  stage.classList.toggle('alone', isLink);
  stage.classList.toggle('embedded', isEmbedded);
  card.setAttribute('role', isLink ? 'main' : 'dialog');
  if (!isLink && !isEmbedded) card.setAttribute('aria-modal', 'true');
  card.tabIndex = -1;
  theme.use(null, ownTheme);

  const token = wish('session_token');
  if (token) {
    const clean = new URL(location.href);
    for (const name of ['session_token', 'attempt']) clean.searchParams.delete(name);
    history.replaceState(null, '', clean);
  }

  document.addEventListener('keydown', keepFocus);
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || event.defaultPrevented || document.querySelector('dialog[open]')) return;
    // Else the same key closes the question it raises.
    event.preventDefault();
    leave('click:outside');
  });
  stage.addEventListener('mousedown', (event) => event.target === stage && leave('click:outside'));
  // Back from the provider by the browser's own button: the page stands where it was left.
  window.addEventListener('pageshow', (event) => event.persisted && shown?.name === 'leaving' && showForm());

  show(screens.loading());
  const direct = () => show({ ...screens.error(t('directTitle'), t('directText'), { close: () => leave('click:close') }), name: 'error' });
  listen({
    session_token: ({ sessionToken }) => takeToken(sessionToken),
    settings_changed: ({ payload }) => {
      if (!isPreview || typeof payload !== 'object' || payload === null) return;
      if (session) session.connectUISettings = { ...session.connectUISettings, ...payload };
      theme.use(session?.connectUISettings ?? payload, ownTheme);
      if (shown) show(shown);
    }
  });
  tell('ready');
  if (token) takeToken(token);
  else if (isLink) direct();
  else setTimeout(() => api.getToken() === null && direct(), TOKEN_PATIENCE);
}

boot();
