// The application's side: receives webhooks, keeps the raw bytes.
import { once } from 'node:events';
import http from 'node:http';
import { until } from './wait.mjs';

/** A webhook receiver on loopback. Every path is an inbox of its own. */
export class Receiver {
  /** Everything that arrived: `{path, method, headers, raw, body}`, in order. */
  received = [];
  #answers = new Map();

  static async start() {
    const receiver = new Receiver();
    receiver.server = http.createServer((request, response) => receiver.#take(request, response));
    receiver.server.listen(0, '127.0.0.1');
    await once(receiver.server, 'listening');
    receiver.url = `http://127.0.0.1:${receiver.server.address().port}`;
    return receiver;
  }

  #take(request, response) {
    const pieces = [];
    request.on('data', (piece) => pieces.push(piece));
    request.on('end', () => {
      const raw = Buffer.concat(pieces).toString('utf8');
      this.received.push({ path: request.url, method: request.method, headers: request.headers, raw, body: raw === '' ? null : JSON.parse(raw) });
      response.statusCode = this.#answers.get(request.url)?.shift() ?? 200;
      response.end();
    });
  }

  /** The statuses of the next answers on `path`; 200 after that. */
  answer(path, ...statuses) {
    this.#answers.set(path, statuses);
  }

  /** The deliveries that satisfy `wanted`, once there are at least `count`. */
  async wait(what, wanted, count = 1) {
    return until(`webhook: ${what}; received: ${JSON.stringify(this.received.map(({ path, body }) => [path, body]))}`, () => {
      const found = this.received.filter(wanted);
      return found.length >= count && found;
    });
  }

  /** The one delivery that satisfies `wanted`. */
  async one(what, wanted) {
    return (await this.wait(what, wanted))[0];
  }

  async stop() {
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
  }
}
