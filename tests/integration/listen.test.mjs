// What is written is bound, and what cannot be bound is told as what it is: for all three listeners.
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Process, freePorts, runDaemon, until } from './lib/cluster.mjs';

const LISTENERS = [
  ['raft_bind_addr', 'other nodes'], ['grpc_bind_addr', 'gRPC'], ['health_bind_addr', 'HTTP'],
];
const hasIpv6 = Object.values(networkInterfaces()).flat().some(({ address }) => address === '::1');

const connects = (host, port) => new Promise((done) => {
  const socket = connect({ host, port });
  socket.on('connect', () => { socket.destroy(); done(true); });
  socket.on('error', () => done(false));
});

describe('bind addresses', () => {
  let dir;
  let count = 0;
  before(() => { dir = mkdtempSync(join(tmpdir(), 'raftogram-')); chmodSync(dir, 0o755); });
  after(() => rmSync(dir, { recursive: true, force: true }));

  function configure(addresses) {
    count += 1;
    const path = join(dir, `${count}.yaml`);
    writeFileSync(path, `cluster:
  node_id: n1
  raft_bind_addr: "${addresses[0]}"
  grpc_bind_addr: "${addresses[1]}"
  health_bind_addr: "${addresses[2]}"
  data_dir: ${join(dir, `data${count}`)}
  peers: [{node_id: n1, raft_addr: "127.0.0.1:7000", grpc_addr: "127.0.0.1:9000"}]
`);
    return path;
  }

  const kinds = [
    ['0.0.0.0', true, false], ['127.0.0.1', true, false], ['[::1]', false, true], ['[::]', true, true],
  ];
  for (const [host, ipv4, ipv6] of kinds) {
    test(`${host} listens on ${[ipv4 && 'IPv4', ipv6 && 'IPv6'].filter(Boolean).join(' and ')}`, { skip: !hasIpv6 && ipv6 }, async () => {
      const ports = await freePorts(3);
      const node = new Process('n1', ['-config', configure(ports.map((port) => `${host}:${port}`))]);
      await node.logged(/"serving"/);
      for (const port of ports) {
        assert.equal(await connects('127.0.0.1', port), ipv4);
        if (hasIpv6) assert.equal(await connects('::1', port), ipv6);
      }
      assert.equal((await node.stop()).code, 0);
    });
  }

  // Each listener in turn has the bad address.
  async function failures(bad, options) {
    const ports = await freePorts(3);
    const results = [];
    for (const [i, [key, what]] of LISTENERS.entries()) {
      const addresses = ports.map((port) => `127.0.0.1:${port}`);
      addresses[i] = typeof bad === 'string' ? `${bad}:${ports[i]}` : await bad(i);
      const result = await runDaemon(['-config', configure(addresses)], options);
      assert.equal(result.code, 1, result.stderr);
      const lines = result.stderr.trim().split('\n');
      assert.equal(lines.length, 1, result.stderr);
      assert.ok(lines[0].startsWith(`raftogram: ${addresses[i]}: cannot listen for ${what}: `), lines[0]);
      assert.ok(lines[0].includes(`cluster.${key}`), lines[0]);
      results.push(lines[0]);
    }
    return results;
  }

  test('an address of another machine is told as such', async () => {
    for (const line of await failures('192.0.2.7')) assert.match(line, /not one of this machine's; change/);
  });

  test('a name that nobody knows is told as such', async () => {
    for (const line of await failures('nobody-knows-it.invalid')) assert.match(line, /its name cannot be looked up: /);
  });

  test('an address in use is told as such', async () => {
    const taken = createServer();
    await new Promise((done) => taken.listen(0, '127.0.0.1', done));
    const { port } = taken.address();
    for (const line of await failures(() => `127.0.0.1:${port}`)) assert.match(line, /in use by another process; stop that process, or/);
    for (const line of await failures(() => `0.0.0.0:${port}`)) assert.match(line, /in use by another process; stop that process, or/);
    taken.close();
  });

  test('a privileged port is told as such', { skip: process.getuid() !== 0 }, async () => {
    chmodSync(dir, 0o777);
    const wrapper = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups'];
    for (const line of await failures((i) => `127.0.0.1:${871 + i}`, { wrapper })) assert.match(line, /permission denied: .*privileged/);
  });

  test('all addresses of a name are bound', async () => {
    const ports = await freePorts(3);
    const node = new Process('n1', ['-config', configure(ports.map((port) => `localhost:${port}`))]);
    await node.logged(/"serving"/);
    const { lookup } = await import('node:dns/promises');
    for (const { address } of await lookup('localhost', { all: true })) {
      for (const port of ports) await until(`${address} to listen`, () => connects(address, port), { timeout: 1000 });
    }
    assert.equal((await node.stop()).code, 0);
  });
});
