// Making elements. Values are set as text and attributes, never parsed as markup.

/** An element with attributes (`on…` adds a listener, `class`, `text`; null and false are left out) and children. */
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else if (key === 'text') made.textContent = value;
    else made.setAttribute(key, value === true ? '' : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

const PATHS = {
  back: 'M12.5 4.5 7 10l5.5 5.5',
  chevron: 'M7.5 4.5 13 10l-5.5 5.5',
  close: 'M5 5l10 10M15 5 5 15',
  check: 'M4.5 10.5l3.5 3.5 7.5-8',
  cross: 'M6 6l8 8M14 6l-8 8',
  clock: 'M10 5.5V10l3 2',
  search: 'M9 3.5a5.5 5.5 0 1 0 0 11 5.5 5.5 0 0 0 0-11zM13 13l4 4',
  help: 'M7.8 7.6A2.3 2.3 0 0 1 12.2 8.4c0 1.6-2.2 1.8-2.2 3.3M10 14.2v.1M10 2.5a7.5 7.5 0 1 0 0 15 7.5 7.5 0 0 0 0-15z',
  warning: 'M10 3 2.5 16.5h15zM10 8.5v3.5M10 14.2v.1',
  copy: 'M7.5 7.5h8v9h-8zM12.5 7.5v-4h-8v9h3',
  eye: 'M2.5 10S5 5 10 5s7.5 5 7.5 5-2.5 5-7.5 5-7.5-5-7.5-5zM10 7.8a2.2 2.2 0 1 0 0 4.4 2.2 2.2 0 0 0 0-4.4z',
  eyeOff: 'M3 3l14 14M8.2 5.2A7.6 7.6 0 0 1 10 5c5 0 7.5 5 7.5 5a12 12 0 0 1-2.3 2.8M12 14.7A7 7 0 0 1 10 15c-5 0-7.5-5-7.5-5a12.4 12.4 0 0 1 3.3-3.7M8.5 8.4a2.2 2.2 0 0 0 3.1 3.1',
  plug: 'M7.5 2.5v4M12.5 2.5v4M5.5 6.5h9v3a4.5 4.5 0 0 1-9 0zM10 14v3.5',
  external: 'M8 4.5H4.5v11h11V12M11 4.5h4.5V9M15 5l-6 6'
};

/** A line drawing of 20 units; decoration, hidden from screen readers. */
export function icon(name) {
  const space = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(space, 'svg');
  svg.setAttribute('viewBox', '0 0 20 20');
  svg.setAttribute('class', `icon icon-${name}`);
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS(space, 'path');
  path.setAttribute('d', PATHS[name]);
  svg.append(path);
  return svg;
}

/** An id nobody guesses: also where `crypto.randomUUID` is missing, which plain HTTP lacks. */
export function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** A UUID of version 4. */
export function uuid() {
  const hex = [...randomId()];
  hex[12] = '4';
  hex[16] = '89ab'[Number.parseInt(hex[16], 16) & 3];
  const text = hex.join('');
  return [text.slice(0, 8), text.slice(8, 12), text.slice(12, 16), text.slice(16, 20), text.slice(20)].join('-');
}
