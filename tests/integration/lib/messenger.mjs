// A stock gRPC client (grpc-js) for the services in proto/.
import assert from 'node:assert/strict';
import grpc from '@grpc/grpc-js';
import loader from '@grpc/proto-loader';
import { join } from 'node:path';
import protobuf from 'protobufjs';
import { ROOT } from './paths.mjs';

const protoDir = join(ROOT, 'proto');
const load = (file) => grpc.loadPackageDefinition(loader.loadSync(file, {
  includeDirs: [protoDir, '/usr/include'], keepCase: false, longs: String, enums: String, defaults: true, arrays: true,
}));

const messaging = load('raftogram/v1/messaging.proto').raftogram.v1;
const clusterApi = load('raftogram/v1/cluster.proto').raftogram.v1;
const phalanx = load('phalanx/kv.proto').phalanx;
const healthApi = load('grpc/health/v1/health.proto').grpc.health.v1;
export { grpc };

const channelOptions = {
  'grpc.initial_reconnect_backoff_ms': 50,
  'grpc.max_reconnect_backoff_ms': 200,
  'grpc.use_local_subchannel_pool': 1,
};

// Promise-returning stubs for one node.
export class Client {
  constructor(address) {
    this.address = address;
    const credentials = grpc.credentials.createInsecure();
    this.stubs = [messaging.Messenger, clusterApi.Cluster, phalanx.KV, healthApi.Health].map(
      (Service) => new Service(address, credentials, channelOptions));
    [this.messenger, this.cluster, this.kv, this.health] = this.stubs;
  }

  call(stub, method, request, { deadline = 5000, metadata = {} } = {}) {
    const meta = new grpc.Metadata();
    for (const [key, value] of Object.entries(metadata)) meta.set(key, value);
    return new Promise((done, fail) => {
      stub[method](request, meta, { deadline: Date.now() + deadline }, (error, answer) => (error ? fail(error) : done(answer)));
    });
  }

  createChannel(request, options) { return this.call(this.messenger, 'CreateChannel', request, options); }
  send(request, options) { return this.call(this.messenger, 'SendMessage', request, options); }
  sendAll(messages, options) { return this.call(this.messenger, 'SendMessages', { messages }, options); }
  history(request, options) { return this.call(this.messenger, 'ReadHistory', request, options); }
  channels(request = {}, options) { return this.call(this.messenger, 'ListChannels', request, options); }
  status(options) { return this.call(this.cluster, 'Status', {}, options); }
  transfer(target = '', options) { return this.call(this.cluster, 'TransferLeadership', { targetNodeId: target }, options); }
  keys(request = {}, options) { return this.call(this.cluster, 'ListKeys', request, options); }
  proposeData(text, options) { return this.call(this.kv, 'Propose', { data: Buffer.from(text) }, options); }

  propose(command, options) { return this.proposeData(JSON.stringify(command), options); }
  read(key, options) { return this.call(this.kv, 'Read', { key }, options); }
  check(service = '', options) { return this.call(this.health, 'Check', { service }, options); }

  // The whole channel, page by page.
  async all(channelId, options) {
    const messages = [];
    for (;;) {
      const after = messages.length === 0 ? '0' : messages.at(-1).sequence;
      const page = await this.history({ channelId, afterSequence: after, limit: 1000 }, options);
      messages.push(...page.messages);
      if (!page.hasMore) return messages;
    }
  }

  subscribe(request, { metadata = {} } = {}) {
    const meta = new grpc.Metadata();
    for (const [key, value] of Object.entries(metadata)) meta.set(key, value);
    return new Subscription(this.messenger.Subscribe(request, meta));
  }

  close() { this.stubs.forEach((stub) => stub.close()); }
}

// The error of a call that must fail.
export async function refused(promise) {
  const outcome = await promise.then((value) => ({ value }), (error) => ({ error }));
  if (outcome.error === undefined) throw new Error(`the call succeeded: ${JSON.stringify(outcome.value)}`);
  if (!(outcome.error instanceof Error) || outcome.error.code === undefined) throw outcome.error;
  return outcome.error;
}

// The status code, reason and text of a refusal, for deepEqual.
export async function refusal(promise) {
  const error = await refused(promise);
  const { info, code } = errorDetails(error);
  if (info) {
    assert.equal(info.domain, 'raftogram');
    assert.equal(code, error.code, 'the status in the details is the status of the call');
  }
  return { code: grpc.status[error.code], reason: info?.reason };
}

// Collects what a subscription delivers.
export class Subscription {
  constructor(stream) {
    this.stream = stream;
    this.messages = [];
    this.chunkSizes = [];
    this.error = null;
    this.isOpen = false;
    this.isEnded = false;
    stream.on('metadata', () => { this.isOpen = true; });
    stream.on('data', (chunk) => {
      this.chunkSizes.push(chunk.messages.reduce((sum, message) => sum + message.payload.length, 0));
      this.messages.push(...chunk.messages);
    });
    stream.on('error', (error) => { this.error = error; this.isEnded = true; });
    stream.on('end', () => { this.isEnded = true; });
  }

  cancel() { this.stream.cancel(); }
}

// The reasons and details of an error, from grpc-status-details-bin.
const root = new protobuf.Root();
root.resolvePath = (origin, target) => (target.startsWith('google/protobuf') ? join('/usr/include', target) : join(protoDir, target));
root.loadSync(['google/rpc/status.proto', 'google/rpc/error_details.proto', 'raftogram/v1/messaging.proto']);
const types = {
  'type.googleapis.com/google.rpc.ErrorInfo': root.lookupType('google.rpc.ErrorInfo'),
  'type.googleapis.com/raftogram.v1.NotLeader': root.lookupType('raftogram.v1.NotLeader'),
};
const Status = root.lookupType('google.rpc.Status');

export function errorDetails(error) {
  const [raw] = error.metadata?.get('grpc-status-details-bin') ?? [];
  if (!raw) return { list: [] };
  const status = Status.decode(raw);
  const list = status.details.map((item) => {
    const type = types[item.typeUrl] ?? types[item.type_url];
    return { type: item.typeUrl ?? item.type_url, value: type.toObject(type.decode(item.value), { defaults: true }) };
  });
  const find = (suffix) => list.find((item) => item.type.endsWith(suffix))?.value;
  return { code: status.code, message: status.message, list, info: find('ErrorInfo'), notLeader: find('NotLeader') };
}
