// Peers and nodes that are named by host name, in a network with its own /etc/hosts and a name
// service that is silent, slow, or changes its mind. It runs itself again inside such a network.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, describe, test } from 'node:test';
import { BUILD, Cluster, until } from './lib/cluster.mjs';

const DNS = '127.0.0.53';

// Answers for the names that it knows, after a while or never.
class NameService {
  constructor() {
    this.records = {};
    this.delay = 0;
    this.isSilent = false;
    this.questions = 0;
    this.socket = createSocket('udp4');
    this.socket.on('message', (query, from) => this.answer(query, from));
    this.bound = new Promise((done) => this.socket.bind(53, DNS, done));
  }

  answer(query, from) {
    this.questions += 1;
    if (this.isSilent) return;
    const labels = [];
    let at = 12;
    while (query[at] !== 0) {
      labels.push(query.subarray(at + 1, at + 1 + query[at]).toString());
      at += 1 + query[at];
    }
    const type = query.readUInt16BE(at + 1);
    const question = query.subarray(12, at + 5);
    const address = this.records[labels.join('.').toLowerCase()];
    const header = Buffer.alloc(12);
    query.copy(header, 0, 0, 2);
    header.writeUInt16BE(address ? 0x8180 : 0x8183, 2); // an answer, or: no such name
    header.writeUInt16BE(1, 4);
    const hasRecord = address && type === 1;
    header.writeUInt16BE(hasRecord ? 1 : 0, 6);
    const record = hasRecord
      ? Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, ...address.split('.').map(Number)]) : Buffer.alloc(0);
    setTimeout(() => this.socket.send(Buffer.concat([header, question, record]), from.port, from.address), this.delay);
  }

  close() { this.socket.close(); }
}

function ctl(...args) {
  return new Promise((done) => {
    const begin = Date.now();
    const child = spawn(join(BUILD, 'raftogramctl'), args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (data) => { stdout += data; });
    child.stderr.on('data', (data) => { stderr += data; });
    child.on('close', (code) => done({ code, stdout, stderr, ms: Date.now() - begin }));
  });
}

const portOf = (address) => address.split(':')[1];

// As Cluster, but its peers are named: node1.DOMAIN and so on.
async function createNamed(domain, extra = '') {
  const cluster = await Cluster.create({ extra });
  const plain = cluster.config.bind(cluster);
  cluster.config = (node) => plain(node).replace(/raft_addr: "127[^:]*:(\d+)", grpc_addr: "127[^:]*:(\d+)"/g, (_, raft, grpc) => {
    const { id } = cluster.nodes.find((one) => portOf(one.raft) === raft);
    return `raft_addr: "${id}.${domain}:${raft}", grpc_addr: "${id}.${domain}:${grpc}"`;
  });
  cluster.writeConfigs();
  return cluster;
}

if (process.env.RAFTOGRAM_NAMES_INSIDE === undefined) {
  test('host names in a network of their own', { timeout: 240000 }, () => {
    const dir = mkdtempSync(join(tmpdir(), 'raftogram-names-'));
    writeFileSync(join(dir, 'hosts'), '127.0.0.1 localhost node1.hosts node2.hosts node3.hosts\n');
    writeFileSync(join(dir, 'resolv.conf'), `nameserver ${DNS}\n`);
    writeFileSync(join(dir, 'nsswitch.conf'), 'hosts: files dns\n');
    const script = `set -e
      ip link set lo up
      for file in hosts resolv.conf nsswitch.conf; do mount --bind "$0/$file" /etc/$file; done
      exec "$1" --test "$2"`;
    const environment = { ...process.env, RAFTOGRAM_NAMES_INSIDE: '1' };
    delete environment.NODE_TEST_CONTEXT;
    const { status, stdout, stderr } = spawnSync('unshare',
      ['--map-root-user', '--net', '--mount', 'sh', '-c', script, dir, process.execPath, fileURLToPath(import.meta.url)],
      { env: environment, encoding: 'utf8', maxBuffer: 1 << 26 });
    rmSync(dir, { recursive: true, force: true });
    assert.equal(status, 0, `${stdout}\n${stderr}`);
  });
} else {
  describe('peers by host name', () => {
    let dns;
    before(async () => { dns = new NameService(); await dns.bound; });
    after(() => dns.close());

    test('a silent name service keeps nobody apart who is in /etc/hosts', async () => {
      dns.isSilent = true;
      const cluster = await createNamed('hosts');
      cluster.startAll();
      const leader = await cluster.leader();
      await cluster.client(leader).createChannel({ channelId: 'c' });
      const port = portOf(leader.grpc);
      const status = await ctl('-addr', `${leader.id}.hosts:${port}`, 'status');
      assert.equal(status.code, 0, status.stderr);
      assert.match(status.stdout, /node3\.hosts/);
      // A name that nobody answers for does not take the others' time.
      const sent = await ctl('-addr', `silent.example:9000,${leader.id}.hosts:${port}`, 'send', 'c', 'hello');
      assert.equal(sent.code, 0, sent.stderr);
      assert.ok(sent.ms < 4000, `${sent.ms} ms`);
      const lost = await ctl('-addr', 'silent.example:9000', '-timeout', '2s', 'send', 'c', 'hello');
      assert.equal(lost.code, 3);
      assert.match(lost.stderr, /silent\.example is being looked up: the name service has not answered yet/);
      assert.ok(lost.ms < 6000, `${lost.ms} ms`);
      await cluster.kill(cluster.nodes.indexOf(leader));
      await cluster.leader();
      await cluster.destroy();
      dns.isSilent = false;
    });

    test('a look-up may take longer than a dial, and than an election timeout', async () => {
      dns.delay = 800;
      for (const id of ['node1', 'node2', 'node3']) dns.records[`${id}.slow.example`] = '127.0.0.1';
      const cluster = await createNamed('slow.example', 'raft: {election_timeout: 200ms, heartbeat_interval: 20ms}');
      cluster.startAll();
      const leader = await cluster.leader();
      const status = await ctl('-addr', `${leader.id}.slow.example:${portOf(leader.grpc)}`, 'status');
      assert.equal(status.code, 0, status.stderr);
      await cluster.destroy();
      dns.delay = 0;
    });

    test('a peer that comes back under another address is found', async () => {
      for (const id of ['node1', 'node2', 'node3']) dns.records[`${id}.moving.example`] = '127.0.0.1';
      const cluster = await createNamed('moving.example');
      cluster.startAll();
      const leader = await cluster.leader();
      const moved = cluster.followersOf(leader)[0];
      await cluster.kill(moved.index);
      moved.raft = `127.0.0.9:${portOf(moved.raft)}`;
      cluster.writeConfigs();
      dns.records[`${moved.id}.moving.example`] = '127.0.0.9';
      cluster.startNode(moved.index);
      await cluster.ready(moved);
      await cluster.destroy();
    });

    test('without a name service those who know each other stay together, and a lost one comes back', async () => {
      for (const id of ['node1', 'node2', 'node3']) dns.records[`${id}.gone.example`] = '127.0.0.1';
      const cluster = await createNamed('gone.example');
      cluster.startAll();
      await cluster.leader();
      dns.isSilent = true;
      const node = cluster.nodes[0];
      await cluster.kill(node.index);
      await cluster.leader();
      const others = cluster.nodes.slice(1);
      const { length } = others[0].process.stderr;
      cluster.startNode(node.index);
      await until('the others to have dialled it again', () => others[0].process.stderr.slice(length)
        .split('\n').some((line) => line.includes('stream to peer is established') && line.includes('"peer":"node1"')));
      assert.ok(node.process.isRunning);
      dns.isSilent = false;
      await cluster.ready(node);
      await cluster.destroy();
    });

    test('a name that does not exist is told, in a few lines', async () => {
      const cluster = await createNamed('nowhere.example');
      cluster.startNode(0);
      await cluster.nodes[0].process.logged(/cannot reach peer.*node2\.nowhere\.example cannot be looked up: /);
      const { process } = cluster.nodes[0];
      await until('some more tries', () => dns.questions > 40, { timeout: 30000 });
      assert.ok(process.stderr.split('cannot reach peer').length <= 5, process.stderr);
      await cluster.destroy();
    });
  });
}
