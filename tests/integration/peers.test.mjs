// phalanx.Consensus from a stranger: answered truthfully, and nothing changes.
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import grpc from '@grpc/grpc-js';
import loader from '@grpc/proto-loader';
import { join } from 'node:path';
import { Cluster, until } from './lib/cluster.mjs';
import { ROOT } from './lib/paths.mjs';
import { RawClient, frame, http2Call, jsonClient } from './lib/raw.mjs';

const { Consensus } = grpc.loadPackageDefinition(loader.loadSync('phalanx/consensus.proto', {
  includeDirs: [join(ROOT, 'proto')], keepCase: true, longs: String, enums: String, defaults: true,
})).phalanx;

const HUGE = '18446744073709551615';

describe('phalanx.Consensus from a stranger', () => {
  let cluster;
  let leader;
  let stubs;
  let jsons;

  before(async () => {
    cluster = await Cluster.start();
    leader = await cluster.leader();
    await cluster.client(leader).createChannel({ channelId: 'c' });
    for (let i = 0; i < 5; i += 1) await cluster.client(leader).send({ channelId: 'c' });
    stubs = cluster.nodes.map((node) => new Consensus(node.raft, grpc.credentials.createInsecure()));
    jsons = cluster.nodes.map((node) => jsonClient(node.raft));
  });
  beforeEach(async () => { leader = await cluster.leader(); });
  after(async () => {
    [...(stubs ?? []), ...(jsons ?? [])].forEach((stub) => stub.close());
    await cluster?.destroy();
  });

  const call = (stub, method, request) => new Promise((done, fail) => {
    stub[method](request, { deadline: Date.now() + 5000 }, (error, answer) => (error ? fail(error) : done(answer)));
  });

  // What must not change.
  async function state() {
    const statuses = await Promise.all(cluster.nodes.map((node) => cluster.status(node)));
    return statuses.map(({ nodeId, role, leaderId, term, lastIndex, clusterId }) => ({ nodeId, role, leaderId, term, lastIndex, clusterId }));
  }

  async function unchanged(body) {
    const before = await until('all nodes to have the same log', async () => {
      const all = await state();
      return all.every((one) => one.lastIndex === all[0].lastIndex) && all;
    });
    await body(before);
    assert.deepEqual(await state(), before);
    const answer = await cluster.client(leader).propose({ op: 'SET', key: 'k', value: 'v' });
    assert.equal(answer.success, true);
  }

  const requests = (id) => [
    { term: HUGE, candidate_id: id, last_log_index: HUGE, last_log_term: HUGE },
    { term: HUGE, candidate_id: id, last_log_index: HUGE, last_log_term: HUGE, is_pre_vote: true },
    { term: HUGE, candidate_id: id, last_log_index: HUGE, last_log_term: HUGE, is_transfer: true },
    { term: '1000', candidate_id: id, last_log_index: '0', last_log_term: '0' },
    { term: '0', candidate_id: id },
  ];

  for (const kind of ['protobuf', 'JSON']) {
    // In JSON 64-bit integers are numbers here, unlike everywhere else.
    const asText = ({ term, last_log_index: last, ...others }) => {
      assert.equal(typeof term, 'number');
      return { ...others, term: String(term), last_log_index: String(last) };
    };
    const ask = (index, method, request) => (kind === 'JSON'
      ? jsons[index].unary(`/phalanx.Consensus/${method}`, request).then(asText) : call(stubs[index], method, request));

    test(`RequestVote in ${kind} grants nothing and raises no term`, async () => {
      await unchanged(async (before) => {
        for (const [index, { term }] of before.entries()) {
          for (const id of ['stranger', '', 'node1', 'node2', 'node3', 'x'.repeat(5000)]) {
            for (const request of requests(id)) {
              const answer = await ask(index, 'RequestVote', request).catch((error) => error);
              if (answer instanceof Error) {
                assert.equal(answer.code, grpc.status.INVALID_ARGUMENT, answer.message);
                continue;
              }
              assert.equal(answer.vote_granted, false);
              assert.equal(answer.term, term);
            }
          }
        }
      });
    });

    test(`AppendEntries in ${kind} is refused with the node's own term and last index`, async () => {
      const entry = { index: '1', term: HUGE, data: Buffer.from('nonsense').toString('base64'), entry_type: 'COMMAND' };
      const asSent = kind === 'JSON' ? entry : { ...entry, data: Buffer.from('nonsense') };
      await unchanged(async (before) => {
        for (const [index, { term, lastIndex }] of before.entries()) {
          for (const id of ['stranger', '', leader.id, 'node3']) {
            for (const request of [
              { term: HUGE, leader_id: id, prev_log_index: HUGE, prev_log_term: HUGE, leader_commit: HUGE },
              { term: HUGE, leader_id: id, prev_log_index: '0', prev_log_term: '0', entries: [asSent], leader_commit: HUGE },
              { term, leader_id: id, prev_log_index: lastIndex, prev_log_term: term, entries: [{ ...asSent, index: String(Number(lastIndex) + 1), term }], leader_commit: lastIndex },
              { term, leader_id: id, prev_log_index: '1', prev_log_term: '1', entries: [{ ...asSent, entry_type: 'CONFIG_CHANGE', index: '7' }] },
              { term: '0', leader_id: id },
            ]) {
              const answer = await ask(index, 'AppendEntries', request).catch((error) => error);
              if (answer instanceof Error) {
                assert.equal(answer.code, grpc.status.INVALID_ARGUMENT, answer.message);
                continue;
              }
              assert.equal(answer.success, false);
              assert.equal(answer.term, term);
              assert.equal(answer.last_log_index, lastIndex);
            }
          }
        }
      });
    });
  }

  test('a JSON answer is in snake_case with its content-type application/grpc', async () => {
    const answer = await http2Call(leader.raft, '/phalanx.Consensus/RequestVote', frame('{"term":"5","candidate_id":"x"}'), { headers: { 'content-type': 'application/grpc+json' } });
    assert.equal(answer.headers['content-type'], 'application/grpc');
    assert.equal(answer.trailers['grpc-status'], '0');
    const body = JSON.parse(answer.bodies[0]);
    assert.equal(body.vote_granted, false);
    assert.ok(Number.isInteger(body.term));
    const append = await http2Call(leader.raft, '/phalanx.Consensus/AppendEntries', frame('{"term":5,"leaderId":"x","prevLogIndex":"3"}'), {});
    assert.deepEqual(['term', 'success', 'last_log_index'].filter((key) => !(key in JSON.parse(append.bodies[0]))), []);
  });

  test('garbage is INVALID_ARGUMENT, other services are UNIMPLEMENTED', async () => {
    await unchanged(async () => {
      const raw = new RawClient(leader.raft);
      for (const body of [Buffer.from([0x0a, 0x05]), Buffer.from([0xff, 0xff]), Buffer.from('{"term":'), Buffer.from('{"term":"x"}')]) {
        for (const method of ['AppendEntries', 'RequestVote']) {
          const error = await raw.unary(`/phalanx.Consensus/${method}`, body).then(() => null, (e) => e);
          assert.equal(error?.code, grpc.status.INVALID_ARGUMENT, body.toString('hex'));
        }
      }
      for (const path of ['/raftogram.v1.Messenger/ListChannels', '/phalanx.KV/Read', '/phalanx.Consensus/Nothing']) {
        const error = await raw.unary(path, Buffer.alloc(0)).then(() => null, (e) => e);
        assert.equal(error?.code, grpc.status.UNIMPLEMENTED, path);
      }
      raw.close();
    });
  });

  test('a flood of calls changes nothing either', async () => {
    await unchanged(async () => {
      await Promise.all(Array.from({ length: 600 }, (_, i) =>
        call(stubs[i % 3], 'RequestVote', { term: HUGE, candidate_id: 'node1', last_log_index: HUGE, last_log_term: HUGE }).catch(() => null)));
    });
  });

  test('a stream that is no peer\'s is refused', async () => {
    await unchanged(async () => {
      for (const stub of stubs) {
        for (const hello of [{}, { format_version: 1, from_node_id: 'stranger', to_node_id: 'node1' }, { format_version: 99, from_node_id: 'node1', to_node_id: 'node2' },
          { format_version: 1, from_node_id: 'node1', to_node_id: 'node2', cluster_id: Buffer.alloc(16, 7), membership_hash: '1' }]) {
          const error = await new Promise((done) => {
            const stream = stub.Stream((failure) => done(failure));
            stream.on('error', () => {});
            stream.write(hello);
          });
          assert.ok(error, 'the stream is refused');
          if (hello.from_node_id) assert.notEqual(error.details, '');
        }
      }
    });
  });
});
