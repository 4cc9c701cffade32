// What the screens look like. Each is `{name, title, body, foot, back}`; main.js decides which comes when.

import { report } from './api.js';
import { el, icon } from './dom.js';
import { isLink } from './host.js';
import { t } from './texts.js';

/** Fewer services than this are found without searching. */
const SEARCHABLE = 6;

function fold(text) {
  return text.normalize('NFD').replace(/\p{M}/gu, '').toLowerCase();
}

export function logo({ logo: address, display_name: name }) {
  const frame = el('span', { class: 'logo', 'aria-hidden': 'true' });
  const letter = () => frame.replaceChildren(el('b', { text: [...name][0] ?? '' }));
  if (address) frame.append(el('img', { src: address, alt: '', width: '40', height: '40', onerror: letter }));
  else letter();
  return frame;
}

export function primary(text, act, attributes = {}) {
  return el('button', { type: 'button', class: 'primary', text, onclick: act, ...attributes });
}

export function secondary(text, act, attributes = {}) {
  return el('button', { type: 'button', class: 'secondary', text, onclick: act, ...attributes });
}

export function alert(text, kind = 'bad', ...more) {
  return el('div', { class: `alert ${kind}`, role: 'alert' }, icon('warning'), el('div', {}, el('p', { text }), more));
}

/** A round sign above a result. */
function sign(kind, name, integration) {
  const badge = el('span', { class: `sign ${kind}` }, icon(name));
  if (!integration) return el('div', { class: 'emblem' }, badge);
  return el('div', { class: 'emblem' }, logo(integration), badge);
}

/** A link to the guide of the end user. */
export function guide(form) {
  if (!form.docs_url) return null;
  const text = t('guide');
  const attributes = { href: form.docs_url, target: '_blank', rel: 'noopener noreferrer', class: 'guide', onclick: () => report('click:doc', form.unique_key) };
  return el('a', attributes, el('span', { text }), icon('external'), el('span', { class: 'sr', text: ` (${t('newTab')})` }));
}

export function loading() {
  const lines = el('div', { class: 'skeleton', 'aria-hidden': 'true' }, ...Array.from({ length: 4 }, () => el('i')));
  return { name: 'loading', title: null, body: [el('p', { class: 'sr', role: 'status', text: t('loading') }), lines] };
}

/** The services to choose from. `pick` is called with the integration and its row. */
export function list(integrations, pick) {
  const rows = integrations.map((integration) => {
    const button = el(
      'button',
      { type: 'button', class: 'row', 'aria-label': t('connectTo', { provider: integration.display_name }), onclick: () => pick(integration, button) },
      logo(integration),
      el('span', { class: 'name', text: integration.display_name }),
      el('span', { class: 'go' }, icon('chevron'))
    );
    const words = fold([integration.display_name, integration.provider, integration.unique_key].join(' '));
    return { words, item: el('li', {}, button), button };
  });
  const items = el('ul', { class: 'rows' }, rows.map((row) => row.item));
  const none = el('p', { class: 'none', hidden: true });
  const status = el('p', { class: 'sr', role: 'status' });
  const search = el('input', { type: 'search', placeholder: t('search'), 'aria-label': t('search'), autocomplete: 'off', spellcheck: 'false' });
  search.addEventListener('input', () => {
    const wanted = fold(search.value.trim()).split(/\s+/);
    let shown = 0;
    for (const row of rows) {
      row.item.hidden = !wanted.every((word) => row.words.includes(word));
      if (!row.item.hidden) shown += 1;
    }
    none.textContent = t('noMatch', { query: search.value.trim() });
    none.hidden = shown > 0;
    status.textContent = t('results', { count: shown });
  });
  const body = el('div', { class: 'list' }, items, none, status);
  body.addEventListener('keydown', (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const buttons = rows.filter((row) => !row.item.hidden).map((row) => row.button);
    const at = buttons.indexOf(document.activeElement);
    const next = buttons[at + step];
    if (next) next.focus();
    else if (step < 0 && !searchBox.hidden) search.focus();
    event.preventDefault();
  });
  const searchBox = el('div', { class: 'search', hidden: integrations.length < SEARCHABLE }, icon('search'), search);
  search.addEventListener('keydown', (event) => {
    if (event.key === 'ArrowDown') {
      rows.find((row) => !row.item.hidden)?.button.focus();
      event.preventDefault();
    }
    if (event.key === 'Escape' && search.value !== '') {
      search.value = '';
      search.dispatchEvent(new Event('input'));
      event.stopPropagation();
    }
  });
  return { name: 'list', title: t('listTitle'), intro: t('listText'), body: [searchBox, body] };
}

export function empty(close) {
  return {
    name: 'empty',
    title: t('emptyTitle'),
    centered: true,
    emblem: el('div', { class: 'emblem' }, el('span', { class: 'sign quiet' }, icon('plug'))),
    body: [el('p', { class: 'lead', text: t('emptyText') })],
    foot: isLink ? [] : [secondary(t('close'), close)]
  };
}

/** The window is open elsewhere. */
export function waiting(integration, { reopen, cancel }) {
  const provider = integration.display_name;
  return {
    name: 'waiting',
    title: t('waitTitle'),
    centered: true,
    emblem: el('div', { class: 'emblem' }, logo(integration), el('span', { class: 'spinner', 'aria-hidden': 'true' })),
    body: [el('p', { class: 'lead', role: 'status', text: t('waitText', { provider }) })],
    foot: [secondary(t('reopen'), reopen), el('button', { type: 'button', class: 'plain', text: t('cancel'), onclick: cancel })]
  };
}

export function leaving(integration) {
  return {
    name: 'leaving',
    title: t('leaving', { provider: integration.display_name }),
    centered: true,
    emblem: el('div', { class: 'emblem' }, logo(integration), el('span', { class: 'spinner', 'aria-hidden': 'true' })),
    body: []
  };
}

export function success(integration, { isPending, isOutbound }, finish) {
  const provider = integration.display_name;
  const [title, text] = isOutbound
    ? [t('outboundTitle'), t('outboundText', { provider })]
    : isPending
      ? [t('pendingTitle'), t('pendingText', { provider })]
      : [t('successTitle', { provider }), isLink ? t('successTab') : t('successText')];
  return {
    name: 'success',
    title,
    centered: true,
    emblem: isPending || isOutbound ? sign('wait', 'clock', integration) : sign('good', 'check', integration),
    body: [el('p', { class: 'lead', text })],
    foot: isLink ? [] : [primary(t('finish'), finish)]
  };
}

function compact(text) {
  try {
    return JSON.stringify(JSON.parse(text));
  } catch {
    return text;
  }
}

/** Without a second try the way back, or out, is the button. */
export function failed(integration, { text, code, message, form }, { retry, back, close }) {
  const provider = integration.display_name;
  const said = [code, message].filter(Boolean).map(compact).join('\n');
  return {
    name: 'failed',
    title: t('failedTitle', { provider }),
    centered: true,
    emblem: sign('bad', 'cross', integration),
    body: [
      el('p', { class: 'lead', role: 'alert', text }),
      said && el('details', {}, el('summary', { text: t('details') }), el('pre', { tabindex: '0', dir: 'ltr', text: said })),
      form && guide(form)
    ],
    foot: [retry ? primary(t('retry'), retry) : back ? primary(t('back'), back) : !isLink && secondary(t('close'), close)],
    back: retry && back
  };
}

export function error(title, text, { retry, close } = {}) {
  return {
    name: 'error',
    title,
    centered: true,
    emblem: el('div', { class: 'emblem' }, el('span', { class: 'sign quiet' }, icon('warning'))),
    body: [el('p', { class: 'lead', role: 'alert', text })],
    foot: [retry && primary(t('retry'), retry), close && !isLink && secondary(t('close'), close)]
  };
}

/** Asks whether to leave; resolves with the answer. */
export function askToLeave() {
  return new Promise((answer) => {
    const stay = primary(t('stay'), () => dialog.close('stay'));
    const dialog = el(
      'dialog',
      { class: 'ask', 'aria-labelledby': 'ask-title', 'aria-describedby': 'ask-text' },
      el('h2', { id: 'ask-title', text: t('leaveTitle') }),
      el('p', { id: 'ask-text', text: t('leaveText') }),
      el('div', { class: 'choices' }, secondary(t('leave'), () => dialog.close('leave')), stay)
    );
    dialog.addEventListener('close', () => {
      dialog.remove();
      answer(dialog.returnValue === 'leave');
    });
    document.body.append(dialog);
    dialog.showModal();
    stay.focus();
  });
}
