// The form of one integration: fields as the server derived them, checked while they are filled in.

import { el, icon, uuid } from './dom.js';
import { report } from './api.js';
import { t } from './texts.js';
import { check, clean } from './values.js';

/** Labels that the server gives where the provider's definition has none. */
const LABELS = {
  'API key': 'labelApiKey',
  'User name': 'labelUsername',
  Password: 'labelPassword',
  'Client ID': 'labelClientId',
  'Client secret': 'labelClientSecret',
  'Private key': 'labelPrivateKey'
};

/** Where a field's error may come from on the server, by group. */
const PATHS = { credentials: ['credentials'], connection_config: ['params'], assertion_option: ['assertionOption', 'assertion_option'] };

const LARGEST_FILE = 64 * 1024;

let counter = 0;

class FieldView {
  #touched = false;
  #serverError = null;

  constructor(field, changed) {
    this.field = field;
    this.changed = changed;
    this.label = LABELS[field.label] ? t(LABELS[field.label]) : field.label;
    this.id = `field-${(counter += 1)}`;
    this.input = this.#control();
    this.error = el('p', { class: 'error', id: `${this.id}-error`, hidden: true });
    const described = [this.error.id];
    let help = null;
    if (field.description) {
      help = el('p', { class: 'help', id: `${this.id}-help`, text: field.description });
      described.push(help.id);
    }
    this.input.setAttribute('aria-describedby', described.join(' '));
    this.node = el('div', { class: 'field', 'data-name': field.name }, this.#head(), this.#box(), this.error, help);
  }

  #head() {
    const { field } = this;
    const label = el('label', { for: this.id, text: this.label });
    const chip = field.required ? null : el('span', { class: 'chip', text: t('optional') });
    const guide =
      field.docs_url &&
      el(
        'a',
        {
          class: 'hint',
          href: field.docs_url,
          target: '_blank',
          rel: 'noopener noreferrer',
          title: t('fieldGuide', { field: this.label }),
          'aria-label': `${t('fieldGuide', { field: this.label })} (${t('newTab')})`,
          onclick: () => report('click:doc_section')
        },
        icon('help')
      );
    return el('div', { class: 'field-head' }, label, chip, guide);
  }

  #control() {
    const { field } = this;
    const common = {
      id: this.id,
      name: this.id,
      'aria-required': field.required ? 'true' : null,
      oninput: () => this.#typed(),
      onblur: () => this.#left()
    };
    if (field.control === 'select') {
      const select = el('select', common);
      if (!field.required || !field.initial) select.append(el('option', { value: '', text: field.required ? t('choose') : '—' }));
      for (const choice of field.choices) select.append(el('option', { value: choice, text: choice }));
      select.value = field.initial ?? '';
      return select;
    }
    const typing = {
      ...common,
      autocomplete: 'off',
      autocapitalize: 'off',
      autocorrect: 'off',
      spellcheck: 'false',
      'data-1p-ignore': true,
      'data-lpignore': 'true',
      onpaste: () => setTimeout(() => this.#tidy())
    };
    if (field.control === 'textarea') {
      const area = el('textarea', { ...typing, rows: '4', class: field.secret ? 'masked' : null, placeholder: t('dropFile') });
      area.value = field.initial ?? '';
      return area;
    }
    const modes = { uri: 'url', email: 'email' };
    const type = field.secret ? 'password' : 'text';
    const placeholder = field.placeholder === field.label ? null : field.placeholder;
    const input = el('input', { ...typing, type, placeholder, inputmode: field.secret ? null : modes[field.format] });
    input.value = field.initial ?? '';
    return input;
  }

  #box() {
    const { field, input } = this;
    if (field.control === 'select') return el('div', { class: 'box select' }, input, icon('chevron'));
    const reveal = field.secret && this.#reveal();
    if (field.control === 'textarea') {
      const box = el('div', { class: 'box area' }, input, reveal);
      return el('div', { class: 'drop' }, this.#droppable(box), this.#filePicker());
    }
    const fixed = (text, side) => text && el('span', { class: `fixed ${side}`, 'aria-hidden': 'true', text });
    const box = el('div', { class: 'box', dir: 'ltr' }, fixed(field.prefix, 'before'), input, fixed(field.suffix, 'after'), reveal);
    // The fixed text belongs to the input: a click there means it.
    box.addEventListener('click', (event) => event.target.closest('.fixed') && input.focus());
    return box;
  }

  #reveal() {
    const button = el('button', { type: 'button', class: 'reveal', 'aria-label': t('show', { field: this.label }), 'aria-pressed': 'false' }, icon('eye'));
    button.addEventListener('click', () => {
      const shown = button.getAttribute('aria-pressed') === 'true';
      button.setAttribute('aria-pressed', String(!shown));
      button.setAttribute('aria-label', t(shown ? 'show' : 'hide', { field: this.label }));
      button.replaceChildren(icon(shown ? 'eye' : 'eyeOff'));
      if (this.input.tagName === 'TEXTAREA') this.input.classList.toggle('masked', shown);
      else this.input.type = shown ? 'password' : 'text';
    });
    return button;
  }

  #filePicker() {
    const file = el('input', { type: 'file', class: 'sr', tabindex: '-1', 'aria-hidden': 'true', onchange: () => this.#take(file.files[0]) });
    const button = el('button', { type: 'button', class: 'link', text: t('chooseFile'), onclick: () => file.click() });
    return el('div', { class: 'under' }, button, file);
  }

  #droppable(box) {
    const over = (event) => {
      event.preventDefault();
      box.classList.toggle('over', event.type === 'dragover');
      if (event.type === 'drop') this.#take(event.dataTransfer.files[0]);
    };
    for (const type of ['dragover', 'dragleave', 'drop']) box.addEventListener(type, over);
    return box;
  }

  async #take(file) {
    if (!file || file.size > LARGEST_FILE) return;
    this.input.value = await file.text();
    this.#typed();
    this.#left();
  }

  #typed() {
    this.#serverError = null;
    if (this.#touched) this.show();
    this.changed();
  }

  #left() {
    if (this.value !== '' || this.#touched) this.#touched = true;
    this.#tidy();
    if (this.#touched) this.show();
  }

  /** Puts the value in place of what was pasted around it. */
  #tidy() {
    if (this.field.control !== 'text') return;
    const value = this.value;
    if (value !== this.input.value) {
      this.input.value = value;
      this.#typed();
    }
  }

  get value() {
    return clean(this.field, this.input.value);
  }

  get isDirty() {
    return this.input.value !== (this.field.initial ?? '');
  }

  get isValid() {
    return !this.#serverError && check(this.field, this.value) === null;
  }

  /** Shows what is wrong, or that nothing is. */
  show() {
    this.#touched = true;
    const wrong = check(this.field, this.value);
    const text = this.#serverError ?? (wrong && t(...wrong));
    this.error.replaceChildren(...(text ? [icon('warning'), el('span', { text })] : []));
    this.error.hidden = !text;
    this.input.setAttribute('aria-invalid', String(Boolean(text)));
    this.node.classList.toggle('wrong', Boolean(text));
  }

  /** What the server says is wrong with it; our own words, if we see it too. */
  blame(message) {
    if (check(this.field, this.value) === null) this.#serverError = message;
    this.show();
  }
}

export class FormView {
  #params = {};

  /** `changed` is called when anything was typed. */
  constructor(form, changed) {
    this.form = form;
    this.fields = form.fields.map((field) => new FieldView(field, changed));
    this.node = el('div', { class: 'fields' }, this.fields.map((field) => field.node));
    if (form.auth_mode === 'AWS_SIGV4' && !form.is_reconnecting) this.node.prepend(this.#externalId());
  }

  #externalId() {
    const id = this.form.external_id ?? uuid();
    this.#params.external_id = id;
    // Not an input: the whole value is to be seen, also on a telephone.
    const value = el('output', { id: 'external-id', 'aria-describedby': 'external-id-help', text: id });
    const button = el('button', { type: 'button', class: 'reveal copy', 'aria-label': `${t('copy')}: ${t('externalId')}` }, icon('copy'));
    const status = el('span', { class: 'sr', role: 'status' });
    button.addEventListener('click', async () => {
      try {
        await navigator.clipboard.writeText(id);
      } catch {
        getSelection().selectAllChildren(value);
        document.execCommand('copy');
      }
      status.textContent = t('copied');
      button.replaceChildren(icon('check'));
      setTimeout(() => {
        button.replaceChildren(icon('copy'));
        status.textContent = '';
      }, 2000);
    });
    return el(
      'div',
      { class: 'field' },
      el('div', { class: 'field-head' }, el('label', { for: 'external-id', text: t('externalId') })),
      el('div', { class: 'box readonly', dir: 'ltr' }, value, button, status),
      el('p', { class: 'help', id: 'external-id-help', text: t('externalIdHelp') })
    );
  }

  get isValid() {
    return this.form.invalid_presets.length === 0 && this.fields.every((field) => field.isValid);
  }

  get isDirty() {
    return this.fields.some((field) => field.isDirty);
  }

  /** Shows every error and goes to the first; whether there is none. */
  validate() {
    for (const field of this.fields) if (!field.isValid) field.show();
    this.fields.find((field) => !field.isValid)?.input.focus();
    return this.isValid;
  }

  /** Puts the server's findings beside their fields; whether any has one. */
  blame(errors) {
    let found = null;
    for (const { path = [], message } of errors) {
      const field = this.fields.find(({ field: { group, name } }) => name === path.at(-1) && (path.length === 1 || PATHS[group].includes(path[0])));
      if (!field) continue;
      // The server writes `Label: is too short`, which without the colon is a sentence.
      field.blame(message.replace(`${field.field.label}: `, `${field.label} `));
      found ??= field;
    }
    found?.input.focus();
    return found !== null;
  }

  /** What was typed, by group. */
  values() {
    const groups = { credentials: {}, connection_config: { ...this.#params }, assertion_option: {} };
    for (const { field, value } of this.fields) groups[field.group][field.name] = value;
    return { credentials: groups.credentials, params: groups.connection_config, assertion: groups.assertion_option };
  }

  /** Forgets secrets, once they have served. */
  clear() {
    for (const { field, input } of this.fields) if (field.secret) input.value = '';
  }
}
