// SendMessages, sentence by sentence: on leader and follower, over gRPC and WebSocket.
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import { Cluster, until } from './lib/cluster.mjs';
import { LeadingClient, whileOneLeads } from './lib/leading.mjs';
import { errorDetails, grpc, refusal, refused } from './lib/messenger.mjs';
import { WsClient } from './lib/websocket.mjs';

const MIB = 1 << 20;
const forward = { metadata: { 'raftogram-forward': '1' } };
const of = (channelId, text, clientMessageId = '') => ({ channelId, authorId: 'ann', payload: Buffer.from(text), clientMessageId });
const stored = (answer) => answer.results.map(({ sequence, deduplicated }) => [Number(sequence), deduplicated]);

// The code, reason and position of a refusal.
async function itemRefusal(promise) {
  const error = await refused(promise);
  const { info } = errorDetails(error);
  return { code: grpc.status[error.code], reason: info?.reason, item: info?.metadata?.item };
}

describe('SendMessages', () => {
  let cluster;
  let leader;
  let client;
  let followers;

  before(async () => { cluster = await Cluster.start(); });
  beforeEach(async () => {
    leader = await cluster.leader();
    client = new LeadingClient(cluster, leader);
    followers = cluster.followersOf(leader).map((node) => cluster.client(node));
  });
  after(async () => { await cluster?.destroy(); });

  const create = (...ids) => Promise.all(ids.map((channelId) => client.createChannel({ channelId })));
  const texts = async (reader, channelId) => (await reader.all(channelId)).map((message) => String(message.payload));
  const isStored = async (channelId, expected) => {
    for (const reader of [client, ...followers]) assert.deepEqual(await texts(reader, channelId), expected);
  };

  test('messages are stored in their order, over several channels, and every reader sees them', async () => {
    await create('order-a', 'order-b');
    const answer = await client.sendAll([of('order-a', '1'), of('order-b', '2'), of('order-a', '3'), of('order-a', '4', 'id')]);
    assert.deepEqual(stored(answer), [[1, false], [1, false], [2, false], [3, false]]);
    await isStored('order-a', ['1', '3', '4']);
    await isStored('order-b', ['2']);
    const [message] = (await client.history({ channelId: 'order-a', afterSequence: 2 })).messages;
    assert.equal(message.authorId, 'ann');
    assert.equal(message.clientMessageId, 'id');
  });

  test('a batch is one entry of the log', () => whileOneLeads(cluster, async () => {
    await create('entry');
    const before = Number((await client.status()).lastIndex);
    await client.sendAll(Array.from({ length: 500 }, (_, i) => of('entry', `${i}`)));
    assert.equal(Number((await client.status()).lastIndex), before + 1);
  }));

  test('a thousand messages fit, one more does not', async () => {
    await create('many');
    const many = Array.from({ length: 1000 }, (_, i) => of('many', `${i}`));
    const answer = await client.sendAll(many);
    assert.deepEqual(stored(answer), many.map((_, i) => [i + 1, false]));
    assert.deepEqual(await itemRefusal(client.sendAll([...many, of('many', 'x')])), { code: 'INVALID_ARGUMENT', reason: 'BATCH_TOO_LARGE', item: undefined });
    assert.equal((await client.all('many')).length, 1000);
  });

  test('a batch of 1 MiB encoded fits, a larger one does not, however large', async () => {
    await create('large');
    const batch = (bytes) => {
      const messages = Array.from({ length: 17 }, () => ({ channelId: 'large', payload: Buffer.alloc(60000) }));
      // Each has 7 bytes of channel, 4 of the head of its payload and 4 of its own.
      const left = bytes - 17 * (60000 + 7 + 4 + 4);
      messages.push({ channelId: 'large', payload: Buffer.alloc(left - (7 + 4 + 4)) });
      return messages;
    };
    assert.equal((await client.sendAll(batch(MIB))).results.length, 18);
    for (const bytes of [MIB + 1, MIB + 30000]) {
      assert.deepEqual(await itemRefusal(client.sendAll(batch(bytes))), { code: 'INVALID_ARGUMENT', reason: 'BATCH_TOO_LARGE', item: undefined });
    }
    const huge = Array.from({ length: 100 }, () => ({ channelId: 'large', payload: Buffer.alloc(50000) }));
    assert.deepEqual(await itemRefusal(client.sendAll(huge)), { code: 'INVALID_ARGUMENT', reason: 'BATCH_TOO_LARGE', item: undefined });
    assert.equal((await client.all('large')).length, 18);
  });

  test('an empty batch is refused', async () => {
    for (const node of [client, ...followers]) {
      assert.deepEqual(await itemRefusal(node.sendAll([])), { code: 'INVALID_ARGUMENT', reason: 'INVALID_FIELD', item: undefined });
    }
  });

  test('a faulty message stores nothing, and its position and own error are told on every node', async () => {
    await create('faulty');
    const good = of('faulty', 'good');
    const cases = [
      [[good, of('', 'x')], 'INVALID_ARGUMENT', 'INVALID_FIELD', '1'],
      [[of('x'.repeat(257), 'x')], 'INVALID_ARGUMENT', 'INVALID_FIELD', '0'],
      [[good, good, { ...good, authorId: 'x'.repeat(257) }], 'INVALID_ARGUMENT', 'INVALID_FIELD', '2'],
      [[good, of('faulty', 'x', 'x'.repeat(257))], 'INVALID_ARGUMENT', 'INVALID_FIELD', '1'],
      [[good, { ...good, payload: Buffer.alloc(65537) }, good], 'INVALID_ARGUMENT', 'PAYLOAD_TOO_LARGE', '1'],
      [[good, of('nowhere', 'x'), of('', 'x')], 'INVALID_ARGUMENT', 'INVALID_FIELD', '2'],
      [[good, good, of('nowhere', 'x'), good], 'NOT_FOUND', 'CHANNEL_NOT_FOUND', '2'],
    ];
    for (const [messages, code, reason, item] of cases) {
      for (const node of [client, ...followers]) {
        assert.deepEqual(await itemRefusal(node.sendAll(messages, forward)), { code, reason, item });
      }
    }
    await isStored('faulty', []);
    assert.deepEqual(stored(await client.sendAll([good])), [[1, false]]);
  });

  test('client message ids count within the batch, before it and after it', async () => {
    await create('ids', 'ids-2');
    await client.send(of('ids', 'first', 'known'));
    const messages = [of('ids', 'a', 'new'), of('ids', 'b', 'known'), of('ids-2', 'c', 'new'), of('ids', 'd', 'new'), of('ids', 'e')];
    assert.deepEqual(stored(await client.sendAll(messages)), [[2, false], [1, true], [1, false], [2, true], [3, false]]);
    assert.deepEqual(await client.send(of('ids', 'f', 'new')), { sequence: '2', deduplicated: true });
    assert.deepEqual(stored(await followers[0].sendAll(messages.slice(0, 4), forward)), [[2, true], [1, true], [1, true], [2, true]]);
    await isStored('ids', ['first', 'a', 'e']);
    await isStored('ids-2', ['c']);
  });

  test('a follower redirects, and forwards when it is asked to', () => whileOneLeads(cluster, async (now) => {
    await create('follower');
    for (const node of cluster.followersOf(now)) {
      const follower = cluster.client(node);
      const error = await refused(follower.sendAll([of('follower', 'no')]));
      assert.equal(error.details, 'not leader: retry on suggested leader client endpoint');
      assert.equal(errorDetails(error).info.reason, 'NOT_LEADER');
      assert.deepEqual(errorDetails(error).notLeader, { leaderGrpcTarget: now.grpc, raftLeaderId: now.id });
      assert.equal((await follower.sendAll([of('follower', 'a'), of('follower', 'b')], forward)).results.length, 2);
    }
    await isStored('follower', ['a', 'b', 'a', 'b']);
  }));

  test('a forwarded batch of any size is answered as the leader would', async () => {
    await create('forwarded');
    const messages = Array.from({ length: 1000 }, (_, i) => ({ ...of('forwarded', 'x'.repeat(900), `${i}`) }));
    assert.deepEqual(stored(await followers[1].sendAll(messages, forward)), messages.map((_, i) => [i + 1, false]));
    assert.deepEqual(stored(await followers[0].sendAll(messages, forward)), messages.map((_, i) => [i + 1, true]));
  });

  test('batches that are sent at once, over all nodes, leave no gap and are never torn', async () => {
    await create('torn-a', 'torn-b');
    await Promise.all(Array.from({ length: 60 }, (_, i) => [client, ...followers][i % 3].sendAll(
      Array.from({ length: 10 }, (_, j) => of(j % 2 ? 'torn-a' : 'torn-b', `${i}`, `${i}-${j}`)), { deadline: 20000, ...forward })));
    for (const id of ['torn-a', 'torn-b']) {
      const all = await client.all(id);
      assert.deepEqual(all.map((message) => Number(message.sequence)), all.map((_, i) => i + 1));
      const runs = all.map((message) => String(message.payload));
      assert.equal(runs.length, 300);
      for (let i = 0; i < 300; i += 5) assert.equal(new Set(runs.slice(i, i + 5)).size, 1, `${id} at ${i}`);
    }
  });

  test('over WebSocket each node takes it, with text, and tells the position of a fault', async () => {
    await create('socket');
    let sequence = 0;
    for (const node of cluster.nodes) {
      const socket = await WsClient.open(node.http);
      const messages = [
        { channelId: 'socket', text: 'héllo', clientMessageId: node.id },
        { channelId: 'socket', payload: Buffer.from([0, 255]).toString('base64') },
        { channelId: 'socket', text: 'again', clientMessageId: node.id },
      ];
      assert.deepEqual(await socket.call('SendMessages', { messages }), {
        results: [
          { sequence: `${sequence + 1}`, deduplicated: false }, { sequence: `${sequence + 2}`, deduplicated: false },
          { sequence: `${sequence + 1}`, deduplicated: true },
        ],
      });
      sequence += 2;
      const faults = [
        [[{ channelId: 'socket' }, { channelId: '' }], 3, 'INVALID_ARGUMENT', 'INVALID_FIELD', '1'],
        [[{ channelId: 'socket' }, { channelId: 'socket' }, { channelId: 'gone' }], 5, 'NOT_FOUND', 'CHANNEL_NOT_FOUND', '2'],
        [[{ channelId: 'socket' }, { channelId: 7 }], -32602, 'INVALID_ARGUMENT', 'INVALID_FIELD', '1'],
        [[{ channelId: 'socket', payload: '*' }], -32602, 'INVALID_ARGUMENT', 'INVALID_FIELD', '0'],
        [[{ channelId: 'socket', payload: 'eA==', text: 'x' }], -32602, 'INVALID_ARGUMENT', 'INVALID_FIELD', '0'],
      ];
      for (const [list, code, status, reason, item] of faults) {
        const error = await socket.refused('SendMessages', { messages: list });
        assert.equal(error.code, code);
        assert.deepEqual(error.data, { status, reason, item });
      }
      for (const params of [{}, { messages: [] }]) {
        assert.deepEqual((await socket.refused('SendMessages', params)).data, { status: 'INVALID_ARGUMENT', reason: 'INVALID_FIELD' });
      }
      const many = Array.from({ length: 1001 }, () => ({ channelId: 'socket' }));
      assert.equal((await socket.refused('SendMessages', { messages: many })).data.reason, 'BATCH_TOO_LARGE');
      await socket.close();
    }
    const all = await client.all('socket');
    assert.equal(all.length, 6);
    assert.equal(String(all[0].payload), 'héllo');
  });

  test('a subscription gets the messages of a batch once and in order', async () => {
    await create('live');
    const subscriptions = followers.map((node) => node.subscribe({ channelId: 'live' }));
    await until('the streams', () => subscriptions.every((subscription) => subscription.isOpen));
    for (let i = 0; i < 5; i += 1) await client.sendAll(Array.from({ length: 100 }, (_, j) => of('live', `${100 * i + j}`)));
    for (const subscription of subscriptions) {
      await until('all messages', () => subscription.messages.length >= 500);
      assert.deepEqual(subscription.messages.map((message) => String(message.payload)), Array.from({ length: 500 }, (_, i) => `${i}`));
      subscription.cancel();
    }
  });

  test('a batch with ids outlives its leader: sent again it is the same', async () => {
    await create('outlives');
    const messages = Array.from({ length: 50 }, (_, i) => of('outlives', `${i}`, `id-${i}`));
    const node = await cluster.leader();
    const others = cluster.followersOf(node);
    const sending = cluster.client(others[0]).sendAll(messages, { deadline: 20000, ...forward }).catch((error) => error);
    await node.process.stop('SIGKILL');
    await sending;
    await until('a leader', async () => (await cluster.leader()).id !== node.id);
    const answer = await until('an answer', () => cluster.client(others[1]).sendAll(messages, { deadline: 5000, ...forward }));
    assert.deepEqual(stored(answer).map(([sequence]) => sequence), messages.map((_, i) => i + 1));
    cluster.startNode(node.index);
    await cluster.leader();
    await until('the node to catch up', async () => (await cluster.client(node).all('outlives')).length === 50);
  });

  test('with one node down since the start of all others, what the log has used goes on', async () => {
    await create('degraded');
    await client.sendAll([of('degraded', '1')]);
    const [first, second, third] = cluster.nodes;
    await Promise.all(cluster.nodes.map((node) => node.process.stop()));
    cluster.startNode(first.index);
    cluster.startNode(second.index);
    await cluster.leader();
    const answer = await until('an answer', () => cluster.client(first).sendAll([of('degraded', '2')], forward));
    assert.deepEqual(stored(answer), [[2, false]]);
    cluster.startNode(third.index);
    await until('the third', async () => (await cluster.client(third).all('degraded')).length === 2);
  });
});

test('a node alone takes batches', async () => {
  const cluster = await Cluster.start({ size: 1 });
  try {
    const client = cluster.client(cluster.nodes[0]);
    await client.createChannel({ channelId: 'alone' });
    assert.deepEqual(stored(await client.sendAll([of('alone', '1'), of('alone', '2')])), [[1, false], [2, false]]);
    assert.deepEqual(await refusal(client.sendAll([])), { code: 'INVALID_ARGUMENT', reason: 'INVALID_FIELD' });
  } finally {
    await cluster.destroy();
  }
});
