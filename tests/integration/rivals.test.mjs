// Two processes with one node_id: the first one stays, the other one is refused, and all say so once.
import assert from 'node:assert/strict';
import { cpSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Cluster, Process, delay, freePorts, until } from './lib/cluster.mjs';
import { Senders } from './lib/load.mjs';

const lines = (process, ...words) => process.stderr.split('\n').filter((line) => words.every((word) => line.includes(word)));

// Another process that is configured as `node`, with addresses of its own.
async function startRival(cluster, node, name, dataDir) {
  const [raft, grpc, http] = (await freePorts(3)).map((port) => `127.0.0.1:${port}`);
  const configPath = join(cluster.dir, `${name}.yaml`);
  const text = cluster.config(node)
    .replace(`raft_bind_addr: ${node.raft}`, `raft_bind_addr: ${raft}`)
    .replace(`grpc_bind_addr: ${node.grpc}`, `grpc_bind_addr: ${grpc}`)
    .replace(`health_bind_addr: ${node.http}`, `health_bind_addr: ${http}`)
    .replace(`data_dir: ${node.dataDir}`, `data_dir: ${dataDir}`);
  writeFileSync(configPath, text);
  const process = new Process(name, ['-config', configPath], { logPath: join(cluster.dir, `${name}.log`) });
  return { process, raft };
}

async function bothAreTold(refusers, node, rival) {
  for (const refuser of refusers) {
    await until(`${refuser.id} to refuse`, () => lines(refuser.process, 'refused a stream', `two processes have node_id ${node.id}`,
      `listens on ${node.raft}`, `listens on ${rival.raft}`).length === 1);
    await until('the rival to be refused', () => lines(rival.process, 'peer refuses this node', `two processes have node_id ${node.id}`,
      `"peer":"${refuser.id}"`, `listens on ${node.raft}`, `listens on ${rival.raft}`).length === 1);
  }
  await until(`${node.id} to hear of it`, () => lines(node.process, "two processes have this node's id", rival.raft).length >= 1);
}

describe('two processes with one node_id', () => {
  let cluster;
  let leader;

  before(async () => {
    cluster = await Cluster.start();
    leader = await cluster.leader();
    await cluster.client(leader).createChannel({ channelId: 'c' });
  });
  after(async () => { await cluster?.destroy(); });

  for (const kind of ['an empty data_dir', 'a copy of its data_dir']) {
    test(`with ${kind}: the second one is refused, and sends go on while another node is away`, async () => {
      const node = cluster.followersOf(leader)[0];
      const others = cluster.nodes.filter((other) => other !== node);
      const dataDir = join(cluster.dir, `rival ${kind}`.replaceAll(' ', '-'));
      if (kind !== 'an empty data_dir') {
        await cluster.stopNode(node.index);
        cpSync(node.dataDir, dataDir, { recursive: true });
        cluster.startNode(node.index);
        await cluster.ready(node);
      }
      const { term } = await cluster.status(leader);
      const rival = await startRival(cluster, node, `rival-${kind.length}`, dataDir);
      await bothAreTold(others, node, rival);
      const away = others.find((other) => other !== leader);
      await cluster.kill(away.index);
      const channelId = `load-${kind.length}`;
      await cluster.client(leader).createChannel({ channelId });
      const senders = new Senders(cluster, { channelId, count: 4 });
      await delay(3000);
      await senders.stop();
      assert.deepEqual([...senders.codes.keys()].filter((code) => /ABORTED|DEADLINE|UNKNOWN/.test(code)), [], JSON.stringify([...senders.codes]));
      assert.ok(await senders.verify() > 100);
      assert.equal((await cluster.status(leader)).term, term);
      assert.equal(lines(leader.process, 'two processes have node_id').length, kind === 'an empty data_dir' ? 1 : 2);
      cluster.startNode(away.index);
      await cluster.ready(away);
      await rival.process.stop();
    });
  }

  test('a node that is killed and started at once is back at once', async () => {
    const node = cluster.followersOf(leader)[0];
    for (let i = 0; i < 5; i += 1) {
      await cluster.kill(node.index);
      cluster.startNode(node.index);
      const begin = Date.now();
      await cluster.ready(node, { timeout: 10000 });
      assert.ok(Date.now() - begin < 5000);
    }
    assert.equal(lines(node.process, 'two processes').length, 0);
  });
});

describe('two processes with one node_id while the cluster is founded', () => {
  let cluster;
  before(async () => { cluster = await Cluster.create(); });
  after(async () => { await cluster?.destroy(); });

  test('the one that was there first founds it with the others', async () => {
    const [first, second, third] = cluster.nodes;
    cluster.startNode(0);
    cluster.startNode(1);
    await first.process.logged(/stream from peer began/);
    const rival = await startRival(cluster, second, 'rival', join(cluster.dir, 'rival-data'));
    await bothAreTold([first], second, rival);
    cluster.startNode(2);
    await cluster.leader();
    await cluster.ready(third);
    assert.equal(lines(rival.process, 'this node leads').length, 0);
    await rival.process.stop();
  });
});
