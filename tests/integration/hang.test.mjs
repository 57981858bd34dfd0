// A node whose disk hangs, or that was stopped for a while: it must not go on saying that it leads.
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import WebSocket from 'ws';
import { connect } from '../../web/raftogram.js';
import { CONTROL_BYTES, FAULTY_DISK, setControl } from '../chaos/disk/faulty_disk.mjs';
import { Cluster, Process, delay, until } from './lib/cluster.mjs';
import { Manager } from './lib/systemd.mjs';
import { WsClient } from './lib/websocket.mjs';

const ELECTION_TIMEOUT_MS = 500;
const TRUE_WITHIN_MS = 3 * ELECTION_TIMEOUT_MS;
const BUSY_MS = 3000; // how much later a busy machine may be
const HANG_US = 120e6;
const whyNoShim = existsSync(FAULTY_DISK) ? false : `this build has no ${FAULTY_DISK} (a sanitizer wants to come first)`;

class HangingCluster extends Cluster {
  static async start({ env = {}, ...options }) {
    const cluster = Object.setPrototypeOf(await Cluster.create(options), HangingCluster.prototype);
    cluster.env = env;
    for (const node of cluster.nodes) {
      node.controlPath = join(cluster.dir, `${node.id}.control`);
      writeFileSync(node.controlPath, Buffer.alloc(CONTROL_BYTES));
    }
    cluster.startAll();
    await cluster.leader();
    return cluster;
  }

  startNode(index) {
    const node = this.nodes[index];
    const env = { ...this.env, LD_PRELOAD: FAULTY_DISK, RAFTOGRAM_CHAOS_DIR: node.dataDir, RAFTOGRAM_CHAOS_CONTROL: node.controlPath };
    node.process = new Process(node.id, ['-config', node.configPath], { logPath: node.logPath, env });
    return node;
  }

  hang(node) { setControl(node.controlPath, { syncDelayUs: HANG_US }); }

  letGo(node) { setControl(node.controlPath, { syncDelayUs: 0 }); }
}

const get = async (node, path) => {
  const response = await fetch(`http://${node.http}${path}`, { signal: AbortSignal.timeout(5000) });
  return { status: response.status, text: await response.text() };
};
const json = async (node, path) => JSON.parse((await get(node, path)).text);

// What the node says of itself by HTTP and on a new WebSocket.
async function said(node) {
  const [health, ready, status, metrics, socket] = await Promise.all([
    json(node, '/health'), get(node, '/readyz?verbose'), json(node, '/status'), get(node, '/metrics'), WsClient.open(node.http),
  ]);
  const [hello] = socket.of('hello');
  const byRpc = await socket.call('Status', {});
  socket.socket.terminate();
  const metric = (name) => Number(new RegExp(`^raftogram_${name} (.*)$`, 'm').exec(metrics.text)[1]);
  return {
    health: [health.state, health.role, health.is_leader, health.leader_id],
    ready: ready.status,
    status: [status.state, status.role, status.is_leader, status.leader_id, status.has_quorum, status.is_ready],
    metrics: ['is_leader', 'has_leader', 'has_quorum', 'is_ready', 'current_state{state="LEADER"}'].map(metric),
    hello: [hello.role, hello.leaderId, hello.hasQuorum],
    byRpc: [byRpc.role, byRpc.leaderId, byRpc.hasQuorum],
  };
}

const CLAIMS_NOTHING = {
  health: ['FOLLOWER', 'follower', false, undefined],
  ready: 503,
  status: ['FOLLOWER', 'follower', false, '', false, false],
  metrics: [0, 0, 0, 0, 0],
  hello: ['follower', '', false],
  byRpc: ['follower', '', false],
};

describe('a leader whose disk hangs', { skip: whyNoShim }, () => {
  let cluster;
  let old;
  let watcher;
  before(async () => {
    cluster = await HangingCluster.start({ size: 3 });
    await cluster.client(await cluster.leader()).createChannel({ channelId: 'c' });
  });
  after(async () => {
    watcher?.socket.terminate();
    cluster.nodes.forEach((node) => cluster.letGo(node));
    await cluster.destroy();
  });

  test('tells its WebSocket clients within three election timeouts that it has no quorum', async () => {
    old = await cluster.leader();
    watcher = await WsClient.open(old.http);
    await until('the watcher to know the leader', () => watcher.of('leader').concat(watcher.of('hello')).at(-1).role === 'leader');
    cluster.hang(old);
    const begin = Date.now();
    watcher.call('SendMessage', { channelId: 'c', text: 'stands in fdatasync' }).catch(() => {});
    const told = await until('the leader event', () => watcher.of('leader').find((item) => !item.hasQuorum), { every: 5 });
    assert.deepEqual(told, { role: 'follower', leaderId: '', hasQuorum: false });
    assert.ok(Date.now() - begin < TRUE_WITHIN_MS + BUSY_MS, `after ${Date.now() - begin} ms`);
  });

  test('says nowhere that it leads, is ready or has a quorum', async () => {
    assert.deepEqual(await said(old), CLAIMS_NOTHING);
    const { text } = await get(old, '/readyz?verbose');
    assert.match(text, /^\[-\]leader failed: .+\n\[-\]quorum failed: /m);
    assert.match(text, /^\[-\]turning failed: the node's thread hangs/m);
    assert.equal((await get(old, '/livez')).status, 200);
    await until('another leader', async () => (await Promise.all(cluster.nodes.filter((node) => node !== old)
      .map((node) => json(node, '/health')))).some((health) => health.is_leader));
  });

  test('is left by our own client, which sends on over another node', async () => {
    const client = connect(old.http, { WebSocket });
    try {
      await until('hello', () => client.hello);
      assert.equal(client.hello.nodeId, old.id);
      const { sequence } = await client.send({ channelId: 'c', text: 'over another' });
      assert.ok(Number(sequence) >= 1);
      assert.notEqual(client.hello.nodeId, old.id);
    } finally {
      client.close();
    }
  });

  test('ends its subscriptions when it has hung for 10 s', async () => {
    cluster.letGo(old);
    await until(`${old.id} to be itself again`, async () => (await get(old, '/readyz')).status === 200);
    const { subscription } = await watcher.call('Subscribe', { channelId: 'c', afterSequence: 0 });
    cluster.hang(old);
    const sent = watcher.call('SendMessage', { channelId: 'c', text: 'makes it write' });
    sent.catch(() => {});
    const ended = await until('the end', () => watcher.of('ended').find((item) => item.subscription === subscription), { timeout: 30000 });
    assert.equal(ended.data.reason, 'NO_QUORUM');
  });

  test('is itself again when the disk is', async () => {
    cluster.letGo(old);
    const leader = await cluster.leader();
    await until('ready', async () => (await get(old, '/readyz')).status === 200);
    const health = await json(old, '/health');
    assert.equal(health.leader_id, leader.id);
    await until('the leader event', () => watcher.of('leader').at(-1).hasQuorum);
  });
});

describe('a node that is stopped and goes on', () => {
  let cluster;
  before(async () => { cluster = await Cluster.start({ size: 1 }); });
  after(async () => { await cluster.destroy(); });

  test('claims nothing until it has turned, and then leads', async () => {
    const [node] = cluster.nodes;
    const socket = await WsClient.open(node.http);
    await node.process.pause();
    await delay(2 * TRUE_WITHIN_MS);
    node.process.resume();
    await until('ready', async () => (await get(node, '/readyz')).status === 200);
    assert.equal((await json(node, '/health')).is_leader, true);
    // Whatever it was told meanwhile, the last word is true.
    await until('the last word', () => [...socket.of('hello'), ...socket.of('leader')].at(-1).role === 'leader');
    socket.socket.terminate();
  });

  test('an idle node stays ready, look after look', async () => {
    const [node] = cluster.nodes;
    const end = Date.now() + 3 * TRUE_WITHIN_MS;
    for (let looks = 0; Date.now() < end || looks < 20; looks += 1) {
      const { status, text } = await get(node, '/readyz?verbose');
      assert.equal(status, 200, text);
      await delay(20);
    }
  });
});

describe('a node alone whose disk hangs for a while', { skip: whyNoShim }, () => {
  let cluster;
  let manager;
  before(async () => {
    manager = new Manager(mkdtempSync(join(tmpdir(), 'raftogram-notify-')));
    await manager.ready();
    cluster = await HangingCluster.start({ size: 1, env: { NOTIFY_SOCKET: manager.path, WATCHDOG_USEC: '1000000' } });
  });
  after(async () => {
    cluster.letGo(cluster.nodes[0]);
    await cluster.destroy();
    manager.close();
    rmSync(manager.folder, { recursive: true });
  });

  test('is told of twice: not ready, and ready again', async () => {
    const [node] = cluster.nodes;
    const socket = await WsClient.open(node.http);
    await socket.call('CreateChannel', { channelId: 'c' });
    cluster.hang(node);
    const sent = socket.call('SendMessage', { channelId: 'c', text: 'slow' });
    await until('the bad news', () => socket.of('leader').some((item) => !item.hasQuorum));
    assert.deepEqual(await said(node), CLAIMS_NOTHING);
    await until('systemd to know', () => manager.told.at(-1) === "STATUS=the node's thread hangs");
    const fed = manager.count('WATCHDOG=1');
    await delay(2000); // two periods
    assert.equal(manager.count('WATCHDOG=1'), fed);
    cluster.letGo(node);
    await until('food', () => manager.count('WATCHDOG=1') > fed);
    await until('the good news', () => socket.of('leader').at(-1).role === 'leader');
    assert.equal((await sent).sequence, '1');
    socket.socket.terminate();
  });
});
