// Calls that choose their own bytes: a stock gRPC client without generated messages, and HTTP/2.
import http2 from 'node:http2';
import { grpc } from './messenger.mjs';

const asBytes = (value) => (Buffer.isBuffer(value) ? value : Buffer.from(value));
const asIs = (bytes) => bytes;

const toMetadata = (entries) => {
  const metadata = new grpc.Metadata();
  for (const [key, value] of Object.entries(entries)) metadata.set(key, value);
  return metadata;
};

// What a client with a codec of its own sends: the body as it is.
export class RawClient {
  constructor(address, { serialize = asBytes, deserialize = asIs } = {}) {
    this.serialize = serialize;
    this.deserialize = deserialize;
    this.client = new grpc.Client(address, grpc.credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1, 'grpc.initial_reconnect_backoff_ms': 50, 'grpc.max_reconnect_backoff_ms': 200,
    });
  }

  unary(path, body, { deadline = 5000, metadata = {} } = {}) {
    return new Promise((done, fail) => {
      this.call = this.client.makeUnaryRequest(path, this.serialize, this.deserialize, body, toMetadata(metadata),
        { deadline: Date.now() + deadline }, (error, answer) => (error ? fail(error) : done(answer)));
    });
  }

  stream(path, body) {
    const stream = this.client.makeServerStreamRequest(path, this.serialize, this.deserialize, body);
    const collected = { stream, chunks: [], error: null, isOpen: false };
    stream.on('metadata', () => { collected.isOpen = true; });
    stream.on('data', (chunk) => collected.chunks.push(chunk));
    stream.on('error', (error) => { collected.error = error; });
    return collected;
  }

  close() { this.client.close(); }
}

// A client with a JSON codec, such as the reference document's.
export const jsonClient = (address) => new RawClient(address, {
  serialize: (value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)),
  deserialize: (bytes) => JSON.parse(bytes.toString()),
});

export function frame(body) {
  const bytes = asBytes(body);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

function unframe(bytes) {
  const bodies = [];
  for (let at = 0; at + 5 <= bytes.length;) {
    const size = bytes.readUInt32BE(at + 1);
    bodies.push(bytes.subarray(at + 5, at + 5 + size));
    at += 5 + size;
  }
  return bodies;
}

// One call over HTTP/2 as it is on the wire: {headers, trailers, bodies}.
export function http2Call(address, path, data, { headers = {}, timeout = 10000 } = {}) {
  return new Promise((done, fail) => {
    const session = http2.connect(`http://${address}`);
    const finish = (action, value) => {
      clearTimeout(timer);
      session.destroy();
      action(value);
    };
    const timer = setTimeout(() => finish(fail, new Error(`no answer from ${address}${path}`)), timeout);
    session.on('error', (error) => finish(fail, error));
    const stream = session.request({
      ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers', ...headers,
    });
    const answer = { headers: {}, trailers: {}, bodies: [] };
    const chunks = [];
    stream.on('response', (received) => { answer.headers = received; });
    stream.on('trailers', (received) => { answer.trailers = received; });
    stream.on('data', (chunk) => chunks.push(chunk));
    stream.on('error', (error) => finish(fail, error));
    stream.on('close', () => {
      answer.bodies = unframe(Buffer.concat(chunks));
      // An answer without a body has its trailers in the headers.
      if (answer.trailers['grpc-status'] === undefined) answer.trailers = answer.headers;
      finish(done, answer);
    });
    stream.end(data);
  });
}

// Protobuf by hand, for what no generated message would write.
export function varint(value) {
  const bytes = [];
  let rest = BigInt(value);
  while (rest >= 128n) {
    bytes.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}

export const fieldBytes = (number, bytes) =>
  Buffer.concat([varint((number << 3) | 2), varint(asBytes(bytes).length), asBytes(bytes)]);
export const fieldVarint = (number, value) => Buffer.concat([varint(number << 3), varint(value)]);
