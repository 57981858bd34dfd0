// The process and its surroundings: a stderr that nobody reads, closed descriptors, signals, systemd.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, constants, openSync, readFileSync, readSync, readlinkSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Cluster, DAEMON, Process, ROOT, until } from './lib/cluster.mjs';
import { Manager } from './lib/systemd.mjs';

const { O_RDWR, O_NONBLOCK } = constants;

// A named pipe as stderr, whose reader is this test, when it likes.
class Pipe {
  constructor(folder, name) {
    this.path = join(folder, name);
    assert.equal(spawnSync('mkfifo', [this.path]).status, 0);
    this.fd = openSync(this.path, O_RDWR | O_NONBLOCK);
    this.writeEnd = openSync(this.path, O_RDWR); // blocking, as a shell would give it
    this.text = '';
  }

  fill() {
    for (const size of [4096, 1]) {
      try {
        for (;;) writeSync(this.fd, Buffer.alloc(size, 'x'));
      } catch (error) {
        assert.equal(error.code, 'EAGAIN');
      }
    }
  }

  read() {
    const buffer = Buffer.alloc(65536);
    try {
      for (;;) this.text += buffer.toString('utf8', 0, readSync(this.fd, buffer));
    } catch (error) {
      assert.equal(error.code, 'EAGAIN');
    }
    return this.text;
  }

  get lines() { return this.read().replace(/^x+/, '').split('\n').slice(0, -1); }

  close() {
    closeSync(this.fd);
    closeSync(this.writeEnd);
  }
}

class MuteCluster extends Cluster {
  startNode(index) {
    const node = this.nodes[index];
    node.pipe ??= new Pipe(this.dir, `${node.id}.stderr`);
    node.pipe.fill();
    const child = spawn(DAEMON, ['-config', node.configPath], { stdio: ['ignore', 'ignore', node.pipe.writeEnd] });
    const ended = new Promise((done) => { child.on('exit', (code, signal) => done({ code, signal })); });
    node.process = Object.assign(Object.create(Process.prototype), { name: node.id, child, stderr: '', exited: ended });
    ended.then((result) => { node.process.result = result; });
    return node;
  }
}

const metric = async (node, name) => {
  const text = await (await fetch(`http://${node.http}/metrics`, { signal: AbortSignal.timeout(5000) })).text();
  return Number(new RegExp(`^raftogram_${name} (.*)$`, 'm').exec(text)?.[1]);
};

describe('nobody reads stderr', () => {
  let cluster;
  before(async () => { cluster = Object.setPrototypeOf(await Cluster.create({ size: 3 }), MuteCluster.prototype); });
  after(async () => {
    cluster.nodes.forEach((node) => node.process?.isRunning && node.process.child.kill('SIGKILL'));
    await cluster.destroy().catch(() => {});
    cluster.nodes.forEach((node) => node.pipe.close());
    rmSync(cluster.dir, { recursive: true, force: true });
  });

  test('the cluster forms and serves', async () => {
    cluster.startAll();
    const leader = await cluster.leader();
    await cluster.client(leader).createChannel({ channelId: 'c' });
    assert.equal((await cluster.client(leader).send({ channelId: 'c', payload: Buffer.from('x') })).sequence, '1');
  });

  test('lines are dropped, counted, and told of when they flow again', async () => {
    const [node] = cluster.nodes;
    // Each change of the leader is a line or more on every node.
    await until('a dropped line', async () => {
      for (let i = 0; i < 20; i += 1) await cluster.client(await cluster.leader()).transfer();
      return await metric(node, 'log_lines_dropped_total') > 0;
    }, { timeout: 120000 });
    await until('the notice', () => node.pipe.lines.some((line) => /\d+ log lines were dropped/.test(line)));
    const lines = node.pipe.lines.map((line) => JSON.parse(line));
    const told = lines.reduce((sum, line) => sum + (line.module === 'log' ? line.lost_lines : 0), 0);
    assert.ok(told > 0 && told <= await metric(node, 'log_lines_dropped_total'));
    const leader = await cluster.leader();
    await cluster.client(leader).send({ channelId: 'c', payload: Buffer.from('y') });
  });

  test('a node stops and starts all the same', async () => {
    const [, node] = cluster.nodes;
    node.pipe.fill();
    const begin = Date.now();
    assert.deepEqual(await node.process.stop(), { code: 0, signal: null });
    assert.ok(Date.now() - begin < 20000, `${Date.now() - begin} ms`);
    cluster.startNode(1);
    await cluster.ready(node);
  });

  test('a start that fails ends with its exit code', async () => {
    const [node] = cluster.nodes; // its data_dir is locked
    const pipe = new Pipe(cluster.dir, 'second.stderr');
    pipe.fill();
    const child = spawn(DAEMON, ['-config', node.configPath], { stdio: ['ignore', 'ignore', pipe.writeEnd] });
    const code = await new Promise((done) => { child.on('exit', done); });
    assert.equal(code, 1);
    pipe.close();
  });
});

describe('standard descriptors that are closed', () => {
  let cluster;
  before(async () => { cluster = await Cluster.create({ size: 1 }); });
  after(async () => { await cluster.destroy(); });

  test('are filled with /dev/null, and no file is written into but its own', async () => {
    const [node] = cluster.nodes;
    node.process = new Process(node.id, ['-config', node.configPath], { wrapper: ['sh', '-c', 'exec "$0" "$@" <&- >&- 2>&-'] });
    await cluster.leader();
    const { pid } = node.process.child;
    for (const fd of [0, 1, 2]) assert.equal(readlinkSync(`/proc/${pid}/fd/${fd}`), '/dev/null');
    const lock = readFileSync(join(node.dataDir, 'LOCK'), 'utf8');
    assert.doesNotMatch(lock, /"level"/);
    assert.equal((await node.process.stop()).code, 0);
  });
});

describe('signals', () => {
  let cluster;
  before(async () => { cluster = await Cluster.start({ size: 1 }); });
  after(async () => { await cluster.destroy(); });

  test('none but SIGTERM, SIGINT and those of a crash end the node', async () => {
    const [node] = cluster.nodes;
    const numbers = [1, 10, 12, 13, 14, 16, 17, 18, 23, 24, 25, 26, 27, 28, 29, 30, ...Array.from({ length: 31 }, (_, i) => 34 + i)];
    for (const number of numbers) {
      const { status, stderr } = spawnSync('bash', ['-c', `kill -${number} ${node.process.child.pid}`], { encoding: 'utf8' });
      assert.equal(status, 0, stderr);
      await cluster.health(node);
    }
    await node.process.logged(/SIGHUP is ignored: /);
    assert.ok(node.process.isRunning);
    await cluster.client(node).createChannel({ channelId: 'c' });
  });

  test('that come while it starts do not end it either', async () => {
    const [node] = cluster.nodes;
    await node.process.stop();
    cluster.startNode(0);
    const { pid } = node.process.child;
    await until('main() to run', () => BigInt(`0x${/^SigBlk:\s*(\w+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]}`) !== 0n, { every: 1 });
    for (let i = 0; i < 20; i += 1) node.process.child.kill(['SIGHUP', 'SIGUSR1', 'SIGALRM'][i % 3]);
    await cluster.ready(node);
  });
});

describe('systemd', () => {
  let cluster;
  let manager;
  before(async () => {
    cluster = await Cluster.create({ size: 1 });
    manager = new Manager(cluster.dir);
    await manager.ready();
    const [node] = cluster.nodes;
    node.process = new Process(node.id, ['-config', node.configPath], {
      logPath: node.logPath, env: { NOTIFY_SOCKET: manager.path, WATCHDOG_USEC: '1000000' },
    });
    await cluster.leader();
  });
  after(async () => {
    manager.close();
    await cluster.destroy();
  });

  test('is told that the node is ready, and what it does', async () => {
    await until('READY', () => manager.count('READY=1') === 1);
    await until('STATUS', () => manager.told.some((line) => /^STATUS=leads in term \d+$/.test(line)));
  });

  test('its watchdog is fed as long as the node turns', async () => {
    const before = manager.count('WATCHDOG=1');
    await until('food', () => manager.count('WATCHDOG=1') >= before + 4);
  });

  test('is told of a stop', async () => {
    const [node] = cluster.nodes;
    assert.equal((await node.process.stop()).code, 0);
    await until('STOPPING', () => manager.count('STOPPING=1') === 1);
  });

  test('the unit has a watchdog and lets the node speak', () => {
    const unit = readFileSync(join(ROOT, 'conf', 'raftogram.service'), 'utf8');
    assert.match(unit, /^WatchdogSec=\d+s?$/m);
    assert.match(unit, /^NotifyAccess=main$/m);
  });
});
