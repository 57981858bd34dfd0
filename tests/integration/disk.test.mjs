// A disk of one node that is really full: a small tmpfs under its data_dir. Needs to be allowed to mount.
import assert from 'node:assert/strict';
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Cluster, until } from './lib/cluster.mjs';
import { errorDetails, grpc, refusal } from './lib/messenger.mjs';
import { canMount, mountDisk, needs, resizeDisk, unmountDisk } from './lib/needs.mjs';

const mount = (folder, mib) => mountDisk(folder, mib << 20).status === 0;
const resize = (folder, mib) => resizeDisk(folder, mib << 20).status === 0;

// What the log lets go of must not help: the disk is full, whoever fills it.
function stuff(node) {
  const file = openSync(join(node.dataDir, 'ballast'), 'a');
  for (const bytes of [1 << 20, 4096]) {
    try {
      for (;;) writeSync(file, Buffer.alloc(bytes));
    } catch (error) {
      assert.equal(error.code, 'ENOSPC');
    }
  }
  closeSync(file);
}

describe('a node whose disk is full', needs(canMount(), 'may not mount'), () => {
  let cluster;
  let full;
  before(async () => {
    cluster = await Cluster.create({ size: 3 });
    full = cluster.nodes[2];
    mkdirSync(full.dataDir);
    assert.ok(mount(full.dataDir, 24));
    cluster.startAll();
    await cluster.client(await cluster.leader()).createChannel({ channelId: 'c' });
  });
  after(async () => {
    await Promise.all(cluster.nodes.map((node) => node.process?.stop()));
    unmountDisk(full.dataDir);
    await cluster.destroy();
  });

  const status = async () => (await fetch(`http://${full.http}/status`)).json();
  // Whoever leads; asked of a node that is well.
  const leading = async () => {
    const { leaderId } = await cluster.client(cluster.nodes[0]).status();
    return cluster.nodes.find((node) => node.id === leaderId);
  };
  // Over and over: leadership may be moving already.
  const hand = (target) => until(`${target.id} to lead`, async () => {
    const leader = await leading();
    if (leader === target) return true;
    await cluster.client(leader).transfer(target.id, { deadline: 3000 });
    return (await leading()) === target;
  }, { timeout: 60000 });

  let subscription;
  test('says so, and the others go on', async () => {
    subscription = cluster.client(full).subscribe({ channelId: 'c' });
    await until('its log to be full', async () => {
      const client = cluster.client(await leading());
      await Promise.allSettled(Array.from({ length: 10 }, () =>
        client.send({ channelId: 'c', payload: Buffer.alloc(60000) }, { deadline: 5000 })));
      return (await status()).is_log_full;
    }, { timeout: 60000 });
    await until('another one to lead', async () => {
      const leader = await leading();
      return leader && leader !== full && cluster.client(leader).send({ channelId: 'c', payload: Buffer.from('on') });
    });
  });

  test('is not ready while it stands still, and lets its clients go elsewhere', async () => {
    const other = cluster.nodes[0];
    await until('it to say so', async () => {
      stuff(full); // what is left of its last segment is taken up by what it is sent
      const client = cluster.client(await leading());
      await Promise.allSettled(Array.from({ length: 5 }, () =>
        client.send({ channelId: 'c', payload: Buffer.alloc(60000) }, { deadline: 5000 })));
      const answer = await fetch(`http://${full.http}/readyz?verbose`);
      return answer.status === 503 && /caught_up failed: its disk has no room for the log: it is at entry \d+, \d+ are committed/.test(await answer.text());
    }, { timeout: 60000 });
    const begin = Date.now();
    const { code, reason } = await refusal(cluster.client(full).history({ channelId: 'c' }, { deadline: 10000 }));
    assert.deepEqual({ code, reason }, { code: 'UNAVAILABLE', reason: 'NO_QUORUM' });
    assert.ok(Date.now() - begin < 5000);
    await until('its subscription to end', () => subscription.isEnded);
    assert.equal(subscription.error.code, grpc.status.UNAVAILABLE);
    assert.equal(errorDetails(subscription.error).info.reason, 'NO_QUORUM');
    assert.match(subscription.error.details, /has stayed at entry \d+ for 10 s/);
    assert.ok((await cluster.client(other).history({ channelId: 'c' })).messages.length > 0);
  });

  test('outlives elections, each of which wants a word in its log', async () => {
    for (let i = 0; i < 60; i += 1) await hand(cluster.nodes[i % 2]);
    assert.ok(full.process.isRunning, full.process.stderr.slice(-500));
  });

  test('goes on when there is room, and can lead again', async () => {
    assert.ok(resize(full.dataDir, 400));
    await until('its log to have room', async () => {
      const { is_log_full: isFull, is_ready: isReady } = await status();
      return !isFull && isReady;
    });
    await hand(full);
    await cluster.client(full).send({ channelId: 'c', payload: Buffer.from('again') });
  });
});

describe('a cluster where two of three disks are full', needs(canMount(), 'may not mount'), () => {
  let cluster;
  let leader;
  let others;
  before(async () => {
    cluster = await Cluster.create({ size: 3 });
    for (const node of cluster.nodes) {
      mkdirSync(node.dataDir);
      assert.ok(mount(node.dataDir, 24));
    }
    cluster.startAll();
    leader = await cluster.leader();
    others = cluster.nodes.filter((node) => node !== leader);
    assert.ok(resize(leader.dataDir, 400));
    await cluster.client(leader).createChannel({ channelId: 'c' });
  });
  after(async () => {
    await Promise.all(cluster.nodes.map((node) => node.process?.stop()));
    for (const node of cluster.nodes) unmountDisk(node.dataDir);
    await cluster.destroy();
  });

  const status = async (node) => (await fetch(`http://${node.http}/status`)).json();
  const send = (payload) => cluster.client(leader).send({ channelId: 'c', payload }, { deadline: 4000 });
  const small = Buffer.from('small');
  const full = { code: 'RESOURCE_EXHAUSTED', reason: 'DISK_FULL' };
  const history = () => cluster.client(leader).all('c', { deadline: 3000 });

  test('refuses writes early, and says why', async () => {
    const refusals = [];
    await until('writes to be refused', async () => {
      others.forEach(stuff);
      const sends = Array.from({ length: 10 }, () => send(Buffer.alloc(60000)));
      const results = await Promise.allSettled(sends);
      for (let i = 0; i < 10; i += 1) if (results[i].reason) refusals.push(await refusal(sends[i]));
      return refusals.length > 0;
    }, { timeout: 60000 });
    // What was on its way when the disks were full was not left to its deadline either.
    for (const found of refusals) assert.deepEqual(found, full);
    const begin = Date.now();
    for (let i = 0; i < 20; i += 1) assert.deepEqual(await refusal(send(small)), full);
    assert.ok(Date.now() - begin < 4000);
    const states = await Promise.all(cluster.nodes.map(status));
    assert.deepEqual(states.map(({ is_log_full: isFull }, i) => isFull === others.includes(cluster.nodes[i])),
      [true, true, true]);
  });

  test('serves reads, also after the leader was started anew', async () => {
    const before = await history();
    assert.ok(before.length > 0);
    await leader.process.stop('SIGKILL');
    cluster.startNode(cluster.nodes.indexOf(leader));
    await until('it to lead again', async () => (await cluster.client(leader).status()).leaderId === leader.id, { timeout: 30000 });
    await until('reads to be served', () => history().then(({ length }) => length === before.length, () => false));
    await until('writes to be refused', async () => (await refusal(send(small))).reason === 'DISK_FULL');
  });

  test('takes writes again when one of them has room', async () => {
    assert.ok(resize(others[1].dataDir, 400));
    await until('writes to be taken', () => send(Buffer.from('again')).then(() => true, () => false));
    assert.equal((await history()).at(-1).payload.toString(), 'again');
  });
});
