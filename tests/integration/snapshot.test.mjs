// Compaction, snapshots and healing.
import assert from 'node:assert/strict';
import { closeSync, existsSync, openSync, readFileSync, readSync, readdirSync, rmSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { Cluster, delay, until } from './lib/cluster.mjs';
import { Follower, Senders, fill } from './lib/load.mjs';

// Small enough that a test sees many compactions; the log is cut in segments of 4 MiB.
const extra = `raft: {snapshot_interval: 1s, snapshot_threshold: 100, trailing_logs: 50}`;

const number = async (cluster, node, field) => Number((await cluster.status(node))[field]);

// Memory of the process itself, in KiB: pages of mapped files are the page cache's.
function anonymous(node) {
  const text = readFileSync(`/proc/${node.process.child.pid}/status`, 'utf8');
  return Number(/RssAnon:\s+(\d+) kB/.exec(text)[1]);
}

// The leader's log begins behind what `index` has.
async function cutBehind(cluster, index) {
  await until('the log to be cut', async () => {
    const leader = await cluster.leader();
    return await number(cluster, leader, 'firstIndex') > index;
  }, { timeout: 60000 });
}

async function caughtUp(cluster, node, { timeout = 60000 } = {}) {
  await cluster.ready(node, { timeout });
  await until(`${node.id} to have caught up`, async () => {
    const leader = await cluster.leader();
    return await number(cluster, node, 'appliedIndex') >= await number(cluster, leader, 'commitIndex') - 100;
  }, { timeout });
}

async function follower(cluster) {
  const leader = await cluster.leader();
  return cluster.nodes[(leader.index + 1) % 3];
}

// Every node tells the same of a channel.
async function compare(cluster, channelId, count) {
  let reference;
  for (const node of cluster.nodes) {
    const messages = await cluster.client(node).all(channelId, { deadline: 20000 });
    if (count !== undefined) assert.equal(messages.length, count, node.id);
    messages.forEach((message, i) => assert.equal(message.sequence, String(i + 1), `${node.id}: a gap`));
    const text = JSON.stringify(messages);
    reference ??= text;
    assert.ok(text === reference, `${node.id} differs`);
  }
}

describe('compaction', () => {
  let cluster;
  before(async () => { cluster = await Cluster.start({ extra }); });
  after(async () => { await cluster?.destroy(); });

  test('the log is cut on every node, and a restart finds all that was sent', async () => {
    await fill(cluster, { channelId: 'many', count: 20000, bytes: 1024 });
    await until('all logs to be cut', async () => {
      const indexes = await Promise.all(cluster.nodes.map((node) => number(cluster, node, 'firstIndex')));
      return indexes.every((index) => index > 10000);
    }, { timeout: 30000 });
    for (const index of [0, 1, 2]) await cluster.kill(index);
    cluster.startAll();
    await cluster.leader();
    await compare(cluster, 'many', 20000);
  });
});

describe('snapshots', () => {
  let cluster;
  before(async () => { cluster = await Cluster.start({ extra }); });
  after(async () => { await cluster?.destroy(); });
  let channel = 0;
  let senders;
  afterEach(async () => { await senders?.stop(); senders = undefined; });

  const startLoad = async () => {
    channel += 1;
    const channelId = `load-${channel}`;
    await cluster.client(await cluster.leader()).createChannel({ channelId });
    senders = new Senders(cluster, { channelId, count: 2 });
    return channelId;
  };

  test('a follower that missed 50,000 messages catches up while writes go on, with flat memory', async (t) => {
    const node = await follower(cluster);
    await cluster.kill(node.index);
    await fill(cluster, { channelId: 'missed', count: 50000, bytes: 400 });
    await cutBehind(cluster, 30000);
    await startLoad();
    cluster.startNode(node.index);
    let peak = 0;
    const timer = setInterval(() => { peak = Math.max(peak, anonymous(node)); }, 20);
    await node.process.logged(/a snapshot is installed/, { timeout: 60000 });
    await caughtUp(cluster, node);
    clearInterval(timer);
    t.diagnostic(`peak of anonymous memory ${peak} KiB`);
    assert.ok(peak < 100 * 1024, `peak ${peak} KiB`);
    await senders.stop();
    await senders.verify();
    await compare(cluster, 'missed', 50000);
  });

  test('a wiped node comes back by a snapshot, and counts again', async () => {
    const node = await follower(cluster);
    await fill(cluster, { channelId: 'wiped', count: 6000, bytes: 4096 });
    await cutBehind(cluster, 1000);
    await cluster.kill(node.index);
    rmSync(node.dataDir, { recursive: true });
    cluster.startNode(node.index);
    await node.process.logged(/a snapshot is installed/, { timeout: 60000 });
    await caughtUp(cluster, node);
    const leader = await cluster.leader();
    const other = cluster.nodes.find((n) => n !== leader && n !== node);
    await cluster.kill(other.index);
    // Only with the vote and the acknowledgements of the new one.
    await fill(cluster, { channelId: 'counts', count: 10 });
    await cluster.client(await cluster.leader()).transfer(node.id);
    await until('the new one to lead', async () => (await cluster.leader()) === node);
    cluster.startNode(other.index);
    await cluster.ready(other);
    await compare(cluster, 'wiped', 6000);
    await compare(cluster, 'counts', 10);
  });

  test('a subscription on a node that installs a snapshot goes on without a gap', async () => {
    const node = await follower(cluster);
    await fill(cluster, { channelId: 'watched', count: 10 });
    await cluster.ready(node);
    const watcher = new Follower(node, 'watched');
    await until('the first messages', () => watcher.sequences.length === 10);
    await node.process.pause();
    await fill(cluster, { channelId: 'watched', count: 30000, bytes: 1000, from: 10 });
    await cutBehind(cluster, await number(cluster, await cluster.leader(), 'lastIndex') - 15000);
    node.process.resume();
    await node.process.logged(/a snapshot is installed/, { timeout: 60000 });
    await until('all messages', () => watcher.sequences.length >= 30010, { timeout: 60000 });
    await watcher.stop();
    watcher.assertExactlyOnceInOrder(30010);
  });
});

describe('snapshots under kills', () => {
  let cluster;
  before(async () => {
    cluster = await Cluster.start({ extra });
    await fill(cluster, { channelId: 'heavy', count: 12000, bytes: 8192 });
    await cutBehind(cluster, 1000);
  });
  after(async () => { await cluster?.destroy(); });

  // Begins a transfer to a node that has nothing, and tells when the first bytes have come.
  const wipe = async (node) => {
    await cluster.kill(node.index);
    rmSync(node.dataDir, { recursive: true });
    cluster.startNode(node.index);
    await node.process.logged(/receiving a snapshot/, { timeout: 60000 });
  };

  test('a receiver that is killed again and again goes on where it was', async (t) => {
    const node = await follower(cluster);
    await wipe(node);
    let resumed = 0;
    for (let i = 0; i < 8; i += 1) {
      await delay(10 + 40 * i);
      await cluster.kill(node.index);
      cluster.startNode(node.index);
      await node.process.logged(/receiving a snapshot|stream to peer is established/);
      if (i < 7) await until('a transfer or its end', () =>
        /receiving a snapshot|boot.*snapshot|"stream from peer began"/.test(node.process.stderr));
      if (/goes on where it ended/.test(node.process.stderr)) resumed += 1;
    }
    await caughtUp(cluster, node);
    t.diagnostic(`resumed ${resumed} times`);
    await compare(cluster, 'heavy', 12000);
  });

  test('a sender that is killed is followed by another one', async () => {
    const node = await follower(cluster);
    for (let i = 0; i < 3; i += 1) {
      await cluster.ready(node);
      await wipe(node);
      const leader = await cluster.leader();
      await delay(30 * i);
      await cluster.kill(leader.index);
      cluster.startNode(leader.index);
      await caughtUp(cluster, node);
      await cluster.ready(leader);
    }
    await compare(cluster, 'heavy', 12000);
  });

  test('leadership moves while a snapshot is under way, and writes go on', async () => {
    const node = await follower(cluster);
    await cluster.client(await cluster.leader()).createChannel({ channelId: 'moving' });
    const senders = new Senders(cluster, { channelId: 'moving', count: 2 });
    await wipe(node);
    const leader = await cluster.leader();
    const other = cluster.nodes.find((n) => n !== leader && n !== node);
    await cluster.client(leader).transfer(other.id).catch(() => {});
    await caughtUp(cluster, node);
    await senders.stop();
    await senders.verify();
    await compare(cluster, 'heavy', 12000);
  });
});

describe('damage', () => {
  let cluster;
  before(async () => {
    cluster = await Cluster.start({ extra });
    await fill(cluster, { channelId: 'kept', count: 15000, bytes: 1024 });
    await cutBehind(cluster, 1000);
  });
  after(async () => { await cluster?.destroy(); });

  const flip = (path, at) => {
    const fd = openSync(path, 'r+');
    const byte = Buffer.alloc(1);
    readSync(fd, byte, 0, 1, at);
    byte[0] ^= 0x10;
    writeSync(fd, byte, 0, 1, at);
    closeSync(fd);
  };

  // It may notice at the start or by its scrub; then it ends, and is started again.
  const heals = async (name, sign, hurt) => {
    const node = await follower(cluster);
    await cluster.ready(node);
    await cluster.kill(node.index);
    hurt(node);
    const before = readFileSync(node.logPath, 'utf8').length;
    cluster.startNode(node.index);
    await until(`${name} to be noticed and healed`, async () => {
      if (!node.process.isRunning) {
        assert.match(node.process.stderr, /damaged|checked at the next start/);
        cluster.startNode(node.index);
      }
      return sign.test(readFileSync(node.logPath, 'utf8').slice(before));
    }, { timeout: 60000, every: 100 });
    await caughtUp(cluster, node);
    await compare(cluster, 'kept', 15000);
  };

  const segments = (node) => readdirSync(join(node.dataDir, 'log')).filter((name) => name.startsWith('log-')).sort();

  // One byte alone may be one that nothing uses: most of a page of large rows is at its end.
  test('flipped bytes all over the store', () => heals('the store', /set aside/, (node) => {
    const path = join(node.dataDir, 'store', 'data.mdb');
    const pages = Math.floor(statSync(path).size / 4096);
    for (let i = 1; i < 40; i += 1) flip(path, Math.floor(pages / 40) * i * 4096 + 2000 + 50 * i);
  }));

  test('a flipped byte in the log', async () => {
    // The node may have come back with an empty log just now.
    await fill(cluster, { channelId: 'more', count: 200, bytes: 512 });
    await heals('the log', /nothing is lost|set aside/, (node) => {
      // In a payload, wherever the log has one: the rest of a segment is empty.
      for (const name of segments(node)) {
        const path = join(node.dataDir, 'log', name);
        const at = readFileSync(path).indexOf('x'.repeat(64));
        if (at >= 0) return flip(path, at + 32);
      }
      throw new Error('no payload in the log');
    });
  });

  test('a store that is gone', () => heals('no store', /set aside/, (node) => {
    rmSync(join(node.dataDir, 'store'), { recursive: true });
  }));

  test('a log that is gone', () => heals('no log', /set aside/, (node) => {
    rmSync(join(node.dataDir, 'log'), { recursive: true });
  }));

  // The rows that apply looks into, and nobody else: the client ids.
  test('a damaged row that apply meets ends the process, and its restart heals', async () => {
    const node = await follower(cluster);
    await cluster.ready(node);
    const path = join(node.dataDir, 'store', 'data.mdb');
    const data = readFileSync(path);
    const isLeafOfRows = (at) => (data.readUInt16LE(at + 10) & 0x02) !== 0 && !data.subarray(at, at + 4096).includes('dedupe');
    for (let at = 2 * 4096; at + 4096 <= data.length; at += 4096) if (isLeafOfRows(at)) flip(path, at + 4090);
    node.process.isAskedToEnd = true;
    await fill(cluster, { channelId: 'kept', count: 100, bytes: 1024, from: 7000 });
    await until('the node to end', () => !node.process.isRunning, { timeout: 60000 });
    assert.equal(node.process.result.code, 1);
    assert.ok(existsSync(join(node.dataDir, 'store', 'suspect')));
    cluster.startNode(node.index);
    await caughtUp(cluster, node);
    await compare(cluster, 'kept', 15000);
  });

  test('damage at run time ends the process, and its restart heals', async () => {
    const node = await follower(cluster);
    await cluster.ready(node);
    const path = join(node.dataDir, 'store', 'data.mdb');
    const size = statSync(path).size;
    for (let at = Math.floor(size / 3); at < size / 2; at += 65536 + 977) flip(path, at);
    node.process.isAskedToEnd = true;
    await cluster.client(node).all('kept', { deadline: 10000 }).catch(() => {});
    await until('the node to end', () => !node.process.isRunning, { timeout: 60000 });
    assert.equal(node.process.result.code, 1);
    assert.match(node.process.stderr, /store is damaged|checked at the next start/);
    cluster.startNode(node.index);
    await caughtUp(cluster, node);
    await compare(cluster, 'kept', 15000);
    assert.ok(!existsSync(join(node.dataDir, 'store', 'suspect')));
  });
});
