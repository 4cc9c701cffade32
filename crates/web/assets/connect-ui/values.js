// What may be typed into a field, and the value in what was typed or pasted. Pure: the server says the same again.

const EXAMPLES = {
  hostname: 'api.example.com',
  uri: 'https://example.com',
  uuid: '123e4567-e89b-42d3-a456-426614174000',
  email: 'ada@example.com'
};

const FORMATS = {
  hostname: (text) => /^[A-Za-z0-9.-]+$/.test(text),
  uri: (text) => URL.canParse?.(text) ?? /^[a-z][a-z0-9+.-]*:\S+$/i.test(text),
  uuid: (text) => /^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/i.test(text),
  email: (text) => /^[^\s@.][^\s@]*@[^\s@.]+(\.[^\s@.]+)+$/.test(text)
};

const LONGEST = 64 * 1024;

function startsWith(text, start) {
  return start !== '' && text.slice(0, start.length).toLowerCase() === start.toLowerCase();
}

function withoutScheme(text) {
  const scheme = ['https://', 'http://'].find((start) => startsWith(text, start));
  return scheme === undefined ? null : text.slice(scheme.length);
}

function stripped(text, prefix, suffix, hostname) {
  const ofAddress = hostname || withoutScheme(prefix) !== null;
  let value = text;
  let isAddress = false;
  if (startsWith(value, prefix)) {
    value = value.slice(prefix.length);
    isAddress = ofAddress;
  } else if (ofAddress && withoutScheme(value) !== null) {
    isAddress = true;
    const shown = withoutScheme(prefix) ?? '';
    const rest = withoutScheme(value);
    value = startsWith(rest, shown) ? rest.slice(shown.length) : rest;
  }
  if (suffix !== '') {
    const at = value.toLowerCase().indexOf(suffix.toLowerCase());
    if (value.toLowerCase().endsWith(suffix.toLowerCase())) return value.slice(0, value.length - suffix.length);
    if (at >= 0 && ofAddress && /^[/?#:]/.test(value.slice(at + suffix.length))) return value.slice(0, at);
    return value;
  }
  if (hostname) return value.split(/[/?#]/)[0];
  return isAddress ? value.replace(/\/+$/, '') : value;
}

function expression(field) {
  if (!field.pattern) return null;
  try {
    return new RegExp(field.pattern);
  } catch {
    return null;
  }
}

/** The value in what was typed: without blanks around it, and without what is shown beside the input. */
export function clean(field, text) {
  if (field.secret || field.control === 'textarea') {
    const lines = text.replace(/^[\r\n]+|[\r\n]+$/g, '');
    const pattern = expression(field);
    return pattern && !pattern.test(lines) && pattern.test(lines.trim()) ? lines.trim() : lines;
  }
  const bare = text.trim();
  if (field.format === 'uri') return bare;
  return stripped(bare, field.prefix ?? '', field.suffix ?? '', field.format === 'hostname').trim() || bare;
}

/** Why `value` is refused, as `[key, values]` of the texts; null if it is fine. */
export function check(field, value) {
  if (value === '') return field.required ? ['errorRequired', {}] : null;
  if (new TextEncoder().encode(value).length > LONGEST) return ['errorLong', {}];
  if (field.choices?.length && !field.choices.includes(value)) return ['errorChoice', {}];
  if (field.format && !FORMATS[field.format](value)) {
    const key = `error${field.format[0].toUpperCase()}${field.format.slice(1)}`;
    const own = !field.secret && field.placeholder && FORMATS[field.format](field.placeholder);
    return [key, { example: own ? field.placeholder : EXAMPLES[field.format] }];
  }
  const pattern = expression(field);
  if (pattern && !pattern.test(value)) {
    const example = !field.secret && field.placeholder && pattern.test(field.placeholder) ? field.placeholder : null;
    return example ? ['errorExample', { example }] : ['errorPattern', {}];
  }
  return null;
}

/** Which credentials each way of connecting sends; the others send all there are. */
const SENT = {
  API_KEY: ['apiKey'],
  BASIC: ['username', 'password'],
  SIGNATURE: ['username', 'password'],
  BILL: ['username', 'password', 'organization_id', 'dev_key'],
  TBA: ['token_id', 'token_secret', 'oauth_client_id_override', 'oauth_client_secret_override'],
  OAUTH2_CC: ['client_id', 'client_secret', 'client_certificate', 'client_private_key'],
  AWS_SIGV4: ['role_arn', 'region'],
  NONE: []
};

/** Credentials that may stay away, and then must. */
const MAY_BE_ABSENT = new Set(['oauth_client_id_override', 'oauth_client_secret_override', 'oauth_refresh_token_override', 'region', 'client_secret', 'client_certificate', 'client_private_key']);

/** The body of a form call, or undefined for none. */
export function body(form, credentials, assertion) {
  if (form.auth_mode === 'NONE' || form.installation === 'outbound') return undefined;
  const names = SENT[form.auth_mode] ?? Object.keys(credentials);
  const sent = {};
  for (const name of names) {
    const value = credentials[name];
    if (value === undefined || (value === '' && MAY_BE_ABSENT.has(name))) continue;
    sent[name] = value;
  }
  if (['JWT', 'TWO_STEP', 'SIGNATURE'].includes(form.auth_mode)) sent.type = form.auth_mode;
  if (form.auth_mode === 'TWO_STEP' && Object.keys(assertion).length > 0) sent.assertionOption = assertion;
  return sent;
}
