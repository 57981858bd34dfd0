// What an operator watches: /metrics by Prometheus' rules, and figures that tell the truth.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { Cluster, ROOT, until } from './lib/cluster.mjs';
import { needs, runs } from './lib/needs.mjs';
import { parseMetrics, valueOf } from './lib/prometheus.mjs';

const REFERENCE = ['messages_sent_total', 'election_count', 'last_commit_index', 'proposals_total', 'reads_total',
  'applied_index'];
const LABELS = { raftogram_current_state: ['state'], raftogram_build_info: ['version'],
  raftogram_calls_total: ['code', 'method'], raftogram_peer_connected: ['peer'],
  raftogram_peer_match_index: ['peer'], raftogram_peer_lag_entries: ['peer'],
  raftogram_peer_last_contact_seconds: ['peer'] };

describe('metrics', () => {
  let cluster;
  let leader;
  let follower;

  const text = async (node) => (await fetch(`http://${node.http}/metrics`)).text();
  const metrics = async (node) => parseMetrics(await text(node));
  const status = async (node) => (await fetch(`http://${node.http}/status`)).json();

  before(async () => {
    cluster = await Cluster.start();
    await cluster.client(await cluster.leader()).createChannel({ channelId: 'general' });
  });
  // Whoever leads has counted some writes.
  beforeEach(async () => {
    const now = await cluster.leader();
    if (now === leader) return;
    leader = now;
    follower = cluster.nodes.find((node) => node !== leader);
    for (let i = 0; i < 10; i++) {
      await cluster.client(leader).send({ channelId: 'general', payload: Buffer.from(`text ${i}`), clientMessageId: `id-${i}` });
    }
  });
  after(() => cluster?.destroy());

  test('every family has help, a type and a name by the rules', async () => {
    for (const node of [leader, follower]) {
      for (const [name, family] of await metrics(node)) {
        assert.match(name, /^(raftogram|process)_[a-z_]+[a-z]$/);
        assert.ok(family.type, name);
        assert.ok(family.samples.length > 0, `${name} has no sample`);
        assert.equal(name.endsWith('_total'), family.type === 'counter', name);
        if (name !== 'raftogram_election_count') assert.doesNotMatch(name, /_(count|sum|bucket)$/);
      }
    }
  });

  test('labels name states, methods, codes and nodes, nothing that a client chose', async () => {
    for (const [name, family] of await metrics(leader)) {
      for (const sample of family.samples) {
        const expected = sample.name.endsWith('_bucket') ? ['le'] : LABELS[name] ?? [];
        assert.deepEqual(Object.keys(sample.labels).sort(), expected, name);
      }
    }
    assert.doesNotMatch(await text(leader), /general|text \d|id-\d/);
  });

  test('the metrics of the reference are there, without labels', async () => {
    const families = await metrics(leader);
    for (const name of REFERENCE) assert.equal(typeof valueOf(families, `raftogram_${name}`), 'number', name);
    assert.equal(valueOf(families, 'raftogram_elections_total'), valueOf(families, 'raftogram_election_count'));
    for (const state of ['FOLLOWER', 'CANDIDATE', 'LEADER']) {
      assert.equal(valueOf(families, 'raftogram_current_state', { state }), state === 'LEADER' ? 1 : 0);
    }
    assert.equal(valueOf(await metrics(follower), 'raftogram_current_state', { state: 'FOLLOWER' }), 1);
  });

  test('histograms are cumulative and have counted every write', async () => {
    const families = await metrics(leader);
    for (const name of [...['log_sync', 'apply', 'proposal'].map((part) => `raftogram_${part}_duration_seconds`), 'raftogram_turn_delay_seconds']) {
      const { samples } = families.get(name);
      const buckets = samples.filter((sample) => sample.labels.le !== undefined);
      const bounds = buckets.map((sample) => (sample.labels.le === '+Inf' ? Infinity : Number(sample.labels.le)));
      assert.deepEqual(bounds, [...bounds].sort((a, b) => a - b));
      assert.deepEqual([bounds[0], bounds.at(-2), bounds.at(-1)], [0.00001, 10, Infinity]);
      buckets.reduce((last, { value }) => (assert.ok(value >= last, name), value), 0);
      const count = samples.find((sample) => sample.name === `${name}_count`).value;
      assert.equal(buckets.at(-1).value, count);
      assert.ok(count > 0, name);
      const sum = samples.find((sample) => sample.name === `${name}_sum`).value;
      assert.ok(sum > 0 && sum / count < 10, name);
    }
    const writes = families.get('raftogram_proposal_duration_seconds').samples.at(-1).value;
    assert.equal(writes, valueOf(families, 'raftogram_proposals_total'));
  });

  test('calls are counted by method and status', async () => {
    const before = await metrics(leader);
    const client = cluster.client(leader);
    await client.send({ channelId: 'general', payload: Buffer.from('x'), clientMessageId: 'id-1' });
    await assert.rejects(client.send({ channelId: 'nowhere', payload: Buffer.from('x') }));
    await assert.rejects(cluster.client(follower).send({ channelId: 'general', payload: Buffer.from('x') }));
    const afterwards = await metrics(leader);
    const grown = (method, code) =>
      valueOf(afterwards, 'raftogram_calls_total', { method, code }) - (valueOf(before, 'raftogram_calls_total', { method, code }) ?? 0);
    assert.equal(grown('SendMessage', 'OK'), 1);
    assert.equal(grown('SendMessage', 'NOT_FOUND'), 1);
    assert.equal(valueOf(afterwards, 'raftogram_dedupe_hits_total') - valueOf(before, 'raftogram_dedupe_hits_total'), 1);
    assert.equal(valueOf(await metrics(follower), 'raftogram_calls_total', { method: 'SendMessage', code: 'FAILED_PRECONDITION' }), 1);
  });

  test('the leader tells about its peers, and they are level', async () => {
    for (const node of cluster.nodes.filter((other) => other !== leader)) {
      const labels = { peer: node.id };
      const families = await until(`${node.id} to be level`, async () => {
        const now = await metrics(leader);
        return valueOf(now, 'raftogram_peer_lag_entries', labels) === 0 && now;
      });
      assert.equal(valueOf(families, 'raftogram_peer_connected', labels), 1);
      assert.equal(valueOf(families, 'raftogram_peer_match_index', labels), valueOf(families, 'raftogram_log_last_index'));
      assert.ok(valueOf(families, 'raftogram_peer_last_contact_seconds', labels) < 5);
    }
    const families = await metrics(follower);
    assert.ok(families.has('raftogram_peer_connected'));
    assert.ok(!families.has('raftogram_peer_lag_entries'));
  });

  test('streams to peers are counted, and no message to them was dropped', async () => {
    for (const node of [leader, follower]) {
      const families = await metrics(node);
      assert.ok(valueOf(families, 'raftogram_peer_connects_total') >= cluster.nodes.length - 1);
      assert.equal(valueOf(families, 'raftogram_peer_messages_dropped_total'), 0);
    }
  });

  test('a subscription that is not read has a lag, and none once it is gone', async () => {
    const stream = cluster.client(follower).subscribe({ channelId: 'general', afterSequence: 0 });
    await until('the subscription', async () => valueOf(await metrics(follower), 'raftogram_subscriptions') === 1);
    await until('it to be level', async () => valueOf(await metrics(follower), 'raftogram_subscription_lag_max_messages') === 0);
    assert.equal(valueOf(await metrics(follower), 'raftogram_grpc_calls'), 1);
    stream.stream.pause();
    const large = Buffer.alloc(60000, 'x');
    await until('a lag', async () => {
      await Promise.all(Array.from({ length: 32 }, () => cluster.client(leader).send({ channelId: 'general', payload: large })));
      return valueOf(await metrics(follower), 'raftogram_subscription_lag_max_messages') > 0;
    });
    stream.stream.cancel();
    await until('its end', async () => {
      const families = await metrics(follower);
      return valueOf(families, 'raftogram_subscriptions') === 0 && valueOf(families, 'raftogram_grpc_calls') === 0 && valueOf(families, 'raftogram_subscription_lag_max_messages') === 0;
    });
  });

  test('the process tells what it uses', async () => {
    const families = await metrics(leader);
    const process = (name) => valueOf(families, `process_${name}`);
    assert.ok(process('cpu_seconds_total') > 0);
    assert.ok(process('resident_memory_bytes') > 1e6);
    assert.ok(process('open_fds') > 10);
    assert.ok(process('max_fds') >= process('open_fds'));
    assert.ok(Math.abs(process('start_time_seconds') - Date.now() / 1000) < 300);
  });

  test('nothing is damaged, full or waiting', async () => {
    const families = await metrics(leader);
    for (const name of ['store_damaged', 'recovering', 'diverged', 'log_full', 'store_full', 'proposals_pending']) {
      assert.equal(valueOf(families, `raftogram_${name}`), 0, name);
    }
  });

  test('/status has the same figures', async () => {
    const [document, families] = [await status(leader), await metrics(leader)];
    const pairs = { log_bytes: 'log_bytes', store_bytes: 'store_bytes', forwards_total: 'forwards_total',
      leader_changes_total: 'leader_changes_total', dedupe_hits_total: 'dedupe_hits_total', first_index: 'log_first_index',
      last_index: 'log_last_index', snapshot_index: 'snapshot_index', term: 'term', subscriptions: 'subscriptions' };
    for (const [field, name] of Object.entries(pairs)) {
      assert.equal(document[field], valueOf(families, `raftogram_${name}`), field);
    }
    for (const field of ['is_recovering', 'is_diverged', 'is_store_damaged', 'is_log_full', 'is_store_full']) {
      assert.equal(document[field], false, field);
    }
    assert.equal(typeof document.members.find((member) => member.node_id === follower.id).lag, 'number');
  });

  test('promtool complains of nothing but the name that the reference document gave to raftogram_election_count', needs(runs('promtool', '--version'), 'no promtool'), async () => {
    for (const node of [leader, follower]) {
      const { stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], { input: await text(node), encoding: 'utf8' });
      const complaints = (stdout + stderr).split('\n').filter((line) => line !== '');
      assert.deepEqual(complaints, ['raftogram_election_count non-histogram and non-summary metrics should not have "_count" suffix']);
    }
  });

  test('dashboard and alerts ask only for metrics that are there', async () => {
    const known = new Set();
    for (const node of [leader, follower]) {
      for (const family of (await metrics(node)).values()) for (const sample of family.samples) known.add(sample.name);
    }
    for (const file of ['conf/grafana-dashboard.json', 'conf/prometheus-alerts.yml']) {
      const named = readFileSync(join(ROOT, file), 'utf8').match(/\b(raftogram|process)_[a-z_]+[a-z]\b/g);
      assert.ok(named.length > 10, file);
      for (const name of new Set(named)) assert.ok(known.has(name), `${file}: ${name}`);
    }
  });

  test('docs/metrics.md explains each', async () => {
    const table = readFileSync(join(ROOT, 'docs/metrics.md'), 'utf8');
    for (const name of (await metrics(leader)).keys()) {
      const [, short] = /^(?:raftogram_)?(.*)$/.exec(name);
      if (!/^(websocket|process)_/.test(short)) assert.match(table, new RegExp(`\`${short}[\`{]`), name);
    }
  });

  test('docs/metrics.md explains none that is gone', async () => {
    const known = new Set([...(await metrics(leader)).keys()].map((name) => name.replace(/^raftogram_/, '')));
    const items = readFileSync(join(ROOT, 'docs/metrics.md'), 'utf8').matchAll(/^- (`[^:]*`)/gm);
    const named = [...items].flatMap(([, names]) => [...names.matchAll(/`(\w+)[`{]/g)].map(([, name]) => name));
    assert.ok(named.length > 40);
    for (const name of named) assert.ok(known.has(name), name);
  });
});
