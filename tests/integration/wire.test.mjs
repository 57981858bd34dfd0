// gRPC on the wire, from clients that get it wrong: what is malformed is refused with the status that
// is due, and never executed.
import assert from 'node:assert/strict';
import { gzipSync } from 'node:zlib';
import { after, before, describe, test } from 'node:test';
import { Cluster, until } from './lib/cluster.mjs';
import { FLAG, FrameConnection, TYPE, frameOf, prefix } from './lib/frames.mjs';
import { errorDetails, grpc } from './lib/messenger.mjs';
import { fieldBytes, frame, http2Call } from './lib/raw.mjs';

const CREATE = '/raftogram.v1.Messenger/CreateChannel';
const SEND = '/raftogram.v1.Messenger/SendMessage';
const create = (id) => fieldBytes(1, id);

function flagged(flag, body) {
  const bytes = frame(body);
  bytes[0] = flag;
  return bytes;
}

describe('malformed gRPC calls', () => {
  let cluster;
  let node;
  let client;
  let count = 0;

  before(async () => {
    cluster = await Cluster.start({ size: 1 });
    node = await cluster.leader();
    client = cluster.client(node);
  });
  after(async () => cluster?.destroy());

  const freshId = () => `wire-${count += 1}`;
  const channels = async () => (await client.channels({ limit: 1000 })).channels.map((channel) => channel.channelId);

  // Sends it as CreateChannel; the answer's status. No channel may have come of it.
  async function refusedWith(status, bytes, options) {
    const before_ = await channels();
    const answer = await http2Call(node.grpc, CREATE, bytes, options);
    assert.equal(answer.trailers['grpc-status'], String(status), answer.trailers['grpc-message']);
    assert.deepEqual(await channels(), before_, 'nothing was executed');
    return answer;
  }

  for (const flag of [2, 3, 128, 255]) {
    test(`a message whose flag is ${flag} is INTERNAL, and never an empty request`, async () => {
      await refusedWith(grpc.status.INTERNAL, flagged(flag, create(freshId())));
      await refusedWith(grpc.status.INTERNAL, flagged(flag, Buffer.alloc(0)));
    });
  }

  for (const encoding of ['snappy', 'br', 'nonsense']) {
    test(`grpc-encoding ${encoding} is UNIMPLEMENTED, and the answer says what is known`, async () => {
      const headers = { 'grpc-encoding': encoding };
      const answer = await refusedWith(grpc.status.UNIMPLEMENTED, flagged(1, create(freshId())), { headers });
      assert.deepEqual(answer.headers['grpc-accept-encoding'].split(/, ?/).sort(), ['deflate', 'gzip', 'identity']);
    });
  }

  test('a compressed message without an encoding, or of another one, is INTERNAL', async () => {
    await refusedWith(grpc.status.INTERNAL, flagged(1, create(freshId())));
    await refusedWith(grpc.status.INTERNAL, flagged(1, create(freshId())), { headers: { 'grpc-encoding': 'identity' } });
    await refusedWith(grpc.status.INTERNAL, flagged(1, create(freshId())), { headers: { 'grpc-encoding': 'gzip' } });
    const whole = gzipSync(create(freshId()));
    await refusedWith(grpc.status.INTERNAL, flagged(1, whole.subarray(0, whole.length - 4)), { headers: { 'grpc-encoding': 'gzip' } });
  });

  test('a compressed message of a known encoding is unpacked, within the limit', async () => {
    const id = freshId();
    const headers = { 'grpc-encoding': 'gzip' };
    const answer = await http2Call(node.grpc, CREATE, flagged(1, gzipSync(create(id))), { headers });
    assert.equal(answer.trailers['grpc-status'], '0');
    assert.ok((await channels()).includes(id));
    await refusedWith(grpc.status.RESOURCE_EXHAUSTED, flagged(1, gzipSync(Buffer.alloc(64 << 20))), { headers });
  });

  for (const type of ['application/json', 'text/plain', 'application/grpcish', 'application/x-protobuf', '']) {
    test(`a content-type '${type}' is 415`, async () => {
      const before_ = await channels();
      const answer = await http2Call(node.grpc, CREATE, frame(create(freshId())), { headers: { 'content-type': type } });
      assert.equal(answer.headers[':status'], 415);
      assert.deepEqual(await channels(), before_);
    });
  }

  test('application/grpc with a subtype or parameters is served', async () => {
    for (const type of ['application/grpc', 'application/grpc+proto', 'application/grpc+json', 'application/grpc;charset=utf-8']) {
      const answer = await http2Call(node.grpc, CREATE, frame(create(freshId())), { headers: { 'content-type': type } });
      assert.deepEqual([answer.headers[':status'], answer.trailers['grpc-status']], [200, '0'], type);
    }
  });

  test('another method than POST is 405', async () => {
    for (const method of ['PUT', 'PATCH']) {
      const answer = await http2Call(node.grpc, CREATE, frame(create(freshId())), { headers: { ':method': method } });
      assert.equal(answer.headers[':status'], 405);
    }
  });

  test('a message that is cut off is INTERNAL, wherever it is cut', async () => {
    const whole = frame(create(freshId()));
    for (const size of [0, 1, 4, 5, 6, whole.length - 1]) {
      await refusedWith(grpc.status.INTERNAL, whole.subarray(0, size));
    }
  });

  test('a second message of a unary call is INTERNAL, and neither is executed', async () => {
    const two = Buffer.concat([frame(create(freshId())), frame(create(freshId()))]);
    await refusedWith(grpc.status.INTERNAL, two);
    await refusedWith(grpc.status.INTERNAL, Buffer.concat([two, Buffer.from([0, 0])]));
  });

  test('a malformed grpc-timeout is INTERNAL', async () => {
    for (const timeout of ['1', 'S', '1X', '-1S', '123456789S', '1.5S']) {
      await refusedWith(grpc.status.INTERNAL, frame(create(freshId())), { headers: { 'grpc-timeout': timeout } });
    }
  });

  test('what is too large is refused when it is announced', async () => {
    for (const [size, code] of [[15 << 20, grpc.status.INVALID_ARGUMENT], [0xffffffff, grpc.status.RESOURCE_EXHAUSTED]]) {
      const bytes = Buffer.concat([prefix(size), create(freshId())]);
      const answer = await refusedWith(code, bytes);
      const details = Buffer.from(answer.trailers['grpc-status-details-bin'], 'base64');
      const metadata = new grpc.Metadata();
      metadata.set('grpc-status-details-bin', details);
      assert.equal(errorDetails({ metadata }).info.reason, 'PAYLOAD_TOO_LARGE');
    }
  });

  test('a client that looks at no answer while it writes hears why its request is too large', async () => {
    for (const size of [1 << 20, 15 << 20]) {
      const answer = await refusedWith(grpc.status.INVALID_ARGUMENT, frame(Buffer.alloc(size)));
      assert.match(answer.trailers['grpc-message'], /limits.max_payload_bytes/);
    }
  });

  test('the largest payload is taken in every encoding, also with each character escaped', async () => {
    await client.createChannel({ channelId: 'large' });
    const payload = Buffer.alloc(64 << 10, 0xfb);
    const base64 = payload.toString('base64');
    const escaped = [...base64].map((c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`).join('');
    for (const text of [base64, base64.replaceAll('/', '\\/'), escaped]) {
      const body = `{"channelId":"large","payload":"${text}"}`;
      const answer = await http2Call(node.grpc, SEND, frame(body));
      assert.equal(answer.trailers['grpc-status'], '0', `${body.length} bytes: ${answer.trailers['grpc-message']}`);
    }
    const { messages } = await client.history({ channelId: 'large' });
    for (const message of messages) assert.ok(message.payload.equals(payload));
  });

  test('bytes that are no HTTP/2 end their connection, and nothing else', async () => {
    for (const bytes of [Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'), Buffer.alloc(4096, 0xff), Buffer.from('PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n')]) {
      const connection = await FrameConnection.open(node.grpc);
      connection.socket.write(bytes);
      await until('the end', () => connection.isClosed);
    }
    assert.equal((await client.check()).status, 'SERVING');
  });

  // gRPC's own server, which hands on a message with a wrong flag as an empty one.
  test('a malformed call at the peers\' port changes nothing, and one that is cut off is refused', async () => {
    const path = '/phalanx.Consensus/RequestVote';
    const { term } = await client.status();
    for (const flag of [2, 255]) await http2Call(node.raft, path, flagged(flag, fieldBytes(2, 'x')));
    for (const bytes of [frame(create('x')).subarray(0, 6), Buffer.alloc(0)]) {
      const answer = await http2Call(node.raft, path, bytes);
      assert.equal(answer.trailers['grpc-status'], String(grpc.status.INVALID_ARGUMENT), bytes.toString('hex'));
    }
    const status = await client.status();
    assert.deepEqual([status.term, status.role], [term, 'leader']);
  });

  test('streams beyond those that a connection may have are refused one by one', async () => {
    const connection = await FrameConnection.open(node.grpc);
    const streams = connection.begin(4000, SEND, () => []);
    await until('the refusals', () => connection.ended.size >= 3000);
    assert.ok(!connection.isClosed);
    for (const stream of streams) connection.socket.write(frameOf(TYPE.reset, 0, stream, Buffer.from([0, 0, 0, 8])));
    const [next] = connection.begin(1, '/grpc.health.v1.Health/Check', (stream) => [frameOf(TYPE.data, FLAG.endStream, stream, prefix(0))]);
    await until('an answer', () => connection.ended.has(next));
    connection.close();
  });
});
