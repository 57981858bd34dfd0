// Cluster.ListKeys: the keys of phalanx.KV, page by page.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Cluster } from './lib/cluster.mjs';
import { refusal } from './lib/messenger.mjs';
import { jsonClient } from './lib/raw.mjs';

describe('ListKeys', () => {
  let cluster;
  let leader;
  before(async () => {
    cluster = await Cluster.start();
    leader = await cluster.leader();
  });
  after(async () => { await cluster?.destroy(); });

  const put = (key) => cluster.client(leader).propose({ op: 'SET', key, value: `of ${key}` });
  const list = async (node, request) => {
    const { keys, hasMore } = await cluster.client(node).keys(request);
    return hasMore ? [...keys, '…'] : keys;
  };

  test('every node lists at once what was acknowledged, ascending and without what was deleted', async () => {
    for (const node of cluster.nodes) assert.deepEqual(await list(node), []);
    for (const key of ['b', 'a', 'b/x', 'é', 'c']) {
      assert.equal((await put(key)).success, true);
      for (const node of cluster.nodes) assert.ok((await list(node)).includes(key), `${key} on ${node.id}`);
    }
    await cluster.client(leader).propose({ op: 'DELETE', key: 'c' });
    for (const node of cluster.nodes) assert.deepEqual(await list(node), ['a', 'b', 'b/x', 'é']);
  });

  test('prefix, after_key and limit', async () => {
    const [node] = cluster.nodes;
    assert.deepEqual(await list(node, { prefix: 'b' }), ['b', 'b/x']);
    assert.deepEqual(await list(node, { prefix: 'b', afterKey: 'b' }), ['b/x']);
    assert.deepEqual(await list(node, { prefix: 'b', afterKey: 'c' }), []);
    assert.deepEqual(await list(node, { prefix: 'none' }), []);
    assert.deepEqual(await list(node, { afterKey: 'a', limit: 1 }), ['b', '…']);
    assert.deepEqual(await list(node, { afterKey: 'a', limit: 3 }), ['b', 'b/x', 'é']);
    for (const request of [{ prefix: 'x'.repeat(257) }, { afterKey: 'x'.repeat(257) }]) {
      assert.deepEqual(await refusal(cluster.client(node).keys(request)), { code: 'INVALID_ARGUMENT', reason: 'INVALID_FIELD' });
    }
  });

  test('limit 0 means 100, over 1000 counts as 1000', async () => {
    const keys = Array.from({ length: 1001 }, (_, i) => `many-${String(i).padStart(4, '0')}`);
    for (let at = 0; at < keys.length; at += 100) await Promise.all(keys.slice(at, at + 100).map(put));
    const [node] = cluster.nodes;
    assert.deepEqual(await list(node, { prefix: 'many-' }), [...keys.slice(0, 100), '…']);
    assert.deepEqual(await list(node, { prefix: 'many-', limit: 5000 }), [...keys.slice(0, 1000), '…']);
    assert.deepEqual(await list(node, { prefix: 'many-', afterKey: keys[0], limit: 1000 }), keys.slice(1));
  });

  test('JSON is lowerCamelCase', async () => {
    const json = jsonClient(cluster.nodes[1].grpc);
    assert.deepEqual(await json.unary('/raftogram.v1.Cluster/ListKeys', { afterKey: 'a', limit: 1 }), { keys: ['b'], hasMore: true });
    json.close();
  });

  test('without a quorum it is not answered', async () => {
    const [node, ...others] = cluster.nodes;
    await Promise.all(others.map((other) => cluster.kill(other.index)));
    assert.deepEqual(await refusal(cluster.client(node).keys({}, { deadline: 20000 })), { code: 'UNAVAILABLE', reason: 'NO_QUORUM' });
  });
});
