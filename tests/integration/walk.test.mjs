// The walk of the README and of the reference document, with a stock client.
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import { Cluster, until } from './lib/cluster.mjs';
import { Client, errorDetails, grpc } from './lib/messenger.mjs';

describe('the walk of the reference document', () => {
  let cluster;
  let leader;
  let client;
  let followerClient;

  before(async () => { cluster = await Cluster.start(); });
  beforeEach(async () => {
    leader = await cluster.leader();
    client = cluster.client(leader);
    followerClient = cluster.client(cluster.followersOf(leader)[0]);
  });
  after(async () => { await cluster?.destroy(); });

  test('/health names one leader on every node', async () => {
    for (const node of cluster.nodes) {
      const health = await cluster.health(node);
      assert.equal(health.status, 'ok');
      assert.equal(health.node, node.id);
      assert.equal(health.node_id, node.id);
      assert.equal(health.is_leader, node === leader);
      assert.equal(health.role, node === leader ? 'leader' : 'follower');
      assert.equal(health.state, node === leader ? 'LEADER' : 'FOLLOWER');
      assert.equal(health.leader_id, leader.id);
      assert.equal(health.leader_raft_addr, leader.raft);
      assert.equal(health.leader_grpc_addr, leader.grpc);
    }
  });

  test('a channel without an id gets one from the log index', async () => {
    const answer = await client.createChannel({ name: 'general' });
    assert.match(answer.channelId, /^channel-\d+$/);
    assert.deepEqual({ name: answer.name, created: answer.created }, { name: 'general', created: true });
  });

  test('an existing id answers with the stored name', async () => {
    assert.deepEqual(await client.createChannel({ channelId: 'general', name: 'General' }),
      { channelId: 'general', name: 'General', created: true });
    assert.deepEqual(await client.createChannel({ channelId: 'general', name: 'Other' }),
      { channelId: 'general', name: 'General', created: false });
  });

  test('a repeated client message id is deduplicated', async () => {
    const request = { channelId: 'general', authorId: 'alice', payload: Buffer.from('Hello'), clientMessageId: 'msg-1' };
    assert.deepEqual(await client.send(request), { sequence: '1', deduplicated: false });
    assert.deepEqual(await client.send(request), { sequence: '1', deduplicated: true });
    assert.deepEqual(await client.send({ ...request, payload: Buffer.from('else'), authorId: 'bob' }),
      { sequence: '1', deduplicated: true });
  });

  test('history is the same on every node at once', async () => {
    const sent = await client.send({ channelId: 'general', authorId: 'bob', payload: Buffer.from('again') });
    assert.equal(sent.sequence, '2');
    for (const node of cluster.nodes) {
      const reader = new Client(node.grpc);
      const { messages, hasMore } = await reader.history({ channelId: 'general', limit: 50 });
      reader.close();
      assert.equal(hasMore, false);
      assert.deepEqual(messages.map((m) => [m.sequence, m.authorId, m.payload.toString(), m.clientMessageId]),
        [['1', 'alice', 'Hello', 'msg-1'], ['2', 'bob', 'again', '']]);
      assert.ok(Number(messages[0].timestampUnixMs) > 1.6e12);
      assert.ok(Number(messages[1].timestampUnixMs) >= Number(messages[0].timestampUnixMs));
    }
  });

  test('a subscription on every node prints stored messages, then new ones', async () => {
    const readers = cluster.nodes.map((node) => new Client(node.grpc));
    const streams = readers.map((reader) => reader.subscribe({ channelId: 'general' }));
    for (const stream of streams) await until('the stored messages', () => stream.messages.length === 2);
    await client.send({ channelId: 'general', payload: Buffer.from('live') });
    for (const stream of streams) {
      await until('the live message', () => stream.messages.length === 3);
      assert.deepEqual(stream.messages.map((m) => m.sequence), ['1', '2', '3']);
      assert.equal(stream.messages[2].payload.toString(), 'live');
      stream.cancel();
    }
    readers.forEach((reader) => reader.close());
  });

  test('a follower names the leader', async () => {
    const error = await followerClient.createChannel({ name: 'general' }).then(() => null, (e) => e);
    assert.equal(error.code, grpc.status.FAILED_PRECONDITION);
    assert.equal(error.details, 'not leader: retry on suggested leader client endpoint');
    const { code, list, notLeader, info } = errorDetails(error);
    assert.equal(code, grpc.status.FAILED_PRECONDITION);
    assert.equal(list[0].type, 'type.googleapis.com/raftogram.v1.NotLeader');
    assert.deepEqual(notLeader, { leaderGrpcTarget: leader.grpc, raftLeaderId: leader.id });
    assert.equal(info.reason, 'NOT_LEADER');
    assert.equal(info.domain, 'raftogram');
  });

  test('a follower forwards when it is asked to', async () => {
    const metadata = { 'raftogram-forward': '1' };
    const answer = await followerClient.createChannel({ channelId: 'forwarded', name: 'F' }, { metadata });
    assert.deepEqual(answer, { channelId: 'forwarded', name: 'F', created: true });
    const sent = await followerClient.send({ channelId: 'forwarded', payload: Buffer.from('x') }, { metadata });
    assert.equal(sent.sequence, '1');
    const missing = await followerClient.send({ channelId: 'nowhere' }, { metadata }).then(() => null, (e) => e);
    assert.equal(missing.code, grpc.status.NOT_FOUND);
  });

  test('channels are listed in order, by prefix and page', async () => {
    for (const id of ['list-b', 'list-a', 'list-c']) await client.createChannel({ channelId: id, name: id.toUpperCase() });
    const first = await followerClient.channels({ prefix: 'list-', limit: 2 });
    assert.deepEqual(first.channels.map((c) => c.channelId), ['list-a', 'list-b']);
    assert.equal(first.hasMore, true);
    const rest = await followerClient.channels({ prefix: 'list-', afterChannelId: 'list-b' });
    assert.deepEqual(rest.channels.map((c) => [c.channelId, c.name, c.lastSequence, c.firstSequence]), [['list-c', 'LIST-C', '0', '0']]);
    assert.equal(rest.hasMore, false);
  });

  test('the key-value service sets, reads and deletes', async () => {
    assert.deepEqual(await client.propose({ op: 'SET', key: 'mykey', value: 'myvalue' }), { success: true, leaderAddr: '', error: '' });
    assert.deepEqual(await client.read('mykey'), { value: 'myvalue', found: true, leaderAddr: '', error: '' });
    assert.deepEqual(await followerClient.read('mykey'), { value: '', found: false, leaderAddr: leader.grpc, error: 'not leader' });
    assert.deepEqual(await followerClient.propose({ op: 'DELETE', key: 'mykey' }), { success: false, leaderAddr: leader.grpc, error: 'not leader' });
    assert.equal((await client.propose({ op: 'DELETE', key: 'mykey' })).success, true);
    assert.deepEqual(await client.read('mykey'), { value: '', found: false, leaderAddr: '', error: '' });
  });

  test('status tells the same on every node', async () => {
    for (const node of cluster.nodes) {
      const reader = new Client(node.grpc);
      const status = await reader.status();
      reader.close();
      assert.equal(status.nodeId, node.id);
      assert.equal(status.leaderId, leader.id);
      assert.equal(status.hasQuorum, true);
      assert.match(status.clusterId, /^[0-9a-f]{32}$/);
      assert.deepEqual(status.members.map((m) => m.nodeId), cluster.nodes.map((n) => n.id));
    }
  });
});
