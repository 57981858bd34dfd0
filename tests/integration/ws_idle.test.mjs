// A connection on which nothing happens but pings lives as long as its client does.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Cluster, delay, until } from './lib/cluster.mjs';
import { OPCODE, RawSocket, WsClient, frame } from './lib/websocket.mjs';

// The node pings after 20 s of silence and waits 20 s for a sign of life.
const QUIET_MS = 45000;

test('quiet clients stay: by stock pongs, bare ones, or any other byte', async () => {
  const cluster = await Cluster.start({ size: 1 });
  try {
    const [node] = cluster.nodes;
    const stock = await WsClient.open(node.http);
    let pings = 0;
    stock.socket.on('ping', (payload) => {
      assert.notEqual(payload.length, 0);
      pings += 1;
    });
    const raw = await RawSocket.upgraded(node.http); // answers each ping, with nothing in the pong
    const byte = await RawSocket.upgraded(node.http); // sends a message, a byte at a time
    const dead = await RawSocket.upgraded(node.http);
    const message = frame(OPCODE.text, '{"jsonrpc":"2.0","id":1,"method":"Status"}');
    const since = Date.now();
    let answered = 0;
    let sent = 0;
    while (Date.now() - since < QUIET_MS) {
      await delay(200);
      for (; answered < raw.frames.length; answered += 1) {
        if (raw.frames[answered].opcode === OPCODE.ping) raw.write(frame(OPCODE.pong, ''));
      }
      if (Date.now() - since > sent * 900) byte.write(message.subarray(sent, ++sent));
    }
    assert.ok(pings >= 2, `${pings} pings`);
    await until('the dead one to be told', () => dead.isEnded);
    assert.equal(await dead.closeCode(), 1008);
    assert.equal((await stock.call('Status')).nodeId, 'node1');
    for (const socket of [raw, byte]) assert.ok(!socket.isEnded && !socket.isClosed);
    byte.write(message.subarray(sent));
    await until('the answer', () => byte.texts.find((item) => item.id === 1));
    raw.write(message);
    await until('the answer', () => raw.texts.find((item) => item.id === 1));
    [raw, byte, dead].forEach((socket) => socket.destroy());
    await stock.close();
  } finally {
    await cluster.destroy();
  }
});
