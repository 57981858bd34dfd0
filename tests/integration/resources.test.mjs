// What runs out: disk space, file descriptors, memory; and disks that fail or are slow. Real
// processes; what a disk does is done by a small tmpfs or by the preloaded tests/chaos/disk.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, statfsSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { CONTROL_BYTES, FAULTY_DISK, setControl } from '../chaos/disk/faulty_disk.mjs';
import { Cluster, Process, until } from './lib/cluster.mjs';
import { Client, errorDetails, grpc } from './lib/messenger.mjs';
import { canMount, mountDisk, needs, remountDisk, resizeDisk, runs, unmountDisk } from './lib/needs.mjs';

const MOUNT_BYTES = 96 << 20;
const PAYLOAD = Buffer.alloc(60 << 10, 'x');

const run = (...command) => spawnSync(command[0], command.slice(1), { encoding: 'utf8' });

const hasPrlimit = runs('prlimit', '--version');
const whyNoShim = existsSync(FAULTY_DISK) ? false : `this build has no ${FAULTY_DISK} (a sanitizer wants to come first)`;

class ScarceCluster extends Cluster {
  static async start({ mounted = false, ...options } = {}) {
    const cluster = Object.setPrototypeOf(await Cluster.create(options), ScarceCluster.prototype);
    for (const node of cluster.nodes) {
      node.controlPath = join(cluster.dir, `${node.id}.control`);
      writeFileSync(node.controlPath, Buffer.alloc(CONTROL_BYTES));
      if (mounted) cluster.mount(node);
    }
    cluster.writeConfigs();
    cluster.startAll();
    cluster.acked = [];
    const leader = await cluster.leader();
    await cluster.client(leader).createChannel({ channelId: 'c' });
    return cluster;
  }

  mount(node) {
    node.mount = join(this.dir, `${node.id}.mount`);
    node.dataDir = join(node.mount, 'data');
    mkdirSync(node.mount);
    const { status, stderr } = mountDisk(node.mount, MOUNT_BYTES);
    assert.equal(status, 0, stderr);
  }

  resize(node, bytes) {
    const { status, stderr } = resizeDisk(node.mount, bytes);
    assert.equal(status, 0, stderr);
  }

  fillDisk(node) {
    const { bsize, blocks, bfree } = statfsSync(node.mount);
    this.resize(node, (blocks - bfree) * bsize + (64 << 10));
  }

  makeRoom(node) { this.resize(node, MOUNT_BYTES); }

  setDisk(node, values) { setControl(node.controlPath, values); }

  startNode(index) {
    const node = this.nodes[index];
    const env = existsSync(FAULTY_DISK)
      ? { LD_PRELOAD: FAULTY_DISK, RAFTOGRAM_CHAOS_DIR: node.dataDir, RAFTOGRAM_CHAOS_CONTROL: node.controlPath } : {};
    node.process = new Process(node.id, ['-config', node.configPath], { logPath: node.logPath, env });
    return node;
  }

  // 'OK' or why not; an acknowledged one is remembered.
  async send(node, payload = PAYLOAD, options = { deadline: 3000 }) {
    const clientMessageId = `m${this.sent = (this.sent ?? 0) + 1}`;
    try {
      const { sequence } = await this.client(node).send({ channelId: 'c', payload, clientMessageId }, options);
      this.acked.push({ sequence, clientMessageId });
      return 'OK';
    } catch (error) {
      return `${grpc.status[error.code]}/${errorDetails(error).info?.reason}`;
    }
  }

  // The different outcomes of many at once.
  async sendMany(node, count = 20, payload = PAYLOAD) {
    return [...new Set(await Promise.all(Array.from({ length: count }, () => this.send(node, payload))))];
  }

  // Whoever leads, it is among them.
  async sendToAll() {
    return (await Promise.all(this.nodes.map((node) => this.sendMany(node)))).flat();
  }

  // Everything that was acknowledged, once, in its place, without a gap.
  async checkHistory(node) {
    const messages = await this.client(node).all('c', { deadline: 10000 });
    messages.forEach((message, i) => assert.equal(message.sequence, String(i + 1)));
    const ids = messages.map((message) => message.clientMessageId);
    assert.equal(new Set(ids).size, ids.length);
    for (const { sequence, clientMessageId } of this.acked) assert.equal(ids[Number(sequence) - 1], clientMessageId);
  }

  async destroy() {
    await super.destroy({ keep: true }).finally(() => {
      for (const node of this.nodes) if (node.mount) unmountDisk(node.mount);
    });
    run('rm', '-rf', this.dir);
  }
}

// Starts one, and ends it whatever happens.
async function withCluster(options, action) {
  const cluster = await ScarceCluster.start(options);
  try {
    await action(cluster);
  } catch (error) {
    error.message += `\n${cluster.nodes.map((node) => `${node.id}: ${node.process?.stderr.slice(-1000)}`).join('\n')}`;
    throw error;
  } finally {
    await cluster.destroy();
  }
}

// Its lines that are no JSON: what it says to a person.
const lastWords = (process) => process.stderr.split('\n').filter((line) => line !== '' && !line.startsWith('{'));

describe('a full disk', needs(canMount(), 'no disk can be mounted here'), () => {
  test('of the leader: another leads and goes on, and room mends it', async () => {
    await withCluster({ mounted: true }, async (cluster) => {
      const full = await cluster.leader();
      cluster.fillDisk(full);
      let other;
      await until('another leader', async () => {
        await cluster.sendMany(full);
        other = await cluster.leader({ timeout: 3000 });
        return other !== full;
      });
      for (let i = 0; i < 10; i += 1) assert.deepEqual(await cluster.sendMany(other), ['OK']);
      assert.ok(full.process.isRunning);
      cluster.makeRoom(full);
      await cluster.ready(full);
      await cluster.checkHistory(full);
    });
  });

  test('of all nodes: writes are refused early, reads go on, and room mends it', async () => {
    await withCluster({ mounted: true }, async (cluster) => {
      cluster.nodes.forEach((node) => cluster.fillDisk(node));
      const outcomes = new Set();
      await until('DISK_FULL', async () => {
        (await cluster.sendToAll()).forEach((outcome) => outcomes.add(outcome));
        return outcomes.has('RESOURCE_EXHAUSTED/DISK_FULL');
      });
      for (let i = 0; i < 6; i += 1) {
        const begin = Date.now();
        await cluster.send(cluster.nodes[i % 3], Buffer.from('x'));
        assert.ok(Date.now() - begin < 2500, 'a refusal is quick');
      }
      for (const node of cluster.nodes) await cluster.checkHistory(node);
      cluster.nodes.forEach((node) => assert.ok(node.process.isRunning));
      cluster.nodes.forEach((node) => cluster.makeRoom(node));
      await until('writes', async () => (await cluster.sendToAll()).includes('OK'));
      for (const node of cluster.nodes) {
        await cluster.ready(node);
        await cluster.checkHistory(node);
      }
    });
  });

  test('that can only be read: the node says so and does not start; it does when it can be written', async () => {
    await withCluster({ mounted: true }, async (cluster) => {
      const leader = await cluster.leader();
      const [node] = cluster.followersOf(leader);
      assert.equal(await cluster.send(leader), 'OK');
      assert.deepEqual(await cluster.stopNode(node.index), { code: 0, signal: null });
      assert.equal(remountDisk(node.mount, 'ro').status, 0);
      cluster.startNode(node.index);
      assert.deepEqual(await node.process.exited, { code: 1, signal: null });
      const words = lastWords(node.process);
      assert.equal(words.length, 1, words.join('\n'));
      assert.ok(words[0].includes(node.dataDir), words[0]);
      assert.equal(remountDisk(node.mount, 'rw').status, 0);
      cluster.startNode(node.index);
      await cluster.ready(node);
      await cluster.checkHistory(node);
    });
  });
});

describe('a bad disk', { skip: whyNoShim }, () => {
  test('whose fsync fails: the process ends with one line, the others go on, nothing is lost', async () => {
    await withCluster({}, async (cluster) => {
      const failing = await cluster.leader();
      assert.equal(await cluster.send(failing), 'OK');
      cluster.setDisk(failing, { syncEio: 1 });
      await cluster.send(failing);
      assert.deepEqual(await failing.process.exited, { code: 1, signal: null });
      assert.deepEqual(lastWords(failing.process), [
        `raftogram: ${failing.dataDir}: the log cannot be written: input/output error`]);
      cluster.closeClients();
      const other = await until('another leader', async () => {
        const statuses = await Promise.all(cluster.running.map((node) => cluster.status(node)));
        return cluster.running[statuses.findIndex((status) => status.role === 'leader' && status.hasQuorum)];
      });
      assert.equal(await cluster.send(other), 'OK');
      cluster.setDisk(failing, { syncEio: 0 });
      cluster.startNode(failing.index);
      await cluster.ready(failing);
      await cluster.checkHistory(failing);
    });
  });

  test('that is slow: the leader stays, and every write is acknowledged', async () => {
    await withCluster({}, async (cluster) => {
      const leader = await cluster.leader();
      const { term } = await cluster.status(leader);
      cluster.setDisk(leader, { syncDelayUs: 300000 });
      const begin = Date.now();
      while (Date.now() - begin < 3000) {
        assert.deepEqual(await cluster.sendMany(leader, 20, Buffer.from('x')), ['OK']);
      }
      assert.equal((await cluster.status(leader)).term, term);
      cluster.setDisk(leader, { syncDelayUs: 0 });
      for (const node of cluster.nodes) await cluster.checkHistory(node);
    });
  });
});

describe('few file descriptors', needs(hasPrlimit, 'no prlimit(1)'), () => {
  test('clients beyond them are turned away, the others and the cluster go on, and later ones are taken', async () => {
    await withCluster({}, async (cluster) => {
      const leader = await cluster.leader();
      const { term } = await cluster.status(leader);
      const { pid } = leader.process.child;
      assert.equal(run('prlimit', '--pid', String(pid), '--nofile=128:128').status, 0);
      for (const address of [leader.grpc, leader.http, leader.raft]) {
        const sockets = Array.from({ length: 150 }, () => {
          const socket = connect(Number(address.split(':')[1]), '127.0.0.1');
          socket.on('error', () => {});
          socket.on('close', () => { socket.isGone = true; });
          return socket;
        });
        await until('some to be turned away', () => sockets.filter((socket) => socket.isGone).length >= 40);
        // A new segment of the log needs a descriptor too.
        for (let i = 0; i < 5; i += 1) assert.deepEqual(await cluster.sendMany(leader), ['OK']);
        assert.ok(readdirSync(`/proc/${pid}/fd`).length < 128);
        if (address === leader.grpc) {
          // What clients may not have, the other nodes may.
          const [follower] = cluster.followersOf(leader);
          await cluster.kill(follower.index);
          follower.client?.close();
          follower.client = undefined;
          cluster.startNode(follower.index);
          await cluster.ready(follower);
        }
        sockets.forEach((socket) => socket.destroy());
        await until('room', async () => (await fetch(`http://${leader.http}/livez`, { signal: AbortSignal.timeout(1000) })).ok);
        const fresh = new Client(leader.grpc);
        await until('a new client to be served', () => fresh.check('', { deadline: 1000 }).then(() => true));
        fresh.close();
      }
      assert.equal((await cluster.status(leader)).term, term);
      for (const node of cluster.nodes) await cluster.checkHistory(node);
    });
  });
});

describe('little memory', needs(hasPrlimit, 'no prlimit(1)'), () => {
  test('the node refuses or ends, and what was acknowledged is there', async () => {
    await withCluster({}, async (cluster) => {
      const leader = await cluster.leader();
      const { pid } = leader.process.child;
      const bytes = Number(/VmSize:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) * 1024;
      assert.equal(run('prlimit', '--pid', String(pid), `--as=${bytes}:`).status, 0);
      const outcomes = new Set();
      for (let i = 0; i < 10 && leader.process.isRunning; i += 1) {
        (await cluster.sendMany(leader, 100)).forEach((outcome) => outcomes.add(outcome));
      }
      // gRPC's allocator has no other answer than abort().
      if (!leader.process.isRunning) assert.match(JSON.stringify(leader.process.result), /"code":1|SIGABRT/);
      for (const outcome of outcomes) assert.match(outcome, /^(OK|RESOURCE_EXHAUSTED|UNAVAILABLE|DEADLINE_EXCEEDED|FAILED_PRECONDITION.NOT_LEADER)/);
      if (!leader.process.isRunning) {
        cluster.closeClients();
        cluster.startNode(leader.index);
      } else {
        run('prlimit', '--pid', String(pid), '--as=unlimited:');
      }
      await cluster.leader();
      await cluster.ready(leader);
      await until('writes', async () => (await cluster.sendToAll()).includes('OK'));
      for (const node of cluster.nodes) await cluster.checkHistory(node);
    });
  });
});
