// A forger on the Raft port, who knows what can be known, in the place of a node that is down: nobody
// is unseated, nothing is committed that is not everywhere, and every node can be started again.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import grpc from '@grpc/grpc-js';
import loader from '@grpc/proto-loader';
import { join } from 'node:path';
import { Cluster, until } from './lib/cluster.mjs';
import { ROOT } from './lib/paths.mjs';

const { Consensus } = grpc.loadPackageDefinition(loader.loadSync('phalanx/consensus.proto', {
  includeDirs: [join(ROOT, 'proto')], keepCase: true, longs: String, enums: String, defaults: true,
})).phalanx;

// Listens where a dead node did, and hears what the others say there.
class Ear {
  constructor(address) {
    this.hellos = [];
    this.server = new grpc.Server();
    this.server.addService(Consensus.service, {
      Stream: (call) => {
        call.on('data', (batch) => this.hellos.push(batch));
        call.on('error', () => {});
      },
    });
    this.bound = new Promise((done, fail) => this.server.bindAsync(address, grpc.ServerCredentials.createInsecure(),
      (error) => (error ? fail(error) : done())));
  }

  close() { this.server.forceShutdown(); }
}

// One stream to `node` that begins with `header`; ends as the node ends it.
class Forgery {
  constructor(node) {
    this.stub = new Consensus(node.raft, grpc.credentials.createInsecure());
    this.ended = new Promise((done) => {
      this.stream = this.stub.Stream((error, answer) => done({ error, answer }));
      this.stream.on('metadata', () => { this.isGreeted = true; });
      this.stream.on('error', () => {});
    });
  }

  send(batch) { this.stream.write(batch); return this; }

  async close() {
    this.stream.cancel();
    await this.ended;
    this.stub.close();
  }
}

const warnings = (node) => node.process.stderr.split('\n').filter((line) => /"level":"(warn|error)"/.test(line));

describe('a forger on the Raft port', () => {
  let cluster;
  let nodes; // those that run
  let dead;
  let hello; // of a node that runs: its words to the dead one
  let clusterId;

  before(async () => {
    cluster = await Cluster.start();
    const leader = await cluster.leader();
    await cluster.client(leader).createChannel({ channelId: 'c' });
    for (let i = 0; i < 5; i += 1) await cluster.client(leader).send({ channelId: 'c' });
    dead = cluster.followersOf(leader)[0];
    await cluster.kill(dead.index);
    nodes = cluster.nodes.filter((node) => node !== dead);
    await cluster.leader();
    const ear = new Ear(dead.raft);
    await ear.bound;
    hello = await until('a hello', () => ear.hellos[0]);
    ear.close();
    clusterId = hello.cluster_id;
    assert.equal(clusterId.length, 16);
  });
  after(async () => { await cluster?.destroy(); });

  // What the dead node would say to `node`, without the checksum that an older version does not know.
  const headerTo = (node, extra = {}) => ({
    ...hello, checksum: '0', from_node_id: dead.id, to_node_id: node.id, incarnation: '4711', process: '4712', stream_id: '1', messages: [], ...extra,
  });

  const state = async () => Promise.all(nodes.map(async (node) => {
    const { nodeId, role, leaderId, term } = await cluster.status(node);
    return { nodeId, role, leaderId, term };
  }));

  const append = (node, term, fields = {}) => ({
    append_request: { term, leader_id: dead.id, prev_log_index: '0', prev_log_term: '0', leader_commit: '0', ...fields },
  });

  test('one that does not name the cluster is refused and moves nothing', async () => {
    const before = await state();
    const { lastIndex } = await cluster.status(nodes[0]);
    for (const node of nodes) {
      for (const cluster_id of [Buffer.alloc(0), Buffer.alloc(16), Buffer.alloc(16, 7)]) {
        const entry = { index: String(BigInt(lastIndex) + 1n), term: '100', data: Buffer.from('forged'), entry_type: 'COMMAND' };
        const forgery = new Forgery(node).send(headerTo(node, {
          cluster_id,
          messages: [append(node, '100', {
            prev_log_index: lastIndex, prev_log_term: before[0].term, entries: [entry], leader_commit: entry.index,
          })],
        }));
        const { error } = await forgery.ended;
        assert.equal(error?.code, grpc.status.FAILED_PRECONDITION, String(error));
        assert.match(error.details, /cluster/);
        assert.ok(!forgery.isGreeted);
        await forgery.close();
      }
    }
    assert.deepEqual(await state(), before);
    for (const node of nodes) assert.equal((await cluster.status(node)).lastIndex, lastIndex);
  });

  const terms = [2n ** 62n, 2n ** 62n - 1n, 2n ** 62n + 1n, 2n ** 48n, 2n ** 40n, 2n ** 63n, 2n ** 64n - 1n].map(String);

  test('one that does moves no term by an implausible one, in any kind of message', async () => {
    const before = await state();
    for (const node of nodes) {
      const forgery = new Forgery(node).send(headerTo(node));
      for (const term of terms) {
        forgery.send(headerTo(node, { messages: [append(node, term)] }));
        forgery.send(headerTo(node, { messages: [append(node, term, { prev_log_index: '5', prev_log_term: term })] }));
        forgery.send(headerTo(node, { messages: [{ append_response: { term, success: true, last_log_index: '1' } }] }));
        for (const is_pre_vote of [true, false]) {
          forgery.send(headerTo(node, { messages: [{ vote_request: { term, candidate_id: dead.id, last_log_index: '9', last_log_term: '9', is_pre_vote } }] }));
          forgery.send(headerTo(node, { messages: [{ vote_response: { term, vote_granted: true, is_pre_vote, request_term: term } }] }));
        }
        forgery.send(headerTo(node, { messages: [{ vote_request: { term, candidate_id: dead.id, last_log_index: '9', last_log_term: '9', is_transfer: true } }] }));
        forgery.send(headerTo(node, { messages: [{ timeout_now: { term } }] }));
        forgery.send(headerTo(node, { messages: [{ read_index_response: { term, read_id: '1', index: '1', confirmed: true } }] }));
      }
      // The last one is answered by the end of the stream, so that all before it were read.
      forgery.send(headerTo(node, { stream_id: '2' }));
      const { error } = await forgery.ended;
      assert.match(error.details, /another node, incarnation or stream/);
      await forgery.close();
    }
    assert.deepEqual(await state(), before);
  });

  test('thousands of its messages make a few lines', async () => {
    for (const node of nodes) {
      const count = warnings(node).length;
      const forgery = new Forgery(node).send(headerTo(node));
      for (let i = 0; i < 2000; i += 1) {
        forgery.send(headerTo(node, { messages: [append(node, String(2n ** 61n + BigInt(i) * 7n ** 15n)), { timeout_now: { term: String(2n ** 62n + BigInt(i)) } }] }));
      }
      forgery.send(headerTo(node, { stream_id: '2' }));
      await forgery.ended;
      await forgery.close();
      for (let i = 0; i < 200; i += 1) {
        const other = new Forgery(node).send(headerTo(node, { from_node_id: `stranger${String.fromCharCode(97 + (i % 26))}` }));
        await other.ended;
        await other.close();
      }
      const fresh = warnings(node).length - count;
      assert.ok(fresh <= 40, `${fresh} lines: ${warnings(node).slice(-5).join('\n')}`);
    }
  });

  test('an entry that this version cannot apply is not stored', async () => {
    for (const node of nodes) {
      const { term, lastIndex } = await cluster.status(node);
      const next = String(BigInt(lastIndex) + 1n);
      const forgery = new Forgery(node).send(headerTo(node));
      const higher = String(BigInt(term) + 1n);
      forgery.send(headerTo(node, {
        messages: [append(node, higher, {
          prev_log_index: lastIndex, prev_log_term: term, leader_commit: next,
          entries: [{ index: next, term: higher, data: Buffer.alloc(64, 0xff), entry_type: 'COMMAND' }],
        })],
      }));
      forgery.send(headerTo(node, { stream_id: '2' }));
      await forgery.ended;
      await forgery.close();
      assert.ok(node.process.isRunning, node.process.stderr);
    }
  });

  test('after all of it every node starts again, and the dead one comes back', async () => {
    for (const node of nodes) await cluster.kill(node.index);
    cluster.startAll();
    const leader = await cluster.leader();
    for (let i = 0; i < 5; i += 1) await cluster.client(leader).send({ channelId: 'c' });
    for (const node of cluster.nodes) {
      await cluster.ready(node);
      const messages = await cluster.client(node).all('c', { deadline: 10000 });
      assert.equal(messages.length, 10);
    }
  });
});
