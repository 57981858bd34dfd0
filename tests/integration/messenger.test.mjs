// The Messenger and the key-value service on a healthy cluster, sentence by sentence.
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import { Cluster, until } from './lib/cluster.mjs';
import { LeadingClient, whileOneLeads } from './lib/leading.mjs';
import { Client, refusal, refused } from './lib/messenger.mjs';

const MIB = 1 << 20;
const forward = { metadata: { 'raftogram-forward': '1' } };

describe('the Messenger', () => {
  let cluster;
  let leader;
  let client;
  let followers;

  before(async () => { cluster = await Cluster.start(); });
  beforeEach(() => meet());
  after(async () => { await cluster?.destroy(); });

  async function meet() {
    leader = await cluster.leader();
    client = new LeadingClient(cluster, leader);
    followers = cluster.followersOf(leader).map((node) => cluster.client(node));
  }

  async function fill(channelId, count, size = 0) {
    await client.createChannel({ channelId });
    const sends = [];
    for (let i = 1; i <= count; i += 1) {
      sends.push(client.send({ channelId, payload: Buffer.alloc(size, i % 256), clientMessageId: `${i}` }, { deadline: 30000 }));
      if (i % 200 === 0) await Promise.all(sends);
    }
    await Promise.all(sends);
  }

  const sequences = (messages) => messages.map((message) => Number(message.sequence));
  const range = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

  test('an assigned id is channel-<log index>, with -2 and -3 when that is taken', () => whileOneLeads(cluster, async () => {
    const { channelId } = await client.createChannel({});
    const index = Number(/^channel-(\d+)$/.exec(channelId)[1]);
    const { lastIndex } = await client.status();
    assert.equal(index, Number(lastIndex));
    // Nothing else is written: each of these takes the next index, so the last one is known.
    await client.createChannel({ channelId: `channel-${index + 4}`, name: 'taken' });
    await client.createChannel({ channelId: `channel-${index + 4}-2`, name: 'taken, too' });
    await client.createChannel({ channelId: 'filler' });
    assert.deepEqual(await client.createChannel({ name: 'third' }), { channelId: `channel-${index + 4}-3`, name: 'third', created: true });
    assert.match((await client.createChannel({})).channelId, /^channel-\d+$/);
  }));

  test('sequences start at 1 in each channel and have no gaps, also between senders', async () => {
    for (const channelId of ['dense-a', 'dense-b']) await client.createChannel({ channelId });
    const answers = await Promise.all(Array.from({ length: 300 }, (_, i) =>
      [client, ...followers][i % 3].send({ channelId: i % 2 ? 'dense-a' : 'dense-b', payload: Buffer.from(`${i}`) }, forward)));
    for (const parity of [0, 1]) {
      const got = answers.filter((_, i) => i % 2 === parity).map((answer) => Number(answer.sequence)).sort((a, b) => a - b);
      assert.deepEqual(got, range(1, 150));
    }
    for (const channelId of ['dense-a', 'dense-b']) assert.deepEqual(sequences(await followers[0].all(channelId)), range(1, 150));
  });

  test('what a message was is what every reader gets', async () => {
    await client.createChannel({ channelId: 'exact' });
    const before = Date.now();
    const request = { channelId: 'exact', authorId: 'アリス', payload: Buffer.from([0, 255, 10]), clientMessageId: 'id-1' };
    await client.send(request);
    for (const reader of [client, ...followers]) {
      const { messages } = await reader.history({ channelId: 'exact' });
      const { timestampUnixMs, ...message } = messages[0];
      assert.deepEqual(message, { sequence: '1', authorId: 'アリス', payload: Buffer.from([0, 255, 10]), clientMessageId: 'id-1' });
      assert.ok(Number(timestampUnixMs) >= before - 1 && Number(timestampUnixMs) <= Date.now() + 1);
    }
  });

  test('a repeat is deduplicated in its channel, not in another, whatever else differs', async () => {
    for (const channelId of ['dedupe-a', 'dedupe-b']) await client.createChannel({ channelId });
    assert.deepEqual(await client.send({ channelId: 'dedupe-a', clientMessageId: 'm', payload: Buffer.from('1') }), { sequence: '1', deduplicated: false });
    assert.deepEqual(await client.send({ channelId: 'dedupe-b', clientMessageId: 'm', payload: Buffer.from('1') }), { sequence: '1', deduplicated: false });
    assert.deepEqual(await client.send({ channelId: 'dedupe-a', clientMessageId: 'm', authorId: 'z', payload: Buffer.from('2') }), { sequence: '1', deduplicated: true });
    assert.deepEqual(await followers[0].send({ channelId: 'dedupe-a', clientMessageId: 'm' }, forward), { sequence: '1', deduplicated: true });
    const answers = await Promise.all(Array.from({ length: 30 }, (_, i) => [client, ...followers][i % 3].send({ channelId: 'dedupe-a', clientMessageId: 'race' }, forward)));
    assert.ok(answers.every((answer) => answer.sequence === '2'));
    assert.equal(answers.filter((answer) => !answer.deduplicated).length, 1);
    const empty = [await client.send({ channelId: 'dedupe-a' }), await client.send({ channelId: 'dedupe-a' })];
    assert.deepEqual(empty, [{ sequence: '3', deduplicated: false }, { sequence: '4', deduplicated: false }]);
    const { messages } = await client.history({ channelId: 'dedupe-a' });
    assert.equal(messages[0].payload.toString(), '1');
  });

  test('history: limit 0 means 100, over 1000 counts as 1000, the cursor is exclusive', async () => {
    await fill('paged', 1205);
    for (const reader of [client, ...followers]) {
      for (const [limit, afterSequence, from, to, hasMore] of [[0, 0, 1, 100, true], [1, 0, 1, 1, true], [100, 7, 8, 107, true], [1000, 0, 1, 1000, true],
        [1001, 0, 1, 1000, true], [4294967295, 0, 1, 1000, true], [1000, 205, 206, 1205, false], [1000, 204, 205, 1204, true],
        [0, 1105, 1106, 1205, false], [5, 1204, 1205, 1205, false]]) {
        const page = await reader.history({ channelId: 'paged', limit, afterSequence });
        assert.deepEqual(sequences(page.messages), range(from, to), `limit ${limit} after ${afterSequence}`);
        assert.equal(page.hasMore, hasMore, `limit ${limit} after ${afterSequence}`);
      }
      for (const afterSequence of ['1205', '1206', '18446744073709551615']) {
        assert.deepEqual(await reader.history({ channelId: 'paged', afterSequence }), { messages: [], hasMore: false });
      }
    }
  });

  test('history stops at 1 MiB, with at least one message, and pages on', async () => {
    await fill('large', 40, 60000);
    for (const reader of [client, followers[0]]) {
      const page = await reader.history({ channelId: 'large', limit: 1000 });
      assert.equal(page.hasMore, true);
      const size = page.messages.reduce((sum, message) => sum + message.payload.length, 0);
      assert.ok(size <= MIB && size > MIB / 2, `${size}`);
      assert.deepEqual(sequences(await reader.all('large')), range(1, 40));
    }
  });

  test('a message beyond 1 MiB still comes, alone', async () => {
    const big = await Cluster.start({ size: 1, extra: 'limits: {max_payload_bytes: 3MiB, max_frame_bytes: 20MiB}' });
    try {
      const own = big.client(big.nodes[0]);
      await own.createChannel({ channelId: 'c' });
      for (let i = 0; i < 3; i += 1) await own.send({ channelId: 'c', payload: Buffer.alloc(3 * MIB, i) });
      const page = await own.history({ channelId: 'c' });
      assert.deepEqual([page.messages.length, page.hasMore], [1, true]);
      assert.deepEqual(sequences(await own.all('c')), [1, 2, 3]);
      assert.deepEqual(await refusal(own.send({ channelId: 'c', payload: Buffer.alloc(3 * MIB + 1) })),
        { code: 'INVALID_ARGUMENT', reason: 'PAYLOAD_TOO_LARGE' });
      const stream = own.subscribe({ channelId: 'c' });
      await until('three messages', () => stream.messages.length === 3);
      stream.cancel();
    } finally {
      await big.destroy();
    }
  });

  test('a page of channels stops at 1 MiB, and pages on', async () => {
    const ids = range(1, 900).map((i) => `wide-${String(i).padStart(4, '0')}`.padEnd(256, 'w'));
    await Promise.all(ids.map((channelId) => client.createChannel({ channelId, name: 'n'.repeat(1024) })));
    const page = await client.channels({ prefix: 'wide-', limit: 1000 });
    assert.equal(page.hasMore, true);
    const bytes = page.channels.reduce((sum, { channelId, name }) => sum + channelId.length + name.length, 0);
    assert.ok(bytes <= MIB && bytes > MIB * 0.9, `${bytes}`);
    const rest = await client.channels({ prefix: 'wide-', afterChannelId: page.channels.at(-1).channelId, limit: 1000 });
    assert.equal(rest.hasMore, false);
    assert.deepEqual([...page.channels, ...rest.channels].map((c) => c.channelId), ids);
  });

  test('channels: ascending by bytes, exclusive cursor, prefix, limits', async () => {
    const ids = [...range(1, 120).map((i) => `list-${String(i).padStart(3, '0')}`)];
    await Promise.all(ids.map((channelId) => client.createChannel({ channelId, name: `N ${channelId}` })));
    await Promise.all(['list!', 'list~', 'liste\u0301', 'LIST-1'].map((channelId) => client.createChannel({ channelId })));
    for (const reader of [client, ...followers]) {
      const page = await reader.channels({ prefix: 'list-' });
      assert.deepEqual(page.channels.map((c) => c.channelId), ids.slice(0, 100));
      assert.equal(page.hasMore, true);
      const rest = await reader.channels({ prefix: 'list-', afterChannelId: 'list-100', limit: 20 });
      assert.deepEqual(rest.channels.map((c) => c.channelId), ids.slice(100));
      assert.equal(rest.hasMore, false);
      const between = await reader.channels({ prefix: 'list-', afterChannelId: 'list-1005', limit: 1 });
      assert.deepEqual([between.channels[0].channelId, between.hasMore], ['list-101', true]);
      const all = (await reader.channels({ limit: 5000 })).channels.map((c) => c.channelId);
      assert.deepEqual(all, [...all].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))));
      assert.deepEqual(await reader.channels({ prefix: 'zzz' }), { channels: [], hasMore: false });
      const [paged] = (await reader.channels({ prefix: 'paged' })).channels;
      assert.deepEqual(paged, { channelId: 'paged', name: '', lastSequence: '1205', firstSequence: '1' });
    }
  });

  test('what was acknowledged is in every answer that began later, on every node', async () => {
    await client.createChannel({ channelId: 'linear' });
    for (let i = 1; i <= 150; i += 1) {
      await client.send({ channelId: 'linear' });
      const pages = await Promise.all(followers.map((reader) => reader.history({ channelId: 'linear', afterSequence: i - 1 })));
      for (const page of pages) assert.deepEqual(sequences(page.messages), [i]);
      if (i % 10 === 0) {
        const channelId = `linear-${i}`;
        await client.createChannel({ channelId });
        for (const reader of followers) {
          assert.equal((await reader.channels({ prefix: channelId })).channels.length, 1);
          assert.deepEqual((await reader.history({ channelId })).messages, []);
        }
      }
    }
  });

  test('timestamps never go backwards', async () => {
    await client.createChannel({ channelId: 'clock' });
    await Promise.all(range(1, 200).map((i) => [client, ...followers][i % 3].send({ channelId: 'clock' }, forward)));
    const stamps = (await client.all('clock')).map((message) => Number(message.timestampUnixMs));
    assert.deepEqual(stamps, [...stamps].sort((a, b) => a - b));
  });

  test('a subscription has the stored messages, then the new ones, in order, once, on every node', async () => {
    await fill('stream', 300);
    const readers = [client, ...followers].flatMap((reader) => [0, 120, 300].map((after) => ({ after, stream: reader.subscribe({ channelId: 'stream', afterSequence: after }) })));
    // Without waiting: the seam between stored and live is crossed under load.
    await Promise.all(range(1, 300).map((i) => client.send({ channelId: 'stream', clientMessageId: `later-${i}` }, { deadline: 30000 })));
    for (const { after, stream } of readers) {
      await until('all messages', () => stream.messages.length >= 600 - after);
      assert.deepEqual(sequences(stream.messages), range(after + 1, 600));
      assert.ok(stream.isOpen);
      stream.cancel();
    }
  });

  test('live_only begins at the end, and initial metadata comes without a message', async () => {
    await fill('live', 10);
    for (const reader of [client, ...followers]) {
      const stream = reader.subscribe({ channelId: 'live', liveOnly: true, afterSequence: 3 });
      await until('the stream to stand', () => stream.isOpen);
      assert.deepEqual(stream.messages, []);
      const { sequence } = await client.send({ channelId: 'live' });
      await until('the new message', () => stream.messages.length > 0);
      assert.deepEqual(stream.messages.map((message) => message.sequence), [sequence]);
      stream.cancel();
    }
    await client.createChannel({ channelId: 'silent' });
    const stream = followers[0].subscribe({ channelId: 'silent' });
    await until('the stream to stand', () => stream.isOpen);
    stream.cancel();
  });

  test('a stream that stands misses nothing that is sent afterwards', async () => {
    await client.createChannel({ channelId: 'after-open' });
    for (let i = 1; i <= 30; i += 1) {
      const stream = followers[i % 2].subscribe({ channelId: 'after-open', liveOnly: true });
      await until('the stream to stand', () => stream.isOpen, { every: 1 });
      await client.send({ channelId: 'after-open' });
      await until('the message', () => stream.messages.length === 1, { every: 1 });
      assert.equal(stream.messages[0].sequence, `${i}`);
      stream.cancel();
    }
  });

  test('a chunk holds at most 1 MiB', async () => {
    for (const reader of [client, followers[0]]) {
      const stream = reader.subscribe({ channelId: 'large' });
      await until('all messages', () => stream.messages.length === 40);
      assert.deepEqual(sequences(stream.messages), range(1, 40));
      assert.ok(Math.max(...stream.chunkSizes) <= MIB);
      stream.cancel();
    }
  });

  test('a slow reader slows nobody and misses nothing', async () => {
    await client.createChannel({ channelId: 'slow' });
    const readers = [leader, ...cluster.followersOf(leader)].map((node) => new Client(node.grpc));
    const slow = readers.map((reader) => reader.subscribe({ channelId: 'slow' }));
    const fast = client.subscribe({ channelId: 'slow' });
    await until('the streams to stand', () => [...slow, fast].every((stream) => stream.isOpen));
    slow.forEach((stream) => stream.stream.pause());
    // Far more than any window between here and there.
    for (let round = 0; round < 10; round += 1) {
      await Promise.all(range(1, 20).map(() => client.send({ channelId: 'slow', payload: Buffer.alloc(60000) }, { deadline: 30000 })));
    }
    await until('the fast reader to have all', () => fast.messages.length === 200);
    for (const stream of slow) assert.ok(stream.messages.length < 200);
    slow.forEach((stream) => stream.stream.resume());
    for (const stream of [...slow, fast]) {
      await until('the slow reader to have all', () => stream.messages.length === 200);
      assert.deepEqual(sequences(stream.messages), range(1, 200));
      stream.cancel();
    }
    readers.forEach((reader) => reader.close());
  });

  test('forwarded mutations answer as on the leader', async () => {
    for (const [i, reader] of followers.entries()) {
      const channelId = `forwarded-${i}`;
      assert.deepEqual(await reader.createChannel({ channelId, name: 'F' }, forward), { channelId, name: 'F', created: true });
      assert.deepEqual(await reader.createChannel({ channelId, name: 'G' }, forward), { channelId, name: 'F', created: false });
      assert.match((await reader.createChannel({}, forward)).channelId, /^channel-\d+$/);
      assert.deepEqual(await reader.send({ channelId, clientMessageId: 'x' }, forward), { sequence: '1', deduplicated: false });
      assert.deepEqual(await reader.send({ channelId, clientMessageId: 'x' }, forward), { sequence: '1', deduplicated: true });
      assert.deepEqual(await refusal(reader.send({ channelId: 'nowhere' }, forward)), { code: 'NOT_FOUND', reason: 'CHANNEL_NOT_FOUND' });
      assert.deepEqual(await refusal(reader.send({}, forward)), { code: 'INVALID_ARGUMENT', reason: 'INVALID_FIELD' });
      assert.deepEqual(await reader.propose({ op: 'SET', key: `f${i}`, value: 'v' }, forward), { success: true, leaderAddr: '', error: '' });
      assert.deepEqual(await reader.read(`f${i}`, forward), { value: 'v', found: true, leaderAddr: '', error: '' });
      assert.deepEqual(await reader.propose({ op: 'DELETE', key: `f${i}` }, forward), { success: true, leaderAddr: '', error: '' });
      assert.deepEqual(await reader.read(`f${i}`, forward), { value: '', found: false, leaderAddr: '', error: '' });
      const bad = await reader.propose({ op: 'GET', key: 'x' }, forward);
      assert.equal(bad.success, false);
      assert.notEqual(bad.error, '');
    }
  });

  test('the key-value service redirects on followers and is linearizable on the leader', async () => {
    await whileOneLeads(cluster, async (leading) => {
      for (const reader of cluster.followersOf(leading).map((node) => cluster.client(node))) {
        assert.deepEqual(await reader.propose({ op: 'SET', key: 'k', value: 'v' }), { success: false, leaderAddr: leading.grpc, error: 'not leader' });
        assert.deepEqual(await reader.read('k'), { value: '', found: false, leaderAddr: leading.grpc, error: 'not leader' });
      }
    });
    for (let i = 0; i < 100; i += 1) {
      await client.propose({ op: 'SET', key: 'counter', value: `${i}` });
      assert.equal((await client.read('counter')).value, `${i}`);
    }
    assert.deepEqual(await client.propose({ op: 'SET', key: 'none' }), { success: true, leaderAddr: '', error: '' });
    assert.deepEqual(await client.read('none'), { value: '', found: true, leaderAddr: '', error: '' });
    assert.equal((await client.propose({ op: 'SET', key: 'schlüssel', value: 'ünïcode' })).success, true);
    assert.equal((await client.read('schlüssel')).value, 'ünïcode');
    // Fields that are not ours do not matter, nor how large their numbers are.
    const foreign = '{"op":"SET","key":"foreign","value":"v","ts":18446744073709551615,"x":1e400}';
    assert.equal((await client.proposeData(foreign)).success, true);
    assert.equal((await client.read('foreign')).value, 'v');
    assert.equal((await client.proposeData('{"op":"SET","key":"foreign","value":18446744073709551615}')).error, 'bad command: value must be a string');
    // A NUL is refused, never the place where a value is cut.
    assert.deepEqual(await client.propose({ op: 'SET', key: 'nul', value: 'a\0b' }),
      { success: false, leaderAddr: '', error: 'bad command: op, key and value must not contain NUL' });
  });

  test('the leader can be moved, to whom one asks', () => whileOneLeads(cluster, async () => {
    await meet();
    const [target] = cluster.followersOf(leader);
    const old = cluster.client(leader);
    const before = await old.status();
    const moved = await old.transfer(target.id);
    assert.equal(moved.leaderId, target.id);
    assert.ok(Number(moved.term) > Number(before.term));
    assert.equal((await cluster.leader()).id, target.id);
    assert.deepEqual(await refusal(old.transfer()), { code: 'FAILED_PRECONDITION', reason: 'NOT_LEADER' });
    const best = await cluster.client(target).transfer('');
    assert.notEqual(best.leaderId, target.id);
    assert.equal((await cluster.leader()).id, best.leaderId);
    await meet();
  }));

  test('status agrees on every node', () => whileOneLeads(cluster, async () => {
    await meet();
    const all = await Promise.all(cluster.nodes.map((node) => cluster.status(node)));
    const { clusterId, term } = all[0];
    for (const [i, status] of all.entries()) {
      assert.deepEqual([status.nodeId, status.leaderId, status.clusterId, status.term], [`node${i + 1}`, leader.id, clusterId, term]);
      assert.equal(status.role, cluster.nodes[i] === leader ? 'leader' : 'follower');
      assert.equal(status.hasQuorum, true);
      assert.ok(Number(status.commitIndex) >= Number(status.appliedIndex) && Number(status.lastIndex) >= Number(status.commitIndex));
      assert.match(status.version, /^\d+\.\d+\.\d+/);
      for (const [j, member] of status.members.entries()) {
        const node = cluster.nodes[j];
        assert.deepEqual([member.nodeId, member.raftAddr, member.grpcAddr, member.httpAddr], [node.id, node.raft, node.grpc, node.http]);
      }
    }
    await until('the leader to have heard of both followers', async () => {
      const { members, lastIndex } = await client.status();
      return members.every((member) => member.matchIndex === lastIndex && Number(member.lastContactMs) < 5000);
    });
  }));

  test('health: Check and Watch tell of the services, an unknown one is NOT_FOUND', async () => {
    for (const reader of [client, ...followers]) {
      for (const service of ['', 'raftogram.v1.Messenger', 'phalanx.KV']) assert.equal((await reader.check(service)).status, 'SERVING');
      assert.equal((await refused(reader.check('nonsense'))).code, 5);
    }
    const watch = followers[0].health.Watch({ service: 'raftogram.v1.Messenger' });
    const seen = [];
    watch.on('data', ({ status }) => seen.push(status));
    watch.on('error', () => {});
    await until('the first state', () => seen.length > 0);
    assert.deepEqual(seen, ['SERVING']);
    watch.cancel();
  });

  test('dedupe outlives a change of leader and restarts of all', async () => {
    await client.createChannel({ channelId: 'for-ever' });
    for (let i = 1; i <= 5; i += 1) await client.send({ channelId: 'for-ever', clientMessageId: `m${i}` });
    const check = async () => {
      for (let i = 1; i <= 5; i += 1) {
        assert.deepEqual(await client.send({ channelId: 'for-ever', clientMessageId: `m${i}` }), { sequence: `${i}`, deduplicated: true });
      }
      assert.equal((await client.all('for-ever')).length, 5);
    };
    await cluster.kill(leader.index);
    cluster.startNode(leader.index);
    await meet();
    await check();
    await Promise.all(cluster.nodes.map((_, i) => cluster.kill(i)));
    cluster.startAll();
    await meet();
    await check();
  });

  test('a stream outlives a change of leader', async () => {
    await client.createChannel({ channelId: 'outlives' });
    const streams = followers.map((reader) => reader.subscribe({ channelId: 'outlives' }));
    await until('the streams to stand', () => streams.every((stream) => stream.isOpen));
    await client.send({ channelId: 'outlives' });
    const old = leader;
    await cluster.kill(leader.index);
    await meet();
    await client.send({ channelId: 'outlives' });
    for (const stream of streams) {
      await until('both messages', () => stream.messages.length === 2);
      assert.equal(stream.isEnded, false);
      stream.cancel();
    }
    cluster.startNode(old.index);
    await cluster.leader();
  });
});
