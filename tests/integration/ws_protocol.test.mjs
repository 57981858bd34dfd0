// RFC 6455 to the byte: what a stock client never sends.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Cluster, delay, until } from './lib/cluster.mjs';
import { OPCODE, RawSocket, WsClient, frame, handshake } from './lib/websocket.mjs';

const call = (id, method, params) => JSON.stringify({ jsonrpc: '2.0', id, method, params });

describe('WebSocket frames', () => {
  let cluster;
  let address;

  before(async () => {
    cluster = await Cluster.start({ size: 1 });
    address = cluster.nodes[0].http;
  });
  after(async () => cluster?.destroy());

  async function codeAfter(...frames) {
    const raw = await RawSocket.upgraded(address);
    frames.forEach((item) => raw.write(item));
    const code = await raw.closeCode();
    raw.destroy();
    return code;
  }

  test('what came before a frame without a mask is served', async () => {
    const raw = await RawSocket.upgraded(address);
    const calls = Array.from({ length: 500 }, (_, i) => frame(OPCODE.text, call(i, 'Status')));
    raw.write(Buffer.concat([...calls, frame(OPCODE.text, call('bare', 'Status'), { masked: false }), frame(OPCODE.text, call('after', 'Status'))]));
    assert.equal(await raw.closeCode(), 1002);
    assert.ok(!raw.texts.some((item) => item.id === 'bare' || item.id === 'after'));
    raw.destroy();
  });

  const bare = (opcode, payload) => frame(opcode, payload, { masked: false });
  const violations = {
    'a frame without a mask': [bare(OPCODE.text, '{}')],
    'an empty frame without a mask': [bare(OPCODE.text, '')],
    'a large frame without a mask': [bare(OPCODE.text, ' '.repeat(100000))],
    'a ping without a mask': [bare(OPCODE.ping, 'x')],
    'an empty ping without a mask': [bare(OPCODE.ping, '')],
    'a close without a mask': [bare(OPCODE.close, Buffer.from([0x03, 0xe8]))],
    'a continuation without a mask': [frame(OPCODE.text, '{', { fin: false }), bare(OPCODE.continuation, '}')],
    'a reserved bit': [frame(OPCODE.text, '{}', { rsv: 4 })],
    'another reserved bit': [frame(OPCODE.text, '{}', { rsv: 1 })],
    'a large frame with a reserved bit': [frame(OPCODE.text, ' '.repeat(3 << 20), { rsv: 4 })],
    'a reserved opcode': [frame(3, 'x')],
    'a reserved control opcode': [frame(11, 'x')],
    'a fragmented ping': [frame(OPCODE.ping, 'x', { fin: false })],
    'a ping of a million bytes': [frame(OPCODE.ping, ' '.repeat(1 << 20))],
    'a ping of 126 bytes': [frame(OPCODE.ping, 'x'.repeat(126))],
    'a continuation of nothing': [frame(OPCODE.continuation, 'x')],
    'a text inside a fragmented text': [frame(OPCODE.text, '{', { fin: false }), frame(OPCODE.text, '}')],
    'a close of one byte': [frame(OPCODE.close, 'x')],
    'a close with code 999': [frame(OPCODE.close, Buffer.from([0x03, 0xe7]))],
    'a close with code 1005': [frame(OPCODE.close, Buffer.from([0x03, 0xed]))],
    'a close with code 2999': [frame(OPCODE.close, Buffer.from([0x0b, 0xb7]))],
    'a length with its highest bit set': [Buffer.from([0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0])],
  };
  for (const [name, frames] of Object.entries(violations)) {
    test(`${name} is a protocol error`, async () => {
      assert.equal(await codeAfter(...frames), 1002);
    });
    test(`${name} is one after a ping, too`, async () => {
      assert.equal(await codeAfter(frame(OPCODE.ping, 'hello'), ...frames), 1002);
    });
  }

  test('a binary frame is 1003', async () => {
    assert.equal(await codeAfter(frame(OPCODE.binary, '{}')), 1003);
  });

  test('a text that is not UTF-8 is 1007', async () => {
    for (const text of [Buffer.from([0xc3, 0x28]), Buffer.from([0xed, 0xa0, 0x80]), Buffer.from([0xe2, 0x82])]) {
      assert.equal(await codeAfter(frame(OPCODE.text, text)), 1007);
    }
  });

  test('a character may be split between fragments', async () => {
    const raw = await RawSocket.upgraded(address);
    const text = Buffer.from(call('ö', 'Status'));
    const middle = text.indexOf(0xc3) + 1;
    raw.write(frame(OPCODE.text, text.subarray(0, middle), { fin: false }));
    raw.write(frame(OPCODE.ping, 'between'));
    raw.write(frame(OPCODE.continuation, text.subarray(middle)));
    await until('the answer', () => raw.texts.find((item) => item.id === 'ö'));
    await until('the pong', () => raw.frames.find((item) => item.opcode === OPCODE.pong));
    assert.equal(raw.frames.find((item) => item.opcode === OPCODE.pong).payload.toString(), 'between');
    raw.destroy();
  });

  test('a pong holds what the ping held, whatever goes out meanwhile', async () => {
    const raw = await RawSocket.upgraded(address);
    for (let i = 0; i < 200; i++) raw.write(Buffer.concat([frame(OPCODE.text, call(i, 'Read', { key: 'x' })), frame(OPCODE.ping, `ping ${i}`)]));
    await until('the answers', () => raw.texts.filter((item) => item.result).length === 200);
    await until('a pong', () => raw.frames.some((item) => item.opcode === OPCODE.pong));
    for (const item of raw.frames) if (item.opcode === OPCODE.pong) assert.match(item.payload.toString(), /^ping \d+$/);
    raw.destroy();
  });

  test('a close reason that is not UTF-8 is 1007', async () => {
    assert.equal(await codeAfter(frame(OPCODE.close, Buffer.from([0x03, 0xe8, 0xc3, 0x28]))), 1007);
  });

  test('a close is answered with its code', async () => {
    for (const code of [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999]) {
      assert.equal(await codeAfter(frame(OPCODE.close, Buffer.from([code >> 8, code & 0xff]))), code);
    }
    assert.ok([1000, 1005].includes(await codeAfter(frame(OPCODE.close))));
  });

  test('an empty text is a parse error, and the connection stays open', async () => {
    const raw = await RawSocket.upgraded(address);
    raw.write(frame(OPCODE.text, ''));
    await until('the error', () => raw.texts.find((item) => item.error?.code === -32700));
    raw.write(frame(OPCODE.text, call(1, 'Status')));
    await until('the answer', () => raw.texts.find((item) => item.id === 1));
    raw.destroy();
  });

  test('a message over max_frame_bytes is 1009, and the rest of it is drained', async () => {
    const client = await WsClient.open(address);
    client.socket.send('x'.repeat(64 << 20));
    assert.equal((await client.closed).code, 1009);
  });

  test('a frame that only announces too much is 1009 with its first byte', async () => {
    assert.equal(await codeAfter(frame(OPCODE.text, 'x', { length: 2 ** 40 })), 1009);
  });

  test('fragments that add up to too much are 1009', async () => {
    const part = 'x'.repeat(256 << 10);
    const frames = [frame(OPCODE.text, part, { fin: false })];
    for (let i = 0; i < 4; i++) frames.push(frame(OPCODE.continuation, part, { fin: false }));
    assert.equal(await codeAfter(...frames), 1009);
  });

  test('a message of max_frame_bytes is taken', async () => {
    const client = await WsClient.open(address);
    const text = call(7, 'Status');
    const answer = await client.answerTo(text + ' '.repeat((1 << 20) - text.length));
    assert.equal(answer.id, 7);
    await client.close();
  });

  test('calls before the client hangs up are executed', async () => {
    const raw = await RawSocket.upgraded(address);
    raw.write(frame(OPCODE.text, call(undefined, 'CreateChannel', { channelId: 'hung-up' })));
    raw.write(frame(OPCODE.close, Buffer.from([0x03, 0xe8])));
    await raw.closeCode();
    raw.destroy();
    const client = await WsClient.open(address);
    await until('the channel', async () => (await client.call('ListChannels', { prefix: 'hung-up' })).channels.length === 1);
    await client.close();
  });

  test('frames that come with the handshake are served', async () => {
    const raw = new RawSocket(address);
    raw.write(Buffer.concat([Buffer.from(handshake()), frame(OPCODE.text, call(1, 'Status'))]));
    await until('the answer', () => raw.texts.find((item) => item.id === 1));
    raw.destroy();
  });

  test('a byte at a time is a message, too', async () => {
    const raw = await RawSocket.upgraded(address);
    raw.socket.setNoDelay(true);
    for (const byte of frame(OPCODE.text, call(1, 'Status'))) {
      raw.write(Buffer.from([byte]));
      await delay(1);
    }
    await until('the answer', () => raw.texts.find((item) => item.id === 1));
    raw.destroy();
  });

  test('a client that vanishes leaves the others alone', async () => {
    const client = await WsClient.open(address);
    for (let i = 0; i < 50; i++) {
      const raw = await RawSocket.upgraded(address);
      raw.write(frame(OPCODE.text, call(1, 'ListChannels')));
      raw.write(frame(OPCODE.text, 'half', { length: 100 }));
      raw.socket.resetAndDestroy();
    }
    assert.equal((await client.call('Status')).nodeId, 'node1');
    await client.close();
  });
});
