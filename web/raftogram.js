// A client of raftogram: JSON-RPC 2.0 over the WebSocket that every node serves on /ws.
//
//   import { connect } from './raftogram.js';
//
//   const client = connect('http://127.0.0.1:8080');
//   await client.call('CreateChannel', { channelId: 'general', name: 'General' });
//   client.subscribe('general', { afterSequence: 0, encoding: 'text' }, {
//     onMessages: (messages) => messages.forEach((m) => console.log(m.sequence, m.text)),
//   });
//   await client.send({ channelId: 'general', authorId: 'ann', text: 'hello' });
//
// The client keeps one connection and makes a new one when it is lost, with jittered backoff and on
// whichever node of the cluster answers. Subscriptions go on after their last message, without a
// gap or a duplicate; a send has a client message id, so that repeating it never stores it twice.
// It runs in browsers, in Node.js from version 22, and in older ones with
// `connect(url, { WebSocket })`, such as that of the package ws. It depends on nothing.

export const Status = Object.freeze({
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
});

const statusName = (code) =>
  Object.keys(Status).find((name) => Status[name] === code) ?? 'UNKNOWN';

// The error of every rejected promise of this module. `code` is a gRPC status number or one of the
// negative codes of JSON-RPC, `status` its name, `reason` distinguishes cases (CHANNEL_NOT_FOUND),
// `data` has what else the node reported.
export class RaftogramError extends Error {
  constructor(message, { code, data = {} } = {}) {
    super(message);
    this.name = new.target.name;
    this.code = code;
    this.data = data ?? {};
    this.status = this.data.status ?? statusName(code);
    this.reason = this.data.reason ?? '';
  }
}

// The node answered with an error.
export class RpcError extends RaftogramError {}

// There was no answer. The reason is TIMEOUT or CONNECTION_LOST (the outcome is unknown),
// NOT_CONNECTED, QUEUE_FULL or FRAME_TOO_LARGE (it was never sent), CANCELLED, CLUSTER_CHANGED or
// CLOSED.
export class ConnectionError extends RaftogramError {
  constructor(message, code, reason) {
    super(message, { code, data: { status: statusName(code), reason } });
  }
}

const DEFAULTS = Object.freeze({
  WebSocket: undefined, // the constructor; globalThis.WebSocket when absent
  clusterId: '', // refuse any other cluster; if empty, taken from the first hello
  followPeers: true, // also use the nodes that hello names
  connectTimeoutMs: 5000, // from the attempt to hello
  callTimeoutMs: 15000, // how long a call may wait for a connection and its answer
  sendTimeoutMs: 30000, // how long send() keeps trying
  attemptTimeoutMs: 12000, // one attempt of a repeated call; a node answers within 10 s
  answerPatienceMs: 11000, // a node that leaves a call unanswered for this long is replaced by another
  backoffMinMs: 100,
  backoffMaxMs: 5000,
  repeatMaxMs: 1000, // longest pause between two attempts of one call
  stableMs: 5000, // a connection or subscription that lived as long resets its backoff
  quorumPatienceMs: 4000, // after this long without a quorum another node is used
  quorumPatienceMaxMs: 30000,
  callsMax: 1000, // calls that wait or are in flight
  queueBytesMax: 16 * 1024 * 1024, // total size, in UTF-16 units
  random: Math.random,
});

const URLS_MAX = 64;
const HEARTBEATS_MISSED = 2.5;
const LATE_MS = 1000; // for frames that waited while the page was suspended
const CLOSE_NORMAL = 1000;
const CLOSE_GOING_AWAY = 1001;
const CLOSE_OVERLOADED = 1013;

// Durations are measured by a monotonic clock.
const now = () => performance.now();

const READS = new Set(['ReadHistory', 'ListChannels', 'Status', 'Read']);

// Returns whether this call may be repeated without a visible effect.
function isRepeatable(method, params) {
  if (READS.has(method)) return true;
  if (method === 'SendMessage') return Boolean(params?.clientMessageId);
  if (method === 'SendMessages') return Boolean(params?.messages?.every((message) => message.clientMessageId));
  if (method === 'CreateChannel') return Boolean(params?.channelId);
  return false;
}

// UNAVAILABLE guarantees that nothing was proposed. Calls with the other errors may have been
// carried out.
function isWorthRepeating(error, repeatable) {
  if (error.code === Status.UNAVAILABLE) return error.reason !== 'CLOSED';
  if (!repeatable || error.reason === 'CLUSTER_CHANGED') return false;
  if (error.code === Status.RESOURCE_EXHAUSTED) return error.reason === 'OVERLOADED';
  return error.code === Status.ABORTED || error.code === Status.DEADLINE_EXCEEDED;
}

// Returns whether the same call may succeed later, because the request itself was valid.
export function isPassing(error) {
  return error.reason !== 'CLOSED' && [
    Status.CANCELLED, Status.DEADLINE_EXCEEDED, Status.RESOURCE_EXHAUSTED, Status.ABORTED,
    Status.UNAVAILABLE,
  ].includes(error.code);
}

// A subscription ends permanently only for errors that a new attempt cannot change.
function isFinal(error) {
  return [
    Status.INVALID_ARGUMENT, Status.NOT_FOUND, Status.FAILED_PRECONDITION, Status.OUT_OF_RANGE,
    Status.UNIMPLEMENTED, Status.PERMISSION_DENIED,
  ].includes(error.code) || error.code < 0;
}

function jitteredBackoff(attempt, minMs, maxMs, random) {
  const ceiling = Math.min(maxMs, minMs * 2 ** Math.min(attempt, 30));
  return ceiling * (0.5 + random() / 2);
}

// An exception of a handler of the application must neither break the client nor be lost.
function guarded(handler, ...values) {
  if (!handler) return;
  try {
    handler(...values);
  } catch (error) {
    if (typeof globalThis.reportError === 'function') globalThis.reportError(error);
    else setTimeout(() => { throw error; });
  }
}

// Returns the WebSocket address for user input: http://host:port, host:port, ws://host/ws, or the
// location of the page.
export function socketUrl(address) {
  const text = typeof address === 'object' ? address.href : String(address);
  const url = new URL(/^[a-z]+:\/\//i.test(text) ? text : `ws://${text}`);
  const isSecure = url.protocol === 'https:' || url.protocol === 'wss:';
  const path = /^wss?:$/.test(url.protocol) && url.pathname !== '/' ? url.pathname : '/ws';
  return `${isSecure ? 'wss' : 'ws'}://${url.host}${path}`;
}

// Node.js 18 has no global crypto.
const crypto = globalThis.crypto ?? (await import('node:crypto')).webcrypto;

// Returns 128 random bits. crypto.randomUUID() is missing on plain http pages.
export function newClientMessageId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

export function base64FromBytes(bytes) {
  let binary = '';
  for (let i = 0; i < bytes.length; i += 0x8000) {
    binary += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  }
  return btoa(binary);
}

// Returns the payload of a message in either encoding, as bytes.
export function payloadBytes(message) {
  if (typeof message.text === 'string') return new TextEncoder().encode(message.text);
  return Uint8Array.from(atob(message.payload ?? ''), (char) => char.charCodeAt(0));
}

// A subscription to one channel, created by Client.subscribe(). Read its fields; call its close().
class Subscription {
  constructor(client, channelId, options, handlers) {
    this.client = client;
    this.channelId = channelId;
    this.encoding = options.encoding;
    this.handlers = handlers;
    // The last sequence received; null until a live-only subscription knows where it begins.
    this.cursor = options.liveOnly ? null : BigInt(options.afterSequence ?? 0);
    this.id = null; // its id at the node, on the current connection
    this.state = 'waiting'; // live, ended
    this.attempt = 0;
    this.liveSince = 0;
    this.timer = null;
    this.isAsking = false;
  }

  // The last sequence received, as the messages have it.
  get lastSequence() { return this.cursor === null ? null : String(this.cursor); }

  close() { this.client.unsubscribe(this); }
}

// Events, with on(name, handler), which returns what takes the handler off again:
//   state           {state, url, nodeId, retryInMs}; state is connecting, open, waiting or closed
//   hello           the node's greeting, on every new connection
//   leader          {role, leaderId, hasQuorum}, at hello and whenever it changes
//   clusterChanged  {previous, current}; what was remembered of sequences is worthless now
//   notification    {method, params}, one that this client does not know
export class Client {
  #options;
  #nodes = []; // {url, nodeId, isGiven}: where to connect
  #position = 0;
  #attempt = 0;
  #socket = null;
  #openedAt = 0;
  #lastHeard = 0;
  #retryTimer = null;
  #watchTimer = null;
  #quorumTimer = null;
  #quorumRounds = 0;
  #clusterId;
  #calls = new Map(); // id -> call, in the order made
  #queueBytes = 0;
  #nextId = 1;
  #subscriptions = new Set();
  #subscriptionsById = new Map();
  #listeners = new Map();
  #state = 'connecting';
  #hello = null;
  #leader = null;

  constructor(addresses, options = {}) {
    this.#options = { ...DEFAULTS, ...options };
    this.#options.WebSocket ??= globalThis.WebSocket;
    if (!this.#options.WebSocket) {
      throw new TypeError('no WebSocket here: pass one as an option, such as that of package ws');
    }
    this.#clusterId = this.#options.clusterId;
    const urls = [addresses].flat().map(socketUrl).slice(0, URLS_MAX);
    if (urls.length === 0) throw new TypeError('connect() needs an address');
    this.#nodes = [...new Set(urls)].map((url) => ({ url, nodeId: '', isGiven: true }));
    this.#retryTimer = setTimeout(() => this.#open(), 0);
  }

  get state() { return this.#state; }

  get hello() { return this.#hello; }

  get leader() { return this.#leader; }

  get clusterId() { return this.#clusterId; }

  get url() { return this.#nodes[this.#position].url; }

  // Where the cluster's nodes are, as far as known: [{url, nodeId}].
  get nodes() { return this.#nodes.map(({ url, nodeId }) => ({ url, nodeId })); }

  on(name, handler) {
    if (!this.#listeners.has(name)) this.#listeners.set(name, new Set());
    this.#listeners.get(name).add(handler);
    return () => this.#listeners.get(name).delete(handler);
  }

  // Calls a method and resolves to its result. It waits for a connection if there is none. If the
  // connection is lost during a call, the call is repeated if that is safe; otherwise it rejects
  // with CONNECTION_LOST. With `retry` it is also repeated after errors for which that is safe. A
  // read that finds damage on the disk of one node is repeated once on each other node. An
  // AbortSignal in `signal` ends the call with CANCELLED: if it was not sent by then, it never is.
  async call(method, params = {}, {
    timeoutMs = this.#options.callTimeoutMs, retry = false, signal,
  } = {}) {
    if (method === 'Subscribe' || method === 'Unsubscribe') {
      throw new TypeError(`use client.subscribe() in place of ${method}`);
    }
    const tried = { id: 0 }; // the call now in the queue or in flight
    const cancel = () => this.#take(tried.id)?.reject(this.#cancelledError());
    signal?.addEventListener('abort', cancel);
    try {
      return await this.#repeat({ method, params, timeoutMs, retry, signal, tried });
    } finally {
      signal?.removeEventListener('abort', cancel);
    }
  }

  async #repeat({ method, params, timeoutMs, retry, signal, tried }) {
    const repeatable = isRepeatable(method, params);
    const deadline = now() + timeoutMs;
    let clusterId = '';
    for (let attempt = 0, losses = 0; ; attempt += 1) {
      if (signal?.aborted) throw this.#cancelledError();
      const isMovable = retry && READS.has(method) && losses < this.#nodes.length - 1;
      const remainingMs = deadline - now();
      const tryMs = retry && repeatable
        ? Math.min(remainingMs, this.#options.attemptTimeoutMs) : remainingMs;
      try {
        return await new Promise((resolve, reject) => {
          const call = { method, params, repeatable, isMovable, resolve, reject, timeoutMs: tryMs };
          this.#enqueue(call);
          tried.id = call.id;
        });
      } catch (error) {
        const { backoffMinMs, repeatMaxMs, random } = this.#options;
        const pauseMs = jitteredBackoff(attempt, backoffMinMs, repeatMaxMs, random);
        const isLate = now() + pauseMs >= deadline;
        const isLeft = isMovable && error.code === Status.DATA_LOSS; // see #answered
        const isRepeated = isLeft || (retry && isWorthRepeating(error, repeatable));
        if (isLate || !isRepeated) throw error;
        if (isLeft) losses += 1;
        clusterId ||= this.#clusterId;
        await new Promise((done) => { setTimeout(done, pauseMs); });
        if (clusterId && this.#clusterId !== clusterId) {
          throw this.#clusterChangedError(clusterId, this.#clusterId);
        }
      }
    }
  }

  // Sends {channelId, authorId, text or payload (bytes or base64), clientMessageId?} and resolves
  // to {sequence, deduplicated, clientMessageId} once a majority has it on disk. It keeps trying
  // for timeoutMs, or until `signal`. To try again after that, pass the same clientMessageId.
  async send(message, { timeoutMs = this.#options.sendTimeoutMs, signal } = {}) {
    const params = { ...message };
    params.clientMessageId ||= newClientMessageId();
    if (params.payload instanceof Uint8Array) params.payload = base64FromBytes(params.payload);
    const result = await this.call('SendMessage', params, { timeoutMs, signal, retry: true });
    return { ...result, clientMessageId: params.clientMessageId };
  }

  // Follows a channel: the messages after `afterSequence` (0: all), or with liveOnly those from
  // now on. Handlers, all optional:
  //   onMessages(messages, subscription)  in order, each sequence once
  //   onState(state, subscription)        waiting, live, ended
  //   onEnd(error, subscription)          it ended for good (no such channel, another cluster)
  subscribe(channelId, { afterSequence, liveOnly = false, encoding = '' } = {}, handlers = {}) {
    if (this.#state === 'closed') throw this.#closedError();
    const options = { afterSequence, liveOnly, encoding };
    const subscription = new Subscription(this, channelId, options, handlers);
    this.#subscriptions.add(subscription);
    if (this.#state === 'open') this.#ask(subscription);
    return subscription;
  }

  unsubscribe(subscription) {
    if (subscription.state === 'ended') return;
    if (subscription.id !== null) this.#sendUnsubscribe(subscription.id);
    this.#forget(subscription);
  }

  // Connects at once instead of after the pause, because the network is available again.
  wake() {
    if (this.#state !== 'waiting') return;
    clearTimeout(this.#retryTimer);
    this.#open();
  }

  close() {
    if (this.#state === 'closed') return;
    clearTimeout(this.#retryTimer);
    this.#state = 'closed';
    this.#detach(CLOSE_NORMAL);
    for (const subscription of [...this.#subscriptions]) this.#forget(subscription);
    this.#rejectCalls(() => true, this.#closedError());
    this.#setState('closed');
  }

  #emit(name, value) {
    for (const handler of [...this.#listeners.get(name) ?? []]) guarded(handler, value);
  }

  #setState(state, details = {}) {
    this.#state = state;
    this.#emit('state', { state, url: this.url, nodeId: this.#hello?.nodeId ?? '', ...details });
  }

  #closedError() {
    return new ConnectionError('the client is closed', Status.UNAVAILABLE, 'CLOSED');
  }

  #cancelledError() {
    return new ConnectionError('the call was given up', Status.CANCELLED, 'CANCELLED');
  }

  #clusterChangedError(previous, current) {
    return new ConnectionError(
      `this is cluster ${current}, no longer ${previous}`,
      Status.FAILED_PRECONDITION, 'CLUSTER_CHANGED');
  }

  // ---- the connection ---------------------------------------------------------------------------

  #open() {
    this.#setState('connecting');
    if (this.#state === 'closed') return; // by a handler
    let socket;
    try {
      socket = new this.#options.WebSocket(this.url, ['raftogram.v1.json']);
    } catch {
      // The policy of a browser may forbid an address, which is then like a dead node.
      this.#lost({ avoid: true });
      return;
    }
    this.#socket = socket;
    this.#openedAt = 0;
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => {
      this.#lost({ avoid: [CLOSE_GOING_AWAY, CLOSE_OVERLOADED].includes(event.code) });
    };
    socket.onerror = () => {}; // a close follows
    this.#watchTimer = setTimeout(
      () => this.#lost({ avoid: true }), this.#options.connectTimeoutMs);
  }

  // The close event of a dead peer may take minutes, so the socket is abandoned.
  #detach(code) {
    clearTimeout(this.#watchTimer);
    clearTimeout(this.#quorumTimer);
    const socket = this.#socket;
    this.#socket = null;
    this.#subscriptionsById.clear();
    if (!socket) return;
    socket.onmessage = null;
    socket.onclose = null;
    socket.onerror = () => {};
    socket.close(code);
  }

  #lost({ avoid }) {
    if (this.#state === 'closed') return;
    const wasStable = this.#openedAt > 0 &&
      now() - this.#openedAt >= this.#options.stableMs;
    if (wasStable) this.#attempt = 0;
    const wasOpen = this.#openedAt > 0;
    this.#openedAt = 0;
    this.#state = 'waiting'; // handlers called below may make calls
    this.#detach();
    // A lost connection may be an accident: the same node is tried first, then the others.
    if (!wasOpen || avoid) this.#position = (this.#position + 1) % this.#nodes.length;
    this.#requeue();
    for (const subscription of this.#subscriptions) this.#pause(subscription);
    if (this.#state !== 'waiting') return; // a handler closed the client, or woke it
    const { backoffMinMs, backoffMaxMs, random } = this.#options;
    const round = Math.floor(this.#attempt / this.#nodes.length);
    const retryInMs = this.#attempt === 0
      ? backoffMinMs * random() : jitteredBackoff(round, backoffMinMs, backoffMaxMs, random);
    this.#attempt += 1;
    this.#retryTimer = setTimeout(() => this.#open(), retryInMs);
    this.#setState('waiting', { retryInMs });
  }

  // After a page was suspended, this timer is due before the frames that arrived meanwhile. A late
  // check is repeated once, after those frames.
  #watch(heartbeatMs) {
    const limitMs = heartbeatMs * HEARTBEATS_MISSED;
    let dueAt = 0;
    let isSecond = false;
    const plan = (pauseMs) => {
      dueAt = now() + pauseMs;
      this.#watchTimer = setTimeout(check, pauseMs);
    };
    const check = () => {
      const silentMs = now() - this.#lastHeard;
      const isLate = now() - dueAt >= heartbeatMs;
      if (silentMs >= limitMs && (isSecond || !isLate)) {
        this.#lost({ avoid: true });
        return;
      }
      isSecond = silentMs >= limitMs;
      plan(isSecond ? Math.min(heartbeatMs, LATE_MS) : limitMs - silentMs);
    };
    clearTimeout(this.#watchTimer);
    plan(limitMs);
  }

  // A node that is cut off from the others cannot serve; one of the others may.
  #watchQuorum() {
    clearTimeout(this.#quorumTimer);
    if (this.#leader.hasQuorum) {
      this.#quorumRounds = 0;
      return;
    }
    const { quorumPatienceMs, quorumPatienceMaxMs } = this.#options;
    const patienceMs = Math.min(quorumPatienceMaxMs, quorumPatienceMs * 2 ** this.#quorumRounds);
    this.#quorumTimer = setTimeout(() => {
      const isCommitted = [...this.#calls.values()].some((call) => call.isSent && !call.repeatable);
      if (this.#nodes.length < 2 || isCommitted) {
        this.#watchQuorum();
        return;
      }
      this.#quorumRounds = Math.min(this.#quorumRounds + 1, 10);
      this.#lost({ avoid: true });
    }, patienceMs);
  }

  #receive(data) {
    this.#lastHeard = now();
    const socket = this.#socket;
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      this.#lost({ avoid: true });
      return;
    }
    for (const message of [frame].flat()) {
      if (this.#socket !== socket) return; // an earlier event ended the connection
      if (message === null || typeof message !== 'object') continue;
      if (typeof message.method === 'string') this.#notified(message.method, message.params ?? {});
      else this.#answered(message);
    }
  }

  #notified(method, params) {
    if (method === 'hello') this.#greeted(params);
    else if (method === 'leader') this.#led(params);
    else if (method === 'messages') this.#delivered(params);
    else if (method === 'ended') this.#ended(params);
    else if (method !== 'heartbeat') this.#emit('notification', { method, params });
  }

  #greeted(hello) {
    this.#hello = hello;
    this.#openedAt = now();
    this.#nodes[this.#position].nodeId = hello.nodeId ?? '';
    this.#learnPeers(hello.peers ?? []);
    this.#checkCluster(hello.clusterId ?? '');
    if (this.#state === 'closed') return; // by a handler, here and below
    this.#watch(Math.max(1, Number(hello.heartbeatMs) || 10000));
    this.#state = 'open';
    for (const call of [...this.#calls.values()]) this.#transmit(call);
    for (const subscription of [...this.#subscriptions]) this.#ask(subscription);
    if (this.#state === 'open') this.#setState('open');
    if (this.#state === 'open') this.#emit('hello', hello);
    if (this.#state === 'open') this.#led(hello);
  }

  #led({ role = '', leaderId = '', hasQuorum = false }) {
    const hadQuorum = this.#leader?.hasQuorum;
    this.#leader = { role, leaderId, hasQuorum };
    this.#watchQuorum();
    this.#emit('leader', this.#leader);
    if (hasQuorum && hadQuorum === false) {
      for (const subscription of [...this.#subscriptions]) this.#ask(subscription);
    }
  }

  // The other nodes serve plain http, which a page loaded over https may not use.
  #learnPeers(peers) {
    const here = this.#nodes[this.#position];
    if (!this.#options.followPeers || here.url.startsWith('wss:')) return;
    const kept = this.#nodes.filter((node) => node.isGiven || node === here);
    const learnt = [];
    for (const { nodeId, httpAddr } of peers) {
      if (!httpAddr || kept.length + learnt.length >= URLS_MAX) continue;
      let url;
      try {
        url = socketUrl(`ws://${httpAddr}`);
      } catch {
        continue; // an address that no one could call
      }
      const isKnown = kept.some((node) => node.url === url || (nodeId && node.nodeId === nodeId));
      if (!isKnown) learnt.push({ url, nodeId, isGiven: false });
    }
    // Each client has an order of its own, so that the clients of a dead node spread over the
    // others.
    const order = new Map(learnt.map((node) => [node, this.#options.random()]));
    learnt.sort((a, b) => order.get(a) - order.get(b));
    this.#nodes = [...kept, ...learnt];
    this.#position = this.#nodes.indexOf(here);
  }

  #checkCluster(clusterId) {
    if (!clusterId) return; // the cluster is not founded yet
    const previous = this.#clusterId;
    this.#clusterId = clusterId;
    if (previous && previous !== clusterId) this.#changeCluster(previous, clusterId);
  }

  #changeCluster(previous, current) {
    const error = this.#clusterChangedError(previous, current);
    this.#rejectCalls(() => true, error);
    for (const subscription of [...this.#subscriptions]) this.#forget(subscription, error);
    this.#emit('clusterChanged', { previous, current });
  }

  // ---- calls ------------------------------------------------------------------------------------

  // call: {method, params, repeatable, resolve, reject, timeoutMs, isBound?, isMovable?}; a bound
  // one ends with the connection, unanswered; a movable one leaves a node whose disk is damaged.
  #enqueue(call) {
    if (this.#state === 'closed') {
      call.reject(this.#closedError());
      return;
    }
    call.id = this.#nextId;
    this.#nextId += 1;
    const { id, method, params } = call;
    call.frame = JSON.stringify({ jsonrpc: '2.0', id, method, params });
    const { callsMax, queueBytesMax } = this.#options;
    if (this.#calls.size >= callsMax || this.#queueBytes + call.frame.length > queueBytesMax) {
      call.reject(new ConnectionError(
        'too many calls wait for their answers', Status.RESOURCE_EXHAUSTED, 'QUEUE_FULL'));
      return;
    }
    this.#calls.set(id, call);
    this.#queueBytes += call.frame.length;
    call.timer = setTimeout(() => {
      this.#take(id)?.reject(call.wasSent
        ? new ConnectionError(
          `no answer to ${method} in time`, Status.DEADLINE_EXCEEDED, 'TIMEOUT')
        : new ConnectionError('no node can be reached', Status.UNAVAILABLE, 'NOT_CONNECTED'));
      this.#leaveIfMute(call);
    }, Math.max(0, call.timeoutMs));
    if (this.#state === 'open') this.#transmit(call);
  }

  // A node answers every call within 10 s, if need be with an error. A node that does not hangs,
  // whatever else it sends.
  #leaveIfMute(call) {
    const { answerPatienceMs, attemptTimeoutMs } = this.#options;
    const patienceMs = Math.min(answerPatienceMs, attemptTimeoutMs * 0.9);
    const isMute = call.isSent && Date.now() - call.sentAt >= patienceMs;
    if (isMute && this.#state === 'open' && this.#nodes.length > 1) this.#lost({ avoid: true });
  }

  #take(id) {
    const call = this.#calls.get(id);
    if (!call) return undefined;
    this.#calls.delete(id);
    this.#queueBytes -= call.frame.length;
    clearTimeout(call.timer);
    return call;
  }

  // A frame over the limit of the node would end the connection, and again after each reconnect.
  #transmit(call) {
    if (!this.#calls.has(call.id)) return; // the one before it ended them all
    const bytesMax = Number(this.#hello?.maxFrameBytes) || Infinity;
    const isLarge = call.frame.length * 3 > bytesMax &&
      new TextEncoder().encode(call.frame).length > bytesMax;
    if (isLarge) {
      this.#take(call.id).reject(new ConnectionError(
        `the node takes frames of at most ${bytesMax} bytes`,
        Status.INVALID_ARGUMENT, 'FRAME_TOO_LARGE'));
      return;
    }
    call.isSent = true;
    call.wasSent = true;
    call.sentAt = Date.now();
    this.#socket.send(call.frame);
  }

  #answered({ id, result, error }) {
    const call = this.#take(id);
    if (!call) return;
    if (!error) {
      call.resolve(result);
      return;
    }
    call.reject(new RpcError(error.message ?? 'error', error));
    if (error.code === Status.DATA_LOSS && call.isMovable) this.#lost({ avoid: true });
  }

  #rejectCalls(isMeant, error) {
    for (const call of [...this.#calls.values()]) {
      if (isMeant(call)) this.#take(call.id).reject(error);
    }
  }

  #requeue() {
    this.#rejectCalls((call) => call.isBound || (call.isSent && !call.repeatable),
      new ConnectionError(
        'the connection was lost: the outcome is unknown', Status.ABORTED, 'CONNECTION_LOST'));
    for (const call of this.#calls.values()) call.isSent = false;
  }

  // ---- subscriptions ----------------------------------------------------------------------------

  #setSubscriptionState(subscription, state) {
    if (subscription.state === state) return;
    subscription.state = state;
    guarded(subscription.handlers.onState, state, subscription);
  }

  #ask(subscription) {
    if (subscription.state !== 'waiting' || subscription.isAsking) return;
    clearTimeout(subscription.timer);
    subscription.isAsking = true;
    const { channelId, encoding, cursor } = subscription;
    const params = { channelId };
    if (cursor === null) params.liveOnly = true;
    else params.afterSequence = String(cursor);
    if (encoding) params.encoding = encoding;
    if (this.#clusterId) params.clusterId = this.#clusterId;
    // Plain callbacks, not a promise: messages may follow in the very frame of the answer.
    this.#enqueue({
      method: 'Subscribe',
      params,
      repeatable: true,
      isBound: true,
      timeoutMs: this.#options.attemptTimeoutMs,
      resolve: (result) => this.#granted(subscription, result),
      reject: (error) => this.#refused(subscription, error),
    });
  }

  #granted(subscription, result) {
    subscription.isAsking = false;
    if (subscription.state === 'ended') {
      this.#sendUnsubscribe(result.subscription);
      return;
    }
    subscription.id = result.subscription;
    subscription.liveSince = now();
    subscription.cursor ??= BigInt(result.lastSequence ?? 0);
    this.#subscriptionsById.set(subscription.id, subscription);
    this.#setSubscriptionState(subscription, 'live');
  }

  #refused(subscription, error) {
    subscription.isAsking = false;
    if (subscription.state === 'ended') return;
    if (error.reason === 'CONNECTION_LOST' || error.reason === 'CLOSED') return;
    this.#interrupted(subscription, error);
  }

  #interrupted(subscription, error) {
    this.#pause(subscription);
    if (subscription.state === 'ended') return; // by a handler
    if (isFinal(error)) {
      this.#forget(subscription, error);
      if (error.reason === 'CLUSTER_CHANGED') {
        this.#emit('clusterChanged', { previous: this.#clusterId, current: '' });
      }
      return;
    }
    if (error.code === Status.DATA_LOSS && this.#nodes.length > 1) {
      this.#lost({ avoid: true }); // the disk of this node is damaged; another node has the messages
      return;
    }
    const { backoffMinMs, backoffMaxMs, random } = this.#options;
    const pauseMs = jitteredBackoff(subscription.attempt, backoffMinMs, backoffMaxMs, random);
    subscription.attempt += 1;
    subscription.timer = setTimeout(() => {
      if (this.#state === 'open') this.#ask(subscription);
    }, pauseMs);
  }

  #pause(subscription) {
    clearTimeout(subscription.timer);
    const livedMs = now() - subscription.liveSince;
    if (subscription.state === 'live' && livedMs >= this.#options.stableMs) subscription.attempt = 0;
    this.#subscriptionsById.delete(subscription.id);
    subscription.id = null;
    this.#setSubscriptionState(subscription, 'waiting');
  }

  #delivered({ subscription: id, messages = [] }) {
    const subscription = this.#subscriptionsById.get(id);
    if (!subscription) {
      this.#sendUnsubscribe(id); // a subscription whose answer came too late
      return;
    }
    const fresh = [];
    let { cursor } = subscription;
    for (const message of messages) {
      const sequence = BigInt(message.sequence);
      if (sequence <= cursor) continue;
      if (sequence !== cursor + 1n) break;
      fresh.push(message);
      cursor = sequence;
    }
    const last = messages.at(-1);
    const hasGap = last !== undefined && BigInt(last.sequence) > cursor;
    subscription.cursor = cursor;
    if (fresh.length > 0) guarded(subscription.handlers.onMessages, fresh, subscription);
    if (hasGap && subscription.id === id) {
      this.#sendUnsubscribe(id);
      this.#interrupted(subscription, new ConnectionError(
        `message ${cursor + 1n} is missing`, Status.INTERNAL, 'GAP'));
    }
  }

  #ended({ subscription: id, code, data }) {
    const subscription = this.#subscriptionsById.get(id);
    if (!subscription) return;
    const status = data?.status ?? statusName(code);
    this.#interrupted(subscription, new RpcError(`the subscription ended: ${status}`, { code, data }));
  }

  #forget(subscription, error) {
    clearTimeout(subscription.timer);
    this.#subscriptionsById.delete(subscription.id);
    subscription.id = null;
    this.#subscriptions.delete(subscription);
    this.#setSubscriptionState(subscription, 'ended');
    if (error) guarded(subscription.handlers.onEnd, error, subscription);
  }

  #sendUnsubscribe(id) {
    if (this.#state !== 'open') return;
    this.#socket.send(JSON.stringify(
      { jsonrpc: '2.0', method: 'Unsubscribe', params: { subscription: id } }));
  }
}

// Connects to a node, or to the first one that answers: 'http://127.0.0.1:8080', a list of
// addresses, or nothing in a page that a node served. Returns a Client at once; calls wait for the
// connection.
export function connect(addresses = globalThis.location, options = {}) {
  return new Client(addresses, options);
}
