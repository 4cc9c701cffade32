// A provider that is written into a file while the server runs is one like the others: an integration can be made of it
// and a customer connects, with no restart in between.
import assert from 'node:assert/strict';
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { API_KEY, World, assertRefused, until } from './harness.mjs';
import { Browser } from './support/browser.mjs';
import { openUi } from './support/connect-ui.mjs';
import { scratch } from './support/process.mjs';

/** What an operator would write; `sample` is where the API is. */
function orchard(sample, { title = 'Orchard key', name = 'Orchard' } = {}) {
  return `display_name: ${name}
categories: [other]
auth_mode: API_KEY
proxy:
    base_url: ${sample}
    headers:
        x-api-key: \${apiKey}
        x-orchard: \${connectionConfig.orchard}
    verification:
        method: GET
        endpoints: [/whoami]
docs: https://www.rfc-editor.org/rfc/rfc9110.html
connection_config:
    orchard:
        type: string
        title: Orchard
        description: Name of the orchard, as it stands at the gate.
        example: north-hill
        pattern: '^[a-z-]+$'
        order: 1
credentials:
    apiKey:
        type: string
        title: ${title}
        description: Settings, Keys.
        secret: true
`;
}

describe('a provider added from a file while the server runs', () => {
  let world;
  let browser;
  let folder;
  before(async () => {
    folder = scratch('orchard');
    world = await World.start({ args: ['--catalog', folder] });
    browser = await Browser.start(world.host);
  });
  after(async () => {
    await browser?.stop();
    await world?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  /** As an editor saves: beside, then over. */
  function save(text) {
    const file = path.join(folder, 'orchard.yaml');
    writeFileSync(`${file}.tmp`, text);
    renameSync(`${file}.tmp`, file);
  }

  const known = async () => (await world.api('GET', '/providers/orchard')).status === 200;

  test('is unknown before, connects in the Connect UI after, and is asked for what its file says now', async () => {
    await assertRefused(world.nango.createIntegration({ unique_key: 'orchard', provider: 'orchard' }), 400, 'invalid_body');

    save(orchard(world.sample.url));
    await until('the new provider is known', known);
    await world.nango.createIntegration({ unique_key: 'orchard', provider: 'orchard' });
    const session = { tags: { end_user_id: 'gardener' }, allowed_integrations: ['orchard'] };
    const ui = await openUi(browser, world, { session });
    await ui.heading('Connect Orchard').waitFor();
    // Its own rules, not only its own labels.
    await ui.field('Orchard').fill('North Hill!');
    await ui.field('Orchard key').fill(API_KEY);
    await ui.primary.click({ force: true });
    assert.equal(await ui.field('Orchard').getAttribute('aria-invalid'), 'true');
    await ui.field('Orchard').fill('north-hill');
    await ui.primary.click();
    await ui.heading('Orchard is connected').waitFor();
    const { payload } = await ui.event('connect');
    const connection = await world.nango.getConnection('orchard', payload.connectionId);
    assert.deepEqual(
      [connection.provider, connection.credentials.apiKey, connection.connection_config.orchard],
      ['orchard', API_KEY, 'north-hill']
    );
    // It is called as the file says.
    const { status } = await world.nango.get({ endpoint: '/whoami', providerConfigKey: 'orchard', connectionId: payload.connectionId });
    assert.equal(status, 200);
    assert.deepEqual(ui.page.problems, []);
    await ui.page.context().close();

    // A correction counts from the next form on.
    save(orchard(world.sample.url, { title: 'Picking licence', name: 'Orchard & Sons' }));
    await until('the correction is known', async () => (await world.api('GET', '/providers/orchard')).body.data.display_name === 'Orchard & Sons');
    const corrected = await openUi(browser, world, { session });
    await corrected.field('Picking licence').waitFor();

    // A file that became faulty takes nothing away.
    save('display_name: [');
    await until('the fault is in the log', () => /ERROR.*orchard\.yaml/.test(world.server.log()));
    assert.ok(await known());
  });
});
