// A cluster for tests of the page, in this process and without Raft: nodes that serve web/ and speak
// section 8 of the contract over one common memory. What a real cluster shows only with luck (a
// refused send, a lost answer, a node without a quorum) is a field here. It stands in for the
// daemon in tests of the page only; chat.test.mjs has the real one.
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { dirname, extname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { WebSocketServer } from 'ws';

const WEB = resolve(dirname(fileURLToPath(import.meta.url)), '../../../web');
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };
const HEARTBEAT_MS = 2000;

export class FakeCluster {
  static async start({ size = 3 } = {}) {
    const cluster = new FakeCluster();
    cluster.nodes = Array.from({ length: size }, (_, i) => new FakeNode(cluster, `node${i + 1}`));
    for (const node of cluster.nodes) await node.start();
    return cluster;
  }

  constructor() {
    this.clusterId = 'a3f1c2d4e5f60718';
    this.channels = new Map(); // channelId -> {name, messages}
    this.leaderId = 'node2';
    this.hasQuorum = true;
    this.refuseSends = null; // {code, reason}: what every SendMessage is answered with
    this.refuseReads = null; // the same of every ReadHistory
    this.damaged = new Set(); // ids of nodes whose disks have lost the messages
    this.loseAnswers = 0; // so many sends are stored and their connection cut before the answer
    this.contacts = {}; // nodeId -> lastContactMs, where it is not an ordinary one
    this.sends = 0;
    this.reads = 0; // of ReadHistory
    this.lists = 0; // of ListChannels
    this.connections = 0; // WebSockets that were opened
  }

  create(channelId, name = '') {
    if (!this.channels.has(channelId)) this.channels.set(channelId, { name, messages: [], ids: new Map() });
    return this.channels.get(channelId);
  }

  store({ channelId, authorId = '', text, payload, clientMessageId = '', timestampUnixMs }) {
    const channel = this.channels.get(channelId);
    if (clientMessageId && channel.ids.has(clientMessageId)) {
      return { sequence: String(channel.ids.get(clientMessageId)), deduplicated: true };
    }
    const message = {
      sequence: String(channel.messages.length + 1), authorId, clientMessageId,
      timestampUnixMs: String(timestampUnixMs ?? Date.now()),
      ...(text === undefined ? { payload: payload ?? '' } : { text }),
    };
    channel.messages.push(message);
    if (clientMessageId) channel.ids.set(clientMessageId, channel.messages.length);
    for (const node of this.nodes) node.committed(channelId);
    return { sequence: message.sequence, deduplicated: false };
  }

  setQuorum(hasQuorum, leaderId = hasQuorum ? 'node2' : '') {
    this.hasQuorum = hasQuorum;
    this.leaderId = leaderId;
    for (const node of this.nodes) node.notify('leader', node.leader);
  }

  async stop() { await Promise.all(this.nodes.map((node) => node.stop())); }
}

class FakeNode {
  constructor(cluster, nodeId) {
    this.cluster = cluster;
    this.nodeId = nodeId;
    this.port = 0;
    this.sockets = new Set();
    this.startedMs = Date.now();
  }

  get http() { return `127.0.0.1:${this.port}`; }

  get leader() {
    const { leaderId, hasQuorum } = this.cluster;
    return { role: leaderId === this.nodeId ? 'leader' : 'follower', leaderId, hasQuorum };
  }

  async start() {
    this.server = createServer((request, response) => this.serve(request, response));
    this.webSockets = new WebSocketServer({ server: this.server, path: '/ws' });
    this.webSockets.on('connection', (socket) => this.connected(socket));
    await new Promise((done) => { this.server.listen(this.port, '127.0.0.1', done); });
    this.port = this.server.address().port;
  }

  async stop() {
    for (const socket of this.sockets) socket.terminate();
    this.webSockets.close();
    this.server.closeAllConnections();
    await new Promise((done) => { this.server.close(done); });
  }

  async serve(request, response) {
    const path = new URL(request.url, 'http://x').pathname;
    const file = path === '/' ? 'index.html' : path.slice(1);
    const sources = this.cluster.nodes.map((node) => `ws://${node.http}`).join(' ');
    try {
      const body = await readFile(join(WEB, file));
      response.writeHead(200, {
        'content-type': TYPES[extname(file)] ?? 'application/octet-stream',
        'cache-control': 'no-cache',
        'content-security-policy': `default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' ${sources}; base-uri 'none'; form-action 'self'; frame-ancestors 'none'`,
        'x-content-type-options': 'nosniff',
      }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  }

  notify(method, params) {
    for (const socket of this.sockets) this.write(socket, { jsonrpc: '2.0', method, params });
  }

  write(socket, frame) { socket.send(JSON.stringify(frame)); }

  connected(socket) {
    this.sockets.add(socket);
    this.cluster.connections += 1;
    socket.subscriptions = new Map(); // id -> {channelId, cursor}
    const heartbeat = setInterval(() => this.write(socket, { jsonrpc: '2.0', method: 'heartbeat', params: {} }), HEARTBEAT_MS);
    socket.on('close', () => {
      clearInterval(heartbeat);
      this.sockets.delete(socket);
    });
    this.write(socket, {
      jsonrpc: '2.0',
      method: 'hello',
      params: {
        nodeId: this.nodeId, ...this.leader, clusterId: this.cluster.clusterId, version: '0.1.0', heartbeatMs: HEARTBEAT_MS,
        maxPayloadBytes: 65536, maxFrameBytes: 1048576,
        peers: this.cluster.nodes.map((node) => ({ nodeId: node.nodeId, httpAddr: node.http })),
      },
    });
    socket.on('message', (data) => {
      const { id, method, params } = JSON.parse(data);
      const answer = this.call(socket, method, params);
      if (id === undefined || answer === undefined) return;
      if (answer.error) this.write(socket, { jsonrpc: '2.0', id, error: { message: answer.error.reason, code: answer.error.code, data: { reason: answer.error.reason } } });
      else this.write(socket, { jsonrpc: '2.0', id, result: answer });
      this.pump(socket);
    });
  }

  call(socket, method, params = {}) {
    const { cluster } = this;
    const channel = cluster.channels.get(params.channelId);
    if (method === 'Unsubscribe') {
      socket.subscriptions.delete(params.subscription);
      return {};
    }
    if (method === 'Status') return this.status();
    if (!cluster.hasQuorum) return { error: { code: 14, reason: 'NO_QUORUM' } };
    if (method === 'ListChannels') {
      cluster.lists += 1;
      const { afterChannelId = '', prefix = '' } = params;
      const ids = [...cluster.channels.keys()].filter((id) => id > afterChannelId && id.startsWith(prefix)).sort();
      const page = ids.slice(0, params.limit || 100);
      return {
        channels: page.map((id) => ({ channelId: id, name: cluster.channels.get(id).name, firstSequence: '1', lastSequence: String(cluster.channels.get(id).messages.length) })),
        hasMore: ids.length > page.length,
      };
    }
    if (method === 'CreateChannel') {
      const created = !channel;
      const { name } = cluster.create(params.channelId, params.name);
      return { channelId: params.channelId, name, created };
    }
    if (!channel) return { error: { code: 5, reason: 'CHANNEL_NOT_FOUND' } };
    if (method === 'ReadHistory') {
      cluster.reads += 1;
      if (cluster.damaged.has(this.nodeId)) return { error: { code: 15, reason: 'CORRUPT' } };
      if (cluster.refuseReads) return { error: cluster.refuseReads };
      const after = Number(params.afterSequence ?? 0);
      const limit = Math.min(params.limit || 100, 1000);
      const messages = channel.messages.slice(after, after + limit);
      return { messages, hasMore: channel.messages.length > after + messages.length };
    }
    if (method === 'SendMessage') {
      cluster.sends += 1;
      if (cluster.refuseSends) return { error: cluster.refuseSends };
      const result = cluster.store(params);
      if (cluster.loseAnswers > 0) {
        cluster.loseAnswers -= 1;
        socket.terminate();
        return undefined;
      }
      return result;
    }
    if (method === 'Subscribe') {
      const id = `s${Math.random()}`;
      const lastSequence = channel.messages.length;
      const cursor = params.liveOnly ? lastSequence : Number(params.afterSequence ?? 0);
      socket.subscriptions.set(id, { channelId: params.channelId, cursor });
      return { subscription: id, channelId: params.channelId, lastSequence: String(lastSequence), clusterId: cluster.clusterId };
    }
    return { error: { code: -32601, reason: 'METHOD_NOT_FOUND' } };
  }

  committed() { for (const socket of this.sockets) setImmediate(() => this.pump(socket)); }

  pump(socket) {
    for (const [id, subscription] of socket.subscriptions) {
      const { messages } = this.cluster.channels.get(subscription.channelId);
      const fresh = messages.slice(subscription.cursor, subscription.cursor + 1000);
      if (fresh.length === 0) continue;
      subscription.cursor += fresh.length;
      this.write(socket, { jsonrpc: '2.0', method: 'messages', params: { subscription: id, channelId: subscription.channelId, messages: fresh } });
    }
  }

  status() {
    const { cluster } = this;
    const index = String(1840 + [...cluster.channels.values()].reduce((sum, channel) => sum + channel.messages.length, 0));
    return {
      nodeId: this.nodeId, ...this.leader, term: '7', commitIndex: index, appliedIndex: index, firstIndex: '1', lastIndex: index,
      snapshotIndex: '1536', clusterId: cluster.clusterId, version: '0.1.0', uptimeSeconds: String(Math.floor((Date.now() - this.startedMs) / 1000) + 4210),
      members: cluster.nodes.map((node) => ({ nodeId: node.nodeId, raftAddr: '', grpcAddr: '', httpAddr: node.http, state: 'replicating', matchIndex: index, lastContactMs: cluster.contacts[node.nodeId] ?? '12' })),
    };
  }
}
