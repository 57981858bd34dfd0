// Nodes without a quorum: what they refuse, how, and after how long.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Cluster, until } from './lib/cluster.mjs';
import { errorDetails, grpc, refusal, refused } from './lib/messenger.mjs';
import { counter } from './lib/prometheus.mjs';

const NO_QUORUM = { code: 'UNAVAILABLE', reason: 'NO_QUORUM' };
const LOST_QUORUM = 'leader lost quorum — cannot serve linearizable read';
const forward = { deadline: 20000, metadata: { 'raftogram-forward': '1' } };

async function timed(promise) {
  const begin = Date.now();
  const value = await promise;
  return { value, ms: Date.now() - begin };
}

const streamError = (client, request) => refused(new Promise((done, fail) => {
  const { stream } = client.subscribe(request);
  stream.on('error', fail);
  stream.on('end', () => done('ended'));
}));

describe('a follower that is left alone', () => {
  let cluster;
  let alone;
  let client;
  let stream;
  let lostAt;
  const states = [];

  before(async () => {
    cluster = await Cluster.start();
    const leader = await cluster.leader();
    const [node, other] = cluster.followersOf(leader);
    alone = node;
    client = cluster.client(alone);
    await cluster.client(leader).createChannel({ channelId: 'c' });
    await cluster.client(leader).send({ channelId: 'c' });
    const watch = client.health.Watch({ service: 'raftogram.v1.Messenger' });
    watch.on('data', ({ status }) => states.push(status));
    watch.on('error', () => {});
    await until('the first state', () => states.length > 0);
    stream = client.subscribe({ channelId: 'c' });
    await until('the stored message', () => stream.messages.length === 1);
    lostAt = Date.now();
    await Promise.all([cluster.kill(leader.index), cluster.kill(other.index)]);
    await until('the node to know of no leader', async () => (await client.status()).leaderId === '');
  });
  after(async () => { await cluster?.destroy(); });

  test('reads and subscriptions are UNAVAILABLE NO_QUORUM, within the default deadline', async () => {
    const calls = [client.history({ channelId: 'c' }, { deadline: 20000 }), client.channels({}, { deadline: 20000 }),
      client.history({ channelId: 'nowhere' }, { deadline: 20000 })];
    for (const { value, ms } of await Promise.all(calls.map((call) => timed(refusal(call))))) {
      assert.deepEqual(value, NO_QUORUM);
      assert.ok(ms <= 10500, `${ms} ms`);
    }
    const { value, ms } = await timed(streamError(client, { channelId: 'c' }));
    assert.deepEqual([value.code, errorDetails(value).info.reason], [grpc.status.UNAVAILABLE, 'NO_QUORUM']);
    assert.ok(ms <= 10500, `${ms} ms`);
  });

  test('writes are NOT_LEADER at once, with empty fields', async () => {
    for (const call of [() => client.createChannel({}), () => client.send({ channelId: 'c' }), () => client.send({ channelId: 'nowhere' }), () => client.transfer()]) {
      const { value: error, ms } = await timed(refused(call()));
      assert.equal(error.code, grpc.status.FAILED_PRECONDITION);
      assert.equal(error.details, 'not leader: retry on suggested leader client endpoint');
      const { list, notLeader, info } = errorDetails(error);
      assert.equal(list[0].type, 'type.googleapis.com/raftogram.v1.NotLeader');
      assert.deepEqual(notLeader, { leaderGrpcTarget: '', raftLeaderId: '' });
      assert.equal(info.reason, 'NOT_LEADER');
      assert.ok(ms < 1000, `${ms} ms`);
    }
    assert.deepEqual(await client.propose({ op: 'SET', key: 'k', value: 'v' }), { success: false, leaderAddr: '', error: 'not leader' });
    assert.deepEqual(await client.read('k'), { value: '', found: false, leaderAddr: '', error: 'not leader' });
    assert.deepEqual(await refusal(client.send({})), { code: 'INVALID_ARGUMENT', reason: 'INVALID_FIELD' });
  });

  test('forwarded calls wait at most 5 s for a leader', async () => {
    const calls = [client.createChannel({}, forward), client.send({ channelId: 'c' }, forward), client.propose({ op: 'SET', key: 'k' }, forward), client.read('k', forward)];
    for (const { value, ms } of await Promise.all(calls.map((call) => timed(refusal(call))))) {
      assert.deepEqual(value, NO_QUORUM);
      assert.ok(ms <= 6000, `${ms} ms`);
    }
    // A deadline that comes first is kept.
    const { value, ms } = await timed(refused(client.send({ channelId: 'c' }, { ...forward, deadline: 500 })));
    assert.ok([grpc.status.UNAVAILABLE, grpc.status.DEADLINE_EXCEEDED].includes(value.code), value.message);
    assert.ok(ms < 1500, `${ms} ms`);
  });

  test('status and health tell of it', async () => {
    const status = await client.status();
    assert.deepEqual([status.leaderId, status.hasQuorum], ['', false]);
    assert.notEqual(status.role, 'leader');
    assert.equal((await client.check('')).status, 'SERVING');
    assert.equal((await client.check('raftogram.v1.Messenger')).status, 'NOT_SERVING');
    assert.equal((await client.check('phalanx.KV')).status, 'NOT_SERVING');
  });

  test('a watch of its health was told', async () => {
    await until('the change', () => states.length > 1);
    assert.deepEqual(states, ['SERVING', 'NOT_SERVING']);
  });

  test('its term does not run away', async () => {
    const before = Number((await client.status()).term);
    await until('some pre-votes', () => Date.now() > lostAt + 6000);
    assert.ok(Number((await client.status()).term) <= before);
  });

  test('a stream ends UNAVAILABLE when there was no leader for 10 s', async () => {
    await until('the stream to end', () => stream.isEnded, { timeout: 20000 });
    const ms = Date.now() - lostAt;
    assert.deepEqual([stream.error.code, errorDetails(stream.error).info.reason], [grpc.status.UNAVAILABLE, 'NO_QUORUM']);
    assert.ok(ms > 9000 && ms < 15000, `${ms} ms`);
  });

  test('a forwarded call that waits is answered when a leader comes', async () => {
    const other = cluster.nodes.find((node) => node !== alone);
    const sent = client.send({ channelId: 'c', clientMessageId: 'patient' }, forward);
    cluster.startNode(other.index);
    assert.deepEqual(await sent, { sequence: '2', deduplicated: false });
    await cluster.leader();
    assert.equal((await client.history({ channelId: 'c' })).messages.length, 2);
    await until('the watch to be told', () => states.at(-1) === 'SERVING');
  });
});

describe('a leader whose followers fall silent', () => {
  let cluster;
  let leader;
  let client;

  before(async () => {
    cluster = await Cluster.start();
    leader = await cluster.leader();
    client = cluster.client(leader);
    await client.createChannel({ channelId: 'c' });
    await client.propose({ op: 'SET', key: 'k', value: 'old' });
  });
  after(async () => {
    cluster?.nodes.forEach((node) => node.process?.resume());
    await cluster?.destroy();
  });

  const silence = () => Promise.all(cluster.followersOf(leader).map((node) => node.process.pause()));
  const speak = async () => {
    cluster.nodes.forEach((node) => node.process.resume());
    leader = await cluster.leader();
    client = cluster.client(leader);
  };

  test('pending and new key-value reads answer that the quorum is lost, and never stale data', async () => {
    await silence();
    // Asked while it still leads; the first ones are pending when it steps down.
    const answers = [];
    const reads = Array.from({ length: 20 }, (_, i) => client.read('k', i % 2 ? forward : { deadline: 15000 }).then((answer) => answers.push(answer)));
    await Promise.all(reads);
    for (const answer of answers) assert.deepEqual(answer, { value: '', found: false, leaderAddr: '', error: LOST_QUORUM });
    await until('the leader to step down', async () => (await client.status()).role !== 'leader');
    assert.deepEqual(await client.read('k'), { value: '', found: false, leaderAddr: '', error: 'not leader' });
    await speak();
    assert.deepEqual(await client.read('k'), { value: 'old', found: true, leaderAddr: '', error: '' });
  });

  test('other reads are NO_QUORUM, or wait for the next leader', async () => {
    await silence();
    const calls = [client.history({ channelId: 'c' }, { deadline: 20000 }), client.channels({}, { deadline: 20000 })];
    for (const call of calls) assert.deepEqual(await refusal(call), NO_QUORUM);
    await speak();
  });

  test('a proposal without a quorum has an unknown outcome, and says so', async () => {
    await silence();
    const [sent, proposed] = await Promise.all([
      timed(client.send({ channelId: 'c', payload: Buffer.from('x') }, { deadline: 20000 }).then(() => ({ code: 'OK' }), (error) =>
        ({ code: grpc.status[error.code], reason: errorDetails(error).info?.reason }))),
      timed(client.propose({ op: 'SET', key: 'k', value: 'new' }, { deadline: 20000 }).catch((error) => error)),
    ]);
    assert.deepEqual(sent.value, { code: 'ABORTED', reason: 'COMMIT_UNKNOWN' });
    assert.ok(sent.ms <= 10500, `${sent.ms} ms`);
    assert.equal(proposed.value.success, false, String(proposed.value));
    assert.match(proposed.value.error, /^outcome unknown/);
    assert.ok(proposed.ms <= 10500, `${proposed.ms} ms`);
    await speak();
    // Either way, the same for everyone.
    const { messages } = await client.history({ channelId: 'c' });
    for (const node of cluster.nodes) assert.deepEqual((await cluster.client(node).history({ channelId: 'c' })).messages, messages);
  });

  test('a leader that was stopped and wakes up does not answer with what it had', async () => {
    const old = leader;
    const oldClient = client;
    await old.process.pause();
    leader = await cluster.leader();
    client = cluster.client(leader);
    assert.notEqual(leader, old);
    assert.equal((await client.propose({ op: 'SET', key: 'k', value: 'newest' })).success, true);
    // These wait in its sockets, and are the first that it sees.
    const reads = Array.from({ length: 20 }, () => oldClient.read('k', { deadline: 15000 }));
    const pages = Array.from({ length: 5 }, () => oldClient.channels({}, { deadline: 15000 }));
    old.process.resume();
    for (const answer of await Promise.all(reads)) {
      assert.equal(answer.found, false);
      assert.ok(['not leader', LOST_QUORUM].includes(answer.error), answer.error);
    }
    await Promise.all(pages);
    await cluster.leader();
  });
});

describe('a leader that takes forwarded writes with it', () => {
  let cluster;

  before(async () => { cluster = await Cluster.start(); });
  after(async () => { await cluster?.destroy(); });

  test('what was sent to it is COMMIT_UNKNOWN, repeatable or not, and never UNAVAILABLE', async () => {
    const leader = await cluster.leader();
    const [node, other] = cluster.followersOf(leader);
    const client = cluster.client(node);
    await cluster.client(leader).createChannel({ channelId: 'c' });
    await client.send({ channelId: 'c' }, forward);
    const forwarded = await counter(node, 'raftogram_forwards_total');
    await other.process.pause();
    await leader.process.pause();
    const calls = ['', 'repeatable'].map((clientMessageId) => refusal(client.send({ channelId: 'c', clientMessageId }, forward)));
    await until('both to be sent on', async () => await forwarded() === 2);
    await cluster.kill(leader.index);
    for (const outcome of await Promise.all(calls)) assert.deepEqual(outcome, { code: 'ABORTED', reason: 'COMMIT_UNKNOWN' });
  });
});
