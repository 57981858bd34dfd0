// Server reflection, as grpcurl and the like use it.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import grpc from '@grpc/grpc-js';
import loader from '@grpc/proto-loader';
import descriptor from 'protobufjs/ext/descriptor/index.js';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Cluster } from './lib/cluster.mjs';
import { ROOT } from './lib/paths.mjs';

const includeDirs = [join(ROOT, 'proto')];
const files = readdirSync(join(ROOT, 'proto/grpc/reflection'), { recursive: true }).filter((name) => name.endsWith('.proto'));
const load = (version) => {
  const file = files.find((name) => name.split('/')[0] === version);
  return grpc.loadPackageDefinition(loader.loadSync(join('grpc/reflection', file), { includeDirs, keepCase: true, oneofs: true, defaults: false }))
    .grpc.reflection[version].ServerReflection;
};

for (const version of ['v1', 'v1alpha']) {
  describe(`server reflection ${version}`, () => {
    let cluster;
    let stub;
    before(async () => {
      cluster = await Cluster.start({ size: 1 });
      stub = new (load(version))(cluster.nodes[0].grpc, grpc.credentials.createInsecure());
    });
    after(async () => {
      stub?.close();
      await cluster?.destroy();
    });

    // Several questions on one stream.
    const ask = (requests) => new Promise((done, fail) => {
      const stream = stub.ServerReflectionInfo({ deadline: Date.now() + 10000 });
      const answers = [];
      stream.on('data', (answer) => answers.push(answer));
      stream.on('error', fail);
      stream.on('end', () => done(answers));
      requests.forEach((request) => stream.write({ host: 'h', ...request }));
      stream.end();
    });

    test('every service is listed', async () => {
      const [answer] = await ask([{ list_services: '*' }]);
      const names = answer.list_services_response.service.map((service) => service.name);
      for (const name of ['raftogram.v1.Messenger', 'raftogram.v1.Cluster', 'phalanx.KV', 'grpc.health.v1.Health', `grpc.reflection.${version}.ServerReflection`]) {
        assert.ok(names.includes(name), `${name} in ${names}`);
      }
      // Node to node is another listener's.
      assert.ok(!names.includes('phalanx.Consensus'));
    });

    test('every symbol resolves to files that say it, dependencies included', async () => {
      const symbols = ['raftogram.v1.Messenger', 'raftogram.v1.Messenger.SendMessage', 'raftogram.v1.StoredMessage', 'raftogram.v1.NotLeader', 'raftogram.v1.Cluster',
        'phalanx.KV', 'google.rpc.ErrorInfo', 'google.rpc.Status', 'grpc.health.v1.Health', 'grpc.health.v1.HealthCheckResponse.ServingStatus'];
      const answers = await ask(symbols.map((symbol) => ({ file_containing_symbol: symbol })));
      assert.equal(answers.length, symbols.length);
      for (const [i, answer] of answers.entries()) {
        assert.equal(answer.original_request.file_containing_symbol, symbols[i]);
        const protos = answer.file_descriptor_response.file_descriptor_proto.map((bytes) => descriptor.FileDescriptorProto.decode(bytes));
        const have = new Set(protos.map((proto) => proto.name));
        const wanted = symbols[i].split('.').filter((part) => /^[A-Z]/.test(part))[0];
        const names = protos.flatMap((proto) => [...proto.messageType, ...proto.service].map((item) => item.name));
        assert.ok(names.includes(wanted), `${wanted} in ${names}`);
        for (const dependency of protos.flatMap((proto) => proto.dependency)) {
          if (have.has(dependency)) continue;
          const [more] = await ask([{ file_by_filename: dependency }]);
          assert.ok(more.file_descriptor_response, dependency);
        }
      }
    });

    test('what is unknown is NOT_FOUND in the answer, and the stream goes on', async () => {
      const answers = await ask([{ file_containing_symbol: 'no.Such' }, { file_by_filename: 'no.proto' }, { list_services: '' }]);
      assert.equal(answers[0].error_response.error_code, grpc.status.NOT_FOUND);
      assert.equal(answers[1].error_response.error_code, grpc.status.NOT_FOUND);
      assert.ok(answers[2].list_services_response);
    });
  });
}

test('reflection: false turns it off', async () => {
  const cluster = await Cluster.start({ size: 1, extra: 'grpc: {reflection: false}' });
  try {
    for (const version of ['v1', 'v1alpha']) {
      const stub = new (load(version))(cluster.nodes[0].grpc, grpc.credentials.createInsecure());
      const code = await new Promise((done) => {
        const stream = stub.ServerReflectionInfo({ deadline: Date.now() + 5000 });
        stream.on('error', (error) => done(error.code));
        stream.on('data', () => done('answered'));
        stream.write({ list_services: '' });
      });
      assert.equal(code, grpc.status.UNIMPLEMENTED);
      stub.close();
    }
  } finally {
    await cluster.destroy();
  }
});
