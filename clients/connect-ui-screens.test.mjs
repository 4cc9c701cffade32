// Every screen of the Connect UI in four shapes: wide and light, dark, a narrow telephone, right to left. Each is
// checked with axe, for sideways scrolling, and for the place of the focus. With PATCHBAY_TEST_SHOTS set to a directory
// each is also photographed, for people to look at.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { API_KEY, World } from './harness.mjs';
import { Browser } from './support/browser.mjs';
import { RICH, approve, openLink, openUi, richProviders } from './support/connect-ui.mjs';

const AXE = readFileSync(fileURLToPath(import.meta.resolve('axe-core/axe.min.js')), 'utf8');
const SHOTS = process.env.PATCHBAY_TEST_SHOTS;

const VARIANTS = [
  { name: 'light', options: { viewport: { width: 1000, height: 800 } }, props: {} },
  { name: 'dark', options: { viewport: { width: 1000, height: 800 }, colorScheme: 'dark' }, props: {} },
  { name: 'narrow', options: { viewport: { width: 320, height: 568 }, reducedMotion: 'reduce' }, props: {} },
  { name: 'arabic', options: { viewport: { width: 1000, height: 800 } }, props: { lang: 'ar' } }
];

const only = (...keys) => ({ tags: {}, allowed_integrations: keys });
const abort = (pattern) => (page) => page.route(pattern, (route) => route.abort());
const never = (pattern) => (page) => page.route(pattern, () => {});

/** What the server finds and the form could not know. */
const FINDINGS = { error: { code: 'invalid_body', errors: [{ code: 'custom', message: 'API key: is one of a test account', path: ['credentials', 'apiKey'] }] } };

/** How each screen is reached; `at` is its name in the document. */
const SCREENS = [
  { name: 'loading', at: 'loading', prepare: never('**/connect/session') },
  { name: 'list', at: 'list' },
  { name: 'search without result', at: 'list', reach: (ui) => ui.frame.getByRole('searchbox').fill('zzz') },
  { name: 'form', at: 'form', session: only('fields') },
  {
    name: 'form with errors',
    at: 'form',
    session: only('fields'),
    async reach(ui) {
      await ui.frame.locator('input').first().fill('a b');
      await ui.primary.click({ force: true });
      await ui.frame.locator('.error:not([hidden])').first().waitFor();
    }
  },
  { name: 'form of a window', at: 'form', session: only('oauth') },
  { name: 'form with nothing to fill in', at: 'form', session: only('none') },
  { name: 'form with a key file', at: 'form', session: only('jwt') },
  { name: 'form of AWS', at: 'form', session: only('aws') },
  {
    name: 'form with a wrong preset',
    at: 'form',
    session: { ...only('fields'), integrations_config_defaults: { fields: { connection_config: { account: 'wrong' } } } }
  },
  {
    name: 'checking',
    at: 'form',
    session: only('api-key'),
    prepare: never('**/api-auth/**'),
    async reach(ui) {
      await ui.frame.locator('input').fill(API_KEY);
      await ui.primary.click();
      await ui.frame.locator('.primary.busy').waitFor();
    }
  },
  {
    name: 'blocked',
    at: 'form',
    session: only('oauth'),
    prepare: (page) => page.context().addInitScript(() => { if (window.parent !== window) window.open = () => null; }),
    async reach(ui) {
      await ui.primary.click();
      await ui.frame.getByRole('alert').waitFor();
    }
  },
  {
    name: 'waiting',
    at: 'waiting',
    session: only('oauth'),
    async reach(ui) {
      ui.other = await ui.popup();
      await ui.other.getByRole('button', { name: 'Approve' }).waitFor();
    }
  },
  {
    name: 'success',
    at: 'success',
    session: only('none'),
    reach: (ui) => ui.primary.click()
  },
  {
    name: 'waiting for approval',
    at: 'success',
    session: only('none'),
    prepare: (page) => page.route('**/auth/unauthenticated/**', (route) => route.fulfill({ json: { providerConfigKey: 'none', connectionId: 'c', isPending: true } })),
    reach: (ui) => ui.primary.click()
  },
  {
    name: 'failed',
    at: 'failed',
    session: only('api-key'),
    async reach(ui) {
      await ui.frame.locator('input').fill('planted-wrong');
      await ui.primary.click();
      await ui.frame.locator('summary').click();
    }
  },
  {
    name: 'denied',
    at: 'failed',
    session: only('oauth'),
    async reach(ui) {
      const popup = await ui.popup();
      await popup.getByRole('button', { name: 'Deny' }).click();
    }
  },
  { name: 'form of an installation elsewhere', at: 'form', session: only('outbound') },
  { name: 'installation elsewhere', at: 'success', session: only('outbound'), reach: (ui) => ui.primary.click() },
  { name: 'nothing to connect', at: 'empty', prepare: (page) => page.route('**/integrations', (route) => route.fulfill({ json: { data: [] } })) },
  {
    name: 'form with findings of the server',
    at: 'form',
    session: only('api-key'),
    prepare: (page) => page.route('**/api-auth/**', (route) => route.fulfill({ status: 400, json: FINDINGS })),
    async reach(ui) {
      await ui.frame.locator('input').fill(API_KEY);
      await ui.primary.click();
      await ui.frame.getByRole('alert').waitFor();
    }
  },
  {
    name: 'window closed',
    at: 'form',
    session: only('oauth'),
    props: { detectClosedAuthWindow: true },
    async reach(ui) {
      const popup = await ui.popup();
      await popup.getByRole('button', { name: 'Approve' }).waitFor();
      await popup.close();
      await ui.frame.getByRole('alert').waitFor();
    }
  },
  {
    name: 'no longer offered',
    at: 'failed',
    session: only('api-key', 'none'),
    prepare: (page) => page.route('**/connect/form/**', (route) => route.fulfill({ status: 404, json: { error: { code: 'unknown_provider_config', message: 'no such integration' } } })),
    reach: (ui) => ui.frame.locator('.row').first().click()
  },
  { name: 'too many requests', at: 'error', prepare: (page) => page.route('**/connect/session', (route) => route.fulfill({ status: 429, json: { error: { code: 'too_many_request' } } })) },
  { name: 'server away', at: 'error', prepare: abort('**/connect/session') },
  { name: 'expired', at: 'expired', token: `nango_connect_session_${'0'.repeat(64)}` },
  {
    name: 'leave?',
    at: 'form',
    session: only('fields'),
    async reach(ui) {
      await ui.frame.locator('input').first().fill('acme');
      await ui.page.keyboard.press('Escape');
      await ui.frame.locator('dialog').waitFor();
    }
  }
];

async function settled(frame) {
  // Colours are judged, so what fades in must have done so.
  await frame.waitForFunction(() => document.getAnimations().every((one) => one.effect.getTiming().iterations === Infinity || one.playState === 'finished'));
}

/** Serious findings of axe in a document, each with the elements it is about. */
async function serious(frame) {
  await frame.evaluate(AXE);
  const { violations } = await frame.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  const grave = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
  return grave.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html} ${node.failureSummary}`).join(' | ')}`);
}

async function inspect(page, frame, name) {
  await settled(frame);
  if (SHOTS) {
    mkdirSync(SHOTS, { recursive: true });
    await page.screenshot({ path: `${SHOTS}/${name.replace(/\W+/g, '-')}.png` });
  }
  assert.deepEqual(await serious(frame), [], name);
  const sideways = await frame.evaluate(() => {
    const wide = [document.documentElement, document.getElementById('card'), document.querySelector('.scroll')];
    return wide.filter((one) => one && one.scrollWidth > one.clientWidth + 1).map((one) => one.className || one.tagName);
  });
  assert.deepEqual(sideways, [], `${name} scrolls sideways`);
}

// The list's point 13 wants axe, the keyboard and 320 pixels: those tests bear its number.
describe('Connect UI: every screen', () => {
  let world;
  let browser;
  before(async () => {
    world = await World.start({ catalog: richProviders, more: RICH, settings: ['connect_ui.privacy_url = "https://app.example.com/privacy"'] });
    browser = await Browser.start(world.host);
  });
  after(async () => {
    await browser?.stop();
    await world?.stop();
  });

  for (const screen of SCREENS) {
    for (const variant of VARIANTS) {
      test(`13. ${screen.name}, ${variant.name}`, async () => {
        const session = screen.token ? null : (screen.session ?? { tags: {} });
        const ui = await openUi(browser, world, { session, options: variant.options, props: { ...variant.props, ...screen.props }, prepare: screen.prepare });
        if (screen.token) await ui.setToken(screen.token);
        if (screen.reach) {
          await ui.frame.locator('[data-screen=form], [data-screen=list]').waitFor();
          await screen.reach(ui);
        }
        await ui.frame.locator(`[data-screen=${screen.at}]`).waitFor();
        await inspect(ui.page, ui.document(), `${screen.name}-${variant.name}`);
        assert.equal(await ui.frame.locator('html').getAttribute('dir'), variant.name === 'arabic' ? 'rtl' : 'ltr');
        assert.ok(await ui.document().evaluate(() => document.hasFocus() || document.activeElement !== document.body), 'the focus is inside');
        assert.deepEqual(ui.page.problems, []);
        await ui.page.unrouteAll({ behavior: 'ignoreErrors' });
        await ui.page.context().close();
      });
    }
  }

  for (const [name, options] of [['wide', { viewport: { width: 1000, height: 800 } }], ['telephone', { viewport: { width: 375, height: 720 }, isMobile: true, hasTouch: true, colorScheme: 'dark' }]]) {
    test(`13. the screens of a link, ${name}`, async () => {
      const { connect_link: link } = await world.session(only('none', 'oauth'));
      const page = await openLink(browser, link, { options });
      await page.locator('[data-screen=list]').waitFor();
      await inspect(page, page.mainFrame(), `link-list-${name}`);
      await page.getByRole('button', { name: 'Connect Test without authentication' }).click();
      await page.getByRole('button', { name: 'Connect', exact: true }).click();
      await page.locator('[data-screen=success]').waitFor();
      await inspect(page, page.mainFrame(), `link-success-${name}`);
      await page.goto(`${world.host}/connect-ui/`);
      await page.locator('[data-screen=error]').waitFor();
      await inspect(page, page.mainFrame(), `link-direct-${name}`);
      await page.goto(link.replace(/[0-9a-f]{64}/, '0'.repeat(64)));
      await page.locator('[data-screen=expired]').waitFor();
      await inspect(page, page.mainFrame(), `link-expired-${name}`);
      await page.context().close();
    });

    test(`13. the last page of a window, ${name}`, async () => {
      const context = await browser.context(options);
      const page = await context.newPage();
      const { token } = await world.session(only('oauth'));
      await page.goto(`${world.host}/oauth/callback?error=access_denied&error_description=${encodeURIComponent('The owner of the account said no, and gave <b>reasons</b>.')}`);
      await page.getByRole('heading', { name: 'The account was not connected' }).waitFor();
      await page.locator('summary').click();
      await inspect(page, page.mainFrame(), `callback-failure-${name}`);
      await page.goto(`${world.host}/oauth/connect/oauth?connect_session_token=${token}`);
      await page.getByRole('button', { name: 'Approve' }).waitFor();
      await page.getByRole('button', { name: 'Approve' }).click();
      await page.getByRole('heading', { name: 'Connected', exact: true }).waitFor();
      await inspect(page, page.mainFrame(), `callback-success-${name}`);
      await context.close();
    });
  }

  test('13. the page that leaves for the provider, on a telephone', async () => {
    const { connect_link: link } = await world.session(only('oauth'));
    const options = { viewport: { width: 375, height: 720 }, isMobile: true, hasTouch: true };
    const page = await openLink(browser, link, { options, prepare: (one) => one.route('**/oauth/connect/**', (route) => route.fulfill({ status: 204 })) });
    await page.getByRole('button', { name: 'Continue to Test OAuth' }).tap();
    await page.locator('[data-screen=leaving]').waitFor();
    await inspect(page, page.mainFrame(), 'link-leaving-telephone');
    await page.context().close();
  });

  test('13. reconnecting, and embedded without an overlay', async () => {
    await world.import('api-key', { connection_id: 'shown', tags: { end_user_id: 'u' } });
    const { data } = await world.nango.createReconnectSession({ connection_id: 'shown', integration_id: 'api-key' });
    const ui = await openUi(browser, world, { session: null, options: { viewport: { width: 1000, height: 800 } } });
    await ui.setToken(world.server.secret(data.token));
    await ui.heading('Reconnect Test API key').waitFor();
    await inspect(ui.page, ui.document(), 'reconnect');
    const { connect_link: link } = await world.session({ tags: {} });
    const page = await openLink(browser, `${link}&embedded=true`, { options: { viewport: { width: 500, height: 700 } } });
    await page.locator('[data-screen=list]').waitFor();
    await inspect(page, page.mainFrame(), 'embedded');
    await page.context().close();
    await ui.page.context().close();
  });

  test('13. keyboard only: from the first key to the connection', async () => {
    const ui = await openUi(browser, world);
    await ui.heading('Connect an account').waitFor();
    const press = (...keys) => keys.reduce((before, key) => before.then(() => ui.page.keyboard.press(key)), Promise.resolve());
    const focused = () => ui.document().evaluate(() => document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent);
    await press('Tab');
    assert.equal(await focused(), 'Search');
    await ui.page.keyboard.type('api KEY');
    await ui.frame.getByText('Services found: 1').waitFor({ state: 'attached' });
    await press('ArrowDown');
    assert.equal(await focused(), 'Connect Test API key');
    await press('Enter');
    await ui.heading('Connect Test API key').waitFor();
    await press('Tab');
    await ui.page.keyboard.type(API_KEY);
    await press('Enter');
    await ui.heading('Test API key is connected').waitFor();
    // The focus goes round inside the card and never out of it.
    const seen = new Set();
    for (let step = 0; step < 8; step += 1) {
      await press('Tab');
      seen.add(await focused());
    }
    assert.deepEqual([...seen].sort(), ['Close', 'Done', 'Privacy']);
    await press('Shift+Tab');
    assert.ok(seen.has(await focused()));
    await ui.frame.getByRole('button', { name: 'Done' }).press('Enter');
    await ui.page.locator('#connect-ui').waitFor({ state: 'detached' });
  });

  test('a screen reader hears where it is: dialog, heading, errors, results', async () => {
    const ui = await openUi(browser, world, { session: only('fields') });
    await ui.frame.getByRole('dialog', { name: 'Connect Northwind Freight' }).waitFor();
    assert.equal(await ui.document().evaluate(() => document.activeElement.id), 'heading');
    await ui.primary.click({ force: true });
    const subdomain = ui.field('Subdomain');
    const described = await subdomain.evaluate((input) => input.getAttribute('aria-describedby').split(' ').map((id) => document.getElementById(id).textContent));
    assert.deepEqual(described, ['Please fill this in.', 'The first part of the address you sign in at.']);
    assert.equal(await subdomain.getAttribute('aria-required'), 'true');
  });

  test('without motion nothing moves', async () => {
    const ui = await openUi(browser, world, { session: only('oauth'), options: { reducedMotion: 'reduce' } });
    await ui.heading('Connect Test OAuth').waitFor();
    const popup = await ui.popup();
    await ui.frame.locator('[data-screen=waiting]').waitFor();
    assert.equal(await ui.document().evaluate(() => document.getAnimations().length), 0);
    await approve(popup);
    await ui.heading('Test OAuth is connected').waitFor();
  });

  test('every language can be chosen', async () => {
    const context = await browser.context();
    const page = await context.newPage();
    const titles = new Set();
    for (const lang of ['en', 'ar', 'de', 'es', 'fr', 'he', 'it', 'ja', 'ko', 'nl', 'pl', 'pt', 'sv', 'tr', 'uk', 'zh']) {
      const { connect_link: link } = await world.session({ tags: {} });
      await page.goto(`${link}&lang=${lang}`);
      await page.locator('[data-screen=list]').waitFor();
      assert.equal(await page.locator('html').getAttribute('lang'), lang);
      titles.add(await page.locator('h1').innerText());
    }
    assert.equal(titles.size, 16);
    await context.close();
  });
});
