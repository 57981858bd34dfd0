// What one client, or all of them, can make a node hold over gRPC: memory, slots, connections, time.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { after, afterEach, before, describe, test } from 'node:test';
import { Cluster, DAEMON, until } from './lib/cluster.mjs';
import { FLAG, FrameConnection, TYPE, frameOf, prefix } from './lib/frames.mjs';
import { Client, grpc, refusal, refused } from './lib/messenger.mjs';
import { fieldBytes, frame } from './lib/raw.mjs';

const SEND = '/raftogram.v1.Messenger/SendMessage';
const SUBSCRIBE = '/raftogram.v1.Messenger/Subscribe';
const MiB = 1 << 20;
// A sanitizer keeps what is freed.
const whyNoMemory = readFileSync(DAEMON).includes('__asan_init') ? 'memory says nothing under a sanitizer' : false;
const whyNoPrlimit = spawnSync('prlimit', ['--version']).status === 0 ? false : 'there is no prlimit(1) here';

// Connections of a test, closed after it.
const connections = [];
async function open(node, options) {
  const connection = await FrameConnection.open(node.grpc, options);
  connections.push(connection);
  return connection;
}
const closeAll = () => connections.splice(0).forEach((connection) => connection.close());

const residentBytes = (node) =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${node.process.child.pid}/status`, 'utf8'))[1]) * 1024;

// Processor time of the node's threads, by name, in ticks.
function threadTicks(node) {
  const ticks = {};
  const tasks = `/proc/${node.process.child.pid}/task`;
  for (const task of readdirSync(tasks)) {
    const [, name, rest] = /^\d+ \((.*)\) (.*)$/.exec(readFileSync(`${tasks}/${task}/stat`, 'utf8').trim());
    const fields = rest.split(' ');
    ticks[name] = (ticks[name] ?? 0) + Number(fields[11]) + Number(fields[12]);
  }
  return ticks;
}

// A new client that is served, probes first.
async function checkServed(node) {
  const client = new Client(node.grpc);
  try {
    assert.equal((await client.check()).status, 'SERVING');
    assert.equal((await client.status()).nodeId, node.id);
    await client.createChannel({ channelId: 'bounds' });
    await client.send({ channelId: 'bounds', payload: Buffer.from('x') });
  } finally {
    client.close();
  }
}

describe('what clients can hold', () => {
  let cluster;
  let node;

  before(async () => {
    cluster = await Cluster.start({ size: 1, extra: 'limits: {memory: 64MiB}' });
    node = await cluster.leader();
  });
  afterEach(closeAll);
  after(async () => cluster?.destroy());

  test('calls without a message take nobody\'s slot, and end after ten seconds', async () => {
    const begin = Date.now();
    const idle = await Promise.all(Array.from({ length: 9 }, () => open(node)));
    idle.forEach((connection) => connection.begin(1000, SEND));
    await until('all of them to be there', () => checkServed(node).then(() => true));
    for (let i = 0; i < 20; i += 1) await checkServed(node);
    await until('their ends', () => idle.every((connection) => connection.ended.size === 1000), { timeout: 40000 });
    assert.ok(Date.now() - begin >= 9000);
    await checkServed(node);
  });

  test('a call whose message never becomes whole ends with DEADLINE_EXCEEDED', async () => {
    const client = new grpc.Client(node.grpc, grpc.credentials.createInsecure());
    const call = client.makeClientStreamRequest(SEND, (bytes) => bytes, (bytes) => bytes, () => {});
    const status = await new Promise((done) => call.on('status', done));
    assert.equal(status.code, grpc.status.DEADLINE_EXCEEDED);
    client.close();
  });

  test('half-received requests are bounded for the whole process, and what they took comes back', { skip: whyNoMemory }, async () => {
    const before_ = residentBytes(node);
    const half = Buffer.concat([prefix(500 << 10), Buffer.alloc(450 << 10)]);
    const greedy = await Promise.all(Array.from({ length: 20 }, () => open(node)));
    let most = 0;
    for (const connection of greedy) {
      // 100 streams of 450 KiB: 45 MiB a connection, 900 MiB together.
      connection.begin(100, SEND).forEach((stream) => connection.data(stream, half));
      connection.socket.on('drain', () => { connection.isDrained = true; });
    }
    await until('their bytes, or refusals', () => {
      most = Math.max(most, residentBytes(node));
      return greedy.reduce((sum, connection) => sum + connection.ended.size, 0) >= 1000;
    }, { timeout: 60000 });
    await checkServed(node);
    most = Math.max(most, residentBytes(node));
    assert.ok(most - before_ < 128 * MiB, `${Math.round((most - before_) / MiB)} MiB more`);
    closeAll();
    await until('the memory back', () => residentBytes(node) < before_ + 24 * MiB);
  });

  test('subscriptions of a connection that does not read hold little, and slow nobody', { skip: whyNoMemory }, async () => {
    const client = cluster.client(node);
    await client.createChannel({ channelId: 'long' });
    const payload = Buffer.alloc(60 << 10, 'x');
    for (let i = 0; i < 20; i += 1) {
      await Promise.all(Array.from({ length: 20 }, () => client.send({ channelId: 'long', payload })));
    }
    const before_ = residentBytes(node);
    const request = Buffer.concat([prefix(6), fieldBytes(1, 'long')]);
    for (let i = 0; i < 4; i += 1) {
      const deaf = await open(node, { isDeaf: true });
      deaf.begin(500, SUBSCRIBE, (stream) => [frameOf(TYPE.data, FLAG.endStream, stream, request)]);
    }
    await until('the subscriptions', async () => {
      const text = await (await fetch(`http://${node.http}/metrics`)).text();
      return Number(/^raftogram_subscriptions (\d+)/m.exec(text)[1]) >= 2000;
    });
    const reader = client.subscribe({ channelId: 'long', afterSequence: '0' });
    await until('another reader to have everything', () => reader.messages.length >= 400);
    reader.cancel();
    assert.ok(residentBytes(node) - before_ < 96 * MiB, `${Math.round((residentBytes(node) - before_) / MiB)} MiB more`);
    await checkServed(node);
  });

  test('answers to a connection that does not read are bounded', { skip: whyNoMemory }, async () => {
    const before_ = residentBytes(node);
    const request = Buffer.concat([prefix(9), fieldBytes(1, 'long'), Buffer.from([0x18, 0xe8, 0x07])]);
    for (let i = 0; i < 4; i += 1) {
      const deaf = await open(node, { isDeaf: true });
      deaf.begin(1000, '/raftogram.v1.Messenger/ReadHistory', (stream) => [frameOf(TYPE.data, FLAG.endStream, stream, request)]);
    }
    await until('them to be read', async () => {
      const text = await (await fetch(`http://${node.http}/metrics`)).text();
      return Number(/^raftogram_calls_total\{method="ReadHistory",code="OK"\} (\d+)/m.exec(text)?.[1]) >= 3000;
    }, { timeout: 60000 });
    assert.ok(residentBytes(node) - before_ < 128 * MiB, `${Math.round((residentBytes(node) - before_) / MiB)} MiB more`);
    await checkServed(node);
  });

  test('the node\'s thread does not do what clients ask of it', async () => {
    const before_ = threadTicks(node);
    const deep = Buffer.from(`{"channelId":"c","x":[${'1,'.repeat(60000)}1]}`);
    for (let i = 0; i < 20; i += 1) {
      const connection = await open(node);
      connection.begin(1000, SEND);
      const [stream] = (await open(node)).begin(1, SEND, (number) => [frameOf(TYPE.data, 0, number, prefix(deep.length))]);
      connections.at(-1).data(stream, deep, 0);
      await until('the last stream', () => checkServed(node).then(() => true));
      closeAll();
    }
    const ticks = threadTicks(node);
    const [rpc, calls] = ['rpc', 'grpc'].map((name) => ticks[name] - before_[name]);
    assert.ok(rpc * 3 < calls, `the node's thread ${rpc} ticks, that of the calls ${calls}`);
  });
});

describe('when all slots are taken', () => {
  let cluster;
  let node;

  before(async () => {
    cluster = await Cluster.start({ size: 1, extra: 'limits: {max_calls: 256}' });
    node = await cluster.leader();
    await cluster.client(node).createChannel({ channelId: 'c' });
  });
  afterEach(closeAll);
  after(async () => cluster?.destroy());

  const subscribeRequest = Buffer.concat([prefix(3), fieldBytes(1, 'c')]);
  const subscribe = (connection, count) =>
    connection.begin(count, SUBSCRIBE, (stream) => [frameOf(TYPE.data, FLAG.endStream, stream, subscribeRequest)]);

  test('one connection cannot have them all', async () => {
    const greedy = await open(node);
    subscribe(greedy, 300);
    await until('its refusals', () => greedy.ended.size >= 300 - 256 + 64);
    await checkServed(node);
  });

  test('probes are answered, others are told OVERLOADED, and served when there is room', async () => {
    const calls = async () => Number(/^raftogram_grpc_calls (\d+)/m.exec(await (await fetch(`http://${node.http}/metrics`)).text())[1]);
    await until('the calls of other tests to be over', async () => (await calls()) === 0);
    const many = await Promise.all(Array.from({ length: 8 }, () => open(node)));
    many.forEach((connection) => subscribe(connection, 60));
    await until('refusals', () => many.reduce((sum, connection) => sum + connection.ended.size, 0) >= 480 - 256);
    const client = new Client(node.grpc);
    assert.deepEqual(await refusal(client.send({ channelId: 'c' })), { code: 'RESOURCE_EXHAUSTED', reason: 'OVERLOADED' });
    for (let i = 0; i < 10; i += 1) {
      assert.equal((await client.check('raftogram.v1.Messenger')).status, 'SERVING');
      assert.equal((await client.status()).role, 'leader');
    }
    closeAll();
    await until('room', () => client.send({ channelId: 'c' }).then(() => true));
    client.close();
  });

  test('idle connections keep nobody out', { skip: whyNoPrlimit }, async () => {
    const { pid } = node.process.child;
    assert.equal(spawnSync('prlimit', ['--pid', String(pid), '--nofile=256:256']).status, 0);
    await Promise.all(Array.from({ length: 300 }, () => open(node)));
    for (let i = 0; i < 5; i += 1) await checkServed(node);
    assert.ok((await fetch(`http://${node.http}/livez`)).ok);
  });
});
