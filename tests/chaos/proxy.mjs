// A TCP proxy on the way of one node to one other: what it is told to lose, hold or delay, it does.
import { connect, createServer } from 'node:net';

// `up` is the way of the bytes of who dials, `down` the way back.
export class Proxy {
  constructor(name, target) {
    this.name = name;
    this.target = target;
    this.pairs = new Set();
    this.heal();
    this.server = createServer({ noDelay: true }, (socket) => this.accept(socket));
  }

  async listen() {
    await new Promise((done, fail) => {
      this.server.on('error', fail);
      this.server.listen(0, '127.0.0.1', done);
    });
    this.address = `127.0.0.1:${this.server.address().port}`;
    return this;
  }

  heal() {
    this.isCut = false;
    this.held = { up: false, down: false };
    this.delayMs = 0;
    this.jitter = null;
    for (const pair of this.pairs) {
      this.flush(pair.up);
      this.flush(pair.down);
    }
  }

  // Bytes wait; the peers see a silent connection.
  hold({ up = true, down = true } = {}) { this.held = { up: this.held.up || up, down: this.held.down || down }; }

  // Connections end at once and new ones are refused.
  cut() {
    this.isCut = true;
    this.reset();
  }

  reset() {
    for (const pair of [...this.pairs]) this.end(pair);
  }

  slow(delayMs, random = null) {
    this.delayMs = delayMs;
    this.jitter = random;
  }

  accept(client) {
    if (this.isCut) {
      client.on('error', () => {});
      client.resetAndDestroy();
      return;
    }
    const [host, port] = this.target.split(':');
    const server = connect({ host, port: Number(port), noDelay: true });
    const pair = { client, server };
    pair.up = { name: 'up', from: client, to: server, queue: [], last: 0 };
    pair.down = { name: 'down', from: server, to: client, queue: [], last: 0 };
    this.pairs.add(pair);
    for (const way of [pair.up, pair.down]) {
      way.from.on('data', (data) => this.take(way, data));
      way.from.on('error', () => this.end(pair));
      way.from.on('close', () => this.end(pair));
    }
  }

  end(pair) {
    this.pairs.delete(pair);
    for (const way of [pair.up, pair.down]) clearTimeout(way.timer);
    for (const socket of [pair.client, pair.server]) {
      if (!socket.destroyed) socket.resetAndDestroy();
    }
  }

  take(way, data) {
    const extra = this.jitter ? this.delayMs * this.jitter.next() : this.delayMs;
    // TCP keeps the order, however the delays are.
    way.last = Math.max(way.last, Date.now() + extra);
    way.queue.push({ at: way.last, data });
    // Backpressure, as a full window would be.
    if (way.queue.length > 64) way.from.pause();
    this.flush(way);
  }

  flush(way) {
    clearTimeout(way.timer);
    if (this.held[way.name]) return;
    const now = Date.now();
    while (way.queue.length > 0 && (way.queue[0].at <= now || this.delayMs === 0)) {
      const { data } = way.queue.shift();
      if (!way.to.destroyed) way.to.write(data);
    }
    if (way.queue.length > 0) way.timer = setTimeout(() => this.flush(way), way.queue[0].at - now);
    else way.from.resume();
  }

  close() {
    this.reset();
    this.server.close();
  }
}
