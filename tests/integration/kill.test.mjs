// kill -9 and SIGTERM under load: nothing acknowledged is lost or doubled, on any node.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Cluster, until } from './lib/cluster.mjs';
import { Follower, Senders } from './lib/load.mjs';
import { Client, grpc } from './lib/messenger.mjs';

async function progress(senders, count = 200) {
  const before = senders.acknowledged.size;
  await until('more acknowledged sends', () => senders.acknowledged.size >= before + count, { timeout: 60000 });
}

describe('kills under load', () => {
  let cluster;
  let channel = 0;
  let senders;

  before(async () => { cluster = await Cluster.start(); });
  after(async () => { await cluster?.destroy(); });

  async function startLoad() {
    const leader = await cluster.leader();
    const client = new Client(leader.grpc);
    const channelId = `load-${channel += 1}`;
    await client.createChannel({ channelId });
    client.close();
    senders = new Senders(cluster, { channelId });
    senders.target = leader.index;
    await progress(senders);
    return leader;
  }

  async function finish() {
    await senders.stop();
    await cluster.leader();
    const count = await senders.verify();
    assert.ok(count > 0);
    return count;
  }

  test('kill -9 of the leader loses nothing, and writes go on', async (t) => {
    const leader = await startLoad();
    senders.resetGaps();
    await cluster.kill(leader.index);
    await progress(senders);
    t.diagnostic(`write gap ${senders.longestGap} ms`);
    cluster.startNode(leader.index);
    await progress(senders);
    await finish();
  });

  test('kill -9 of a follower loses nothing', async (t) => {
    const leader = await startLoad();
    const index = (leader.index + 1) % 3;
    senders.resetGaps();
    await cluster.kill(index);
    await progress(senders);
    t.diagnostic(`write gap ${senders.longestGap} ms`);
    cluster.startNode(index);
    await progress(senders);
    await finish();
  });

  test('kill -9 of all nodes loses nothing', async () => {
    await startLoad();
    await Promise.all(cluster.nodes.map((_, i) => cluster.kill(i)));
    cluster.startAll();
    await progress(senders);
    await finish();
  });

  test('on SIGTERM of the leader no write hears anything but OK or NOT_LEADER', async (t) => {
    const leader = await startLoad();
    senders.codes.clear();
    senders.resetGaps();
    const stopped = cluster.stopNode(leader.index);
    await progress(senders, 500);
    const result = await stopped;
    assert.deepEqual(result, { code: 0, signal: null });
    t.diagnostic(`write gap ${senders.longestGap} ms; ${JSON.stringify([...senders.codes])}`);
    for (const code of senders.codes.keys()) assert.match(code, /^(OK|FAILED_PRECONDITION\/NOT_LEADER)$/);
    cluster.startNode(leader.index);
    await finish();
  });

  test('who goes on writing to a node that leaves hears OK, NOT_LEADER, and then loses the connection', async () => {
    const leader = await startLoad();
    const codes = new Map();
    let isOver = false;
    const channelId = `${senders.channelId}-hammered`;
    const first = new Client(leader.grpc);
    await first.createChannel({ channelId });
    first.close();
    const hammer = async (number) => {
      const client = new Client(leader.grpc);
      for (let i = 0; !isOver; i += 1) {
        const code = await client.send({ channelId, payload: Buffer.from('x'), clientMessageId: `hammer-${number}-${i}` })
          .then(() => 'OK', (error) => (error.code === grpc.status.FAILED_PRECONDITION ? 'NOT_LEADER' : grpc.status[error.code]));
        codes.set(code, (codes.get(code) ?? 0) + 1);
        if (code === 'UNAVAILABLE') break;
      }
      client.close();
    };
    const hammers = Array.from({ length: 16 }, (_, number) => hammer(number));
    await progress(senders);
    assert.deepEqual(await cluster.stopNode(leader.index), { code: 0, signal: null });
    isOver = true;
    await Promise.all(hammers);
    assert.deepEqual([...codes.keys()].sort(), ['NOT_LEADER', 'OK', 'UNAVAILABLE']);
    cluster.startNode(leader.index);
    await progress(senders);
    await finish();
  });

  test('what a follower that leaves answers with UNAVAILABLE was not forwarded', async () => {
    const leader = await startLoad();
    const [leaving] = cluster.followersOf(leader);
    const channelId = `${senders.channelId}-forwarded`;
    await cluster.client(leader).createChannel({ channelId });
    const codes = new Map();
    const unavailable = [];
    let isOver = false;
    const hammer = async (number) => {
      const client = new Client(leaving.grpc);
      for (let i = 0; !isOver; i += 1) {
        const text = `${number}-${i}`;
        const code = await client.send({ channelId, payload: Buffer.from(text) }, { deadline: 10000, metadata: { 'raftogram-forward': '1' } })
          .then(() => 'OK', (error) => grpc.status[error.code]);
        codes.set(code, (codes.get(code) ?? 0) + 1);
        if (code !== 'UNAVAILABLE') continue;
        unavailable.push(text);
        break;
      }
      client.close();
    };
    const hammers = Array.from({ length: 16 }, (_, number) => hammer(number));
    await until('forwarded writes', () => codes.get('OK') > 100);
    assert.deepEqual(await cluster.stopNode(leaving.index), { code: 0, signal: null });
    isOver = true;
    await Promise.all(hammers);
    assert.deepEqual([...codes.keys()].sort(), ['FAILED_PRECONDITION', 'OK', 'UNAVAILABLE']);
    const client = new Client((await cluster.leader()).grpc);
    const texts = new Set((await client.all(channelId)).map((message) => Buffer.from(message.payload).toString()));
    client.close();
    assert.deepEqual(unavailable.filter((text) => texts.has(text)), []);
    cluster.startNode(leaving.index);
    await finish();
  });

  test('subscriptions on every node go on through a change of leader', async () => {
    const leader = await startLoad();
    const followers = cluster.nodes.map((node) => new Follower(node, senders.channelId));
    await progress(senders);
    await cluster.kill(leader.index);
    await progress(senders);
    cluster.startNode(leader.index);
    await progress(senders);
    await senders.stop();
    await cluster.leader();
    const client = new Client(cluster.nodes[0].grpc);
    const last = (await client.all(senders.channelId)).length;
    client.close();
    for (const follower of followers) {
      await until(`${follower.node.id} to have all messages`, () => follower.sequences.length >= last);
      await follower.stop();
      follower.assertExactlyOnceInOrder(last);
      if (follower.node !== leader) assert.equal(follower.resumes, 1, 'the stream outlives the change of leader');
    }
    await senders.verify();
  });

  test('SIGSTOP and SIGCONT of the leader lose nothing, and nobody sees two leaders\' truths', async (t) => {
    const leader = await startLoad();
    const streams = cluster.nodes.map((node) => new Follower(node, senders.channelId));
    for (let round = 0; round < 3; round += 1) {
      const paused = round === 0 ? leader : await cluster.leader();
      senders.resetGaps();
      await paused.process.pause();
      const next = await cluster.leader();
      assert.notEqual(next, paused);
      await progress(senders);
      t.diagnostic(`write gap ${senders.longestGap} ms`);
      paused.process.resume();
      await cluster.leader();
      await progress(senders);
    }
    await senders.stop();
    await cluster.leader();
    const client = new Client(cluster.nodes[0].grpc);
    const last = (await client.all(senders.channelId)).length;
    client.close();
    for (const follower of streams) {
      await until(`${follower.node.id} to have all messages`, () => follower.sequences.length >= last);
      await follower.stop();
      follower.assertExactlyOnceInOrder(last);
    }
    await finish();
  });

  test('SIGSTOP of a follower, past election timeouts, changes neither leader nor term', async () => {
    const leader = await startLoad();
    const { term } = await cluster.status(leader);
    const [follower] = cluster.followersOf(leader);
    await follower.process.pause();
    await progress(senders, 500);
    await until('many election timeouts', async () => {
      const { members } = await cluster.status(leader);
      return Number(members.find((member) => member.nodeId === follower.id).lastContactMs) > 2000;
    });
    follower.process.resume();
    await progress(senders);
    assert.equal((await cluster.leader()).id, leader.id);
    assert.equal((await cluster.status(leader)).term, term);
    await finish();
  });

  test('transfers under load lose nothing and answer nothing but OK or NOT_LEADER', async () => {
    await startLoad();
    senders.codes.clear();
    for (let round = 0; round < 4; round += 1) {
      const leader = await cluster.leader();
      const { leaderId } = await cluster.client(leader).transfer();
      assert.notEqual(leaderId, leader.id);
      await progress(senders, 100);
    }
    for (const code of senders.codes.keys()) assert.match(code, /^(OK|FAILED_PRECONDITION\/NOT_LEADER)$/);
    await finish();
  });

  test('writes that followers forward are all answered OK while the leader stops', async () => {
    for (let round = 0; round < 3; round += 1) {
      const leader = await cluster.leader();
      const channelId = `forwarded-${round}`;
      await cluster.client(leader).createChannel({ channelId });
      const sequences = [];
      let isStopping = false;
      // Without a client message id: nothing may be sent twice, nothing may be unknown.
      const workers = cluster.followersOf(leader).flatMap((node) => Array.from({ length: 4 }, async () => {
        while (!isStopping) {
          const { sequence } = await cluster.client(node).send({ channelId }, { deadline: 9000, metadata: { 'raftogram-forward': '1' } });
          sequences.push(Number(sequence));
        }
      }));
      await until('some writes', () => sequences.length > 100);
      assert.deepEqual(await cluster.stopNode(leader.index), { code: 0, signal: null });
      const before = sequences.length;
      await until('more writes', () => sequences.length > before + 100);
      isStopping = true;
      await Promise.all(workers);
      sequences.sort((a, b) => a - b);
      assert.deepEqual(sequences, Array.from({ length: sequences.length }, (_, i) => i + 1));
      cluster.startNode(leader.index);
    }
    await cluster.leader();
  });

  test('a rolling restart under load is heard as nothing but OK and NOT_LEADER by whoever follows the leader', async () => {
    await startLoad();
    for (let index = 0; index < 3; index += 1) {
      const leader = await cluster.leader();
      senders.codes.clear();
      const target = index === 0 ? leader : cluster.followersOf(leader)[0];
      assert.deepEqual(await cluster.stopNode(target.index), { code: 0, signal: null });
      await progress(senders, 100);
      for (const code of senders.codes.keys()) assert.match(code, /^(OK|FAILED_PRECONDITION\/NOT_LEADER)$/);
      cluster.startNode(target.index);
      await cluster.leader();
    }
    await finish();
  });
});
