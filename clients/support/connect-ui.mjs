// Providers with every kind of field a form can have, and what the tests of the Connect UI do again and again.
import { CLIENT_ID, CLIENT_SECRET } from './sample.mjs';

/** Definitions over the sample provider, in the catalogue's format. */
export function richProviders(sample) {
  const verified = { base_url: sample, headers: { 'x-api-key': '${apiKey}' }, verification: { method: 'GET', endpoints: ['/whoami'] } };
  const about = { categories: ['other'], docs: 'https://www.rfc-editor.org/rfc/rfc9110.html', docs_connect: 'https://www.rfc-editor.org/rfc/rfc9110.html' };
  const text = (title, more = {}) => ({ type: 'string', title, description: '', ...more });
  return {
    'test-fields': {
      ...about,
      display_name: 'Northwind Freight',
      auth_mode: 'API_KEY',
      proxy: verified,
      connection_config: {
        subdomain: text('Subdomain', { description: 'The first part of the address you sign in at.', example: 'acme', prefix: 'https://', suffix: '.northwind.example', format: 'hostname', order: 1, doc_section: '#section-4' }),
        region: text('Region', { enum: ['eu', 'us', 'apac'], order: 2 }),
        account: text('Account number', { example: 'NW-1234', pattern: '^NW-[0-9]{4}$', order: 3 }),
        mail: text('Contact', { format: 'email', optional: true, order: 4 }),
        site: text('Site', { format: 'uri', optional: true, order: 5 }),
        version: text('Version', { default_value: 'v1', hidden: true })
      },
      credentials: { apiKey: text('', { description: 'Settings › Developers › Keys', secret: true }) }
    },
    'test-jwt': {
      ...about,
      display_name: 'Lumen Ledger',
      auth_mode: 'JWT',
      proxy: { base_url: sample },
      signature: { protocol: 'RSA' },
      token: { header: { alg: 'RS256' }, payload: { iss: '${credentials.issuerId}' }, signing_key: '${credentials.privateKey}', expires_in_ms: 600000 },
      credentials: {
        issuerId: text('Issuer', { example: 'issuer-1' }),
        privateKey: text('Private key', { description: 'The PEM file you downloaded.', secret: true })
      }
    },
    'test-two-step': {
      ...about,
      display_name: 'Polar Payroll',
      auth_mode: 'TWO_STEP',
      token_url: `${sample}/oauth/token`,
      token_params: { grant_type: 'client_credentials', client_id: '${credentials.key}', client_secret: '${credentials.secret}' },
      token_headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body_format: 'form',
      token_response: { token: 'access_token', token_expiration: 'expires_in', token_expiration_strategy: 'expireIn' },
      proxy: { base_url: sample },
      credentials: { key: text('Key'), secret: text('Secret', { secret: true }) }
    },
    'test-tba': { ...about, display_name: 'Granite ERP', auth_mode: 'TBA', proxy: { base_url: sample }, connection_config: { accountId: text('Account', { example: '1234567', order: 1 }) } },
    'test-bill': { ...about, display_name: 'Copper Bills', auth_mode: 'BILL', token_url: `${sample}/login`, proxy: { base_url: sample } },
    'test-signature': { ...about, display_name: 'Semaphore Mail', auth_mode: 'SIGNATURE', signature: { protocol: 'WSSE' }, token: { expires_in_ms: 300000 }, proxy: { base_url: sample } },
    'test-outbound': {
      ...about,
      display_name: 'Harbour Alerts',
      auth_mode: 'OAUTH2',
      installation: 'outbound',
      authorization_code_param_in_webhook: 'data.installation.code',
      token_url: `${sample}/oauth/token`,
      webhook_routing_script: 'sentryOauthWebhookRouting',
      proxy: { base_url: sample }
    },
    'test-aws': { ...about, display_name: 'Cumulus Cloud', auth_mode: 'AWS_SIGV4', proxy: { base_url: sample }, connection_config: { region: text('Region', { example: 'eu-west-1', order: 1 }) } }
  };
}

/** An integration of each. */
export const RICH = [
  { unique_key: 'fields', provider: 'test-fields' },
  { unique_key: 'jwt', provider: 'test-jwt' },
  { unique_key: 'two-step', provider: 'test-two-step' },
  { unique_key: 'tba', provider: 'test-tba' },
  { unique_key: 'bill', provider: 'test-bill' },
  { unique_key: 'signature', provider: 'test-signature' },
  { unique_key: 'aws', provider: 'test-aws' },
  { unique_key: 'outbound', provider: 'test-outbound', credentials: { type: 'OAUTH2', client_id: CLIENT_ID, client_secret: CLIENT_SECRET } }
];

/** What a test sees of an open Connect UI: the product's page, the frame inside, and what the product was told. */
class OpenUi {
  constructor(world, page) {
    this.world = world;
    this.page = page;
    this.frame = page.frameLocator('#connect-ui');
  }

  /** Everything the product's `onEvent` got. */
  events() {
    return this.page.evaluate(() => window.events);
  }

  /** The first event of a type. */
  async event(type) {
    const found = await this.page.waitForFunction((wanted) => window.events.find((one) => one.type === wanted), type);
    return found.jsonValue();
  }

  heading(name) {
    return this.frame.getByRole('heading', { level: 1, name });
  }

  row(name) {
    return this.frame.getByRole('button', { name: `Connect ${name}`, exact: true });
  }

  field(name) {
    return this.frame.getByRole('textbox', { name, exact: true });
  }

  /** The button at the bottom. It is not disabled for good when it looks so: pressing it shows what is missing. */
  get primary() {
    return this.frame.locator('.foot .primary');
  }

  /** Presses it and gives the window that opens. */
  async popup() {
    const opened = this.page.waitForEvent('popup');
    await this.primary.click();
    return opened;
  }

  setToken(token) {
    return this.page.evaluate((given) => window.ui.setSessionToken(given), token);
  }

  /** The document inside, for what a locator cannot do. */
  document() {
    return this.page.frames().find((frame) => frame.url().includes('/connect-ui'));
  }
}

/**
 * Opens the Connect UI through the published `openConnectUI()` in a fresh profile. `session` is what the product's
 * backend asks for (null: the token comes later), `options` the browser's profile, `props` further arguments.
 */
export async function openUi(browser, world, { session = { tags: {} }, options = {}, props = {}, prepare = null, host = world.host } = {}) {
  const page = await browser.open(options);
  if (prepare) await prepare(page);
  const token = session && (await world.session(session)).token;
  await page.evaluate(
    async ([at, sessionToken, more]) => {
      const { default: Nango } = await import('/frontend/index.js');
      window.events = [];
      const onEvent = (event) => window.events.push(event);
      window.ui = new Nango({ host: at }).openConnectUI({ baseURL: `${at}/connect-ui`, apiURL: at, onEvent, ...(sessionToken ? { sessionToken } : {}), ...more });
    },
    [host, token, props]
  );
  const ui = new OpenUi(world, page);
  ui.token = token;
  return ui;
}

/** A connect link opened in a fresh profile. */
export async function openLink(browser, link, { options = {}, prepare = null } = {}) {
  const context = await browser.context(options);
  const page = await context.newPage();
  page.problems = [];
  page.on('pageerror', (error) => page.problems.push(error.message));
  if (prepare) await prepare(page);
  await page.goto(link);
  return page;
}

/** Approves at the sample provider. */
export async function approve(page) {
  await page.getByRole('button', { name: 'Approve' }).click();
}
