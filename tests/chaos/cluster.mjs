// A cluster whose nodes have proxies between them and a disk that can be cut off under them.
import { existsSync, mkdirSync, readFileSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Cluster, Process, delay, isFree, until } from '../integration/lib/cluster.mjs';
import { mountDisk, resizeDisk, unmountDisk } from '../integration/lib/needs.mjs';
import { CONTROL_BYTES, FAULTY_DISK, setControl } from './disk/faulty_disk.mjs';
import { clear, cutPower } from './disk/powercut.mjs';
import { Proxy } from './proxy.mjs';

export { delay, until };

// No node outlives us, whatever ends us.
const TIED = existsSync('/usr/bin/setpriv') ? ['/usr/bin/setpriv', '--pdeathsig', 'KILL'] : [];

const TMPFS_BYTES = 512 << 20;

// Below the ports that the kernel gives to connections: a node's port must be free when it comes back.
// Each runner has a range of its own, since a port is ours also while its node is down.
const PORTS_EACH = 950;
const PORTS_FIRST = 12000 + (process.pid % 20) * PORTS_EACH;

async function ports(count) {
  const found = new Set();
  while (found.size < count) {
    const port = PORTS_FIRST + Math.floor(Math.random() * PORTS_EACH);
    if (await isFree(port)) found.add(port);
  }
  return [...found].map((port) => `127.0.0.1:${port}`);
}

export class ChaosCluster extends Cluster {
  // options: those of Cluster, isTmpfs (or an ordinary directory), report(kind, text), log(text),
  // isDiskLying (to test the tests: nothing is ever durable)
  static async create(options) {
    const plain = await Cluster.create(options);
    const cluster = Object.setPrototypeOf(plain, ChaosCluster.prototype);
    cluster.report = options.report;
    cluster.log = options.log;
    cluster.mounts = [];
    cluster.isDiskLying = options.isDiskLying ?? false;
    cluster.proxies = new Map();
    const addresses = await ports(cluster.nodes.length * 3);
    for (const node of cluster.nodes) [node.raft, node.grpc, node.http] = addresses.splice(0, 3);
    for (const node of cluster.nodes) cluster.prepare(node, options.isTmpfs);
    for (const from of cluster.nodes) {
      for (const to of cluster.nodes) {
        if (from === to) continue;
        cluster.proxies.set(`${from.id}>${to.id}`, await new Proxy(`${from.id}>${to.id}`, to.raft).listen());
      }
    }
    cluster.writeConfigs();
    return cluster;
  }

  prepare(node, isTmpfs) {
    Object.assign(node, {
      journal: join(this.dir, `${node.id}.power`), controlPath: join(this.dir, `${node.id}.control`),
      holds: 0, isDamaged: false, excuse: '', excuseUntil: 0, exits: 0,
    });
    writeFileSync(node.controlPath, Buffer.alloc(CONTROL_BYTES));
    if (!isTmpfs) {
      mkdirSync(node.journal);
      clear(node.journal);
      return;
    }
    // A disk of its own, that can be made too small. Its notes would fill it: no power cuts here.
    node.mount = join(this.dir, `${node.id}.mount`);
    node.journal = null;
    mkdirSync(node.mount);
    const { status, stderr } = mountDisk(node.mount, TMPFS_BYTES);
    if (status !== 0) throw new Error(`no tmpfs: ${stderr}`);
    this.mounts.push(node.mount);
    node.dataDir = join(node.mount, 'data');
  }

  // What each node is told of the others' addresses leads through its own proxies.
  config(node) {
    const own = this.nodes.map((peer) => {
      const proxy = this.proxies?.get(`${node.id}>${peer.id}`);
      return proxy ? { ...peer, raft: proxy.address } : peer;
    });
    return super.config.call({ nodes: own, extra: this.extra }, node);
  }

  startNode(index) {
    const node = this.nodes[index];
    if (node.process?.isRunning) throw new Error(`${node.id} runs already`);
    const env = {};
    if (existsSync(FAULTY_DISK)) {
      Object.assign(env, { LD_PRELOAD: FAULTY_DISK, RAFTOGRAM_CHAOS_DIR: node.dataDir, RAFTOGRAM_CHAOS_CONTROL: node.controlPath });
      if (this.isDiskLying) env.RAFTOGRAM_CHAOS_LYING = '1';
      if (node.journal) env.RAFTOGRAM_CHAOS_JOURNAL = node.journal;
    }
    node.process = new Process(node.id, ['-config', node.configPath], { logPath: node.logPath, env, wrapper: TIED });
    const { process } = node;
    process.startedAt = Date.now();
    process.isFullAtStart = node.isFull;
    process.exited.then((result) => this.noteExit(node, process, result));
    return node;
  }

  // An end that nobody asked for needs an excuse: a failing disk, or damage that was noticed.
  noteExit(node, process, { code, signal }) {
    if (process.isAskedToEnd || this.isEnding) return;
    node.exits += 1;
    const why = `${node.id} ended (${signal ?? code}): ${process.stderr.trim().split('\n').at(-1)}`;
    // Who needs room to start may say so, and is started again.
    const isTooFull = (process.isFullAtStart || node.isFull) && Date.now() - process.startedAt < 5000 && why.includes('no space left');
    const isExcused = code === 1 && (node.isDamaged || node.excuseUntil > Date.now() || isTooFull);
    if (isExcused) this.log(`${why} (${node.isDamaged ? 'damaged' : isTooFull ? 'disk full' : node.excuse})`);
    else this.report('crash', why);
    node.restart = setTimeout(() => { if (node.holds === 0 && !this.isEnding && !node.process.isRunning) this.startNode(node.index); }, 300);
  }

  excuse(node, why, ms) {
    node.excuse = why;
    node.excuseUntil = Math.max(node.excuseUntil, Date.now() + ms);
  }

  // Keeps the node down until release(); faults may overlap.
  async takeDown(node, signal = 'SIGKILL') {
    node.holds += 1;
    clearTimeout(node.restart);
    if (!node.process?.isRunning) return null;
    return node.process.stop(signal, 40000);
  }

  release(node) {
    node.holds -= 1;
    if (node.holds === 0 && !node.process?.isRunning) this.startNode(node.index);
  }

  // A real file system that is full, where there is one.
  fillMount(node, isFull) {
    const { bsize, blocks, bfree } = statfsSync(node.mount);
    const size = isFull ? (blocks - bfree) * bsize + (64 << 10) : TMPFS_BYTES;
    resizeDisk(node.mount, size);
  }

  setDisk(node, { noSpace, ...values }) {
    if (noSpace !== undefined && node.mount) this.fillMount(node, noSpace === 1);
    else if (noSpace !== undefined) Object.assign(values, { noSpace });
    setControl(node.controlPath, values);
  }

  cutPower(node, random) {
    const lost = cutPower({ dataDir: node.dataDir, journal: node.journal, random });
    // Where there is damage too, the log will tell of that.
    if (!node.isDamaged) node.cutAt = this.logSize(node);
    return lost;
  }

  // The files are as they are: nothing of this damage is undone by a power cut.
  noteDamage(node) {
    node.isDamaged = true;
    node.cutAt = undefined;
    node.damagedAt = this.logSize(node);
    // A process that runs has its notes open; its inodes are still those.
    if (node.journal && !node.process?.isRunning) clear(node.journal);
  }

  // A flipped bit may be found late, by the scrub, or never, where nothing uses it.
  hasFoundDamage(node) { return this.damageSigns(node, node.damagedAt) !== null; }

  // What the node's log says of damage, behind `from`.
  damageSigns(node, from) {
    const text = readFileSync(node.logPath, 'utf8').slice(from);
    return text.split('\n').find((line) => /set aside|nothing is lost|damaged|checked at the next start/.test(line)) ?? null;
  }

  // Those that were not asked for before.
  newLines(node) {
    const text = readFileSync(node.logPath, 'utf8');
    const lines = text.slice(node.readTo ?? 0).split('\n');
    node.readTo = text.length;
    return lines;
  }

  // How often the nodes' logs tell of each of `signs`.
  countSigns(signs, counts) {
    for (const node of this.nodes) {
      const text = existsSync(node.logPath) ? readFileSync(node.logPath, 'utf8') : '';
      for (const sign of signs) counts[sign] = (counts[sign] ?? 0) + text.split(`"msg":"${sign}`).length - 1;
    }
  }

  logSize(node) { return existsSync(node.logPath) ? readFileSync(node.logPath, 'utf8').length : 0; }

  get hasFaultyDisk() { return existsSync(FAULTY_DISK); }

  // ---- the network

  proxy(from, to) { return this.proxies.get(`${from.id}>${to.id}`); }

  healNetwork() { for (const proxy of this.proxies.values()) proxy.heal(); }

  // ---- the whole

  async readyz(node) {
    const response = await fetch(`http://${node.http}/readyz?verbose`, { signal: AbortSignal.timeout(2000) });
    return { isReady: response.status === 200, text: await response.text() };
  }

  // Everything works again: all nodes run, and are ready within the time.
  async heal(timeout) {
    this.healNetwork();
    for (const node of this.nodes) {
      this.setDisk(node, { syncEio: 0, noSpace: 0, syncDelayUs: 0, writeEio: 0, readEio: 0 });
      if (node.process?.isRunning) node.process.resume();
      node.holds = 0;
      if (!node.process?.isRunning) {
        clearTimeout(node.restart);
        this.startNode(node.index);
      }
    }
    for (const node of this.nodes) {
      let last = '';
      await until(`${node.id} to be ready`, async () => {
        const { isReady, text } = await this.readyz(node);
        last = text;
        return isReady;
      }, { timeout, every: 50 }).catch((error) => { throw new Error(`${error.message.split('\n')[0]}: ${last.replaceAll('\n', '; ')}`); });
      if (node.isDamaged) node.isDamaged = !this.hasFoundDamage(node);
      node.excuseUntil = 0;
    }
  }

  // Ends all; answers what did not end as it should.
  async end({ isKilled = false } = {}) {
    this.isEnding = true;
    this.closeClients();
    const bad = [];
    await Promise.all(this.nodes.map(async (node) => {
      clearTimeout(node.restart);
      if (!node.process?.isRunning) return;
      const result = await node.process.stop(isKilled ? 'SIGKILL' : 'SIGTERM', 40000);
      if (!isKilled && result.code !== 0) bad.push(`${node.id} ended with ${JSON.stringify(result)}`);
    }));
    for (const proxy of this.proxies.values()) proxy.close();
    this.unmount();
    return bad;
  }

  unmount() {
    for (const mount of this.mounts) unmountDisk(mount);
    this.mounts = [];
  }
}
