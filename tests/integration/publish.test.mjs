// Publish, sentence by sentence, with grpc-js.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, beforeEach, describe, test } from 'node:test';
import { Cluster, until } from './lib/cluster.mjs';
import { errorDetails, grpc } from './lib/messenger.mjs';

const of = (channelId, text, clientMessageId = '') => ({ channelId, authorId: 'ann', payload: Buffer.from(text), clientMessageId });

// A stream of frames: keeps responses, and how it ended.
class Publisher {
  constructor(client, { metadata = {}, deadline } = {}) {
    const meta = new grpc.Metadata();
    for (const [key, value] of Object.entries(metadata)) meta.set(key, value);
    this.stream = client.messenger.Publish(meta, deadline === undefined ? {} : { deadline: Date.now() + deadline });
    this.responses = [];
    this.stream.on('data', (response) => this.responses.push(response));
    this.stream.on('error', (error) => { this.error = error; });
    this.stream.on('status', (status) => { this.status = status; });
    this.frame = 0;
  }

  send(...messages) { this.sendAs(this.frame + 1, messages); }
  sendAs(frame, messages) { this.frame = frame; this.stream.write({ frame: String(frame), messages }); }
  end() { this.stream.end(); }
  cancel() { this.stream.cancel(); }

  get acked() { return Number(this.responses.at(-1)?.ackedFrame ?? 0); }
  get results() { return this.responses.flatMap((response) => response.results.map(({ sequence, deduplicated }) => [Number(sequence), deduplicated])); }

  isAcked(frame) { return until(`frame ${frame} to be acknowledged`, () => this.acked >= frame || this.status !== undefined); }

  async ended() {
    await until('the stream to end', () => this.status !== undefined);
    const { info } = this.error === undefined ? {} : errorDetails(this.error);
    return { code: grpc.status[this.status.code], reason: info?.reason, item: info?.metadata?.item };
  }
}

describe('Publish', () => {
  let cluster;
  let leader;
  let client;

  before(async () => { cluster = await Cluster.start(); });
  beforeEach(async () => {
    leader = await cluster.leader();
    client = cluster.client(leader);
  });
  after(async () => { await cluster?.destroy(); });

  const texts = async (channelId) => (await client.all(channelId)).map((message) => String(message.payload));

  test('frames are stored in order and acknowledged with all their results', async () => {
    await client.createChannel({ channelId: 'order' });
    const publisher = new Publisher(client);
    const expected = [];
    for (let i = 0; i < 600; i++) {
      const frame = Array.from({ length: 1 + (i % 5) }, (_, j) => of('order', `${i}.${j}`, `${i}.${j}`));
      expected.push(...frame.map((message) => String(message.payload)));
      publisher.send(...frame);
    }
    publisher.end();
    assert.deepEqual(await publisher.ended(), { code: 'OK', reason: undefined, item: undefined });
    assert.equal(publisher.acked, 600);
    assert.deepEqual(publisher.results, expected.map((_, i) => [i + 1, false]));
    assert.deepEqual(await texts('order'), expected);
    const acked = publisher.responses.map((response) => Number(response.ackedFrame));
    assert.deepEqual(acked, [...acked].sort((a, b) => a - b));
  });

  test('an acknowledgement does not wait for the next frame, nor for the half-close', async () => {
    await client.createChannel({ channelId: 'lone' });
    const publisher = new Publisher(client);
    for (let frame = 1; frame <= 3; frame++) {
      publisher.send(of('lone', `${frame}`));
      await publisher.isAcked(frame);
      assert.equal(publisher.acked, frame);
    }
    publisher.end();
    assert.equal((await publisher.ended()).code, 'OK');
  });

  test('a stream without frames ends with OK, and may be silent for long', async () => {
    const publisher = new Publisher(client);
    await new Promise((done) => setTimeout(done, 11000)); // longer than a unary call may wait for its message
    assert.equal(publisher.status, undefined);
    publisher.end();
    assert.equal((await publisher.ended()).code, 'OK');
  });

  test('frames count from 1 without gaps', async () => {
    await client.createChannel({ channelId: 'gaps' });
    for (const numbers of [[0], [2], [1, 3], [1, 1], [1, 2, 4, 3]]) {
      const publisher = new Publisher(client);
      for (const number of numbers) publisher.sendAs(number, [of('gaps', `${number}`)]);
      assert.deepEqual(await publisher.ended(), { code: 'INVALID_ARGUMENT', reason: 'FRAME_OUT_OF_ORDER', item: undefined });
      const good = numbers.findIndex((number, i) => number !== i + 1);
      assert.equal(publisher.acked, good, `${numbers}`);
    }
  });

  test('a frame that cannot be stored ends the stream after the responses of those before it', async () => {
    await client.createChannel({ channelId: 'fault' });
    const faults = [
      [[of('fault', 'x'), of('', 'y')], { code: 'INVALID_ARGUMENT', reason: 'INVALID_FIELD', item: '1' }],
      [[], { code: 'INVALID_ARGUMENT', reason: 'INVALID_FIELD', item: undefined }],
      [[of('fault', 'x'), of('none', 'y')], { code: 'NOT_FOUND', reason: 'CHANNEL_NOT_FOUND', item: '1' }],
      [Array.from({ length: 1001 }, () => of('fault', '')), { code: 'INVALID_ARGUMENT', reason: 'BATCH_TOO_LARGE', item: undefined }],
    ];
    let stored = 0;
    for (const [frame, expected] of faults) {
      const publisher = new Publisher(client);
      for (let i = 0; i < 50; i++) publisher.send(of('fault', `good ${stored + i}`));
      publisher.send(...frame);
      for (let i = 0; i < 50; i++) publisher.send(of('fault', 'never'));
      assert.deepEqual(await publisher.ended(), expected);
      stored += 50;
      assert.equal(publisher.acked, 50);
      assert.equal(publisher.results.length, 50);
      assert.deepEqual(await texts('fault'), Array.from({ length: stored }, (_, i) => `good ${i}`));
    }
  });

  test('a client_message_id of an earlier frame is recognised', async () => {
    await client.createChannel({ channelId: 'dedupe' });
    const publisher = new Publisher(client);
    publisher.send(of('dedupe', 'a', 'id-1'), of('dedupe', 'b', 'id-2'), of('dedupe', 'a', 'id-1'));
    publisher.send(of('dedupe', 'a', 'id-1'), of('dedupe', 'c', 'id-3'));
    publisher.end();
    assert.equal((await publisher.ended()).code, 'OK');
    assert.deepEqual(publisher.results, [[1, false], [2, false], [1, true], [1, true], [3, false]]);
  });

  test('a follower refuses at once, before any frame', async () => {
    const [follower] = cluster.followersOf(leader);
    const publisher = new Publisher(cluster.client(follower));
    assert.deepEqual(await publisher.ended(), { code: 'FAILED_PRECONDITION', reason: 'NOT_LEADER', item: undefined });
    assert.notEqual(errorDetails(publisher.error).notLeader, undefined);
  });

  test('a follower forwards when asked to, in order', async () => {
    await client.createChannel({ channelId: 'forward' });
    const [follower] = cluster.followersOf(leader);
    const publisher = new Publisher(cluster.client(follower), { metadata: { 'raftogram-forward': '1' } });
    for (let i = 0; i < 100; i++) publisher.send(of('forward', `${i}`, `${i}`));
    publisher.send(of('none', 'x'));
    publisher.send(of('forward', 'never'));
    assert.deepEqual(await publisher.ended(), { code: 'NOT_FOUND', reason: 'CHANNEL_NOT_FOUND', item: '0' });
    assert.equal(publisher.acked, 100);
    assert.deepEqual(await texts('forward'), Array.from({ length: 100 }, (_, i) => `${i}`));
  });

  test('a client that reads no response is bounded, and loses nothing', async () => {
    await client.createChannel({ channelId: 'slow' });
    const publisher = new Publisher(client);
    publisher.stream.pause();
    const payload = 'x'.repeat(60000);
    let isBlocked = false;
    for (let i = 0; i < 3000 && !isBlocked; i++) {
      publisher.frame = i + 1;
      if (!publisher.stream.write({ frame: String(i + 1), messages: [of('slow', payload)] })) {
        const drained = once(publisher.stream, 'drain').then(() => true);
        isBlocked = !(await Promise.race([drained, new Promise((done) => setTimeout(done, 3000, false))]));
      }
    }
    publisher.stream.resume();
    publisher.end();
    assert.equal((await publisher.ended()).code, 'OK');
    assert.equal(publisher.acked, publisher.frame);
    assert.equal(publisher.results.length, publisher.frame);
  });

  test('what was not acknowledged is sent again after the death of the leader, once and in order', async () => {
    await client.createChannel({ channelId: 'death' });
    const frames = Array.from({ length: 3000 }, (_, i) => [of('death', `${i}a`, `${i}a`), of('death', `${i}b`, `${i}b`)]);
    let acked = 0;
    let kills = 0;
    while (acked < frames.length) {
      const node = await cluster.leader();
      const publisher = new Publisher(cluster.client(node));
      const base = acked;
      let next = acked;
      while (publisher.status === undefined && base + publisher.acked < frames.length) {
        while (next < frames.length && next - base - publisher.acked < 256 && publisher.status === undefined) publisher.send(...frames[next++]);
        acked = base + publisher.acked;
        if (kills < 2 && acked > 700 * (kills + 1)) {
          kills++;
          await cluster.kill(cluster.nodes.indexOf(node));
        }
        await new Promise((done) => setImmediate(done));
      }
      acked = base + publisher.acked;
      publisher.cancel();
      cluster.nodes.forEach((each, i) => { if (!each.process.isRunning) cluster.startNode(i); });
    }
    leader = await cluster.leader();
    client = cluster.client(leader);
    assert.ok(kills === 2);
    assert.deepEqual(await texts('death'), frames.flat().map((message) => String(message.payload)));
  });
});
