// What clients make a node hold is bounded for all of them together, and goes back to the system.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Cluster, delay, until } from './lib/cluster.mjs';
import { metric } from './lib/prometheus.mjs';
import { OPCODE, RawSocket, WsClient, frame } from './lib/websocket.mjs';

const MIB = 1 << 20;
const call = (id, method, params) => frame(OPCODE.text, JSON.stringify({ jsonrpc: '2.0', id, method, params }));

async function withNode(extra, action) {
  const cluster = await Cluster.start({ size: 1, extra });
  try {
    const [node] = cluster.nodes;
    await until('readiness', async () => (await fetch(`http://${node.http}/readyz`)).ok);
    const isSanitized = await metric(node, 'process_virtual_memory_bytes') > 2 ** 42;
    const resident = async () => (isSanitized ? 0 : metric(node, 'process_resident_memory_bytes'));
    await action(node, resident);
  } finally {
    await cluster.destroy();
  }
}

// Channels of about 1 MiB each.
async function fill(client, count) {
  const text = 'x'.repeat(50000);
  for (let i = 0; i < count; i += 1) {
    await client.call('CreateChannel', { channelId: `c${i}` });
    await Promise.all(Array.from({ length: 20 }, () => client.call('SendMessage', { channelId: `c${i}`, text })));
  }
}

describe('memory', () => {
  test('of a connection that does not read, one page waits for all its subscriptions, and none is lost', async () => {
    await withNode('limits: {max_subscriptions_per_connection: 2000}', async (node, resident) => {
      const client = await WsClient.open(node.http);
      await fill(client, 10);
      const before = await resident();
      const stalled = await RawSocket.upgraded(node.http);
      const count = 300;
      for (let i = 0; i < count; i += 1) stalled.write(call(i, 'Subscribe', { channelId: `c${i % 10}`, encoding: 'text' }));
      stalled.socket.pause();
      await until('the subscriptions', async () => await metric(node, 'raftogram_subscriptions') === count);
      await delay(1000); // for what must not come
      const grown = await resident() - before;
      assert.ok(grown < 40 * MIB, `${grown / MIB} MiB`);
      const got = new Map();
      stalled.takeFrames = (data) => { // without keeping the texts
        stalled.rest = Buffer.concat([stalled.rest, data]);
        for (;;) {
          const head = stalled.rest.length < 2 ? Infinity : [2, 4, 10][(stalled.rest[1] & 0x7f) < 126 ? 0 : (stalled.rest[1] & 0x7f) - 125];
          if (stalled.rest.length < head) return;
          const size = head === 2 ? stalled.rest[1] : head === 4 ? stalled.rest.readUInt16BE(2) : Number(stalled.rest.readBigUInt64BE(2));
          if (stalled.rest.length < head + size) return;
          const { method, params } = JSON.parse(stalled.rest.subarray(head, head + size).toString());
          stalled.rest = stalled.rest.subarray(head + size);
          if (method !== 'messages') continue;
          for (const { sequence } of params.messages) {
            assert.equal(Number(sequence), (got.get(params.subscription) ?? 0) + 1);
            got.set(params.subscription, Number(sequence));
          }
        }
      };
      stalled.socket.resume();
      const isAll = () => got.size === count && [...got.values()].every((last) => last === 20);
      await until('all of them', isAll, { timeout: 60000 });
      // And each one gets what is new.
      await client.call('SendMessage', { channelId: 'c3', text: 'new' });
      await until('news', () => [...got.values()].filter((last) => last === 21).length === count / 10);
      stalled.destroy();
      await client.close();
    });
  });

  test('half-received messages stop at limits.memory with 1013, the others are served, and the memory goes back', async () => {
    await withNode('limits: {memory: 64MiB}', async (node, resident) => {
      const client = await WsClient.open(node.http);
      await client.call('CreateChannel', { channelId: 'c' });
      const before = await resident();
      const part = frame(OPCODE.text, ' '.repeat(1000000), { length: MIB });
      const all = [];
      for (let i = 0; i < 120; i += 1) {
        const raw = await RawSocket.upgraded(node.http);
        all.push(raw);
        raw.write(part);
      }
      const codes = () => all.map((raw) => raw.frames.find((item) => item.opcode === OPCODE.close)?.payload.readUInt16BE(0)).filter((code) => code);
      await until('some to be refused', () => codes().length >= 120 - 67);
      assert.deepEqual([...new Set(codes())], [1013]);
      const grown = await resident() - before;
      assert.ok(grown < 160 * MIB, `${grown / MIB} MiB`);
      for (const path of ['/livez', '/readyz', '/health', '/metrics', '/status']) assert.equal((await fetch(`http://${node.http}${path}`)).status, 200);
      all.forEach((raw) => raw.destroy());
      await until('a call', async () => (await client.call('SendMessage', { channelId: 'c', text: 'x' }).catch(() => null))?.sequence);
      await until('the memory to be given back', async () => await resident() - before < 24 * MIB);
      await client.close();
    });
  });

  test('readers that stall share what there is, and one that reads goes on', async () => {
    await withNode('limits: {memory: 64MiB}', async (node, resident) => {
      const client = await WsClient.open(node.http);
      await fill(client, 2);
      const before = await resident();
      const stalled = [];
      for (let i = 0; i < 120; i += 1) {
        const raw = await RawSocket.upgraded(node.http);
        raw.socket.pause();
        stalled.push(raw);
        for (let j = 0; j < 10; j += 1) raw.write(call(j, 'Subscribe', { channelId: `c${j % 2}`, encoding: 'text' }));
      }
      await until('the subscriptions', async () => await metric(node, 'raftogram_subscriptions') === 1200);
      const reader = await WsClient.open(node.http);
      const { subscription } = await reader.call('Subscribe', { channelId: 'c1', encoding: 'text' });
      await until('what is stored', () => reader.messages(subscription).length === 20, { timeout: 40000 });
      await client.call('SendMessage', { channelId: 'c1', text: 'new' });
      await until('what is new', () => reader.messages(subscription).length === 21, { timeout: 40000 });
      const grown = await resident() - before;
      assert.ok(grown < 200 * MIB, `${grown / MIB} MiB`);
      stalled.forEach((raw) => raw.destroy());
      await until('the memory to be given back', async () => await resident() - before < 40 * MIB);
      await reader.close();
      await client.close();
    });
  });
});
