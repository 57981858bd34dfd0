// Starts real raftogram processes on free ports, and stops, kills and restarts them.
import { spawn } from 'node:child_process';
import { createWriteStream, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from './messenger.mjs';
import { BUILD, DAEMON, ROOT } from './paths.mjs';

export { BUILD, DAEMON, ROOT };

export const delay = (ms) => new Promise((done) => setTimeout(done, ms));

// What waiting cannot mend.
export class Hopeless extends Error {}

// Calls `probe` until it returns something truthy; an exception counts as "not yet".
export async function until(what, probe, { timeout = 20000, every = 20 } = {}) {
  const deadline = Date.now() + timeout;
  let last;
  for (;;) {
    try {
      const value = await probe();
      if (value) return value;
      last = value;
    } catch (error) {
      if (error instanceof Hopeless) throw error;
      last = error;
    }
    if (Date.now() > deadline) throw new Error(`timed out waiting for ${what}: ${last?.stack ?? last}`);
    await delay(every);
  }
}

const given = new Set();

export function isFree(port) {
  return new Promise((done) => {
    const server = createServer();
    server.on('error', () => done(false));
    server.listen(port, '127.0.0.1', () => server.close(() => done(true)));
  });
}

// Ports that were free a moment ago; none is given twice, and none is one that the kernel gives to
// outgoing connections (Linux's ip_local_port_range): it may be taken between two starts of a node.
export async function freePorts(count) {
  const ports = [];
  while (ports.length < count) {
    const port = 10240 + Math.floor(Math.random() * 21760);
    if (given.has(port)) continue;
    given.add(port);
    if (await isFree(port)) ports.push(port);
  }
  return ports;
}

// Whatever happens to a test, its processes end with it.
const children = new Set();
process.on('exit', () => { for (const child of children) child.kill('SIGKILL'); });

// The daemon's variables of the shell that runs the tests are no part of the tests.
const { RAFTOGRAM_CONFIG, RAFTOGRAM_DEV, ...cleanEnvironment } = process.env;

export class Process {
  // options: logPath, env, cwd, wrapper (a command that runs the daemon, such as setpriv)
  constructor(name, args, { logPath, env = {}, cwd, wrapper = [] } = {}) {
    this.name = name;
    this.stderr = '';
    this.stdout = '';
    this.isPaused = false;
    const [program, ...rest] = [...wrapper, DAEMON, ...args];
    this.child = spawn(program, rest, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...cleanEnvironment, ...env },
      cwd,
    });
    children.add(this.child);
    const log = logPath ? createWriteStream(logPath, { flags: 'a' }) : null;
    this.child.stdout.on('data', (data) => { this.stdout += data; });
    this.child.stderr.on('data', (data) => {
      this.stderr = (this.stderr + data).slice(-(1 << 20));
      log?.write(data);
    });
    this.exited = new Promise((done) => {
      this.child.on('close', (code, signal) => {
        this.result = { code, signal };
        children.delete(this.child);
        log?.end();
        done(this.result);
      });
      this.child.on('error', (error) => {
        this.stderr += String(error);
        this.result = { code: -1, signal: null };
        done(this.result);
      });
    });
  }

  get isRunning() { return this.result === undefined; }

  signal(name) { if (this.isRunning) this.child.kill(name); }

  // Until it stands still: on a busy machine its threads run on for a while.
  async pause() {
    this.isPaused = true;
    this.signal('SIGSTOP');
    const tasks = `/proc/${this.child.pid}/task`;
    const isStopped = (task) => /^State:\s+T/m.test(readFileSync(join(tasks, task, 'status'), 'utf8'));
    await until(`${this.name} to stop`, () => !this.isRunning || readdirSync(tasks).every(isStopped));
  }

  resume() {
    this.isPaused = false;
    this.signal('SIGCONT');
  }

  async logged(pattern, { timeout } = {}) {
    return until(`${this.name} to log ${pattern}`, () => {
      if (!this.isRunning) throw new Hopeless(`${this.name} ended: ${this.stderr}`);
      return pattern.exec(this.stderr);
    }, { timeout });
  }

  // True for a process that nobody asked to end.
  get hasDied() { return !this.isRunning && !this.isAskedToEnd; }

  async stop(signal = 'SIGTERM', timeout = 30000) {
    if (this.isRunning) this.isAskedToEnd = true;
    this.signal(signal);
    this.resume();
    const timer = setTimeout(() => this.child.kill('SIGKILL'), timeout);
    const result = await this.exited;
    clearTimeout(timer);
    return result;
  }
}

// Runs the daemon to its end: for start-up failures and flags.
export async function runDaemon(args, options = {}) {
  const child = new Process('daemon', args, options);
  const timer = setTimeout(() => child.child.kill('SIGKILL'), options.timeout ?? 15000);
  const { code, signal } = await child.exited;
  clearTimeout(timer);
  return { code, signal, stdout: child.stdout, stderr: child.stderr };
}

export class Cluster {
  // options: size, extra (YAML text appended to each configuration), dir
  static async create({ size = 3, extra = '', dir } = {}) {
    const cluster = new Cluster();
    cluster.dir = dir ?? mkdtempSync(join(tmpdir(), 'raftogram-'));
    cluster.extra = extra;
    const ports = await freePorts(size * 3);
    cluster.nodes = Array.from({ length: size }, (_, i) => ({
      index: i,
      id: `node${i + 1}`,
      raft: `127.0.0.1:${ports[3 * i]}`,
      grpc: `127.0.0.1:${ports[3 * i + 1]}`,
      http: `127.0.0.1:${ports[3 * i + 2]}`,
      dataDir: join(cluster.dir, `node${i + 1}`),
      configPath: join(cluster.dir, `node${i + 1}.yaml`),
      logPath: join(cluster.dir, `node${i + 1}.log`),
      process: null,
    }));
    cluster.writeConfigs();
    return cluster;
  }

  static async start(options = {}) {
    const cluster = await Cluster.create(options);
    cluster.startAll();
    await cluster.leader();
    return cluster;
  }

  writeConfigs() {
    for (const node of this.nodes) writeFileSync(node.configPath, this.config(node));
  }

  config(node) {
    const peers = this.nodes.map((p) =>
      `    - {node_id: ${p.id}, raft_addr: "${p.raft}", grpc_addr: "${p.grpc}", http_addr: "${p.http}"}`).join('\n');
    return `cluster:
  node_id: ${node.id}
  raft_bind_addr: ${node.raft}
  grpc_bind_addr: ${node.grpc}
  health_bind_addr: ${node.http}
  data_dir: ${node.dataDir}
  peers:
${peers}
${this.extra}
`;
  }

  startNode(index, ...flags) {
    const node = this.nodes[index];
    if (node.process?.isRunning) throw new Error(`${node.id} runs already`);
    node.process = new Process(node.id, ['-config', node.configPath, ...flags], { logPath: node.logPath });
    return node;
  }

  // New addresses for all nodes; they must not run.
  async move() {
    this.closeClients();
    const ports = await freePorts(this.nodes.length * 3);
    this.nodes.forEach((node, i) => {
      node.raft = `127.0.0.1:${ports[3 * i]}`;
      node.grpc = `127.0.0.1:${ports[3 * i + 1]}`;
      node.http = `127.0.0.1:${ports[3 * i + 2]}`;
    });
    this.writeConfigs();
  }

  // A client that lives as long as the cluster.
  client(node) {
    node.client ??= new Client(node.grpc);
    return node.client;
  }

  closeClients() {
    for (const node of this.nodes) {
      node.client?.close();
      node.client = undefined;
    }
  }

  startAll() { this.nodes.forEach((_, i) => this.startNode(i)); }

  get running() { return this.nodes.filter((node) => node.process?.isRunning && !node.process.isPaused); }

  followersOf(leader) { return this.running.filter((node) => node !== leader); }

  async kill(index) { return this.nodes[index].process.stop('SIGKILL'); }

  async stopNode(index) { return this.nodes[index].process.stop('SIGTERM'); }

  async health(node) {
    const response = await fetch(`http://${node.http}/health`, { signal: AbortSignal.timeout(2000) });
    return response.json();
  }

  status(node, options = { deadline: 2000 }) { return this.client(node).status(options); }

  // The node that all running ones agree leads.
  async leader({ timeout = 30000 } = {}) {
    return until('a leader that all running nodes know', async () => {
      for (const node of this.nodes) {
        if (node.process?.hasDied) throw new Hopeless(`${node.id} died: ${node.process.stderr}`);
      }
      const answers = await Promise.all(this.running.map((node) => this.status(node)));
      const ids = new Set(answers.map((answer) => answer.leaderId));
      const leading = answers.filter((answer) => answer.role === 'leader' && answer.hasQuorum);
      if (ids.size !== 1 || leading.length !== 1 || leading[0].nodeId !== [...ids][0]) return null;
      return this.nodes.find((node) => node.id === leading[0].nodeId);
    }, { timeout });
  }

  async ready(node, { timeout = 30000 } = {}) {
    return until(`${node.id} to be ready`, async () => {
      const { status } = await this.client(node).check('raftogram.v1.Messenger', { deadline: 2000 });
      return status === 'SERVING';
    }, { timeout });
  }

  logs() {
    return this.nodes.map((node) =>
      `--- ${node.id}\n${existsSync(node.logPath) ? readFileSync(node.logPath, 'utf8').slice(-4000) : ''}`).join('\n');
  }

  // Every process must end cleanly unless it was killed on purpose.
  async destroy({ keep = false } = {}) {
    this.closeClients();
    const left = this.nodes.filter((node) => node.process?.isRunning);
    const results = await Promise.all(left.map(async (node) => ({ node, result: await node.process.stop() })));
    const dead = this.nodes.filter((node) => node.process?.hasDied).map((node) => ({ node, result: node.process.result }));
    const bad = [...dead, ...results.filter(({ result }) => result.code !== 0)];
    const text = bad.map(({ node, result }) =>
      `${node.id}: ${JSON.stringify(result)}\n${node.process.stderr.slice(-3000)}`).join('\n');
    if (!keep && bad.length === 0) rmSync(this.dir, { recursive: true, force: true });
    if (bad.length > 0) throw new Error(`nodes did not stop cleanly (${this.dir}):\n${text}`);
  }
}
