// A disk of one node that is really full: a small tmpfs under its data_dir. Needs to be allowed to mount.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Cluster, until } from './lib/cluster.mjs';

const mount = (...args) => spawnSync('mount', args).status === 0;
const umount = (path) => spawnSync('umount', [path]).status === 0;

function canMount() {
  const folder = mkdtempSync(join(tmpdir(), 'raftogram-mount-'));
  const can = mount('-t', 'tmpfs', '-o', 'size=1m', 'none', folder) && umount(folder);
  rmdirSync(folder);
  return can;
}

describe('a node whose disk is full', { skip: !canMount() && 'may not mount' }, () => {
  let cluster;
  let full;
  before(async () => {
    cluster = await Cluster.create({ size: 3 });
    full = cluster.nodes[2];
    mkdirSync(full.dataDir);
    assert.ok(mount('-t', 'tmpfs', '-o', 'size=24m', 'none', full.dataDir));
    cluster.startAll();
    await cluster.client(await cluster.leader()).createChannel({ channelId: 'c' });
  });
  after(async () => {
    await Promise.all(cluster.nodes.map((node) => node.process?.stop()));
    umount(full.dataDir);
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

  test('says so, and the others go on', async () => {
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

  test('outlives elections, each of which wants a word in its log', async () => {
    for (let i = 0; i < 60; i += 1) await hand(cluster.nodes[i % 2]);
    assert.ok(full.process.isRunning, full.process.stderr.slice(-500));
  });

  test('goes on when there is room, and can lead again', async () => {
    assert.ok(mount('-o', 'remount,size=400m', full.dataDir));
    await until('its log to have room', async () => {
      const { is_log_full: isFull, is_ready: isReady } = await status();
      return !isFull && isReady;
    });
    await hand(full);
    await cluster.client(full).send({ channelId: 'c', payload: Buffer.from('again') });
  });
});
