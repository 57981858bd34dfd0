// `./do run`: what it says, and what it does when nodes are killed, cannot start, or run already. The
// script itself, in a folder of its own with other addresses and with the programs that are built.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, realpathSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { BUILD, ROOT, freePorts, isFree, until } from './lib/cluster.mjs';
import { Client } from './lib/messenger.mjs';

const LOCAL = join(ROOT, 'conf/local');
const running = new Set();
process.on('exit', () => { for (const script of running) script.child.kill('SIGKILL'); });

// One ./do run. SHELL is unset, as for a service, and commands are looked for where `bin` has stand-ins.
class Run {
  constructor(folder, command = ['./do', 'run']) {
    const { SHELL, ...env } = process.env;
    this.child = spawn(command[0], command.slice(1), { cwd: folder, detached: true, stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...env, PATH: `${folder}/bin:${env.PATH}`, RAFTOGRAM_RESTART_SECONDS: '1' } });
    running.add(this);
    this.stdout = '';
    this.stderr = '';
    this.child.stdout.on('data', (data) => { this.stdout += data; });
    this.child.stderr.on('data', (data) => { this.stderr += data; });
    this.exited = new Promise((done) => {
      this.child.on('close', (code, signal) => {
        this.result = { code, signal };
        running.delete(this);
        done(this.result);
      });
    });
  }

  async says(pattern) {
    return until(`./do run to say ${pattern}`, () => {
      const match = pattern.exec(this.stdout);
      if (match || !this.result) return match;
      throw new Error(`it ended: ${JSON.stringify(this.result)}\n${this.stdout}\n${this.stderr}`);
    }, { timeout: 60000 });
  }
}

describe('./do run', () => {
  let folder;
  let nodes;
  let script;
  const clients = [];

  // The process of a node, from the last line that names one.
  const pidOf = (id) => Number([...script.stdout.matchAll(new RegExp(`${id}.*process (\\d+)`, 'g'))].at(-1)[1]);
  const client = (node) => {
    clients.push(new Client(node.grpc));
    return clients.at(-1);
  };
  const health = async (node) => (await fetch(`http://${node.http}/health`, { signal: AbortSignal.timeout(2000) })).json();
  const isAlive = (pid) => {
    try {
      return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
    } catch {
      return false;
    }
  };

  before(async () => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), 'raftogram-do-')));
    copyFileSync(join(ROOT, 'do'), join(folder, 'do'));
    symlinkSync(BUILD, join(folder, 'build'));
    mkdirSync(join(folder, 'conf/local'), { recursive: true });
    mkdirSync(join(folder, 'bin'));
    // It would build what is there.
    for (const name of ['cmake', 'ninja']) {
      writeFileSync(join(folder, 'bin', name), '#!/bin/sh\nexit 0\n');
      chmodSync(join(folder, 'bin', name), 0o755);
    }
    const ports = await freePorts(9);
    const move = (text) => [7000, 9000, 8080].flatMap((base) => [0, 1, 2].map((i) => base + i))
      .reduce((all, port, i) => all.replaceAll(`127.0.0.1:${port}`, `127.0.0.1:${ports[i]}`), text);
    for (const name of readdirSync(LOCAL)) writeFileSync(join(folder, 'conf/local', name), move(readFileSync(join(LOCAL, name), 'utf8')));
    nodes = [0, 1, 2].map((i) => ({ id: `node${i + 1}`, raft: ports[i], grpc: `127.0.0.1:${ports[3 + i]}`, http: `127.0.0.1:${ports[6 + i]}` }));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  const start = async (command) => {
    script = new Run(folder, command);
    await script.says(/the cluster is up; Ctrl-C stops it\n(.*process \d+\n){3}/);
  };

  beforeEach(() => start());
  afterEach(async () => {
    clients.splice(0).forEach((one) => one.close());
    if (!script.result) script.child.kill('SIGTERM');
    await script.exited;
  });

  const stopsAll = async (signal) => {
    const pids = nodes.map(({ id }) => pidOf(id));
    script.child.kill(signal);
    assert.deepEqual(await script.exited, { code: 0, signal: null }, script.stdout + script.stderr);
    assert.match(script.stdout, /stopping the nodes\n[\s\S]*all nodes have stopped\n$/);
    assert.deepEqual(pids.map(isAlive), [false, false, false]);
    for (const { raft } of nodes) assert.equal(await isFree(raft), true);
  };

  test('SIGTERM and Ctrl-C stop all nodes, and it ends with 0', async () => {
    await stopsAll('SIGTERM');
    await start();
    await stopsAll('SIGINT');
  });

  test('it needs no bash to be started', async () => {
    await stopsAll('SIGTERM');
    await start(['sh', 'do', 'run']);
    await stopsAll('SIGTERM');
  });

  test('any node may be killed: the others go on, it says what happened, and the node comes back', async () => {
    for (const node of nodes) {
      const others = nodes.filter((other) => other !== node);
      const before = others.map(({ id }) => pidOf(id));
      const killed = pidOf(node.id);
      const from = script.stdout.length;
      process.kill(killed, 'SIGKILL');
      await until('a write at another node', () => client(others[0]).createChannel({ channelId: `after-${node.id}` },
        { metadata: { 'raftogram-forward': '1' } }));
      await until('the lines', () => new RegExp(`==> ${node.id} was killed \\(SIGKILL\\); the others go on, and it is started again in \\d+ s\n`
        + `[\\s\\S]*==> ${node.id} is back \\(process \\d+\\)\n`).test(script.stdout.slice(from)), { timeout: 60000 });
      assert.notEqual(pidOf(node.id), killed);
      assert.deepEqual(others.map(({ id }) => pidOf(id)), before);
      assert.ok(before.every(isAlive));
      await until('the node to have the channel', async () =>
        (await client(node).channels({ prefix: `after-${node.id}` })).channels.length === 1);
    }
    assert.doesNotMatch(script.stdout, /stopping the nodes/);
    assert.equal(script.stderr, '');
    await stopsAll('SIGTERM');
  });

  test('all nodes may be killed at once', async () => {
    nodes.forEach(({ id }) => process.kill(pidOf(id), 'SIGKILL'));
    for (const { id } of nodes) await script.says(new RegExp(`==> ${id} is back`));
    for (const node of nodes) assert.equal((await health(node)).node, node.id);
    await stopsAll('SIGTERM');
  });

  test('a node that cannot start is tried some times, and the others go on', async () => {
    const path = join(folder, 'conf/local/node3.yaml');
    renameSync(path, `${path}.away`);
    writeFileSync(path, 'cluster: {nonsense: 1}\n');
    try {
      process.kill(pidOf('node3'), 'SIGKILL');
      await script.says(/==> node3 ended with exit code 2 \(its last lines say why\); 4 starts in a row have failed, so it is not started again\. The others go on\n/);
      assert.match(script.stdout, /node3 \| raftogram: .*nonsense/);
      const delays = [...script.stdout.matchAll(/node3 .* started again in (\d+) s/g)].map(([, seconds]) => Number(seconds));
      assert.deepEqual(delays, [1, 1, 2, 4]);
      await client(nodes[0]).createChannel({ channelId: 'without-node3' }, { metadata: { 'raftogram-forward': '1' } });
    } finally {
      renameSync(`${path}.away`, path);
    }
    script.child.kill('SIGTERM');
    assert.equal((await script.exited).code, 1);
  });

  test('a second one beside it says one line, and harms nothing', async () => {
    const before = nodes.map(({ id }) => pidOf(id));
    const second = new Run(folder);
    const { code } = await second.exited;
    assert.equal(code, 1);
    assert.equal(second.stdout, '');
    assert.equal(second.stderr, `./do: run: the cluster runs already, by another ./do run in ${folder}: http://${nodes[0].http}/\n`);
    assert.deepEqual(nodes.map(({ id }) => pidOf(id)), before);
    assert.ok(before.every(isAlive));
    for (const node of nodes) assert.equal((await health(node)).node, node.id);
    await stopsAll('SIGTERM');
  });

  test('one from another folder that needs the same addresses says one line, and harms nothing', async () => {
    const elsewhere = mkdtempSync(join(tmpdir(), 'raftogram-do-'));
    try {
      copyFileSync(join(folder, 'do'), join(elsewhere, 'do'));
      symlinkSync(join(folder, 'conf'), join(elsewhere, 'conf'));
      const second = new Run(elsewhere);
      assert.equal((await second.exited).code, 1);
      assert.equal(second.stdout, '');
      assert.equal(second.stderr, `./do: run: 127.0.0.1:${nodes[0].raft} is in use, and node1 needs it `
        + '(conf/local/node1.yaml, raft_bind_addr); stop what listens there, such as another cluster\n');
      for (const node of nodes) assert.equal((await health(node)).node, node.id);
    } finally {
      rmSync(elsewhere, { recursive: true });
    }
    await stopsAll('SIGTERM');
  });

  test('when it is killed itself, its nodes stop', async () => {
    const pids = nodes.map(({ id }) => pidOf(id));
    script.child.kill('SIGKILL');
    await until('the nodes to stop', () => !pids.some(isAlive));
  });
});
