// What a node lost while it was down: the end of its log, all that came since a copy of its data_dir, small
// files. It notices, or its leader does, both say so, and it heals.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, cpSync, fstatSync, openSync, readFileSync, readSync, readdirSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Cluster, DAEMON, delay, until } from './lib/cluster.mjs';

const SECTOR = 512;

// The newest segment of a node's log, and where the last written sector of it ends.
function logEnd(node) {
  const dir = join(node.dataDir, 'log');
  const name = readdirSync(dir).filter((file) => file.startsWith('log-')).sort().at(-1);
  const bytes = readFileSync(join(dir, name));
  let end = bytes.length;
  while (end > 0 && bytes.subarray(end - SECTOR, end).every((byte) => byte === 0)) end -= SECTOR;
  return { path: join(dir, name), end };
}

function zeroEnd(node, bytes) {
  const { path, end } = logEnd(node);
  const from = Math.max(0, end - bytes);
  const file = openSync(path, 'r+');
  writeSync(file, Buffer.alloc(end - from), 0, end - from, from);
  closeSync(file);
}

function flipBit(path, byte) {
  const file = openSync(path, 'r+');
  const one = Buffer.alloc(1);
  readSync(file, one, 0, 1, byte % fstatSync(file).size);
  one[0] ^= 4;
  writeSync(file, one, 0, 1, byte % fstatSync(file).size);
  closeSync(file);
}

async function send(cluster, count, { payload = 'x'.repeat(200) } = {}) {
  const client = cluster.client(await cluster.leader());
  for (let i = 0; i < count; i += 1) await client.send({ channelId: 'c', payload: Buffer.from(payload) }, { deadline: 10000 });
}

const readyz = async (node) => {
  const answer = await fetch(`http://${node.http}/readyz?verbose`, { signal: AbortSignal.timeout(2000) });
  return { status: answer.status, text: await answer.text() };
};

// It is whole again when everybody counts it.
const healed = (cluster, victim) => until(`${victim.id} to be whole`, async () => {
  const leader = await cluster.leader();
  const { members } = await cluster.client(leader).status();
  const { status } = await readyz(victim);
  const { commitIndex } = await cluster.client(leader).status();
  const { appliedIndex } = await cluster.client(victim).status();
  return status === 200 && members.every(({ state }) => state !== 'recovering') && Number(appliedIndex) >= Number(commitIndex);
}, { timeout: 60000 });

const allOf = async (cluster, node) => (await cluster.client(node).all('c', { deadline: 10000 })).length;

describe('a follower that lost something while it was down', () => {
  let cluster;
  let victim;
  let total = 0;
  before(async () => {
    cluster = await Cluster.start({ size: 3 });
    await cluster.client(await cluster.leader()).createChannel({ channelId: 'c' });
    victim = cluster.followersOf(await cluster.leader())[0];
  });
  after(() => cluster.destroy());
  const write = async (count) => { await send(cluster, count); total += count; };
  const restart = async (damage, signal = 'SIGKILL') => {
    await victim.process.stop(signal);
    await damage();
    cluster.startNode(victim.index);
  };

  test('notices that the last 4 KiB of its log are zeros, and heals', async () => {
    await write(150);
    await restart(() => zeroEnd(victim, 4096));
    await victim.process.logged(/the log is damaged/);
    await victim.process.logged(/the end is lost/);
    await healed(cluster, victim);
    assert.equal(await allOf(cluster, victim), total);
  });

  test('notices also when it was idle and just its last write is gone', async () => {
    await write(20);
    await until('its last write to be marked', () => {
      const { stdout } = spawnSync(DAEMON, ['-dump-log', victim.dataDir], { encoding: 'utf8' });
      const last = (pattern) => Math.max(...[...stdout.matchAll(pattern)].map(([, number]) => Number(number)));
      return last(/ frame (\d+)[ ,]/g) === last(/mark: frame (\d+) is durable/g);
    });
    await restart(() => zeroEnd(victim, SECTOR));
    await victim.process.logged(/the end is lost/);
    await healed(cluster, victim);
    assert.equal(await allOf(cluster, victim), total);
  });

  test('is told by its leader that it has an old copy of its data_dir', async () => {
    const leader = await cluster.leader();
    const copy = join(cluster.dir, 'copy');
    await write(50);
    await restart(() => cpSync(victim.dataDir, copy, { recursive: true }), 'SIGTERM');
    await cluster.ready(victim);
    await write(300);
    await restart(() => {
      rmSync(victim.dataDir, { recursive: true });
      cpSync(copy, victim.dataDir, { recursive: true });
    });
    await victim.process.logged(/this node lacks entries that it had acknowledged/);
    await leader.process.logged(new RegExp(`a member lacks entries that it had acknowledged.*${victim.id}`));
    await healed(cluster, victim);
    assert.equal(await allOf(cluster, victim), total);
    assert.ok(victim.process.isRunning);
  });

  for (const [what, damage, line] of [
    ['a flipped bit in its identity', () => flipBit(join(victim.dataDir, 'identity'), 31), /identity is written again.*damaged/],
    ['an empty identity', () => writeFileSync(join(victim.dataDir, 'identity'), ''), /identity is written again.*damaged/],
    ['no identity', () => rmSync(join(victim.dataDir, 'identity')), /identity is written again.*missing/],
    ['no store', () => rmSync(join(victim.dataDir, 'store'), { recursive: true }), /the store is missing/],
    ['no mark that there was a log', () => rmSync(join(victim.dataDir, 'log', 'begun')), /files of the log were missing.*begun/],
    ['no spare segment', () => rmSync(join(victim.dataDir, 'log', 'spare')), /files of the log were missing.*spare/],
  ]) {
    test(`starts with ${what}, says so, and heals`, async () => {
      await write(5);
      await restart(damage);
      await victim.process.logged(line);
      await healed(cluster, victim);
      assert.equal(await allOf(cluster, victim), total);
    });
  }
});

test('the lost end of one log does not un-acknowledge what a majority had', async () => {
  const cluster = await Cluster.start({ size: 3 });
  try {
    const a = await cluster.leader();
    const [b, c] = cluster.followersOf(a);
    await cluster.client(a).createChannel({ channelId: 'c' });
    await send(cluster, 50);
    await cluster.kill(c.index); // falls behind
    await send(cluster, 64);
    await cluster.kill(b.index);
    await cluster.kill(a.index);
    zeroEnd(b, 30000);
    cluster.startNode(b.index);
    cluster.startNode(c.index);
    await b.process.logged(/the log is damaged/);
    // Long enough for any election; none may be won.
    const end = Date.now() + 5000;
    while (Date.now() < end) {
      const roles = await Promise.all([b, c].map((node) => cluster.status(node).then(({ role }) => role, () => '')));
      assert.ok(!roles.includes('leader'), roles.join());
      await delay(100);
    }
    assert.equal((await readyz(b)).status, 503);
    cluster.startNode(a.index);
    await healed(cluster, b);
    assert.equal(await allOf(cluster, b), 114);
    assert.equal(await allOf(cluster, c), 114);
  } finally {
    await cluster.destroy();
  }
});
