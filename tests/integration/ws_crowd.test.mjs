// A thousand subscribers, one in a hundred of which stopped reading: nobody else notices.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Cluster, until } from './lib/cluster.mjs';
import { metric } from './lib/prometheus.mjs';
import { OPCODE, RawSocket, WsClient, frame } from './lib/websocket.mjs';

const READERS = 990;
const STALLED = 10;
const MESSAGES = 60;
const TEXT = 'x'.repeat(60000);

async function subscribeRaw(node, channelId) {
  const raw = await RawSocket.upgraded(node.http);
  raw.write(frame(OPCODE.text, JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'Subscribe', params: { channelId, encoding: 'text' } })));
  await until('the answer', () => raw.texts.some((item) => item.id === 1), { timeout: 60000 });
  return raw;
}

test('stalled readers cost the others nothing, and lose nothing', { timeout: 180000 }, async () => {
  const cluster = await Cluster.start({ size: 1 });
  const [node] = cluster.nodes;
  try {
    const client = await WsClient.open(node.http);
    for (const channelId of ['small', 'large']) await client.call('CreateChannel', { channelId });
    const readers = [];
    for (let i = 0; i < READERS; i += 90) {
      readers.push(...await Promise.all(Array.from({ length: 90 }, () => subscribeRaw(node, 'small'))));
    }
    const round = async (from) => {
      const since = performance.now();
      for (let i = 0; i < 10; i++) await client.call('SendMessage', { channelId: 'small', text: String(from + i) });
      await until('all readers', () => readers.every((raw) => raw.messages().length === from + 10), { timeout: 60000, every: 5 });
      return performance.now() - since;
    };
    await round(0);
    const before = await round(10);
    const memoryBefore = await metric(node, 'process_resident_memory_bytes');
    const stalled = await Promise.all(Array.from({ length: STALLED }, () => subscribeRaw(node, 'large')));
    stalled.forEach((raw) => raw.socket.pause());
    for (let i = 0; i < MESSAGES; i += 1) await client.call('SendMessage', { channelId: 'large', text: TEXT });
    const rounds = [];
    for (let i = 2; i < 7; i++) rounds.push(await round(10 * i));
    rounds.sort((a, b) => a - b);
    const memory = await metric(node, 'process_resident_memory_bytes') - memoryBefore;
    const isSanitized = await metric(node, 'process_virtual_memory_bytes') > 2 ** 42;
    // Generous: the machine has others to serve.
    assert.ok(rounds[2] < 4 * before + 250, `${rounds[2]} ms after ${before} ms`);
    // One frame of 1 MiB each, at most two while one is on its way.
    assert.ok(memory < (STALLED * 3 + 32) << 20 || isSanitized, `${memory >> 20} MiB more`);
    stalled.forEach((raw) => raw.socket.resume());
    for (const raw of stalled) {
      await until('what was missed', () => raw.messages().length === MESSAGES, { timeout: 60000 });
      assert.deepEqual(raw.messages().map((m) => m.sequence), Array.from({ length: MESSAGES }, (_, i) => String(i + 1)));
    }
    for (const raw of readers) {
      assert.deepEqual(raw.messages().map((m) => m.text), Array.from({ length: 70 }, (_, i) => String(i)));
    }
    [...readers, ...stalled].forEach((raw) => raw.destroy());
    await until('no subscription left', async () => await metric(node, 'raftogram_subscriptions') === 0);
    client.socket.terminate();
  } finally {
    await cluster.destroy();
  }
});
