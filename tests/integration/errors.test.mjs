// The error table of the contract: codes, reasons, details and their order, and every limit at its
// edge and one beyond.
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import { Cluster, until } from './lib/cluster.mjs';
import { Client, errorDetails, grpc, refusal, refused } from './lib/messenger.mjs';
import { RawClient, fieldBytes, fieldVarint, frame, http2Call, jsonClient } from './lib/raw.mjs';

const MESSENGER = '/raftogram.v1.Messenger';
const INVALID_FIELD = { code: 'INVALID_ARGUMENT', reason: 'INVALID_FIELD' };
const TOO_LARGE = { code: 'INVALID_ARGUMENT', reason: 'PAYLOAD_TOO_LARGE' };
const NOT_FOUND = { code: 'NOT_FOUND', reason: 'CHANNEL_NOT_FOUND' };
const MAX_PAYLOAD = 64 * 1024;

describe('errors of gRPC calls', () => {
  let cluster;
  let leader;
  let client;
  let follower;
  let raw;

  before(async () => {
    cluster = await Cluster.start();
    await cluster.client(await cluster.leader()).createChannel({ channelId: 'c', name: 'C' });
  });
  beforeEach(async () => {
    leader = await cluster.leader();
    client = cluster.client(leader);
    follower = cluster.client(cluster.followersOf(leader)[0]);
    raw?.close();
    raw = new RawClient(leader.grpc);
  });
  after(async () => {
    raw?.close();
    await cluster?.destroy();
  });

  const subscribeRefusal = (request, from = client) => refusal(new Promise((done, fail) => {
    const { stream } = from.subscribe(request);
    stream.on('error', fail);
    stream.on('end', () => done('ended'));
  }));

  test('a missing channel_id is INVALID_FIELD everywhere but in CreateChannel', async () => {
    assert.deepEqual(await refusal(client.send({ payload: Buffer.from('x') })), INVALID_FIELD);
    assert.deepEqual(await refusal(client.history({})), INVALID_FIELD);
    assert.deepEqual(await subscribeRefusal({}), INVALID_FIELD);
    assert.equal((await client.createChannel({})).created, true);
  });

  test('fields are checked before leadership, leadership before the channel', async () => {
    assert.deepEqual(await refusal(follower.send({})), INVALID_FIELD);
    assert.deepEqual(await refusal(follower.send({ channelId: 'c', payload: Buffer.alloc(MAX_PAYLOAD + 1) })), TOO_LARGE);
    assert.deepEqual(await refusal(follower.createChannel({ channelId: 'x'.repeat(257) })), INVALID_FIELD);
    assert.deepEqual(await refusal(follower.send({ channelId: 'nowhere' })),
      { code: 'FAILED_PRECONDITION', reason: 'NOT_LEADER' });
    assert.deepEqual(await refusal(client.send({ channelId: 'nowhere' })), NOT_FOUND);
  });

  test('author, payload, client id and name may be empty', async () => {
    const { sequence } = await client.send({ channelId: 'c' });
    const { messages } = await client.history({ channelId: 'c', afterSequence: String(Number(sequence) - 1) });
    assert.equal(messages[0].payload.length, 0);
    assert.equal(messages[0].authorId, '');
    assert.equal(messages[0].clientMessageId, '');
    assert.deepEqual(await client.createChannel({ channelId: 'nameless' }), { channelId: 'nameless', name: '', created: true });
  });

  test('ids are at most 256 bytes', async () => {
    // Two-byte characters: the limit counts bytes.
    for (const [edge, beyond] of [['i'.repeat(256), 'i'.repeat(257)], ['é'.repeat(128), `${'é'.repeat(128)}i`]]) {
      assert.equal((await client.createChannel({ channelId: edge })).channelId, edge);
      const sent = await client.send({ channelId: edge, authorId: edge, clientMessageId: edge });
      assert.equal(sent.sequence, '1');
      const { messages } = await follower.history({ channelId: edge });
      assert.deepEqual([messages[0].authorId, messages[0].clientMessageId], [edge, edge]);
      assert.deepEqual((await follower.channels({ prefix: edge })).channels.map((c) => c.channelId), [edge]);
      assert.deepEqual(await refusal(client.createChannel({ channelId: beyond })), INVALID_FIELD);
      assert.deepEqual(await refusal(client.send({ channelId: beyond })), INVALID_FIELD);
      assert.deepEqual(await refusal(client.send({ channelId: 'c', authorId: beyond })), INVALID_FIELD);
      assert.deepEqual(await refusal(client.send({ channelId: 'c', clientMessageId: beyond })), INVALID_FIELD);
      assert.deepEqual(await refusal(client.history({ channelId: beyond })), INVALID_FIELD);
      assert.deepEqual(await refusal(client.channels({ afterChannelId: beyond })), INVALID_FIELD);
      assert.deepEqual(await refusal(client.channels({ prefix: beyond })), INVALID_FIELD);
      assert.deepEqual(await subscribeRefusal({ channelId: beyond }), INVALID_FIELD);
      assert.deepEqual(await subscribeRefusal({ channelId: 'c', clusterId: beyond }), INVALID_FIELD);
    }
  });

  test('an error says which rule a text breaks: too long is not missing', async () => {
    const long = 'i'.repeat(257);
    const text = (promise) => promise.then(() => assert.fail('it was accepted'), (error) => error.details);
    for (const call of [client.send({ channelId: long }), client.createChannel({ channelId: long }), client.history({ channelId: long })]) {
      const details = await text(call);
      assert.match(details, /channel_id is too long: .*at most 256 /);
      assert.doesNotMatch(details, /required/);
    }
    assert.equal(await text(client.send({})), 'channel_id is required');
    assert.match(await text(client.send({ channelId: 'c', authorId: long })), /author_id is too long: 257 bytes, at most 256 /);
    assert.match(await text(client.createChannel({ name: 'n'.repeat(1025) })), /name is too long: 1025 bytes, at most 1024 /);
  });

  test('names are at most 1 KiB', async () => {
    const name = 'n'.repeat(1024);
    assert.equal((await client.createChannel({ channelId: 'named', name })).name, name);
    assert.deepEqual(await refusal(client.createChannel({ name: `${name}n` })), INVALID_FIELD);
  });

  test('payloads are at most max_payload_bytes', async () => {
    const payload = Buffer.alloc(MAX_PAYLOAD, 0xff);
    const { sequence } = await client.send({ channelId: 'c', payload });
    const page = await follower.history({ channelId: 'c', afterSequence: String(Number(sequence) - 1) });
    assert.ok(page.messages[0].payload.equals(payload));
    const beyond = { channelId: 'c', payload: Buffer.alloc(MAX_PAYLOAD + 1) };
    assert.deepEqual(await refusal(client.send(beyond)), TOO_LARGE);
    assert.deepEqual(await refusal(follower.send(beyond, { metadata: { 'raftogram-forward': '1' } })), TOO_LARGE);
  });

  test('a message over everything is refused, and the node lives on', async () => {
    for (const size of [5 << 20, 9 << 20]) {
      const send = client.send({ channelId: 'c', payload: Buffer.alloc(size) }, { deadline: 15000 });
      assert.deepEqual(await refusal(send), TOO_LARGE, `${size} bytes`);
    }
    const error = await refused(client.send({ channelId: 'c', payload: Buffer.alloc(30 << 20) }, { deadline: 15000 }));
    assert.equal(error.code, grpc.status.RESOURCE_EXHAUSTED);
    assert.equal((await client.status()).nodeId, leader.id);
  });

  test('strings must be UTF-8', async () => {
    const bad = [Buffer.from([0xff]), Buffer.from([0xc0, 0x80]), Buffer.from([0xed, 0xa0, 0x80]),
      Buffer.from([0xf4, 0x90, 0x80, 0x80]), Buffer.from([0x61, 0xe2, 0x82])];
    for (const bytes of bad) {
      assert.deepEqual(await refusal(raw.unary(`${MESSENGER}/CreateChannel`, fieldBytes(1, bytes))), INVALID_FIELD);
      assert.deepEqual(await refusal(raw.unary(`${MESSENGER}/CreateChannel`, fieldBytes(2, bytes))), INVALID_FIELD);
      for (const number of [2, 4]) {
        const body = Buffer.concat([fieldBytes(1, 'c'), fieldBytes(number, bytes)]);
        assert.deepEqual(await refusal(raw.unary(`${MESSENGER}/SendMessage`, body)), INVALID_FIELD);
      }
      assert.deepEqual(await refusal(raw.unary(`${MESSENGER}/ReadHistory`, fieldBytes(1, bytes))), INVALID_FIELD);
      assert.deepEqual(await refusal(raw.unary(`${MESSENGER}/ListChannels`, fieldBytes(3, bytes))), INVALID_FIELD);
      const json = Buffer.concat([Buffer.from('{"channelId":"'), bytes, Buffer.from('"}')]);
      assert.deepEqual(await refusal(raw.unary(`${MESSENGER}/ReadHistory`, json)), INVALID_FIELD);
    }
  });

  test('payloads may be any bytes', async () => {
    const payload = Buffer.from(Array.from({ length: 512 }, (_, i) => i % 256));
    const { sequence } = await client.send({ channelId: 'c', payload });
    const page = await client.history({ channelId: 'c', afterSequence: String(Number(sequence) - 1) });
    assert.ok(page.messages[0].payload.equals(payload));
  });

  // A NUL is UTF-8, but no id can be cut by one: it is refused, never shortened.
  test('a NUL in an id never makes it another id', async () => {
    await client.createChannel({ channelId: 'nul' });
    for (const call of [client.createChannel({ channelId: 'nul\0x' }), client.send({ channelId: 'nul\0x' }),
      client.history({ channelId: 'nul\0' }), client.send({ channelId: 'nul', clientMessageId: 'a\0b' })]) {
      assert.deepEqual(await refusal(call), INVALID_FIELD);
    }
  });

  test('a body that does not decode is INVALID_FIELD', async () => {
    const garbage = [Buffer.from([0x0a, 0x05, 0x61]), Buffer.from([0xff, 0xff, 0xff]), Buffer.from('hello'),
      Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
      Buffer.from('{"channelId":'), Buffer.from('{]'), Buffer.from('{"channelId":7}'), Buffer.from('{"channelId":["c"]}')];
    for (const body of garbage) {
      for (const method of ['CreateChannel', 'SendMessage', 'ReadHistory']) {
        assert.deepEqual(await refusal(raw.unary(`${MESSENGER}/${method}`, body)), INVALID_FIELD, `${method} ${body.toString('hex')}`);
      }
    }
    for (const body of garbage.slice(0, 6)) {
      assert.deepEqual(await refusal(raw.unary('/phalanx.KV/Read', body)), INVALID_FIELD, body.toString('hex'));
    }
    const stream = raw.stream(`${MESSENGER}/Subscribe`, Buffer.from([0x0a, 0x05]));
    await until('the refusal', () => stream.error);
    assert.equal(errorDetails(stream.error).info.reason, 'INVALID_FIELD');
  });

  test('an empty body is an empty protobuf message', async () => {
    const answer = await raw.unary(`${MESSENGER}/ListChannels`, Buffer.alloc(0));
    assert.notEqual(answer[0], '{'.charCodeAt(0));
    assert.deepEqual(await refusal(raw.unary(`${MESSENGER}/ReadHistory`, Buffer.alloc(0))), INVALID_FIELD);
  });

  test('unknown protobuf fields are ignored', async () => {
    const body = Buffer.concat([fieldBytes(1, 'unknown-fields'), fieldBytes(99, 'x'), fieldVarint(100, 7)]);
    await raw.unary(`${MESSENGER}/CreateChannel`, body);
    assert.equal((await client.channels({ prefix: 'unknown-fields' })).channels.length, 1);
  });

  test('unknown methods and services are UNIMPLEMENTED', async () => {
    for (const path of [`${MESSENGER}/DeleteChannel`, '/raftogram.v2.Messenger/SendMessage', '/nothing/Here', '/x',
      '/phalanx.Consensus/AppendEntries']) {
      assert.equal((await refused(raw.unary(path, Buffer.alloc(0)))).code, grpc.status.UNIMPLEMENTED, path);
    }
    assert.equal((await http2Call(leader.grpc, '/', frame(''))).trailers['grpc-status'], '12');
  });

  test('an unknown channel is CHANNEL_NOT_FOUND, on every node', async () => {
    assert.deepEqual(await refusal(client.send({ channelId: 'nowhere' })), NOT_FOUND);
    for (const node of cluster.nodes) {
      assert.deepEqual(await refusal(cluster.client(node).history({ channelId: 'nowhere' })), NOT_FOUND);
      assert.deepEqual(await subscribeRefusal({ channelId: 'nowhere' }, cluster.client(node)), NOT_FOUND);
    }
  });

  test('a follower answers NOT_LEADER with NotLeader first and ErrorInfo second', async () => {
    const calls = [() => follower.createChannel({ name: 'x' }), () => follower.send({ channelId: 'c' }), () => follower.transfer()];
    for (const call of calls) {
      const error = await refused(call());
      assert.equal(error.code, grpc.status.FAILED_PRECONDITION);
      assert.equal(error.details, 'not leader: retry on suggested leader client endpoint');
      const details = errorDetails(error);
      assert.equal(details.code, grpc.status.FAILED_PRECONDITION);
      assert.equal(details.message, error.details);
      assert.deepEqual(details.list.map((item) => item.type),
        ['type.googleapis.com/raftogram.v1.NotLeader', 'type.googleapis.com/google.rpc.ErrorInfo']);
      assert.deepEqual(details.notLeader, { leaderGrpcTarget: leader.grpc, raftLeaderId: leader.id });
      assert.equal(details.info.reason, 'NOT_LEADER');
      assert.equal(details.info.domain, 'raftogram');
    }
  });

  test('forwarding is asked for by the value 1', async () => {
    for (const value of ['0', 'true', '']) {
      const error = await refused(follower.send({ channelId: 'c' }, { metadata: { 'raftogram-forward': value } }));
      assert.equal(errorDetails(error).info.reason, 'NOT_LEADER');
    }
  });

  test('a cursor of another cluster is CLUSTER_CHANGED', async () => {
    const { clusterId } = await client.status();
    for (const node of cluster.nodes) {
      const from = cluster.client(node);
      for (const other of ['0'.repeat(32), 'x', clusterId.toUpperCase() === clusterId ? 'y' : clusterId.toUpperCase()]) {
        assert.deepEqual(await subscribeRefusal({ channelId: 'c', clusterId: other }, from),
          { code: 'FAILED_PRECONDITION', reason: 'CLUSTER_CHANGED' });
      }
      // A wiped cluster has no such channel, or a shorter one: its id is what tells.
      assert.deepEqual(await subscribeRefusal({ channelId: 'c', afterSequence: '999999', clusterId: '0'.repeat(32) }, from),
        { code: 'FAILED_PRECONDITION', reason: 'CLUSTER_CHANGED' });
      const stream = from.subscribe({ channelId: 'c', clusterId });
      await until('the stored messages', () => stream.messages.length > 0);
      stream.cancel();
    }
  });

  test('a cursor past the end is CURSOR_AHEAD, at the end it is not', async () => {
    await client.createChannel({ channelId: 'short' });
    for (let i = 0; i < 3; i += 1) await client.send({ channelId: 'short' });
    for (const node of cluster.nodes) {
      const from = cluster.client(node);
      for (const afterSequence of ['4', '18446744073709551615']) {
        assert.deepEqual(await subscribeRefusal({ channelId: 'short', afterSequence }, from),
          { code: 'OUT_OF_RANGE', reason: 'CURSOR_AHEAD' });
      }
      const stream = from.subscribe({ channelId: 'short', afterSequence: '3' });
      await until('the stream to stand', () => stream.isOpen);
      stream.cancel();
      // live_only begins at the end, whatever the cursor.
      const live = from.subscribe({ channelId: 'short', afterSequence: '9', liveOnly: true });
      await until('the live stream to stand', () => live.isOpen);
      live.cancel();
    }
  });

  test('a target that is no member is refused', async () => {
    assert.deepEqual(await refusal(client.transfer('node9')), INVALID_FIELD);
    assert.equal((await client.status()).role, 'leader');
  });

  test('a target that cannot take over is named, and the leader stays', async () => {
    const [gone] = cluster.followersOf(leader);
    await cluster.kill(gone.index);
    const error = await refused(client.transfer(gone.id));
    assert.deepEqual([grpc.status[error.code], errorDetails(error).info.reason], ['FAILED_PRECONDITION', 'TARGET_UNFIT']);
    assert.match(error.details, new RegExp(gone.id));
    assert.equal((await client.status()).role, 'leader');
    cluster.startNode(gone.index);
    await cluster.ready(gone);
  });

  test('a deadline that has passed is DEADLINE_EXCEEDED', async () => {
    for (const call of [() => client.send({ channelId: 'c' }, { deadline: -1 }), () => client.history({ channelId: 'c' }, { deadline: -1 })]) {
      assert.equal((await refused(call())).code, grpc.status.DEADLINE_EXCEEDED);
    }
  });

  test('a deadline is kept while the quorum is gone', async () => {
    for (const node of cluster.followersOf(leader)) await node.process.pause();
    try {
      // The server's own word for it, on a call that nothing can answer.
      const answer = await http2Call(leader.grpc, `${MESSENGER}/SendMessage`, frame(fieldBytes(1, 'c')), { headers: { 'grpc-timeout': '50m' } });
      assert.equal(answer.trailers['grpc-status'] ?? '4', '4');
      const begin = Date.now();
      const error = await refused(client.send({ channelId: 'c' }, { deadline: 300 }));
      assert.ok(Date.now() - begin < 2000);
      assert.equal(error.code, grpc.status.DEADLINE_EXCEEDED, error.message);
    } finally {
      for (const node of cluster.nodes) node.process.resume();
    }
    leader = await cluster.leader();
    client = cluster.client(leader);
    follower = cluster.client(cluster.followersOf(leader)[0]);
  });

  test('cancelled calls and streams leave nothing behind', async () => {
    const own = new RawClient(leader.grpc);
    const outcomes = [];
    for (let i = 0; i < 200; i += 1) {
      const call = own.unary(`${MESSENGER}/SendMessage`, fieldBytes(1, 'c')).then(() => 'OK', (error) => grpc.status[error.code]);
      if (i % 2 === 0) own.call.cancel();
      outcomes.push(call);
    }
    for (const outcome of await Promise.all(outcomes)) assert.match(outcome, /^(OK|CANCELLED)$/);
    for (let i = 0; i < 50; i += 1) {
      const { stream } = own.stream(`${MESSENGER}/Subscribe`, fieldBytes(1, 'c'));
      if (i % 2 === 0) stream.cancel();
      else stream.once('data', () => stream.cancel());
    }
    own.close();
    await until('the node to answer as before', async () => (await client.status()).role === 'leader');
  });

  test('a broken frame ends the call, not the node', async () => {
    for (const data of [Buffer.from([0, 0, 0, 0, 9, 1]), Buffer.from([0, 0xff, 0xff, 0xff, 0xff]), Buffer.alloc(0)]) {
      const answer = await http2Call(leader.grpc, `${MESSENGER}/ListChannels`, data).catch((error) => ({ error }));
      assert.notEqual(answer.trailers?.['grpc-status'], '0');
    }
    assert.ok((await client.channels({})).channels.length > 0);
  });

  test('bad commands of the key-value service answer success: false and say why', async () => {
    const json = jsonClient(leader.grpc);
    const propose = (text) => json.unary('/phalanx.KV/Propose', { data: Buffer.from(text).toString('base64') });
    for (const text of ['', 'nonsense', '[]', '"SET"', '{}', '{"op":"SET"}', '{"op":"GET","key":"k"}', '{"op":"set","key":"k","value":"v"}',
      '{"op":"SET","key":"","value":"v"}', '{"op":"SET","key":7,"value":"v"}', '{"op":"SET","key":"k","value":7}',
      `{"op":"SET","key":"${'k'.repeat(257)}","value":"v"}`, `{"op":"SET","key":"k","value":"${'v'.repeat(MAX_PAYLOAD + 1)}"}`,
      '{"op":"DELETE"}', '{"op":"SET","key":"k","value":"v"} trailing']) {
      const answer = await propose(text);
      assert.equal(answer.success, false, text);
      assert.equal(answer.leader_addr, '', text);
      assert.notEqual(answer.error, '', text);
    }
    const key = 'k'.repeat(256);
    const value = 'v'.repeat(MAX_PAYLOAD);
    assert.deepEqual(await client.propose({ op: 'SET', key, value }), { success: true, leaderAddr: '', error: '' });
    assert.deepEqual(await client.read(key), { value, found: true, leaderAddr: '', error: '' });
    for (const bad of ['', 'k'.repeat(257)]) {
      const answer = await client.read(bad);
      assert.equal(answer.found, false);
      assert.notEqual(answer.error, '');
    }
    json.close();
  });

  test('too many open calls are OVERLOADED, and the node lives on', async () => {
    const small = await Cluster.start({ size: 1, extra: 'limits: {max_calls: 8, max_in_flight: 4}' });
    try {
      const [node] = small.nodes;
      const own = new Client(node.grpc);
      await small.client(node).createChannel({ channelId: 'c' });
      const streams = [];
      while (streams.length < 8) {
        const stream = own.subscribe({ channelId: 'c' });
        await until('an answer', () => stream.isOpen || stream.isEnded);
        if (stream.isOpen) streams.push(stream);
      }
      assert.deepEqual(await refusal(own.send({ channelId: 'c' })), { code: 'RESOURCE_EXHAUSTED', reason: 'OVERLOADED' });
      streams.forEach((stream) => stream.cancel());
      await until('room', () => own.send({ channelId: 'c' }));
      const outcomes = await Promise.all(Array.from({ length: 100 }, () =>
        own.send({ channelId: 'c' }).then(() => 'OK', (error) => errorDetails(error).info?.reason ?? error.message)));
      for (const outcome of outcomes) assert.match(outcome, /^(OK|OVERLOADED)$/);
      assert.ok(outcomes.includes('OVERLOADED'));
      own.close();
    } finally {
      await small.destroy();
    }
  });

  test('a full store is DISK_FULL; reads go on, and more room mends it', async () => {
    const full = await Cluster.start({ size: 1, extra: 'limits: {store_size: 2MiB}' });
    try {
      const [node] = full.nodes;
      await full.client(node).createChannel({ channelId: 'c' });
      const outcomes = new Map();
      let sent = 0;
      await until('the store to be full', async () => {
        await Promise.all(Array.from({ length: 20 }, () => full.client(node).send({ channelId: 'c', payload: Buffer.alloc(60000) }).then(
          () => { sent += 1; },
          (error) => outcomes.set(`${grpc.status[error.code]}/${errorDetails(error).info?.reason}`, true),
        )));
        return outcomes.has('RESOURCE_EXHAUSTED/DISK_FULL');
      }, { timeout: 60000 });
      for (const outcome of outcomes.keys()) assert.match(outcome, /^RESOURCE_EXHAUSTED\/(DISK_FULL|OVERLOADED)$/);
      assert.equal((await full.client(node).history({ channelId: 'c' })).messages[0].sequence, '1');
      assert.equal((await full.client(node).all('c')).length, sent);
      assert.deepEqual(await full.stopNode(0), { code: 0, signal: null });
      full.extra = 'limits: {store_size: 1GiB}';
      full.writeConfigs();
      full.startNode(0);
      await full.leader();
      const { sequence } = await until('room', () => full.client(node).send({ channelId: 'c' }));
      assert.equal(sequence, String(sent + 1));
      assert.equal((await full.client(node).all('c')).length, sent + 1);
    } finally {
      await full.destroy();
    }
  });
});
