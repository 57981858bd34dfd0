// Compaction, snapshots and healing.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Cluster, until } from './lib/cluster.mjs';
import { fill } from './lib/load.mjs';

// Small enough that a test sees many compactions; the log is cut in segments of 4 MiB.
const extra = `raft: {snapshot_interval: 1s, snapshot_threshold: 100, trailing_logs: 50}
limits: {max_payload_bytes: 64KiB}`;

describe('compaction', () => {
  let cluster;
  before(async () => { cluster = await Cluster.start({ extra }); });
  after(async () => { await cluster?.destroy(); });

  test('the log is cut on every node, and a restart finds all that was sent', async () => {
    await cluster.leader();
    await fill(cluster, { channelId: 'many', count: 20000, bytes: 1024 });
    await until('all logs to be cut', async () => {
      const statuses = await Promise.all(cluster.nodes.map((node) => cluster.status(node)));
      return statuses.every((status) => Number(status.firstIndex) > 10000);
    }, { timeout: 30000 });
    for (const index of [0, 1, 2]) await cluster.kill(index);
    cluster.startAll();
    await cluster.leader();
    const client = cluster.client(cluster.nodes[0]);
    const messages = await client.all('many', { deadline: 10000 });
    assert.equal(messages.length, 20000);
  });
});
