// Words, in the one language the document brought.

const boot = JSON.parse(document.getElementById('boot').textContent);

export const { language } = boot;
export const settingsOfServer = boot;

/** The text `key` with `{name}` replaced by `values.name`. */
export function t(key, values = {}) {
  const text = boot.texts[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}
