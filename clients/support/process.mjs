// Starts and stops the real binary. Its output goes to a file, in which no secret may stand.
import assert from 'node:assert/strict';
import { spawn, execFile } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { until } from './wait.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));

/** The binary under test. */
export const BINARY = path.resolve(process.env.PATCHBAY_BIN ?? path.join(here, '../../target/debug/patchbay'));

/** How long a server may take to become ready or to stop, in milliseconds. */
const PATIENCE = 30_000;

const suite = path.basename(process.argv[1] ?? 'tests', '.mjs');

/** A port that was free a moment ago. */
export async function freePort() {
  const probe = net.createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  return port;
}

/** A fresh directory below the system's temporary one. */
export function scratch(name) {
  return mkdtempSync(path.join(os.tmpdir(), `patchbay-${name}-`));
}

/** The environment of a child: ours, without the settings somebody may have exported for their own server. */
function childEnvironment(extra) {
  const kept = Object.entries(process.env).filter(
    ([name]) => !/^(PATCHBAY_|NANGO_|SERVER_PORT$|OTEL_|NODE_TEST_CONTEXT$)/.test(name)
  );
  return { ...Object.fromEntries(kept), ...extra };
}

/**
 * One run of `patchbay serve` or `patchbay demo` on a free port with a fresh data directory.
 * `env` holds settings; `url` is where it answers once `ready()` resolved.
 */
export class Patchbay {
  #child;
  #exited;
  #secrets = new Set();
  #counter = Patchbay.#started++;
  static #started = 0;

  static async start(command, { env = {}, config = null, args = [], name = command, port = null } = {}) {
    const server = new Patchbay();
    server.port = port ?? (await freePort());
    server.url = `http://127.0.0.1:${server.port}`;
    server.home = scratch(name);
    server.dataDir = path.join(server.home, 'data');
    server.logFile = server.#logFile(name);
    const flags = [command, '--listen', `127.0.0.1:${server.port}`, '--data-dir', server.dataDir, ...args];
    if (config !== null) {
      const file = path.join(server.home, 'patchbay.toml');
      writeFileSync(file, config);
      flags.push('--config', file);
    }
    server.env = childEnvironment({ PATCHBAY_LOG: 'debug', PATCHBAY_PUBLIC_URL: server.url, ...env });
    const log = openSync(server.logFile, 'a');
    server.#child = spawn(BINARY, flags, { cwd: server.home, env: server.env, stdio: ['ignore', 'pipe', log] });
    closeSync(log);
    server.printed = '';
    server.#child.stdout.setEncoding('utf8').on('data', (text) => (server.printed += text));
    // Resolves in every case, so that an early end shows in `ready` instead of as an unhandled rejection.
    server.#exited = new Promise((resolve) => {
      server.#child.once('error', (error) => resolve({ error }));
      server.#child.once('exit', (code, signal) => resolve({ code, signal }));
    });
    await server.#ready();
    return server;
  }

  #logFile(name) {
    const dir = process.env.PATCHBAY_TEST_LOG_DIR;
    if (dir) mkdirSync(dir, { recursive: true });
    return path.join(dir ?? this.home, `clients-${suite}-${name}-${process.pid}-${this.#counter}.log`);
  }

  async #ready() {
    let ended = null;
    this.#exited.then((how) => (ended = how));
    await until(
      'the server is ready',
      async () => {
        if (ended) throw new Error(`${BINARY} ended at once: ${JSON.stringify(ended)} ${ended.error ?? ''}`);
        const response = await fetch(`${this.url}/ready`).catch(() => null);
        return response?.status === 200;
      },
      PATIENCE
    ).catch((error) => {
      this.#child.kill('SIGKILL');
      const log = this.log();
      rmSync(this.home, { recursive: true, force: true });
      throw new Error(`${error.message}\n${log}`);
    });
  }

  /** What the process has logged so far. */
  log() {
    return readFileSync(this.logFile, 'utf8');
  }

  /** Names a value that must never stand in the log; returns it. */
  secret(value) {
    this.#secrets.add(value);
    return value;
  }

  /** Runs another command on the same data, as an operator would beside the running server. */
  async command(...args) {
    const run = promisify(execFile);
    const { stdout } = await run(BINARY, [...args, '--data-dir', this.dataDir], { cwd: this.home, env: this.env });
    return stdout;
  }

  /** SIGTERM, and what a supervisor expects of it: an orderly end with code 0. */
  async stop() {
    this.#child.kill('SIGTERM');
    const late = setTimeout(() => this.#child.kill('SIGKILL'), PATIENCE);
    const ended = await this.#exited;
    clearTimeout(late);
    const log = this.log();
    rmSync(this.home, { recursive: true, force: true });
    assert.deepEqual(ended, { code: 0, signal: null }, `SIGTERM did not end it in order:\n${log.slice(-4000)}`);
    for (const secret of this.#secrets) {
      const line = log.split('\n').find((text) => text.includes(secret));
      assert.equal(line, undefined, `a secret stands in the log: ${line}`);
    }
  }
}
