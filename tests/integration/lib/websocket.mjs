// WebSocket clients: one by the stock `ws` package that speaks JSON-RPC, and one of bare frames for
// what a stock client refuses to send.
import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import WebSocket from 'ws';
import { until } from './cluster.mjs';

export { WebSocket };

export class RpcError extends Error {
  constructor({ code, message, data }) {
    super(`${code}: ${message}`);
    this.code = code;
    this.data = data;
  }
}

// `notifications` collects all that came unasked, `frames` every text as it came.
export class WsClient {
  constructor(address, { protocols = ['raftogram.v1.json'], path = '/ws', ...options } = {}) {
    this.frames = [];
    this.notifications = [];
    this.pending = new Map();
    this.nextId = 1;
    this.socket = new WebSocket(`ws://${address}${path}`, protocols, options);
    this.opened = new Promise((done, fail) => {
      this.socket.on('open', done);
      this.socket.on('error', fail);
      this.socket.on('unexpected-response', (_, response) => {
        let body = '';
        response.on('data', (data) => { body += data; });
        response.on('end', () => fail(Object.assign(new Error(`HTTP ${response.statusCode}`), { status: response.statusCode, body })));
      });
    });
    this.opened.catch(() => {});
    this.closed = new Promise((done) => this.socket.on('close', (code, reason) => done({ code, reason: String(reason) })));
    this.socket.on('message', (data) => this.take(String(data)));
  }

  static async open(address, options) {
    const client = new WsClient(address, options);
    await client.opened;
    await client.notification('hello');
    return client;
  }

  take(text) {
    this.frames.push(text);
    const value = JSON.parse(text);
    for (const item of Array.isArray(value) ? value : [value]) {
      if (item.method !== undefined) this.notifications.push(item);
      else if (this.pending.has(item.id)) {
        const { done, fail } = this.pending.get(item.id);
        this.pending.delete(item.id);
        if (item.error) fail(new RpcError(item.error));
        else done(item.result);
      }
    }
  }

  send(value) { this.socket.send(typeof value === 'string' ? value : JSON.stringify(value)); }

  request(method, params, id = this.nextId++) {
    const answer = new Promise((done, fail) => { this.pending.set(id, { done, fail }); });
    answer.catch(() => {});
    return { text: { jsonrpc: '2.0', id, method, params }, answer };
  }

  call(method, params) {
    const { text, answer } = this.request(method, params);
    this.send(text);
    return answer;
  }

  // The error of a call that must fail.
  async refused(method, params) {
    try {
      await this.call(method, params);
    } catch (error) {
      return error;
    }
    throw new Error(`${method} was not refused`);
  }

  // The next frame after those that came before the call.
  async answerTo(text) {
    const before = this.frames.length;
    this.send(text);
    return JSON.parse(await until('an answer', () => this.frames[before]));
  }

  of(method) { return this.notifications.filter((item) => item.method === method).map((item) => item.params); }

  async notification(method) { return until(method, () => this.of(method)[0]); }

  messages(subscription) {
    return this.of('messages').filter((item) => item.subscription === subscription).flatMap((item) => item.messages);
  }

  async close(code = 1000) {
    this.socket.close(code);
    return this.closed;
  }
}

export const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 };

// A masked frame as a client sends it; each part can be wrong.
export function frame(opcode, payload = '', { fin = true, rsv = 0, masked = true, length } = {}) {
  const data = Buffer.from(payload);
  const size = length ?? data.length;
  const head = [(fin ? 0x80 : 0) | (rsv << 4) | opcode];
  const mask = masked ? 0x80 : 0;
  let extended = Buffer.alloc(0);
  if (size < 126) head.push(mask | size);
  else if (size < 65536) {
    head.push(mask | 126);
    extended = Buffer.alloc(2);
    extended.writeUInt16BE(size);
  } else {
    head.push(mask | 127);
    extended = Buffer.alloc(8);
    extended.writeBigUInt64BE(BigInt(size));
  }
  const key = masked ? randomBytes(4) : Buffer.alloc(0);
  const body = masked ? Buffer.from(data.map((byte, i) => byte ^ key[i & 3])) : data;
  return Buffer.concat([Buffer.from(head), extended, key, body]);
}

export function handshake({ path = '/ws', host = 'localhost', headers = {} } = {}) {
  const all = {
    Host: host, Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': randomBytes(16).toString('base64'), ...headers,
  };
  const lines = Object.entries(all).filter(([, value]) => value !== null).map(([name, value]) => `${name}: ${value}`);
  return `GET ${path} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`;
}

// Bare bytes over TCP: `received` holds all that came before the upgrade, `frames` what came after.
export class RawSocket {
  constructor(address) {
    const [host, port] = address.split(':');
    this.received = Buffer.alloc(0);
    this.isUpgraded = false;
    this.rest = Buffer.alloc(0);
    this.frames = [];
    this.texts = [];
    this.isClosed = false;
    this.socket = connect({ host, port: Number(port), allowHalfOpen: true });
    this.socket.on('data', (data) => this.take(data));
    this.socket.on('end', () => { this.isEnded = true; this.socket.end(); });
    this.socket.on('close', () => { this.isClosed = true; });
    this.socket.on('error', (error) => { this.error = error; });
  }

  static async upgraded(address, options) {
    const raw = new RawSocket(address);
    raw.write(handshake(options));
    await until('the handshake', () => raw.received.includes('\r\n\r\n'));
    if (!raw.isUpgraded) throw new Error(raw.received.toString());
    return raw;
  }

  write(data) { this.socket.write(data); }

  take(data) {
    if (this.isUpgraded) {
      this.takeFrames(data);
      return;
    }
    const all = Buffer.concat([this.received, data]);
    const end = all.indexOf('\r\n\r\n');
    this.isUpgraded = end >= 0 && all.subarray(0, 13).toString() === 'HTTP/1.1 101 ';
    this.received = this.isUpgraded ? all.subarray(0, end + 4) : all;
    if (this.isUpgraded) this.takeFrames(all.subarray(end + 4));
  }

  takeFrames(data) {
    this.rest = Buffer.concat([this.rest, data]);
    while (this.rest.length >= 2) {
      const opcode = this.rest[0] & 0x0f;
      let size = this.rest[1] & 0x7f;
      const head = size === 127 ? 10 : size === 126 ? 4 : 2;
      if (this.rest.length < head) return;
      if (size === 126) size = this.rest.readUInt16BE(2);
      if (size === 127) size = Number(this.rest.readBigUInt64BE(2));
      if (this.rest.length < head + size) return;
      const payload = this.rest.subarray(head, head + size);
      this.frames.push({ opcode, payload });
      if (opcode === OPCODE.text) this.texts.push(JSON.parse(payload.toString()));
      this.rest = this.rest.subarray(head + size);
    }
  }

  messages() { return this.texts.filter((item) => item.method === 'messages').flatMap((item) => item.params.messages); }

  // The code of the close frame; 'none' when the connection ended without one.
  async closeCode() {
    return until('the close', () => {
      const close = this.frames.find((item) => item.opcode === OPCODE.close);
      if (close) return close.payload.length >= 2 ? close.payload.readUInt16BE(0) : 1005;
      return (this.isClosed || this.isEnded) && 'none';
    });
  }

  destroy() { this.socket.destroy(); }
}
