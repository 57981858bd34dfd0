// HTTP/2 by hand, for clients that keep none of its rules: frames as they are on the wire.
import { connect } from 'node:net';

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
export const TYPE = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goaway: 7, windowUpdate: 8 };
export const FLAG = { endStream: 1, ack: 1, endHeaders: 4 };

export function frameOf(type, flags, stream, payload = Buffer.alloc(0)) {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

// A header that uses no table (RFC 7541, 6.2.2); short ones only.
const literal = (name, value) =>
  Buffer.concat([Buffer.from([0, name.length]), Buffer.from(name), Buffer.from([value.length]), Buffer.from(value)]);

export const requestHeaders = (path, extra = { 'content-type': 'application/grpc', te: 'trailers' }) =>
  Buffer.concat([Buffer.from([0x83, 0x86]), literal(':path', path), literal(':authority', 'x'),
    ...Object.entries(extra).map(([name, value]) => literal(name, value))]);

// A gRPC message's prefix.
export function prefix(size, flag = 0) {
  const bytes = Buffer.alloc(5);
  bytes[0] = flag;
  bytes.writeUInt32BE(size, 1);
  return bytes;
}

export class FrameConnection {
  // It reads, and lets the server send what it likes, unless `isDeaf`.
  static async open(address, { isDeaf = false } = {}) {
    const connection = new FrameConnection();
    const [host, port] = address.split(':');
    connection.socket = connect(Number(port), host);
    connection.nextStream = 1;
    connection.ended = new Set(); // streams that the server has ended
    connection.isClosed = false;
    connection.rest = Buffer.alloc(0);
    connection.socket.on('error', () => {});
    connection.socket.on('close', () => { connection.isClosed = true; });
    await new Promise((done) => { connection.socket.on('connect', done); connection.socket.on('close', done); });
    connection.socket.write(Buffer.concat([PREFACE, frameOf(TYPE.settings, 0, 0)]));
    if (isDeaf) connection.socket.pause();
    else connection.socket.on('data', (data) => connection.take(data));
    return connection;
  }

  take(data) {
    this.rest = Buffer.concat([this.rest, data]);
    while (this.rest.length >= 9 && this.rest.length >= 9 + this.rest.readUIntBE(0, 3)) {
      const size = this.rest.readUIntBE(0, 3);
      this.react(this.rest[3], this.rest[4], this.rest.readUInt32BE(5) & 0x7fffffff, this.rest.subarray(9, 9 + size));
      this.rest = this.rest.subarray(9 + size);
    }
  }

  react(type, flags, stream, payload) {
    if (type === TYPE.settings && (flags & FLAG.ack) === 0) this.socket.write(frameOf(TYPE.settings, FLAG.ack, 0));
    if (type === TYPE.ping && (flags & FLAG.ack) === 0) this.socket.write(frameOf(TYPE.ping, FLAG.ack, 0, payload));
    const isEnd = (type === TYPE.headers || type === TYPE.data) && (flags & FLAG.endStream) !== 0;
    if (isEnd || type === TYPE.reset) this.ended.add(stream);
  }

  // Opens streams, each with the frames that `more` gives for it; returns their numbers.
  begin(count, path, more = () => [], headers = requestHeaders(path)) {
    const frames = [];
    const streams = [];
    for (let i = 0; i < count; i += 1, this.nextStream += 2) {
      streams.push(this.nextStream);
      frames.push(frameOf(TYPE.headers, FLAG.endHeaders, this.nextStream, headers), ...more(this.nextStream));
    }
    this.socket.write(Buffer.concat(frames));
    return streams;
  }

  data(stream, bytes, flags = 0) {
    const frames = [];
    for (let at = 0; at < bytes.length; at += 16384) frames.push(frameOf(TYPE.data, flags, stream, bytes.subarray(at, at + 16384)));
    this.socket.write(Buffer.concat(frames));
  }

  close() { this.socket.destroy(); }
}
