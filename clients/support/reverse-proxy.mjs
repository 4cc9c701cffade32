// A reverse proxy that takes a prefix away, as an operator's would.
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';

/** What it takes away. */
export const PREFIX = '/gateway';

/** A reverse proxy that takes PREFIX away, for requests and for the WebSocket, as an operator's would. */
export async function reverseProxy(port) {
  const strip = (url) => url.slice(PREFIX.length) || '/';
  const server = http.createServer((request, response) => {
    if (!request.url.startsWith(`${PREFIX}/`)) return response.writeHead(404).end();
    const options = { host: '127.0.0.1', port, method: request.method, path: strip(request.url), headers: request.headers };
    const onward = http.request(options, (answer) => {
      response.writeHead(answer.statusCode, answer.rawHeaders);
      answer.pipe(response);
    });
    onward.on('error', () => response.destroy());
    request.pipe(onward);
  });
  const sockets = new Set();
  server.on('upgrade', (request, client, head) => {
    const onward = net.connect(port, '127.0.0.1', () => {
      const lines = [`${request.method} ${strip(request.url)} HTTP/1.1`];
      for (let index = 0; index < request.rawHeaders.length; index += 2) lines.push(`${request.rawHeaders[index]}: ${request.rawHeaders[index + 1]}`);
      onward.write(`${lines.join('\r\n')}\r\n\r\n`);
      onward.write(head);
      onward.pipe(client).pipe(onward);
    });
    sockets.add(client).add(onward);
    for (const socket of [client, onward]) socket.on('error', () => [client, onward].forEach((one) => one.destroy()));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${server.address().port}${PREFIX}`,
    async stop() {
      for (const socket of sockets) socket.destroy();
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    }
  };
}
