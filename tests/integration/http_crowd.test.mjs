// More clients than there is room for: the paths that a node is watched by answer all the same, and
// whoever sits there idle makes room for the others.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { connect } from 'node:net';
import { describe, test } from 'node:test';
import { Cluster, until } from './lib/cluster.mjs';
import { WsClient } from './lib/websocket.mjs';

const PROBES = ['/livez', '/readyz', '/health', '/status', '/debug/status', '/metrics'];
const whyNoPrlimit = spawnSync('prlimit', ['--version']).status === 0 ? false : 'there is no prlimit(1) here';

// A new connection for each.
async function get(node, path) {
  const response = await fetch(`http://${node.http}${path}`, { headers: { connection: 'close' }, signal: AbortSignal.timeout(3000) });
  return { status: response.status, text: await response.text() };
}

function idle(node, text = '') {
  const [host, port] = node.http.split(':');
  const socket = connect(Number(port), host);
  socket.on('error', () => {});
  socket.resume();
  socket.on('close', () => { socket.isGone = true; });
  if (text !== '') socket.write(text);
  return socket;
}

async function probesAnswer(node, times = 5) {
  for (let i = 0; i < times; i += 1) {
    for (const path of PROBES) assert.equal((await get(node, path)).status, 200, path);
  }
}

async function withNode(extra, action) {
  const cluster = await Cluster.start({ size: 1, extra });
  const sockets = [];
  try {
    const [node] = cluster.nodes;
    await until('readiness', async () => (await get(node, '/readyz')).status === 200);
    await action(node, sockets, cluster);
  } finally {
    sockets.forEach((socket) => (socket.destroy ?? socket.terminate).call(socket));
    await cluster.destroy();
  }
}

describe('a crowd of clients', () => {
  test('idle connections, whatever they began, keep nobody out', async () => {
    await withNode('limits: {max_connections: 200}', async (node, sockets) => {
      for (const text of ['', 'GET /li', 'GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n', 'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc']) {
        for (let i = 0; i < 400; i += 1) sockets.push(idle(node, text));
        await until('the first to be gone', () => sockets.filter((socket) => socket.isGone).length >= sockets.length - 270);
        await probesAnswer(node);
        assert.equal((await get(node, '/')).status, 200);
        const client = await WsClient.open(node.http);
        await client.call('Status');
        await client.close();
      }
      const { http_connections: count } = JSON.parse((await get(node, '/status')).text);
      assert.ok(count <= 200 + 64, `${count} connections`);
    });
  });

  test('a WebSocket is never made to leave, and beside as many as there may be probes answer', async () => {
    await withNode('limits: {max_connections: 100}', async (node, sockets) => {
      const clients = [];
      while (clients.length < 100) {
        const client = await WsClient.open(node.http);
        clients.push(client);
        sockets.push(client.socket);
      }
      for (let i = 0; i < 300; i += 1) sockets.push(idle(node, i % 2 === 0 ? 'GET /' : ''));
      await until('the first to be gone', () => sockets.filter((socket) => socket.isGone).length >= 200);
      await probesAnswer(node);
      for (const path of ['/', '/none', '/app.js']) {
        const { status, text } = await get(node, path);
        assert.equal(status, 503);
        assert.equal(typeof JSON.parse(text).error, 'string');
      }
      const next = new WsClient(node.http);
      assert.equal((await next.opened.catch((error) => error)).status, 503);
      for (const client of clients) await client.call('Status');
      await until('the rest of them to be hung up on', () => sockets.slice(100).every((socket) => socket.isGone), { timeout: 20000 });
      clients[0].socket.terminate();
      await until('room', async () => (await get(node, '/')).status === 200);
    });
  });

  test('few file descriptors keep no probe out, whoever has them', { skip: whyNoPrlimit }, async () => {
    await withNode('', async (node, sockets, cluster) => {
      const { pid } = node.process.child;
      assert.equal(spawnSync('prlimit', ['--pid', String(pid), '--nofile=128:128']).status, 0);
      for (let i = 0; i < 300; i += 1) sockets.push(idle(node));
      await until('some to be turned away', () => sockets.filter((socket) => socket.isGone).length >= 180);
      await probesAnswer(node);
      // Those of gRPC are not ours to close.
      for (let i = 0; i < 300; i += 1) sockets.push(idle({ http: node.grpc }));
      await until('some of gRPC to be turned away', () => sockets.slice(300).filter((socket) => socket.isGone).length >= 180);
      await probesAnswer(node);
      await cluster.client(node).createChannel({ channelId: 'c' }).catch(() => {});
    });
  });
});
