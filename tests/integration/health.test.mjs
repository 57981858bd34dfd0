// grpc.health.v1.Health through changes of leader: what a load balancer that watches is told.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Cluster, until } from './lib/cluster.mjs';
import { Client } from './lib/messenger.mjs';

const SERVICES = ['', 'raftogram.v1.Messenger', 'phalanx.KV'];

class Watch {
  constructor(node, service) {
    this.client = new Client(node.grpc);
    this.seen = [];
    this.stream = this.client.health.Watch({ service });
    this.stream.on('data', ({ status }) => this.seen.push(status));
    this.stream.on('error', () => {});
  }

  get last() { return this.seen.at(-1); }

  close() {
    this.stream.cancel();
    this.client.close();
  }
}

describe('health through a change of leader', () => {
  let cluster;
  let watches;
  before(async () => {
    cluster = await Cluster.start({ size: 3 });
    watches = new Map();
    for (const node of cluster.nodes) {
      await cluster.ready(node);
      watches.set(node, SERVICES.map((service) => new Watch(node, service)));
    }
  });
  after(async () => {
    for (const each of watches.values()) each.forEach((watch) => watch.close());
    await cluster.destroy();
  });

  const allServe = (node) => watches.get(node).every((watch) => watch.last === 'SERVING');

  // Of a node that was killed and started: its streams are new ones.
  async function watchAnew(node) {
    await cluster.ready(node);
    watches.get(node).forEach((watch) => watch.close());
    watches.set(node, SERVICES.map((service) => new Watch(node, service)));
    await until(`${node.id} to serve, too`, () => allServe(node));
  }

  test('every service of every node serves', async () => {
    await until('all to serve', () => cluster.nodes.every(allServe));
    for (const each of watches.values()) each.forEach((watch) => assert.deepEqual(watch.seen, ['SERVING']));
  });

  test('the process serves on, the services pause until another one leads', async () => {
    const leader = await cluster.leader();
    const left = cluster.followersOf(leader);
    await cluster.kill(leader.index);
    const next = await cluster.leader();
    assert.notEqual(next, leader);
    await until('the others to serve again', () => left.every(allServe));
    for (const node of left) {
      const [process, ...services] = watches.get(node);
      assert.deepEqual(process.seen, ['SERVING']);
      for (const { seen } of services) {
        // Each change is told once, and the last word is that it serves.
        seen.forEach((status, i) => assert.equal(status, i % 2 === 0 ? 'SERVING' : 'NOT_SERVING'));
      }
    }
    cluster.startNode(leader.index);
    await watchAnew(leader);
  });

  test('without a quorum only the process serves', async () => {
    const [one, ...others] = cluster.nodes;
    const [process, ...services] = watches.get(one);
    await Promise.all(others.map((node) => cluster.kill(node.index)));
    await until('its services to end', () => services.every((watch) => watch.last === 'NOT_SERVING'));
    assert.deepEqual(process.seen, ['SERVING']);
    for (const node of others) cluster.startNode(node.index);
    await until('its services to be back', () => services.every((watch) => watch.last === 'SERVING'));
    for (const node of others) await watchAnew(node); // any of them may lead now
  });

  test('a node that stops says so before it is gone', async () => {
    const node = await cluster.leader();
    const [, ...services] = watches.get(node);
    const stopped = cluster.stopNode(node.index);
    await until('its services to end', () => services.every((watch) => watch.seen.includes('NOT_SERVING')), { every: 1 });
    assert.deepEqual(await stopped, { code: 0, signal: null });
    cluster.startNode(node.index);
    await cluster.ready(node);
  });
});
