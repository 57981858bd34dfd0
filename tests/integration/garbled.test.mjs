// Bytes that are changed on the way from node to node: TCP's own sum does not see them, since a proxy computes it anew.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import net from 'node:net';
import { after, before, describe, test } from 'node:test';
import { Cluster, delay, freePorts, until } from './lib/cluster.mjs';

describe('a network that changes bytes', () => {
  let cluster;
  let isGarbling = false;
  let garbled = 0;
  const servers = [];

  // One bit in some of what goes from a to b, behind the frame's header.
  function garble(data) {
    if (!isGarbling || data.length < 60 || Math.random() > 0.03) return data;
    data[20 + Math.floor(Math.random() * (data.length - 20))] ^= 1 << Math.floor(Math.random() * 8);
    garbled += 1;
    return data;
  }

  async function proxy(to) {
    const [port] = await freePorts(1);
    const [host, toPort] = to.raft.split(':');
    const server = net.createServer((left) => {
      const right = net.connect(Number(toPort), host);
      left.on('data', (data) => right.write(garble(data)));
      right.on('data', (data) => left.write(data));
      for (const socket of [left, right]) {
        socket.setNoDelay();
        socket.on('error', () => {});
        socket.on('close', () => { left.destroy(); right.destroy(); });
      }
    });
    servers.push(server);
    await new Promise((done) => server.listen(port, '127.0.0.1', done));
    return `127.0.0.1:${port}`;
  }

  before(async () => {
    cluster = await Cluster.create({ size: 3 });
    for (const node of cluster.nodes) {
      const seen = await Promise.all(cluster.nodes.map(async (peer) => ({ ...peer, raft: peer === node ? peer.raft : await proxy(peer) })));
      const text = cluster.config(node);
      const peers = seen.map((peer) => `    - {node_id: ${peer.id}, raft_addr: "${peer.raft}", grpc_addr: "${peer.grpc}", http_addr: "${peer.http}"}`).join('\n');
      writeFileSync(node.configPath, text.replace(/( {2}peers:\n)( {4}- .*\n?)+/, `$1${peers}\n`));
    }
    cluster.startAll();
    await cluster.client(await cluster.leader()).createChannel({ channelId: 'c' });
  });
  after(async () => {
    isGarbling = false;
    await cluster.destroy();
    servers.forEach((server) => server.close());
  });

  test('neither changes what is stored nor leaves a node behind', async () => {
    const acknowledged = new Map();
    isGarbling = true;
    const end = Date.now() + 8000;
    await Promise.all(Array.from({ length: 6 }, async (_, worker) => {
      for (let i = 0; Date.now() < end; i += 1) {
        const node = cluster.nodes[(worker + i) % 3];
        const clientMessageId = `${worker}-${i}`;
        try {
          const { sequence } = await cluster.client(node).send(
            { channelId: 'c', authorId: `author-${worker}`, clientMessageId, payload: Buffer.from(`payload of ${clientMessageId} `.repeat(8)) },
            { deadline: 3000, metadata: { 'raftogram-forward': '1' } });
          acknowledged.set(clientMessageId, sequence);
        } catch {
          await delay(20);
        }
      }
    }));
    isGarbling = false;
    assert.ok(garbled > 10, `${garbled} garbled`);
    for (const node of cluster.nodes) {
      assert.ok(node.process.isRunning, `${node.id}: ${node.process.stderr.slice(-1000)}`);
      await cluster.ready(node, { timeout: 40000 });
    }
    await cluster.leader();
    const histories = await Promise.all(cluster.nodes.map((node) => cluster.client(node).all('c', { deadline: 10000 })));
    for (const history of histories) {
      const byId = new Map(history.map((message) => [message.clientMessageId, message]));
      for (const [id, sequence] of acknowledged) {
        const message = byId.get(id);
        assert.ok(message, `${id} is gone`);
        assert.equal(message.sequence, sequence);
        assert.equal(message.payload.toString(), `payload of ${id} `.repeat(8));
        assert.equal(message.authorId, `author-${id.split('-')[0]}`);
      }
      assert.deepEqual(history, histories[0]);
    }
    await until('the log to say why', () => cluster.nodes.some((node) => /its checksum is wrong/.test(node.process.stderr)));
  });
});
