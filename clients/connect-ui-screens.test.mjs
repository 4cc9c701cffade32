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
      test(`${screen.name}, ${variant.name}`, async () => {
        const session = screen.token ? null : (screen.session ?? { tags: {} });
        const ui = await openUi(browser, world, { session, options: variant.options, props: variant.props, prepare: screen.prepare });
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
    test(`the screens of a link, ${name}`, async () => {
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
      await page.context().close();
    });
  }

  test('keyboard only: from the first key to the connection', async () => {
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
