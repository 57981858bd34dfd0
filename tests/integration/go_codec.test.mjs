// phalanx's own client, which is in Go: its structs have no tags for the consensus service and snake_case
// tags for the KV service, and its codec is encoding/json. What that package does with names and types is
// done here by hand, so that the test needs no Go.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Cluster, until } from './lib/cluster.mjs';
import { RawClient } from './lib/raw.mjs';

// Fields as the client declares them; a tag in place of the name where it has one.
const TYPES = {
  AppendEntriesResponse: { Term: 'uint64', Success: 'bool', LastLogIndex: 'uint64' },
  RequestVoteResponse: { Term: 'uint64', VoteGranted: 'bool', IsPreVote: 'bool' },
  TaggedAppendEntriesResponse: { term: 'uint64', success: 'bool', last_log_index: 'uint64' },
  TaggedRequestVoteResponse: { term: 'uint64', vote_granted: 'bool', is_pre_vote: 'bool' },
  ProposeResponse: { success: 'bool', leader_addr: 'string', error: 'string' },
  ReadResponse: { value: 'string', found: 'bool', leader_addr: 'string', error: 'string' },
};
const ZERO = { uint64: 0, bool: false, string: '' };

// json.Unmarshal: names are matched without case, unknown ones are ignored, and a JSON string never goes
// into a number.
function unmarshal(text, fields) {
  const out = Object.fromEntries(Object.entries(fields).map(([name, type]) => [name, ZERO[type]]));
  for (const [key, value] of Object.entries(JSON.parse(text))) {
    const name = Object.keys(fields).find((field) => field.toLowerCase() === key.toLowerCase());
    if (name === undefined || value === null) continue;
    const isFitting = { uint64: Number.isInteger(value) && value >= 0, bool: typeof value === 'boolean', string: typeof value === 'string' };
    assert.ok(isFitting[fields[name]], `json: cannot unmarshal ${JSON.stringify(value)} into Go struct field ${name} of type ${fields[name]}`);
    out[name] = value;
  }
  return out;
}

describe('phalanx\'s client in Go', () => {
  let cluster;
  let leader;
  let follower;
  const clients = [];

  before(async () => {
    cluster = await Cluster.start();
    leader = await cluster.leader();
    follower = cluster.nodes.find((node) => node !== leader);
    await cluster.client(leader).propose({ op: 'SET', key: 'first', value: 'entry' });
  });
  after(async () => {
    clients.forEach((client) => client.close());
    await cluster?.destroy();
  });

  async function invoke(address, path, request, type) {
    const client = new RawClient(address);
    clients.push(client);
    return unmarshal((await client.unary(path, JSON.stringify(request))).toString(), TYPES[type]);
  }

  // An answer that was true both before and after it.
  async function steady(node, body) {
    return until('an answer between two equal statuses', async () => {
      const before = await cluster.status(node);
      const answer = await body(before);
      const after = await cluster.status(node);
      return before.term === after.term && before.lastIndex === after.lastIndex && [answer, after];
    });
  }

  for (const tagged of ['', 'Tagged']) {
    const what = tagged === '' ? 'fields without tags' : 'snake_case tags';

    test(`SendAppendEntries works with ${what}`, async () => {
      for (const node of cluster.nodes) {
        const [answer, status] = await steady(node, () => invoke(node.raft, '/phalanx.Consensus/AppendEntries', {
          Term: 1, LeaderID: 'node-9', PrevLogIndex: 3, PrevLogTerm: 1, LeaderCommit: 0,
          Entries: [{ Index: 4, Term: 1, Data: Buffer.from('x').toString('base64'), Type: 0 }, { Index: 5, Term: 1, Data: null, Type: 1 }],
        }, `${tagged}AppendEntriesResponse`));
        assert.deepEqual(Object.values(answer), [Number(status.term), false, Number(status.lastIndex)]);
        assert.ok(Number(status.lastIndex) > 0);
      }
    });

    test(`SendRequestVote works with ${what}`, async () => {
      for (const isPreVote of [false, true]) {
        const [answer, status] = await steady(follower, () => invoke(follower.raft, '/phalanx.Consensus/RequestVote', {
          Term: 2, CandidateID: 'node-9', LastLogIndex: 0, LastLogTerm: 0, IsPreVote: isPreVote,
        }, `${tagged}RequestVoteResponse`));
        assert.deepEqual(Object.values(answer), [Number(status.term), false, isPreVote]);
      }
    });
  }

  test('an empty heartbeat has null entries', async () => {
    const answer = await invoke(follower.raft, '/phalanx.Consensus/AppendEntries',
      { Term: 0, LeaderID: '', PrevLogIndex: 0, PrevLogTerm: 0, Entries: null, LeaderCommit: 0 }, 'AppendEntriesResponse');
    assert.equal(answer.Success, false);
    assert.ok(answer.Term > 0);
  });

  test('SendPropose and SendRead follow the leader', async () => {
    const propose = (node) => invoke(node.grpc, '/phalanx.KV/Propose',
      { data: Buffer.from('{"op":"SET","key":"go","value":"client"}').toString('base64') }, 'ProposeResponse');
    assert.deepEqual(await propose(follower), { success: false, leader_addr: leader.grpc, error: 'not leader' });
    assert.deepEqual(await propose(leader), { success: true, leader_addr: '', error: '' });
    assert.deepEqual(await invoke(leader.grpc, '/phalanx.KV/Read', { key: 'go' }, 'ReadResponse'),
      { value: 'client', found: true, leader_addr: '', error: '' });
  });
});
