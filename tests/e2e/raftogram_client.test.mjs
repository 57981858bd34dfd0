// web/raftogram.js against a scripted WebSocket: what it sends, and what it does when things break.
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import {
  ConnectionError, RpcError, Status, connect, newClientMessageId, payloadBytes, socketUrl,
} from '../../web/raftogram.js';

const delay = (ms) => new Promise((done) => { setTimeout(done, ms); });

async function until(what, probe, timeoutMs = 3000) {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const value = probe();
    if (value) return value;
    if (Date.now() > deadline) assert.fail(`timed out waiting for ${what}`);
    await delay(2);
  }
}

// Stands in for the network: `sockets` are all that were ever made, `down` the dead addresses.
class Network {
  constructor() {
    const network = this;
    this.sockets = [];
    this.down = new Set();
    this.mute = new Set();
    this.hello = {};
    this.WebSocket = class {
      constructor(url, protocols) {
        this.url = url;
        this.protocols = protocols;
        this.sent = [];
        this.isClosed = false;
        network.sockets.push(this);
        queueMicrotask(() => this.begin());
      }

      begin() {
        if (network.down.has(this.url)) {
          this.drop(1006);
        } else if (!network.mute.has(this.url)) {
          this.notify('hello', {
            nodeId: 'node1', role: 'follower', leaderId: 'node2', hasQuorum: true,
            clusterId: 'c1', version: '0', heartbeatMs: 60000, maxPayloadBytes: 65536,
            maxFrameBytes: 1048576, peers: [], ...network.hello, ...network.hello[this.url],
          });
        }
      }

      send(text) {
        assert.equal(this.isClosed, false, 'sent on a closed socket');
        this.sent.push(JSON.parse(text));
      }

      close(code) {
        this.isClosed = true;
        this.closeCode = code;
      }

      deliver(frame) { if (!this.isClosed) this.onmessage?.({ data: JSON.stringify(frame) }); }

      notify(method, params) { this.deliver({ jsonrpc: '2.0', method, params }); }

      answer(request, result) { this.deliver({ jsonrpc: '2.0', id: request.id, result }); }

      fail(request, code, reason) {
        this.deliver({ jsonrpc: '2.0', id: request.id, error: { code, message: reason, data: { reason } } });
      }

      drop(code = 1006) {
        this.isClosed = true;
        this.onclose?.({ code });
      }

      calls(method) { return this.sent.filter((frame) => frame.method === method); }
    };
  }

  get last() { return this.sockets.at(-1); }

  // The nth call of a method on the newest socket.
  async request(method, n = 1) {
    return until(`${method} number ${n}`, () => this.last?.calls(method)[n - 1]);
  }

  async socket(n) { return until(`connection ${n}`, () => this.sockets[n - 1]); }
}

const clients = [];
function setup(addresses = 'ws://a/ws', options = {}) {
  const network = options.network ?? new Network();
  const client = connect(addresses, {
    WebSocket: network.WebSocket, backoffMinMs: 2, backoffMaxMs: 20, repeatMaxMs: 10, random: () => 0.5, ...options,
  });
  clients.push(client);
  return { network, client };
}

async function opened(addresses, options) {
  const made = setup(addresses, options);
  await until('hello', () => made.client.state === 'open');
  return made;
}

// A live subscription whose messages are collected.
async function followed({ network, client }, options = {}, lastSequence = '0') {
  const follow = { sequences: [], states: [], end: null };
  follow.subscription = client.subscribe('general', options, {
    onMessages: (messages) => follow.sequences.push(...messages.map((m) => m.sequence)),
    onState: (state) => follow.states.push(state),
    onEnd: (error) => { follow.end = error; },
  });
  follow.request = await network.request('Subscribe');
  network.last.answer(follow.request, { subscription: 's1', channelId: 'general', lastSequence, clusterId: 'c1' });
  return follow;
}

const messages = (...sequences) => sequences.map((sequence) => ({ sequence: String(sequence), text: `m${sequence}` }));

afterEach(() => { while (clients.length > 0) clients.pop().close(); });

test('an address is written as people write it', () => {
  assert.equal(socketUrl('http://h:8080'), 'ws://h:8080/ws');
  assert.equal(socketUrl('h:8080'), 'ws://h:8080/ws');
  assert.equal(socketUrl('https://h/page?x'), 'wss://h/ws');
  assert.equal(socketUrl('ws://h:1/other'), 'ws://h:1/other');
  assert.equal(socketUrl({ href: 'http://h:1/index.html' }), 'ws://h:1/ws');
});

test('a call waits for hello, and its result resolves it', async () => {
  const { network, client } = setup();
  const answer = client.call('ListChannels', { limit: 5 });
  const request = await network.request('ListChannels');
  assert.deepEqual(request, { jsonrpc: '2.0', id: request.id, method: 'ListChannels', params: { limit: 5 } });
  assert.deepEqual(network.last.protocols, ['raftogram.v1.json']);
  network.last.answer(request, { channels: [], hasMore: false });
  assert.deepEqual(await answer, { channels: [], hasMore: false });
});

test('an error of the node is an RpcError with status and reason', async () => {
  const { network, client } = await opened();
  const answer = client.call('ReadHistory', { channelId: 'x' });
  network.last.fail(await network.request('ReadHistory'), 5, 'CHANNEL_NOT_FOUND');
  await assert.rejects(answer, (error) => error instanceof RpcError && error.code === Status.NOT_FOUND &&
    error.status === 'NOT_FOUND' && error.reason === 'CHANNEL_NOT_FOUND');
});

test('answers in a batch and in any order find their calls', async () => {
  const { network, client } = await opened();
  const both = [client.call('Status'), client.call('ListChannels')];
  const [first, second] = [await network.request('Status'), await network.request('ListChannels')];
  network.last.deliver([{ jsonrpc: '2.0', id: second.id, result: 2 }, { jsonrpc: '2.0', id: first.id, result: 1 }]);
  assert.deepEqual(await Promise.all(both), [1, 2]);
});

test('calls queued before the connection go out once and in order, also beside calls of handlers', async () => {
  const { network, client } = setup();
  client.on('hello', () => { client.call('Status').catch(() => {}); });
  for (const name of ['one', 'two', 'three']) client.call('Read', { key: name }).catch(() => {});
  await network.request('Status');
  assert.deepEqual(network.last.calls('Read').map((frame) => frame.params.key), ['one', 'two', 'three']);
  assert.equal(network.last.calls('Status').length, 1);
});

test('a call that may not be made twice rejects when its connection is lost', async () => {
  const { network, client } = await opened();
  const answer = client.call('SendMessage', { channelId: 'general', text: 'x' });
  await network.request('SendMessage');
  network.last.drop();
  await assert.rejects(answer, (error) => error instanceof ConnectionError && error.reason === 'CONNECTION_LOST');
});

test('a read in flight is asked again on the next connection', async () => {
  const { network, client } = await opened();
  const answer = client.call('ReadHistory', { channelId: 'general' });
  await network.request('ReadHistory');
  network.last.drop();
  await network.socket(2);
  network.last.answer(await network.request('ReadHistory'), { messages: [] });
  assert.deepEqual(await answer, { messages: [] });
});

test('a send is repeated with the same client message id until it is stored', async () => {
  const { network, client } = await opened();
  const answer = client.send({ channelId: 'general', authorId: 'ann', text: 'hi' });
  const first = await network.request('SendMessage');
  network.last.fail(first, Status.ABORTED, 'COMMIT_UNKNOWN');
  const second = await network.request('SendMessage', 2);
  network.last.drop();
  await network.socket(2);
  const third = await network.request('SendMessage');
  assert.match(first.params.clientMessageId, /^[0-9a-f]{32}$/);
  assert.deepEqual(second.params, first.params);
  assert.deepEqual(third.params, first.params);
  network.last.answer(third, { sequence: '7', deduplicated: true });
  assert.deepEqual(await answer, { sequence: '7', deduplicated: true, clientMessageId: first.params.clientMessageId });
});

test('a send that the node refuses for good is not repeated', async () => {
  const { network, client } = await opened();
  const answer = client.send({ channelId: 'nowhere', text: 'hi' });
  network.last.fail(await network.request('SendMessage'), Status.NOT_FOUND, 'CHANNEL_NOT_FOUND');
  await assert.rejects(answer, { reason: 'CHANNEL_NOT_FOUND' });
  await delay(30);
  assert.equal(network.last.calls('SendMessage').length, 1);
});

test('a read that one node has damaged is made on another', async () => {
  const { network, client } = await opened(['ws://a/ws', 'ws://b/ws']);
  const answer = client.call('ReadHistory', { channelId: 'general' }, { retry: true });
  const other = client.call('ListChannels');
  network.last.fail(await network.request('ReadHistory'), Status.DATA_LOSS, 'CORRUPT');
  await network.socket(2);
  assert.equal(network.last.url, 'ws://b/ws');
  network.last.answer(await network.request('ReadHistory'), { messages: [] });
  network.last.answer(await network.request('ListChannels'), { channels: [] });
  assert.deepEqual(await answer, { messages: [] });
  assert.deepEqual(await other, { channels: [] });
});

test('two reads that meet damage in one frame leave the node once', async () => {
  const { network, client } = await opened(['ws://a/ws', 'ws://b/ws', 'ws://c/ws']);
  const answers = ['one', 'two'].map((channelId) => client.call('ReadHistory', { channelId }, { retry: true }));
  await network.request('ReadHistory', 2);
  network.last.deliver(network.last.calls('ReadHistory').map(({ id }) => (
    { jsonrpc: '2.0', id, error: { code: Status.DATA_LOSS, message: 'damaged', data: { reason: 'CORRUPT' } } })));
  await network.socket(2);
  for (const n of [1, 2]) network.last.answer(await network.request('ReadHistory', n), { messages: [] });
  await Promise.all(answers);
  assert.deepEqual(network.sockets.map((socket) => socket.url), ['ws://a/ws', 'ws://b/ws']);
});

test('a read that every node has damaged is told after one try on each', async () => {
  const { network, client } = await opened(['ws://a/ws', 'ws://b/ws']);
  const answer = assert.rejects(client.call('ReadHistory', { channelId: 'general' }, { retry: true }),
    { reason: 'CORRUPT', code: Status.DATA_LOSS });
  network.last.fail(await network.request('ReadHistory'), Status.DATA_LOSS, 'CORRUPT');
  await network.socket(2);
  network.last.fail(await network.request('ReadHistory'), Status.DATA_LOSS, 'CORRUPT');
  await answer;
  assert.equal(network.sockets.length, 2);
});

test('a call without a connection fails in time and says that it was never sent', async () => {
  const network = new Network();
  network.down.add('ws://a/ws');
  const { client } = setup('ws://a/ws', { network });
  await assert.rejects(client.send({ channelId: 'general', text: 'x' }, { timeoutMs: 60 }),
    { reason: 'NOT_CONNECTED', code: Status.UNAVAILABLE });
});

test('bytes travel as base64', async () => {
  const { network, client } = await opened();
  client.send({ channelId: 'general', payload: new Uint8Array([0, 255, 1]) }).catch(() => {});
  assert.equal((await network.request('SendMessage')).params.payload, 'AP8B');
  assert.deepEqual([...payloadBytes({ payload: 'AP8B' })], [0, 255, 1]);
  assert.deepEqual([...payloadBytes({ text: 'é' })], [0xc3, 0xa9]);
});

test('the queue of calls is bounded, by number and by size', async () => {
  const network = new Network();
  network.mute.add('ws://a/ws');
  const { client } = setup('ws://a/ws', { network, callsMax: 3, queueBytesMax: 1000 });
  for (let i = 0; i < 2; i += 1) client.call('Status').catch(() => {});
  await assert.rejects(client.call('Read', { key: 'k'.repeat(1000) }), { reason: 'QUEUE_FULL' });
  client.call('Status').catch(() => {});
  await assert.rejects(client.call('Status'), { reason: 'QUEUE_FULL' });
});

test('a frame over the limit of the node is refused here and keeps the connection', async () => {
  const network = new Network();
  network.hello.maxFrameBytes = 200;
  const { client } = await opened('ws://a/ws', { network });
  await assert.rejects(client.send({ channelId: 'general', text: 'é'.repeat(100) }), { reason: 'FRAME_TOO_LARGE' });
  assert.equal(network.last.sent.length, 0);
  assert.equal(client.state, 'open');
});

test('a subscription asks with its cursor, encoding and cluster', async () => {
  const made = await opened();
  const { request } = await followed(made, { afterSequence: 41, encoding: 'text' });
  assert.deepEqual(request.params, { channelId: 'general', afterSequence: '41', encoding: 'text', clusterId: 'c1' });
});

test('messages in the very frame of the answer are delivered', async () => {
  const { network, client } = await opened();
  const sequences = [];
  client.subscribe('general', {}, { onMessages: (batch) => sequences.push(...batch.map((m) => m.sequence)) });
  const { id } = await network.request('Subscribe');
  network.last.deliver([
    { jsonrpc: '2.0', id, result: { subscription: 's1', lastSequence: '1', clusterId: 'c1' } },
    { jsonrpc: '2.0', method: 'messages', params: { subscription: 's1', messages: messages(1) } },
  ]);
  assert.deepEqual(sequences, ['1']);
});

test('after a lost connection a subscription goes on after its last message, without duplicates', async () => {
  const made = await opened();
  const { network } = made;
  const follow = await followed(made);
  network.last.notify('messages', { subscription: 's1', messages: messages(1, 2, 3) });
  network.last.drop();
  await network.socket(2);
  const again = await network.request('Subscribe');
  assert.equal(again.params.afterSequence, '3');
  network.last.answer(again, { subscription: 's1', lastSequence: '3', clusterId: 'c1' });
  network.last.notify('messages', { subscription: 's1', messages: messages(2, 3, 4) });
  network.last.notify('messages', { subscription: 's1', messages: messages(4, 5) });
  assert.deepEqual(follow.sequences, ['1', '2', '3', '4', '5']);
  assert.deepEqual(follow.states, ['live', 'waiting', 'live']);
});

test('a live-only subscription resumes where it began even if nothing came', async () => {
  const made = await opened();
  const follow = await followed(made, { liveOnly: true }, '17');
  assert.deepEqual(follow.request.params, { channelId: 'general', liveOnly: true, clusterId: 'c1' });
  assert.equal(follow.subscription.lastSequence, '17');
  made.network.last.drop();
  await made.network.socket(2);
  assert.equal((await made.network.request('Subscribe')).params.afterSequence, '17');
});

test('a subscription that the node ended is resumed, and ended for good by what cannot change', async () => {
  const made = await opened();
  const { network } = made;
  const follow = await followed(made);
  network.last.notify('messages', { subscription: 's1', messages: messages(1) });
  network.last.notify('ended', { subscription: 's1', code: Status.UNAVAILABLE, data: { reason: 'NO_QUORUM' } });
  const again = await network.request('Subscribe', 2);
  assert.equal(again.params.afterSequence, '1');
  network.last.fail(again, Status.NOT_FOUND, 'CHANNEL_NOT_FOUND');
  assert.equal(follow.end.reason, 'CHANNEL_NOT_FOUND');
  assert.equal(follow.subscription.state, 'ended');
  await delay(30);
  assert.equal(network.last.calls('Subscribe').length, 2);
});

test('a gap is never delivered: the subscription asks again from before it', async () => {
  const made = await opened();
  const { network } = made;
  const follow = await followed(made);
  network.last.notify('messages', { subscription: 's1', messages: messages(1, 3) });
  assert.deepEqual(follow.sequences, ['1']);
  assert.deepEqual(network.last.calls('Unsubscribe').map((frame) => frame.params.subscription), ['s1']);
  assert.equal((await network.request('Subscribe', 2)).params.afterSequence, '1');
});

test('a subscription closed before its answer is unsubscribed when that comes', async () => {
  const { network, client } = await opened();
  const subscription = client.subscribe('general');
  const request = await network.request('Subscribe');
  subscription.close();
  network.last.answer(request, { subscription: 's9', lastSequence: '0', clusterId: 'c1' });
  assert.equal((await network.request('Unsubscribe')).params.subscription, 's9');
});

test('another cluster behind the same address is told and never mixed in', async () => {
  const made = await opened();
  const { network, client } = made;
  const follow = await followed(made);
  network.last.notify('messages', { subscription: 's1', messages: messages(1, 2) });
  const changes = [];
  client.on('clusterChanged', (change) => changes.push(change));
  const send = client.send({ channelId: 'general', text: 'for the old one' });
  await network.request('SendMessage');
  network.hello.clusterId = 'c2';
  network.last.drop();
  await assert.rejects(send, { reason: 'CLUSTER_CHANGED' });
  assert.deepEqual(changes, [{ previous: 'c1', current: 'c2' }]);
  assert.equal(follow.end.reason, 'CLUSTER_CHANGED');
  await until('the connection', () => client.state === 'open');
  assert.equal(network.last.sent.length, 0);
});

test('a send that pauses between two tries is not made on another cluster', async () => {
  const { network, client } = await opened('ws://a/ws', { backoffMinMs: 40, repeatMaxMs: 40 });
  const send = client.send({ channelId: 'general', text: 'for the old one' });
  network.last.fail(await network.request('SendMessage'), Status.UNAVAILABLE, 'NO_QUORUM');
  network.hello.clusterId = 'c2';
  network.last.drop();
  await assert.rejects(send, { reason: 'CLUSTER_CHANGED' });
  await until('the connection', () => client.state === 'open');
  assert.equal(network.last.calls('SendMessage').length, 0);
});

test('a remembered cluster id is compared with the first hello', async () => {
  const { client } = setup('ws://a/ws', { clusterId: 'c0' });
  const change = await new Promise((done) => { client.on('clusterChanged', done); });
  assert.deepEqual(change, { previous: 'c0', current: 'c1' });
});

test('a silent node is left after two and a half heartbeats; a heartbeat keeps it', async () => {
  const network = new Network();
  network.hello.heartbeatMs = 40;
  const { client } = await opened('ws://a/ws', { network });
  for (let i = 0; i < 8; i += 1) {
    await delay(20);
    network.last.notify('heartbeat', {});
  }
  assert.equal(network.sockets.length, 1);
  const since = Date.now();
  await network.socket(2);
  assert.ok(Date.now() - since >= 90, 'left too early');
  assert.equal(network.sockets[0].isClosed, true);
  await until('the next connection', () => client.state === 'open');
});

// The machine's clock is set while a test runs.
async function withClockAt(offsetMs, body) {
  const real = Date.now;
  Date.now = () => real() + offsetMs;
  try {
    await body();
  } finally {
    Date.now = real;
  }
}

for (const [direction, offsetMs] of [['forward', 3600e3], ['back', -3600e3]]) {
  test(`a clock set ${direction} neither costs the connection nor ends the tries of a call`, async () => {
    const network = new Network();
    network.hello.heartbeatMs = 400;
    const { client } = await opened('ws://a/ws', { network });
    const sent = client.send({ channelId: 'general', text: 'x' });
    const first = await network.request('SendMessage');
    await withClockAt(offsetMs, async () => {
      network.last.fail(first, Status.UNAVAILABLE, 'NO_QUORUM');
      const second = await network.request('SendMessage', 2);
      network.last.notify('heartbeat', {});
      network.last.answer(second, { sequence: '1', deduplicated: false });
      assert.equal((await sent).sequence, '1');
    });
    network.last.notify('heartbeat', {});
    assert.equal(network.sockets.length, 1);
  });
}

test('silence is noticed also while the clock is set back', async () => {
  const network = new Network();
  network.hello.heartbeatMs = 40;
  await opened('ws://a/ws', { network });
  const real = Date.now();
  let backMs = 0;
  const original = Date.now;
  Date.now = () => { // each look at it finds it an hour earlier
    backMs += 3600e3;
    return real - backMs;
  };
  try {
    const deadline = performance.now() + 3000;
    while (network.sockets.length < 2 && performance.now() < deadline) await delay(5);
  } finally {
    Date.now = original;
  }
  assert.equal(network.sockets.length, 2);
});

test('a page that slept hears what came meanwhile before it calls a node silent', async () => {
  const network = new Network();
  network.hello.heartbeatMs = 40;
  await opened('ws://a/ws', { network });
  const socket = network.last;
  setTimeout(() => socket.notify('heartbeat', {}), 150); // due after the check of the silence, at 100
  const wakesAt = performance.now() + 400;
  while (performance.now() < wakesAt); // nothing runs
  await delay(0);
  await delay(0);
  assert.equal(socket.isClosed, false);
  assert.equal(network.sockets.length, 1);
});

test('a call that is given up in the queue never leaves, and one in flight is not made again', async () => {
  const network = new Network();
  network.mute.add('ws://a/ws');
  const { client } = setup('ws://a/ws', { network });
  const [queued, flying] = [new AbortController(), new AbortController()];
  const waiting = client.send({ channelId: 'general', text: 'never' }, { signal: queued.signal });
  queued.abort();
  await assert.rejects(waiting, { reason: 'CANCELLED', status: 'CANCELLED' });
  await until('a socket', () => network.last);
  network.mute.clear();
  network.last.begin();
  const sent = client.send({ channelId: 'general', text: 'once' }, { signal: flying.signal });
  await network.request('SendMessage');
  assert.deepEqual(network.last.calls('SendMessage').map(({ params }) => params.text), ['once']);
  flying.abort();
  await assert.rejects(sent, { reason: 'CANCELLED' });
  network.last.drop();
  const socket = await network.socket(2);
  await until('the next connection', () => client.state === 'open');
  assert.deepEqual(socket.calls('SendMessage'), []);
  await assert.rejects(client.send({ channelId: 'general', text: 'late' }, { signal: flying.signal }),
    { reason: 'CANCELLED' });
});

test('a call that is given up between two tries is not made a second time', async () => {
  const { network, client } = await opened('ws://a/ws', { repeatMaxMs: 40, backoffMinMs: 40 });
  const controller = new AbortController();
  const sent = client.send({ channelId: 'general', text: 'x' }, { signal: controller.signal });
  network.last.fail(await network.request('SendMessage'), Status.UNAVAILABLE, 'NO_QUORUM');
  controller.abort();
  await assert.rejects(sent, { reason: 'CANCELLED' });
  assert.equal(network.last.calls('SendMessage').length, 1);
});

test('a node that accepts but never says hello is given up', async () => {
  const network = new Network();
  network.mute.add('ws://a/ws');
  const { client } = setup(['ws://a/ws', 'ws://b/ws'], { network, connectTimeoutMs: 20 });
  await until('hello of the other node', () => client.state === 'open');
  assert.equal(client.url, 'ws://b/ws');
});

test('a dead node is left for one that hello named', async () => {
  const network = new Network();
  network.hello.peers = [{ nodeId: 'node1', httpAddr: 'a' }, { nodeId: 'node2', httpAddr: 'b:2' }, { nodeId: 'node3', httpAddr: '' }];
  network.hello['ws://b:2/ws'] = { nodeId: 'node2' };
  const { client } = await opened('ws://localhost/ws', { network });
  assert.deepEqual(client.nodes.map((node) => node.url), ['ws://localhost/ws', 'ws://b:2/ws']);
  network.down.add('ws://localhost/ws');
  network.last.drop();
  await until('the other node', () => client.state === 'open');
  assert.equal(client.hello.nodeId, 'node2');
  assert.deepEqual(network.sockets.map((socket) => socket.url), ['ws://localhost/ws', 'ws://localhost/ws', 'ws://b:2/ws']);
});

test('a node that says it shuts down is not asked first', async () => {
  const network = new Network();
  network.hello.peers = [{ nodeId: 'node2', httpAddr: 'b' }];
  const { client } = await opened('ws://a/ws', { network });
  network.last.drop(1001);
  await until('the other node', () => client.state === 'open');
  assert.deepEqual(network.sockets.map((socket) => socket.url), ['ws://a/ws', 'ws://b/ws']);
});

test('a page that came by https stays with its node', async () => {
  const network = new Network();
  network.hello.peers = [{ nodeId: 'node2', httpAddr: 'b' }];
  const { client } = await opened('https://a/', { network });
  assert.deepEqual(client.nodes.map((node) => node.url), ['wss://a/ws']);
});

test('a node without a quorum is left for another after a while', async () => {
  const network = new Network();
  network.hello['ws://a/ws'] = { hasQuorum: false, leaderId: '' };
  network.hello['ws://b/ws'] = { nodeId: 'node2' };
  const { client } = await opened(['ws://a/ws', 'ws://b/ws'], { network, quorumPatienceMs: 20 });
  await until('the other node', () => client.hello.nodeId === 'node2');
  assert.equal(client.leader.hasQuorum, true);
});

test('a node that leaves calls unanswered is left for another', async () => {
  const network = new Network();
  network.hello['ws://b/ws'] = { nodeId: 'node2' };
  const { client } = await opened(['ws://a/ws', 'ws://b/ws'], { network, attemptTimeoutMs: 30 });
  client.send({ channelId: 'general', text: 'x' }).catch(() => {});
  await until('the other node', () => client.hello.nodeId === 'node2');
  await network.request('SendMessage', 2); // the same send, there
});

test('a call that the caller gives up early says nothing about its node', async () => {
  const network = new Network();
  const { client } = await opened(['ws://a/ws', 'ws://b/ws'], { network });
  await assert.rejects(client.call('Status', {}, { timeoutMs: 20 }), { reason: 'TIMEOUT' });
  assert.equal(client.state, 'open');
  assert.equal(network.sockets.length, 1);
});

test('the pauses between attempts grow, with jitter, up to the limit', async () => {
  const network = new Network();
  network.down.add('ws://a/ws');
  const pauses = [];
  const { client } = setup('ws://a/ws', { network, random: () => 1 });
  client.on('state', ({ state, retryInMs }) => { if (state === 'waiting') pauses.push(retryInMs); });
  await until('seven attempts', () => pauses.length >= 7);
  assert.deepEqual(pauses.slice(0, 7), [2, 4, 8, 16, 20, 20, 20]);
});

test('leader tells of changes, and wakes what waits for a quorum', async () => {
  const { network, client } = await opened('ws://a/ws', { backoffMinMs: 5000 });
  const leaders = [];
  client.on('leader', (leader) => leaders.push(leader));
  client.subscribe('general');
  network.last.notify('leader', { role: 'follower', leaderId: '', hasQuorum: false });
  network.last.fail(await network.request('Subscribe'), Status.UNAVAILABLE, 'NO_QUORUM');
  network.last.notify('leader', { role: 'follower', leaderId: 'node3', hasQuorum: true });
  await network.request('Subscribe', 2);
  assert.deepEqual(leaders.map((leader) => leader.leaderId), ['', 'node3']);
});

test('calls made by handlers of a lost connection go out on the next', async () => {
  const made = await opened();
  const { network, client } = made;
  let answer;
  client.subscribe('general', {}, {
    onState: (state) => { if (state === 'waiting') answer = client.call('Status'); },
  });
  network.last.answer(await network.request('Subscribe'), { subscription: 's1', lastSequence: '0', clusterId: 'c1' });
  network.last.drop();
  await network.socket(2);
  network.last.answer(await network.request('Status'), 'fine');
  assert.equal(await answer, 'fine');
});

test('close ends everything and says so', async () => {
  const made = await opened();
  const { network, client } = made;
  const follow = await followed(made);
  const answer = client.call('Status');
  client.close();
  await assert.rejects(answer, { reason: 'CLOSED' });
  await assert.rejects(client.call('Status'), { reason: 'CLOSED' });
  assert.equal(follow.subscription.state, 'ended');
  assert.equal(network.last.closeCode, 1000);
  await delay(30);
  assert.equal(network.sockets.length, 1);
});

test('close in a handler of a subscription that waits is for good', async () => {
  const made = await opened('ws://a/ws', { stableMs: 0 });
  const { network, client } = made;
  const { subscription } = await followed(made);
  const states = [];
  client.on('state', ({ state }) => states.push(state));
  subscription.handlers.onState = (state) => { if (state === 'waiting') client.close(); };
  network.last.drop();
  await delay(30);
  assert.equal(client.state, 'closed');
  assert.equal(subscription.state, 'ended');
  assert.deepEqual(states, ['closed']);
  assert.equal(network.sockets.length, 1);
});

test('close in a handler of the state connecting is for good, at first and after a loss', async () => {
  const first = setup();
  first.client.on('state', ({ state }) => { if (state === 'connecting') first.client.close(); });
  const later = await opened();
  later.client.on('state', ({ state }) => { if (state === 'connecting') later.client.close(); });
  later.network.last.drop();
  await until('both to be closed', () => first.client.state === 'closed' && later.client.state === 'closed');
  await delay(30);
  assert.deepEqual([first.client.state, first.network.sockets.length], ['closed', 0]);
  assert.deepEqual([later.client.state, later.network.sockets.length], ['closed', 1]);
});

test('close in a handler of hello leaves no watch behind that would bring the client back', async () => {
  const network = new Network();
  Object.assign(network.hello, { heartbeatMs: 4, clusterId: 'c2' });
  for (const name of ['clusterChanged', 'hello', 'leader']) {
    const { client } = setup('ws://a/ws', { network, clusterId: 'c1' });
    client.on(name, () => client.close());
    await until('the close', () => client.state === 'closed');
  }
  await delay(30);
  assert.equal(network.sockets.length, 3);
  assert.ok(network.sockets.every((socket) => socket.isClosed));
});

test('close in a handler of the end of a subscription is for good', async () => {
  const made = await opened(['ws://a/ws', 'ws://b/ws']);
  const { network, client } = made;
  const { subscription } = await followed(made);
  subscription.handlers.onState = (state) => { if (state === 'waiting') client.close(); };
  network.last.notify('ended', { subscription: 's1', code: Status.DATA_LOSS, data: { reason: 'CORRUPT' } });
  await delay(30);
  assert.equal(client.state, 'closed');
  assert.equal(network.sockets.length, 1);
});

test('a subscription closed by its handler of messages stays closed, also before a gap', async () => {
  const made = await opened();
  const { network } = made;
  const follow = await followed(made);
  follow.subscription.handlers.onMessages = (batch, subscription) => subscription.close();
  network.last.notify('messages', { subscription: 's1', messages: messages(1, 3) });
  await delay(30);
  assert.equal(follow.subscription.state, 'ended');
  assert.deepEqual(follow.states, ['live', 'ended']);
  assert.equal(network.last.calls('Subscribe').length, 1);
  assert.equal(network.last.calls('Unsubscribe').length, 1);
});

test('wake in a handler of a lost connection makes one connection, not two', async () => {
  const made = await opened();
  const { network, client } = made;
  const { subscription } = await followed(made);
  subscription.handlers.onState = (state) => { if (state === 'waiting') client.wake(); };
  network.last.drop();
  await network.request('Subscribe');
  await delay(30);
  assert.equal(client.state, 'open');
  assert.equal(network.sockets.length, 2);
});

test('a frame that is no JSON costs the connection, not the client', async () => {
  const { network, client } = await opened();
  network.last.onmessage({ data: '{' });
  await network.socket(2);
  await until('the next connection', () => client.state === 'open');
});

test('client message ids differ', () => {
  assert.equal(new Set(Array.from({ length: 1000 }, newClientMessageId)).size, 1000);
});
