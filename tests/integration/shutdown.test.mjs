// SIGTERM of all nodes at once, under load: quick, and whoever is refused hears it in our words.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Cluster, delay, until } from './lib/cluster.mjs';
import { Client, errorDetails, grpc } from './lib/messenger.mjs';

const SENDERS_PER_NODE = 12;
const ALL_WITHIN_MS = 3000;
const BUSY_MS = 3000; // how much later a busy machine may be

// Sends without a pause until its node is gone; keeps every error that the node itself sent.
async function send(load, node, worker, forwards) {
  const client = new Client(node.grpc);
  const metadata = forwards ? { 'raftogram-forward': '1' } : {};
  for (let i = 0; !load.isOver; i += 1) {
    const clientMessageId = `${node.id}-${worker}-${i}`;
    try {
      const answer = await client.send({ channelId: 'c', payload: Buffer.from('x'), clientMessageId }, { deadline: 8000, metadata });
      load.acked += 1;
      if (answer.deduplicated) load.repeated.push(clientMessageId);
    } catch (error) {
      const reason = errorDetails(error).info?.reason;
      const key = `${grpc.status[error.code]} ${reason ?? error.details.replace(/\d+\.\d+\.\d+\.\d+:\d+.*/, '')}`;
      load.errors.set(key, (load.errors.get(key) ?? 0) + 1);
      if (reason === undefined) await delay(20);
      else if (!forwards) await delay(5);
    }
  }
  client.close();
}

function startLoad(cluster) {
  const load = { acked: 0, errors: new Map(), repeated: [], isOver: false };
  load.running = cluster.nodes.flatMap((node) => Array.from({ length: SENDERS_PER_NODE },
    (_, worker) => send(load, node, worker, worker % 2 === 0)));
  return load;
}

// What a client says by itself of a connection that is gone, or cannot be made.
const isTransport = (key) => /^(UNAVAILABLE|INTERNAL|CANCELLED|UNKNOWN) (No connection established|Connection dropped|read ECONNRESET|write EPIPE|Received RST_STREAM|connect ECONNREFUSED|.*GOAWAY)/i.test(key);

for (let round = 1; round <= 3; round += 1) {
  describe(`all nodes are stopped at once, ${round}`, () => {
    let cluster;
    before(async () => {
      cluster = await Cluster.start({ size: 3 });
      await cluster.client(await cluster.leader()).createChannel({ channelId: 'c' });
    });
    after(async () => { await cluster.destroy(); });

    test('they end soon, and every refusal is one of ours', async (t) => {
      const load = startLoad(cluster);
      await until('load', () => load.acked > 500);
      const begin = Date.now();
      const ends = await Promise.all(cluster.nodes.map(async (node) => {
        const result = await node.process.stop();
        return { id: node.id, ms: Date.now() - begin, ...result };
      }));
      load.isOver = true;
      await Promise.all(load.running);
      t.diagnostic(`${load.acked} acknowledged, ${ends.map(({ id, ms }) => `${id} ${ms} ms`).join(', ')}`);
      t.diagnostic(JSON.stringify([...load.errors]));
      t.diagnostic(`repeated: ${load.repeated.length}`);
      assert.deepEqual(ends.map(({ code, signal }) => [code, signal]), [[0, null], [0, null], [0, null]]);
      const known = /^(FAILED_PRECONDITION NOT_LEADER|UNAVAILABLE (DRAINING|NO_QUORUM)|ABORTED COMMIT_UNKNOWN)$/;
      assert.deepEqual([...load.errors].filter(([key]) => !known.test(key) && !isTransport(key)), []);
      assert.deepEqual(load.repeated, [], 'a first attempt was told to be a repetition');
      for (const { id, ms } of ends) assert.ok(ms < ALL_WITHIN_MS + BUSY_MS, `${id} took ${ms} ms`);
    });
  });
}
