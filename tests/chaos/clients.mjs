// Clients that never give up, and write down all that they were told.
import { createHash } from 'node:crypto';
import { delay } from '../integration/lib/cluster.mjs';
import { Client, errorDetails, grpc } from '../integration/lib/messenger.mjs';
import { WsClient } from '../integration/lib/websocket.mjs';

// These say that nothing was proposed. All else leaves the outcome open.
const REFUSALS = new Set(['NOT_LEADER', 'NO_QUORUM', 'DRAINING', 'OVERLOADED', 'DISK_FULL', 'MEMBER_TOO_OLD', 'NOT_CONNECTED']);
// These no client may ever hear: channels are made before, cursors come from this cluster.
const IMPOSSIBLE = new Set(['CHANNEL_NOT_FOUND', 'CURSOR_AHEAD', 'CLUSTER_CHANGED', 'INVALID_FIELD', 'PAYLOAD_TOO_LARGE', 'BATCH_TOO_LARGE']);
const PAYLOAD_BYTES_MAX = 60000; // below max_payload_bytes
const BATCH_MAX = 10; // messages; together they are below 1 MiB
const FORWARD = { 'raftogram-forward': '1' };

const digest = (message, payload) => {
  const hash = createHash('md5').update(payload).digest('base64');
  return `${message.authorId}|${message.clientMessageId}|${message.timestampUnixMs}|${hash}`;
};

// A stored message as the checker wants it; its id is the first word of its payload.
export function seen(message) {
  const payload = Buffer.isBuffer(message.payload) ? message.payload : Buffer.from(message.payload, 'base64');
  const end = payload.indexOf(' ');
  return {
    sequence: Number(message.sequence), id: payload.toString('latin1', 0, end < 0 ? payload.length : end),
    digest: digest(message, payload), time: Number(message.timestampUnixMs),
  };
}

class Socket extends WsClient {
  onMessages() {}

  onEnded() {}

  take(text) {
    const value = JSON.parse(text);
    if (value.method === 'messages') this.onMessages(value.params);
    else if (value.method === 'ended') this.onEnded(value.params);
    else super.take(text);
    this.frames.length = 0;
    if (this.notifications.length > 100) this.notifications.splice(1, 50);
  }
}

function reasonOf(error) {
  if (error.data !== undefined) return error.data?.reason ?? error.data?.status ?? String(error.code);
  // The client's own word that the call never left.
  if (error.details?.startsWith('No connection established')) return 'NOT_CONNECTED';
  return errorDetails(error).info?.reason ?? grpc.status[error.code] ?? error.message;
}

// Where all clients of a cluster write down what happens. `now` counts events: one order in time.
export class World {
  constructor({ cluster, random, report, stats, payloadBytes, pauseMs }) {
    Object.assign(this, { cluster, random, report, stats, payloadBytes, pauseMs });
    this.now = 0;
    this.channels = new Map();
    this.keys = new Map();
    this.batches = []; // {parts: [{channel, id}]}: each was stored whole or not at all
    this.made = new Map(); // channels that were made meanwhile: id -> {name, outcome}
    this.workers = [];
    this.subscriptions = [];
    this.isStopping = false;
    this.isResting = true;
    this.busy = 0;
    this.ids = 0;
    this.leader = 0;
    this.clients = cluster.nodes.map((node) => new Client(node.grpc));
    this.round = 0;
  }

  tick() { return (this.now += 1); }

  count(kind, outcome) {
    const row = this.stats.operations[kind] ??= { ok: 0, unknown: 0, refused: 0 };
    row[outcome] += 1;
  }

  // 'refused' or 'unknown'; impossible answers are violations.
  verdict(error, what) {
    const reason = reasonOf(error);
    this.stats.answers[reason] = (this.stats.answers[reason] ?? 0) + 1;
    if (IMPOSSIBLE.has(reason)) this.report('impossible answer', `${what}: ${reason} ${error.message}`);
    if (reason === 'CORRUPT' && !this.cluster.nodes.some((node) => node.isDamaged)) {
      this.report('damage out of nothing', `${what}: ${error.message}`);
    }
    return { outcome: REFUSALS.has(reason) ? 'refused' : 'unknown', reason };
  }

  follow(error) {
    const target = errorDetails(error).notLeader?.leaderGrpcTarget;
    const index = this.cluster.nodes.findIndex((node) => node.grpc === target);
    this.leader = index >= 0 ? index : (this.leader + 1) % this.clients.length;
  }

  followAddress(address) {
    const index = this.cluster.nodes.findIndex((node) => node.grpc === address);
    this.leader = index >= 0 ? index : (this.leader + 1) % this.clients.length;
  }

  payload(id, random) {
    const size = random.chance(0.05) ? this.payloadBytes * 8 : random.between(0, this.payloadBytes);
    return Buffer.from(`${id} ${'x'.repeat(Math.min(size, PAYLOAD_BYTES_MAX))}`);
  }

  async addChannel(channelId) {
    for (;;) {
      try {
        await this.clients[this.leader].createChannel({ channelId, name: channelId }, { deadline: 2000 });
        break;
      } catch (error) {
        this.verdict(error, 'CreateChannel');
        this.follow(error);
        await delay(50);
      }
    }
    this.channels.set(channelId, { id: channelId, sends: [], reads: [], ends: [], subscriptions: [] });
  }

  // A client of its own pace, that rests between rounds.
  work(name, step, { pause = this.pauseMs } = {}) {
    const random = this.random.stream(name);
    const loop = async () => {
      while (!this.isStopping) {
        if (this.isResting) {
          await delay(10);
          continue;
        }
        this.busy += 1;
        try {
          await step(random);
        } catch (error) {
          this.report('client', `${name}: ${error.stack}`);
          return;
        } finally {
          this.busy -= 1;
        }
        await delay(random.between(0, 2 * pause));
      }
    };
    this.workers.push(loop());
  }

  channel(random) { return random.pick([...this.channels.values()]); }

  // ---- sends

  async send(random, { kind, isRetried, call }) {
    const channel = this.channel(random);
    const id = `${kind.replaceAll(' ', '-')}-${(this.ids += 1)}`;
    const send = { id, call: this.tick(), outcome: 'refused', answers: [] };
    channel.sends.push(send);
    const request = {
      channelId: channel.id, authorId: kind, payload: this.payload(id, random), clientMessageId: isRetried ? id : '',
    };
    await this.attempt(random, { kind, isRetried, call, send, request });
    if (send.outcome === 'ok' && isRetried && random.chance(0.1)) {
      // The same again, later: it must be the same place.
      await delay(random.between(0, 500));
      await this.attempt(random, { kind, isRetried, call, send, request, isAgain: true });
    }
  }

  async attempt(random, { kind, isRetried, call, send, request, isAgain = false }) {
    while (!this.isStopping) {
      try {
        const answer = await call(request, random);
        send.answers.push({ at: this.tick(), sequence: Number(answer.sequence), isDeduplicated: answer.deduplicated });
        send.outcome = 'ok';
        this.count(`${kind}${isAgain ? ' again' : ''}`, 'ok');
        return;
      } catch (error) {
        const { outcome, reason } = this.verdict(error, kind);
        this.count(`${kind}${isAgain ? ' again' : ''}`, outcome);
        if (send.outcome !== 'ok' && outcome === 'unknown') send.outcome = 'unknown';
        send.code = reason;
        if (!isRetried) return;
        await delay(random.between(1, 40));
      }
    }
  }

  // One call for several messages, of one channel or of many.
  async sendBatch(random, { kind, isRetried, call }) {
    const isOfOne = random.chance(0.5);
    const channel = this.channel(random);
    const parts = Array.from({ length: random.between(1, BATCH_MAX) }, () => {
      const id = `${kind.replaceAll(' ', '-')}-${(this.ids += 1)}`;
      return { id, channel: isOfOne ? channel : this.channel(random), send: { id, outcome: 'refused', answers: [] } };
    });
    const at = this.tick();
    const requests = parts.map((part) => ({
      channelId: part.channel.id, authorId: kind, payload: this.payload(part.id, random), clientMessageId: isRetried ? part.id : '',
    }));
    parts.forEach((part) => {
      part.send.call = at;
      part.channel.sends.push(part.send);
    });
    this.batches.push({ parts: parts.map((part) => ({ channel: part.channel.id, id: part.id })) });
    await this.attemptBatch(random, { kind, isRetried, call, parts, requests });
  }

  async attemptBatch(random, { kind, isRetried, call, parts, requests }) {
    while (!this.isStopping) {
      try {
        const { results } = await call(requests, random);
        const at = this.tick();
        if (results.length !== parts.length) this.report('invented', `${kind}: ${results.length} results for ${parts.length} messages`);
        parts.forEach(({ send }, i) => {
          send.answers.push({ at, sequence: Number(results[i].sequence), isDeduplicated: results[i].deduplicated });
          send.outcome = 'ok';
        });
        this.count(kind, 'ok');
        return;
      } catch (error) {
        const { outcome, reason } = this.verdict(error, kind);
        this.count(kind, outcome);
        parts.forEach(({ send }) => {
          if (outcome === 'unknown') send.outcome = 'unknown';
          send.code = reason;
        });
        if (!isRetried) return;
        await delay(random.between(1, 40));
      }
    }
  }

  // Follows the leader.
  async callLeader(random, call) {
    const index = this.leader;
    // Some give up while their call is under way, and come again.
    const deadline = random.chance(0.05) ? random.between(1, 50) : 3000;
    try {
      return await call(this.clients[index], { deadline });
    } catch (error) {
      if (index === this.leader) this.follow(error);
      throw error;
    }
  }

  sendToLeader(request, random) { return this.callLeader(random, (client, options) => client.send(request, options)); }

  sendAllToLeader(requests, random) { return this.callLeader(random, (client, options) => client.sendAll(requests, options)); }

  // To any node, which forwards.
  sendToAny(request, random) { return random.pick(this.clients).send(request, { deadline: 6000, metadata: FORWARD }); }

  sendAllToAny(requests, random) { return random.pick(this.clients).sendAll(requests, { deadline: 6000, metadata: FORWARD }); }

  sendAllOver(socket) {
    return async (requests, random) => {
      const open = await socket.open(random);
      const messages = requests.map((request) => ({ ...request, payload: request.payload.toString('base64') }));
      const answer = open.call('SendMessages', { messages });
      if (random.chance(0.005)) setImmediate(() => open.socket.terminate());
      return answer;
    };
  }

  sendOver(socket) {
    return async (request, random) => {
      const { payload, ...rest } = request;
      const open = await socket.open(random);
      const answer = open.call('SendMessage', { ...rest, payload: payload.toString('base64') });
      // Some leave with their calls under way.
      if (random.chance(0.005)) setImmediate(() => open.socket.terminate());
      return answer;
    };
  }

  // ---- reads

  async read(random) {
    const channel = this.channel(random);
    const index = random.below(this.clients.length);
    const last = channel.known ?? 0;
    // Mostly what is new, sometimes all that was ever there.
    const after = random.chance(0.7) ? Math.max(0, last - random.below(20)) : random.below(last + 1);
    const read = { where: this.cluster.nodes[index].id, call: this.tick(), after };
    try {
      const answer = await this.clients[index].history({ channelId: channel.id, afterSequence: String(after), limit: 50 }, { deadline: 3000 });
      Object.assign(read, { end: this.tick(), messages: answer.messages.map(seen), hasMore: answer.hasMore });
      channel.known = Math.max(channel.known ?? 0, read.messages.at(-1)?.sequence ?? 0);
      channel.reads.push(read);
      this.count('ReadHistory', 'ok');
    } catch (error) {
      this.count('ReadHistory', this.verdict(error, 'ReadHistory').outcome);
    }
  }

  async list(random) {
    const index = random.below(this.clients.length);
    const call = this.tick();
    try {
      const { channels } = await this.clients[index].channels({ prefix: 'chat-' }, { deadline: 3000 });
      const end = this.tick();
      const told = new Map(channels.map((channel) => [channel.channelId, Number(channel.lastSequence)]));
      for (const channel of this.channels.values()) {
        if (!told.has(channel.id)) this.report('lost', `${this.cluster.nodes[index].id} lists no channel ${channel.id}`);
        else channel.ends.push({ where: this.cluster.nodes[index].id, call, end, sequence: told.get(channel.id) });
      }
      this.count('ListChannels', 'ok');
    } catch (error) {
      this.count('ListChannels', this.verdict(error, 'ListChannels').outcome);
    }
  }

  // ---- channels

  async make(random) {
    const id = random.chance(0.3) && this.made.size > 0 ? random.pick([...this.made.keys()]) : `made-${(this.ids += 1)}`;
    const name = `name ${(this.ids += 1)}`;
    const entry = this.made.get(id) ?? { names: [], isSure: false };
    this.made.set(id, entry);
    entry.names.push(name);
    const isNew = !entry.isSure;
    try {
      const answer = await random.pick(this.clients).createChannel({ channelId: id, name }, { deadline: 6000, metadata: FORWARD });
      if (answer.created && !isNew) this.report('lost', `channel ${id} was there and is made again`);
      if (entry.name !== undefined && answer.name !== entry.name) this.report('differs', `channel ${id} was ${entry.name}, is ${answer.name}`);
      if (!entry.names.includes(answer.name)) this.report('invented', `channel ${id} is called ${answer.name}`);
      Object.assign(entry, { isSure: true, name: answer.name });
      this.count('CreateChannel', 'ok');
    } catch (error) {
      const { outcome } = this.verdict(error, 'CreateChannel');
      if (outcome === 'refused') entry.names.splice(entry.names.indexOf(name), 1);
      this.count('CreateChannel', outcome);
    }
  }

  // ---- subscriptions

  subscribe(node, channelId, options) {
    const follower = new (options.isSocket ? SocketFollower : StreamFollower)(this, node, this.channels.get(channelId), options);
    this.subscriptions.push(follower);
  }

  // ---- keys

  key(random) { return `r${this.round}-k${random.below(6)}`; }

  async keyStep(random, kind, call) {
    const key = this.key(random);
    const what = random.weighted([[4, 'read'], [4, 'set'], [1, 'delete']]);
    const value = `v${(this.ids += 1)}`;
    const op = { kind: what, value: what === 'set' ? value : null, call: this.tick(), end: Infinity };
    const history = this.keys.get(key) ?? [];
    this.keys.set(key, history);
    let outcome;
    try {
      const answer = await call(what, key, value, random);
      op.end = this.tick();
      if (what === 'read') op.value = answer.found ? answer.value : null;
      history.push(op);
      outcome = 'ok';
    } catch (error) {
      outcome = error.outcome ?? this.verdict(error, kind).outcome;
      if (what !== 'read' && outcome === 'unknown') history.push(op);
    }
    this.count(`${kind} ${what}`, outcome);
  }

  // As its document says: an answer can be a refusal.
  keyAnswer(answer, isRead) {
    if (answer.error === '' && (isRead || answer.success)) return answer;
    const text = answer.error;
    const outcome = text.startsWith('outcome unknown') ? 'unknown' : 'refused';
    const short = text.slice(0, 40);
    this.stats.answers[short] = (this.stats.answers[short] ?? 0) + 1;
    throw Object.assign(new Error(text), { outcome, leaderAddr: answer.leaderAddr });
  }

  async keyToLeader(what, key, value) {
    const index = this.leader;
    const client = this.clients[index];
    try {
      const isRead = what === 'read';
      const answer = isRead ? await client.read(key, { deadline: 3000 })
        : await client.propose({ op: what === 'set' ? 'SET' : 'DELETE', key, value }, { deadline: 3000 });
      return this.keyAnswer(answer, isRead);
    } catch (error) {
      if (index === this.leader) this.followAddress(error.leaderAddr);
      throw error;
    }
  }

  async keyToAny(what, key, value, random) {
    const client = random.pick(this.clients);
    const options = { deadline: 6000, metadata: FORWARD };
    if (what === 'read') return this.keyAnswer(await client.read(key, options), true);
    return this.keyAnswer(await client.propose({ op: what === 'set' ? 'SET' : 'DELETE', key, value }, options), false);
  }

  keyOver(socket) {
    return async (what, key, value, random) => {
      const open = await socket.open(random);
      if (what === 'read') return this.keyAnswer(await open.call('Read', { key }), true);
      return this.keyAnswer(await open.call('Propose', { op: what === 'set' ? 'SET' : 'DELETE', key, value }), false);
    };
  }

  // ---- all of them

  async start({ channels }) {
    for (let i = 0; i < channels; i += 1) await this.addChannel(`chat-${i}`);
    const toLeader = (request, random) => this.sendToLeader(request, random);
    for (let i = 0; i < 4; i += 1) this.work(`send ${i}`, (random) => this.send(random, { kind: 'gRPC send', isRetried: true, call: toLeader }));
    const toAny = (request, random) => this.sendToAny(request, random);
    this.work('forward', (random) => this.send(random, { kind: 'gRPC forwarded send', isRetried: true, call: toAny }));
    this.work('once', (random) => this.send(random, { kind: 'gRPC send without id', isRetried: false, call: toAny }));
    const allToLeader = (requests, random) => this.sendAllToLeader(requests, random);
    const allToAny = (requests, random) => this.sendAllToAny(requests, random);
    for (let i = 0; i < 2; i += 1) this.work(`batch ${i}`, (random) => this.sendBatch(random, { kind: 'gRPC batch', isRetried: true, call: allToLeader }));
    this.work('forward batch', (random) => this.sendBatch(random, { kind: 'gRPC forwarded batch', isRetried: true, call: allToAny }));
    this.work('batch once', (random) => this.sendBatch(random, { kind: 'gRPC batch without ids', isRetried: false, call: allToAny }));
    const batches = new Connection(this);
    this.work('socket batch', (random) => this.sendBatch(random, { kind: 'WebSocket batch', isRetried: true, call: this.sendAllOver(batches) }));
    for (let i = 0; i < 2; i += 1) {
      const socket = new Connection(this);
      this.work(`socket send ${i}`, (random) => this.send(random, { kind: 'WebSocket send', isRetried: true, call: this.sendOver(socket) }));
      this.work(`socket once ${i}`, (random) => this.send(random, { kind: 'WebSocket send without id', isRetried: false, call: this.sendOver(socket) }));
      this.work(`socket keys ${i}`, (random) => this.keyStep(random, 'WebSocket key', this.keyOver(socket)));
    }
    for (let i = 0; i < 4; i += 1) this.work(`keys ${i}`, (random) => this.keyStep(random, 'gRPC key', (...args) => this.keyToLeader(...args)));
    this.work('forwarded keys', (random) => this.keyStep(random, 'gRPC forwarded key', (...args) => this.keyToAny(...args)));
    for (let i = 0; i < 2; i += 1) this.work(`read ${i}`, (random) => this.read(random));
    this.work('list', (random) => this.list(random), { pause: 5 * this.pauseMs });
    this.work('make', (random) => this.make(random), { pause: 10 * this.pauseMs });
    for (const node of this.cluster.nodes) {
      const id = `chat-${node.index % channels}`;
      this.subscribe(node, id, { isSocket: false });
      this.subscribe(node, id, { isSocket: true });
    }
    this.subscribe(this.cluster.nodes[0], 'chat-0', { isSocket: false, isLive: true });
    this.subscribe(this.cluster.nodes[1], 'chat-0', { isSocket: true, isLive: true });
  }

  async stop() {
    this.isStopping = true;
    for (const follower of this.subscriptions) follower.stop();
    await Promise.all(this.workers);
    this.clients.forEach((client) => client.close());
  }
}

// A WebSocket to some node, another one whenever it breaks.
class Connection {
  constructor(world) {
    this.world = world;
    this.socket = null;
  }

  async open(random) {
    if (this.socket && !this.socket.isGone) return this.socket;
    // One at a time: calls wait for the same connection.
    this.opening ??= this.dial(random.pick(this.world.cluster.nodes)).finally(() => { this.opening = null; });
    return this.opening;
  }

  async dial(node) {
    const socket = await dial(node);
    this.socket = socket;
    return socket;
  }
}

// A call that was never sent certainly has no effect.
const notSent = (error) => Object.assign(error, { data: { reason: 'NOT_CONNECTED' } });

async function dial(node) {
  const socket = new Socket(node.http, { handshakeTimeout: 3000 });
  socket.closed.then(() => {
    socket.isGone = true;
    for (const { fail } of socket.pending.values()) fail(Object.assign(new Error('the connection ended'), { data: { status: 'CLOSED' } }));
    socket.pending.clear();
  });
  try {
    await socket.opened;
  } catch (error) {
    throw notSent(error);
  }
  const { call } = Socket.prototype;
  socket.call = (method, params) => {
    const answer = call.call(socket, method, params);
    // A node that was stopped, or is behind a hole in the network, never answers.
    const timer = setTimeout(() => socket.socket.terminate(), 8000);
    return answer.finally(() => clearTimeout(timer));
  };
  return socket;
}

// A subscription that resumes for ever. What it saw is handed out at the end of each round.
class Follower {
  constructor(world, node, channel, { isLive = false }) {
    Object.assign(this, { world, node, channel, isLive });
    this.where = `${node.id} (${this.kind})`;
    this.cursor = 0;
    this.begin();
    this.running = this.run();
  }

  begin() {
    this.record = { where: this.where, after: this.cursor, seen: [] };
    this.channel.subscriptions.push(this.record);
  }

  // A live one has its place from its first opening; from then on it is like the others.
  get request() {
    if (this.isLive && !this.hasPlace) return { channelId: this.channel.id, liveOnly: true };
    return { channelId: this.channel.id, afterSequence: String(this.cursor) };
  }

  take(messages) {
    const at = this.world.tick();
    for (const message of messages) {
      const item = seen(message);
      item.at = at;
      this.record.seen.push(item);
      this.cursor = item.sequence;
      this.hasPlace = true;
    }
    this.world.stats.delivered += messages.length;
  }

  async run() {
    while (!this.isStopping) {
      // A live subscription that broke before its first message begins anew.
      if (this.isLive && !this.hasPlace) {
        this.record.seen.length = 0;
        this.record.liveFrom = { call: this.world.tick(), open: Infinity };
      }
      await this.once().catch((error) => {
        if (!this.isStopping) this.world.verdict(error, `Subscribe on ${this.where}`);
      });
      this.world.stats.resumes += 1;
      if (!this.isStopping) await delay(50);
    }
  }

  opened() { if (this.isLive && !this.hasPlace) this.record.liveFrom.open = this.world.tick(); }
}

class StreamFollower extends Follower {
  get kind() { return 'gRPC'; }

  async once() {
    const client = new Client(this.node.grpc);
    try {
      await new Promise((done, fail) => {
        this.stream = client.messenger.Subscribe(this.request);
        this.stream.on('metadata', () => this.opened());
        this.stream.on('data', (chunk) => this.take(chunk.messages));
        this.stream.on('error', fail);
        this.stream.on('end', done);
      });
    } finally {
      client.close();
    }
  }

  stop() {
    this.isStopping = true;
    this.stream?.cancel();
  }
}

class SocketFollower extends Follower {
  get kind() { return 'WebSocket'; }

  async once() {
    this.socket = await dial(this.node);
    const { socket } = this;
    try {
      const ended = new Promise((done, fail) => {
        socket.onMessages = ({ messages }) => this.take(messages);
        socket.onEnded = ({ code, data }) => fail(Object.assign(new Error(`ended ${code}`), { code, data }));
      });
      ended.catch(() => {});
      await socket.call('Subscribe', this.request);
      this.opened();
      await Promise.race([ended, socket.closed]);
    } finally {
      socket.socket.terminate();
    }
  }

  stop() {
    this.isStopping = true;
    this.socket?.socket.terminate();
  }
}
