// Headless Chromium, and a product's page on another origin that uses the published @nangohq/frontend as it is.
import { once } from 'node:events';
import { createReadStream, existsSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { PATIENCE } from './wait.mjs';

const frontend = path.dirname(fileURLToPath(import.meta.resolve('@nangohq/frontend')));

/** The product's page: a button that calls what the test has put into `window.call`. */
const PAGE = `<!doctype html><html lang="en"><meta charset="utf-8"><title>A product</title>
<link rel="icon" href="data:,">
<button id="go">Connect</button>
<script type="module">
import Nango, { AuthError } from '/frontend/index.js';
document.getElementById('go').addEventListener('click', () => {
  const { config, method, args } = window.call;
  window.outcome = undefined;
  let settled;
  try { settled = Promise.resolve(new Nango(config)[method](...args)); } catch (error) { settled = Promise.reject(error); }
  settled.then(
    (value) => ({ resolved: value }),
    (error) => ({ rejected: { type: error.type, message: error.message, isAuthError: error instanceof AuthError } })
  ).then((outcome) => { window.outcome = outcome; });
});
document.body.dataset.ready = 'yes';
</script></html>`;

/** A static server with the product's page and the package's own files. */
class Product {
  static async start() {
    const product = new Product();
    product.server = http.createServer((request, response) => {
      const { pathname } = new URL(request.url, 'http://product');
      const file = pathname.startsWith('/frontend/') && path.join(frontend, path.basename(pathname));
      if (file && existsSync(file)) {
        response.setHeader('content-type', file.endsWith('.js') ? 'text/javascript' : 'application/json');
        createReadStream(file).pipe(response);
      } else {
        response.setHeader('content-type', 'text/html');
        response.end(PAGE);
      }
    });
    product.server.listen(0, '127.0.0.1');
    await once(product.server, 'listening');
    // Another host name than the server under test: another site, not only another origin.
    product.url = `http://localhost:${product.server.address().port}/`;
    return product;
  }

  async stop() {
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
  }
}

/** A browser with a product's page; `host` is where the page finds Patchbay. */
export class Browser {
  static async start(host) {
    const browser = new Browser();
    browser.host = host;
    browser.product = await Product.start();
    browser.chromium = await chromium.launch({
      executablePath: process.env.PATCHBAY_TEST_CHROMIUM ?? '/usr/bin/chromium',
      headless: true,
      // Root may not use the sandbox; in containers an ordinary user often cannot either.
      chromiumSandbox: false,
      args: ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']
    });
    return browser;
  }

  /** A fresh profile. */
  async context(options = {}) {
    const context = await this.chromium.newContext(options);
    context.setDefaultTimeout(PATIENCE);
    return context;
  }

  /** A fresh profile with the product's page open. Problems of the page are collected in `problems`. */
  async open(options = {}) {
    const context = await this.context(options);
    const page = await context.newPage();
    page.problems = [];
    page.on('pageerror', (error) => page.problems.push(error.message));
    await page.goto(this.product.url);
    await page.waitForSelector('[data-ready=yes]');
    return page;
  }

  /** Clicks the product's button, which calls `new Nango(config)[method](...args)`. */
  async call(page, config, method, ...args) {
    await page.evaluate((call) => (window.call = call), { config: { host: this.host, ...config }, method, args });
    await page.click('#go');
  }

  /** The same for a call that opens a popup; gives the popup. */
  async popup(page, config, method, ...args) {
    const opened = page.waitForEvent('popup');
    await this.call(page, config, method, ...args);
    return opened;
  }

  /** How the promise of the last call settled: `{resolved}` or `{rejected}`. */
  async outcome(page) {
    const handle = await page.waitForFunction(() => window.outcome);
    return handle.jsonValue();
  }

  async stop() {
    await this.chromium.close();
    await this.product.stop();
  }
}
