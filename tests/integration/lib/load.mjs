// Concurrent senders with retries, and the check of what they were promised.
import assert from 'node:assert/strict';
import { delay } from './cluster.mjs';
import { Client, errorDetails, grpc } from './messenger.mjs';

// Sends over all nodes, following the leader; every send has a client message id, so that a retry
// after an unknown outcome never doubles.
export class Senders {
  constructor(cluster, { channelId = 'load', count = 8, deadline = 3000, only } = {}) {
    this.cluster = cluster;
    this.channelId = channelId;
    this.deadline = deadline;
    this.acknowledged = new Map(); // client message id -> sequence
    this.tried = new Set();
    this.codes = new Map();
    this.gaps = [];
    this.lastAck = Date.now();
    this.isStopping = false;
    this.only = only;
    this.clients = cluster.nodes.map((node) => new Client(node.grpc));
    this.target = 0;
    this.running = Array.from({ length: count }, (_, i) => this.run(i));
  }

  note(code) { this.codes.set(code, (this.codes.get(code) ?? 0) + 1); }

  follow(error) {
    const target = errorDetails(error).notLeader?.leaderGrpcTarget;
    const index = this.cluster.nodes.findIndex((node) => node.grpc === target);
    this.target = index >= 0 ? index : (this.target + 1) % this.clients.length;
  }

  async run(worker) {
    for (let i = 0; !this.isStopping; i += 1) {
      const clientMessageId = `${this.channelId}-${worker}-${i}`;
      const request = { channelId: this.channelId, authorId: `w${worker}`, payload: Buffer.from(clientMessageId), clientMessageId };
      this.tried.add(clientMessageId);
      for (;;) {
        try {
          const answer = await this.clients[this.target].send(request, { deadline: this.deadline });
          this.acknowledged.set(clientMessageId, answer.sequence);
          this.note('OK');
          const now = Date.now();
          this.gaps.push(now - this.lastAck);
          this.lastAck = now;
          break;
        } catch (error) {
          this.note(`${grpc.status[error.code]}${errorDetails(error).info ? `/${errorDetails(error).info.reason}` : ''}`);
          this.lastError = error;
          this.follow(error);
          if (this.isStopping) break;
          await delay(5);
        }
      }
    }
  }

  get longestGap() { return Math.max(0, ...this.gaps); }

  resetGaps() { this.gaps = []; }

  async stop() {
    this.isStopping = true;
    await Promise.all(this.running);
    this.clients.forEach((client) => client.close());
  }

  // Nothing acknowledged is lost or doubled, sequences have no gaps, all nodes tell the same.
  async verify() {
    let reference = null;
    for (const node of this.cluster.running) {
      const client = new Client(node.grpc);
      const messages = await client.all(this.channelId, { deadline: 10000 });
      client.close();
      messages.forEach((message, i) => assert.equal(message.sequence, String(i + 1), `${node.id}: a gap in the sequence`));
      const ids = messages.map((message) => message.clientMessageId);
      assert.equal(new Set(ids).size, ids.length, `${node.id}: a message is doubled`);
      const bySequence = new Map(messages.map((message) => [message.clientMessageId, message.sequence]));
      for (const [id, sequence] of this.acknowledged) {
        assert.equal(bySequence.get(id), sequence, `${node.id}: ${id} was acknowledged as ${sequence}`);
      }
      ids.forEach((id) => assert.ok(this.tried.has(id), `${node.id}: ${id} was never sent`));
      const text = JSON.stringify(messages);
      if (reference !== null) assert.equal(text, reference.text, `${node.id} and ${reference.id} differ`);
      reference = { id: node.id, text };
    }
    return this.acknowledged.size;
  }
}

// Follows a channel on one node for ever, resuming by the last sequence after each end.
export class Follower {
  constructor(node, channelId) {
    this.node = node;
    this.channelId = channelId;
    this.sequences = [];
    this.resumes = 0;
    this.isStopping = false;
    this.running = this.run();
  }

  async run() {
    while (!this.isStopping) {
      const client = new Client(this.node.grpc);
      const after = this.sequences.at(-1) ?? '0';
      this.subscription = client.subscribe({ channelId: this.channelId, afterSequence: after });
      let taken = 0;
      while (!this.isStopping) {
        const fresh = this.subscription.messages.slice(taken);
        taken += fresh.length;
        this.sequences.push(...fresh.map((message) => message.sequence));
        if (this.subscription.isEnded && taken === this.subscription.messages.length) break;
        await delay(5);
      }
      this.subscription.cancel();
      client.close();
      this.resumes += 1;
    }
  }

  async stop() {
    this.isStopping = true;
    await this.running;
  }

  assertExactlyOnceInOrder(last) {
    assert.deepEqual(this.sequences, Array.from({ length: Number(last) }, (_, i) => String(i + 1)),
      `${this.node.id}: a subscription missed, doubled or reordered messages`);
  }
}

// Sends `count` messages of `bytes` bytes as fast as a window of calls allows. It follows the leader:
// on a busy machine so much work may cost it its place.
export async function fill(cluster, { channelId, count, bytes = 200, window = 128, from = 0 }) {
  const clients = [];
  let moving = null;
  const move = async () => {
    clients.push(new Client((await cluster.leader()).grpc));
    moving = null;
  };
  const { FAILED_PRECONDITION, UNAVAILABLE, ABORTED } = grpc.status;
  const attempt = async (call) => {
    for (;;) {
      const client = clients.at(-1);
      try {
        return await call(client);
      } catch (error) {
        if (![FAILED_PRECONDITION, UNAVAILABLE, ABORTED].includes(error.code)) throw error;
        if (client === clients.at(-1)) moving ??= move();
        await moving;
      }
    }
  };
  await move();
  if (from === 0) await attempt((client) => client.createChannel({ channelId }));
  const payload = Buffer.alloc(bytes, 'x');
  let next = from;
  const worker = async () => {
    while (next < from + count) {
      const clientMessageId = `${channelId}-${next}`;
      next += 1;
      await attempt((client) => client.send({ channelId, authorId: 'fill', payload, clientMessageId }, { deadline: 30000 }));
    }
  };
  await Promise.all(Array.from({ length: window }, worker));
  clients.forEach((client) => client.close());
}
