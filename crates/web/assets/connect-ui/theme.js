// Light, dark or as the system says; the product's colours, with text on them that can be read.

const root = document.documentElement;
const dark = matchMedia('(prefers-color-scheme: dark)');
let settings = null;
let wished = null;

/** sRGB of any CSS colour, or null. */
function rgb(colour) {
  const canvas = document.createElement('canvas');
  canvas.width = 1;
  canvas.height = 1;
  const context = canvas.getContext('2d', { willReadFrequently: true });
  if (!context || !CSS.supports('color', colour)) return null;
  context.fillStyle = colour;
  // Plain colours read back as #rrggbb; only exotic ones have to be painted.
  const hex = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/.exec(context.fillStyle);
  if (hex) return hex.slice(1).map((digits) => Number.parseInt(digits, 16));
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
}

/** Relative luminance (WCAG 2). */
export function luminance(colour) {
  const [r, g, b] = colour.map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** Contrast ratio of two luminances (WCAG 2). */
export function contrast(a, b) {
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}

function isDark() {
  const theme = root.dataset.theme;
  return theme === 'dark' || (theme === 'system' && dark.matches);
}

function apply() {
  const shade = settings?.theme?.[isDark() ? 'dark' : 'light'] ?? {};
  const set = (name, value) => (value ? root.style.setProperty(name, value) : root.style.removeProperty(name));
  const given = (name) => (typeof shade[name] === 'string' && rgb(shade[name]) ? shade[name] : null);
  set('--surface', given('surface'));
  set('--ink', given('text'));
  const primary = given('primary');
  set('--primary', primary);
  const on = primary && luminance(rgb(primary));
  const text = primary && (contrast(on, 1) >= contrast(on, luminance([22, 25, 29])) ? '#fff' : '#16191d');
  set('--on-primary', text);
  // A focus ring that cannot be told from the card is none: then it has the colour of text.
  const surface = rgb(getComputedStyle(root).getPropertyValue('--surface').trim());
  set('--focus', primary && surface && contrast(on, luminance(surface)) < 3 ? 'var(--ink)' : null);
}

/** Takes the settings of the environment; `own` is the `theme` of the page's address, which wins. */
export function use(next, own = wished) {
  settings = next;
  wished = own;
  const theme = own ?? settings?.defaultTheme;
  if (['light', 'dark', 'system'].includes(theme)) root.dataset.theme = theme;
  const radius = { square: '2px', soft: '10px', round: '18px' }[settings?.corners];
  if (radius) root.style.setProperty('--radius', radius);
  if (typeof settings?.fontFamily === 'string') root.style.setProperty('--font', settings.fontFamily);
  apply();
}

dark.addEventListener('change', apply);
