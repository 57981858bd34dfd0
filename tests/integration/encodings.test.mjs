// JSON beside protobuf: what a client with a JSON codec of its own sends and hears.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Cluster, until } from './lib/cluster.mjs';
import { errorDetails, grpc, refusal } from './lib/messenger.mjs';
import { fieldBytes, frame, http2Call, jsonClient } from './lib/raw.mjs';

const MESSENGER = '/raftogram.v1.Messenger';
const CLUSTER = '/raftogram.v1.Cluster';
const INVALID_FIELD = { code: 'INVALID_ARGUMENT', reason: 'INVALID_FIELD' };

describe('JSON over gRPC', () => {
  let cluster;
  let node;
  let json;
  let client;

  before(async () => {
    cluster = await Cluster.start({ size: 1 });
    [node] = cluster.nodes;
    json = jsonClient(node.grpc);
    client = cluster.client(node);
    await client.createChannel({ channelId: 'c' });
  });
  after(async () => {
    json?.close();
    await cluster?.destroy();
  });

  const call = (method, body) => json.unary(`${MESSENGER}/${method}`, body);
  const last = async () => (await client.all('c')).at(-1);

  test('the document\'s walk works in JSON, and answers are in lowerCamelCase with every field', async () => {
    assert.deepEqual(await call('CreateChannel', { channel_id: 'general', name: 'General' }),
      { channelId: 'general', name: 'General', created: true });
    assert.deepEqual(await call('CreateChannel', { channelId: 'general', name: 'Other' }),
      { channelId: 'general', name: 'General', created: false });
    assert.deepEqual(await call('ReadHistory', { channelId: 'general' }), { messages: [], hasMore: false });
    assert.deepEqual(await call('SendMessage', { channelId: 'general', authorId: 'alice', payload: 'SGVsbG8=', clientMessageId: 'm' }),
      { sequence: '1', deduplicated: false });
    const history = await call('ReadHistory', { channel_id: 'general', after_sequence: '0', limit: 50 });
    const [{ timestampUnixMs, ...message }] = history.messages;
    assert.deepEqual(message, { sequence: '1', authorId: 'alice', payload: 'SGVsbG8=', clientMessageId: 'm' });
    assert.match(timestampUnixMs, /^\d{13}$/);
    assert.equal(history.hasMore, false);
    await call('SendMessage', { channelId: 'general' });
    const { messages } = await call('ReadHistory', { channelId: 'general', afterSequence: 1 });
    assert.deepEqual(Object.keys(messages[0]).sort(), ['authorId', 'clientMessageId', 'payload', 'sequence', 'timestampUnixMs']);
    assert.deepEqual([messages[0].payload, messages[0].authorId], ['', '']);
    const list = await call('ListChannels', { prefix: 'general' });
    assert.deepEqual(list, { channels: [{ channelId: 'general', name: 'General', lastSequence: '2', firstSequence: '1' }], hasMore: false });
    assert.deepEqual(await call('ListChannels', { prefix: 'none' }), { channels: [], hasMore: false });
  });

  test('Cluster/Status writes every field', async () => {
    const status = await json.unary(`${CLUSTER}/Status`, {});
    assert.deepEqual(Object.keys(status).sort(), ['appliedIndex', 'clusterId', 'commitIndex', 'firstIndex', 'hasQuorum', 'lastIndex', 'leaderId',
      'members', 'nodeId', 'role', 'snapshotIndex', 'term', 'uptimeSeconds', 'version']);
    assert.equal(status.role, 'leader');
    assert.equal(status.hasQuorum, true);
    for (const key of ['term', 'commitIndex', 'appliedIndex', 'firstIndex', 'lastIndex', 'snapshotIndex', 'uptimeSeconds']) assert.match(status[key], /^\d+$/, key);
    assert.deepEqual(Object.keys(status.members[0]).sort(), ['grpcAddr', 'httpAddr', 'lastContactMs', 'matchIndex', 'nodeId', 'raftAddr', 'state']);
    assert.deepEqual([status.members[0].grpcAddr, status.members[0].raftAddr, status.members[0].httpAddr], [node.grpc, node.raft, node.http]);
  });

  test('phalanx.KV writes snake_case', async () => {
    const propose = (command) => json.unary('/phalanx.KV/Propose', { data: Buffer.from(JSON.stringify(command)).toString('base64') });
    assert.deepEqual(await propose({ op: 'SET', key: 'mykey', value: 'myvalue' }), { success: true, leader_addr: '', error: '' });
    assert.deepEqual(await json.unary('/phalanx.KV/Read', { key: 'mykey' }), { value: 'myvalue', found: true, leader_addr: '', error: '' });
    assert.deepEqual(await propose({ op: 'SET', key: 'empty' }), { success: true, leader_addr: '', error: '' });
    assert.deepEqual(await json.unary('/phalanx.KV/Read', { key: 'empty' }), { value: '', found: true, leader_addr: '', error: '' });
    assert.deepEqual(await propose({ op: 'DELETE', key: 'mykey' }), { success: true, leader_addr: '', error: '' });
    assert.deepEqual(await propose({ op: 'DELETE', key: 'never-there' }), { success: true, leader_addr: '', error: '' });
    assert.deepEqual(await json.unary('/phalanx.KV/Read', { key: 'mykey' }), { value: '', found: false, leader_addr: '', error: '' });
  });

  test('lowerCamelCase and snake_case come in alike, also mixed', async () => {
    assert.deepEqual(await call('SendMessage', { channel_id: 'c', authorId: 'a', client_message_id: 'mixed' }),
      { sequence: '1', deduplicated: false });
    assert.deepEqual(await call('SendMessage', { channelId: 'c', author_id: 'b', clientMessageId: 'mixed' }),
      { sequence: '1', deduplicated: true });
  });

  test('bytes come in as base64, standard or URL-safe, padded or not, and go out standard and padded', async () => {
    const bytes = Buffer.from([0xfb, 0xef, 0xff, 0xfe]);
    for (const payload of ['++///g==', '++///g', '--___g==', '--___g']) {
      await call('SendMessage', { channelId: 'c', payload });
      assert.ok((await last()).payload.equals(bytes), payload);
    }
    const { sequence } = await last();
    const { messages } = await call('ReadHistory', { channelId: 'c', afterSequence: String(Number(sequence) - 1) });
    assert.equal(messages[0].payload, '++///g==');
    for (const payload of ['a', '*', 'SGVsbG8=SGVsbG8=', '====']) {
      assert.deepEqual(await refusal(call('SendMessage', { channelId: 'c', payload })), INVALID_FIELD, payload);
    }
  });

  test('64-bit integers come in as strings and as numbers', async () => {
    for (const afterSequence of ['2', 2, 2.0, '2e0']) {
      const body = typeof afterSequence === 'string' && afterSequence.includes('e') ? '{"channelId":"c","afterSequence":2e0}' : { channelId: 'c', afterSequence };
      const { messages } = await call('ReadHistory', body);
      assert.equal(messages[0].sequence, '3');
    }
    assert.deepEqual((await call('ReadHistory', { channelId: 'c', afterSequence: '18446744073709551615' })).messages, []);
    for (const text of ['"18446744073709551616"', '-1', '"-1"', '1.5', '"x"', 'true', '[]', '{}', '""']) {
      assert.deepEqual(await refusal(call('ReadHistory', `{"channelId":"c","afterSequence":${text}}`)), INVALID_FIELD, text);
    }
  });

  test('32-bit integers come in as numbers and as strings', async () => {
    for (const limit of [1, '1']) assert.equal((await call('ReadHistory', { channelId: 'c', limit })).messages.length, 1);
    for (const text of ['4294967296', '-1', '0.5', 'true']) {
      assert.deepEqual(await refusal(call('ReadHistory', `{"channelId":"c","limit":${text}}`)), INVALID_FIELD, text);
    }
  });

  test('unknown fields are ignored, null is the default', async () => {
    assert.deepEqual(await call('CreateChannel', { channelId: 'nulls', name: null, color: 'red', deep: { er: [1, { a: null }] } }),
      { channelId: 'nulls', name: '', created: true });
    assert.deepEqual(await refusal(call('ReadHistory', { channelId: null })), INVALID_FIELD);
    assert.equal((await call('ReadHistory', { channelId: 'c', limit: null, afterSequence: null })).messages[0].sequence, '1');
  });

  test('wrong types are refused', async () => {
    for (const body of ['{"channelId":1}', '{"channelId":true}', '{"channelId":{}}', '{"channelId":["c"]}']) {
      assert.deepEqual(await refusal(call('ReadHistory', body)), INVALID_FIELD, body);
    }
    for (const body of ['{"channelId":"c","payload":1}', '{"channelId":"c","payload":["x"]}', '{"channelId":"c","payload":{}}']) {
      assert.deepEqual(await refusal(call('SendMessage', body)), INVALID_FIELD, body);
    }
    assert.deepEqual(await refusal(call('Subscribe', '{"channelId":"c","liveOnly":"yes"}')), INVALID_FIELD);
  });

  test('strings survive whatever they hold', async () => {
    for (const name of ['"\\/\b\f\n\r\t', 'é漢字🙂', '\u2028\u2029', 'a\u007fb']) {
      const { channelId } = await call('CreateChannel', { name });
      const { channels } = await call('ListChannels', { prefix: channelId, limit: 1 });
      assert.equal(channels[0].name, name);
    }
    assert.equal((await call('CreateChannel', '{"name":"\\ud83d\\ude42"}')).name, '🙂');
    assert.deepEqual(await refusal(call('CreateChannel', '{"name":"\\ud83d"}')), INVALID_FIELD);
  });

  test('a JSON body is told by its brace, with white space before it or not', async () => {
    const [first] = (await call('ReadHistory', { channelId: 'c', limit: 1 })).messages;
    const list = await call('ListChannels', '{}');
    for (const space of ['', ' ', '\n', '\r\n', '\t', '  ', '\n\n', ' \t\r\n ', '\n\t']) {
      for (const body of ['{}', '{ }', '{\n}']) assert.deepEqual(await call('ListChannels', space + body), list, JSON.stringify(space + body));
      const body = `${space}${JSON.stringify({ channelId: 'c', limit: 1 }, null, 2)}\n`;
      assert.deepEqual((await call('ReadHistory', body)).messages, [first], JSON.stringify(body));
    }
    assert.deepEqual(await refusal(call('ReadHistory', '{"channelId":"c"} {}')), INVALID_FIELD);
    assert.deepEqual(await refusal(call('ReadHistory', ' \n')), INVALID_FIELD);
    assert.deepEqual(await refusal(call('ReadHistory', ' ["channelId"]')), INVALID_FIELD);
  });

  test('a protobuf body that begins as white space and a brace do is protobuf', async () => {
    // 0x0a is the tag of a first field with a length, and that length is the brace's 123.
    for (const channelId of [`${'x'.repeat(123)}`, `"channelId":"c","x":"${'x'.repeat(100)}"}`]) {
      assert.equal(channelId.length, 123);
      await client.createChannel({ channelId });
      const body = fieldBytes(1, channelId);
      assert.equal(body.subarray(0, 2).toString(), '\n{');
      await client.send({ channelId, authorId: channelId });
      const raw = await http2Call(node.grpc, `${MESSENGER}/ReadHistory`, frame(body));
      assert.equal(raw.bodies[0][0], 0x0a, 'the answer is protobuf');
      assert.ok(raw.bodies[0].includes(channelId));
    }
    const key = 'k'.repeat(123);
    await client.propose({ op: 'SET', key, value: 'protobuf' });
    const raw = await http2Call(node.grpc, '/phalanx.KV/Read', frame(fieldBytes(1, key)));
    assert.deepEqual(raw.bodies[0], Buffer.concat([fieldBytes(1, 'protobuf'), Buffer.from([0x10, 1])]));
  });

  test('phalanx.KV takes names in any case, as Go does', async () => {
    const command = Buffer.from('{"Op":"SET","KEY":"cased","Value":"v"}').toString('base64');
    assert.deepEqual(await json.unary('/phalanx.KV/Propose', { Data: command }), { success: true, leader_addr: '', error: '' });
    for (const name of ['key', 'Key', 'KEY']) assert.equal((await json.unary('/phalanx.KV/Read', { [name]: 'cased' })).value, 'v');
    // Elsewhere a name in another case is an unknown field.
    assert.deepEqual(await refusal(call('ReadHistory', { ChannelId: 'c' })), INVALID_FIELD);
  });

  test('Subscribe streams JSON chunks', async () => {
    const stream = json.stream(`${MESSENGER}/Subscribe`, { channelId: 'c', afterSequence: '1' });
    await until('the stored messages', () => stream.chunks.length > 0);
    assert.ok(stream.isOpen);
    assert.equal(stream.chunks[0].messages[0].sequence, '2');
    await client.send({ channelId: 'c', payload: Buffer.from('live') });
    await until('the live message', () => stream.chunks.flatMap((chunk) => chunk.messages).some((m) => m.payload === Buffer.from('live').toString('base64')));
    stream.stream.cancel();
    const refused = json.stream(`${MESSENGER}/Subscribe`, { channelId: 'nowhere' });
    await until('the refusal', () => refused.error);
    assert.equal(errorDetails(refused.error).info.reason, 'CHANNEL_NOT_FOUND');
  });

  test('health and the other services speak JSON, too', async () => {
    assert.deepEqual(await json.unary('/grpc.health.v1.Health/Check', {}), { status: 'SERVING' });
    assert.equal((await json.unary('/grpc.health.v1.Health/Check', { service: 'phalanx.KV' })).status, 'SERVING');
    assert.deepEqual(await refusal(json.unary(`${CLUSTER}/TransferLeadership`, { targetNodeId: 'nobody' })), INVALID_FIELD);
  });

  test('errors of JSON calls carry the same details', async () => {
    assert.deepEqual(await refusal(call('SendMessage', { channelId: 'nowhere' })), { code: 'NOT_FOUND', reason: 'CHANNEL_NOT_FOUND' });
  });

  for (const contentType of ['application/grpc', 'application/grpc+json', 'application/grpc+proto']) {
    test(`${contentType} is answered with application/grpc in the request's encoding`, async () => {
      const options = { headers: { 'content-type': contentType } };
      const answer = await http2Call(node.grpc, `${MESSENGER}/ReadHistory`, frame('{"channel_id":"c","limit":1}'), options);
      assert.equal(answer.headers[':status'], 200);
      assert.equal(answer.headers['content-type'], 'application/grpc');
      assert.equal(answer.trailers['grpc-status'], '0');
      assert.equal(JSON.parse(answer.bodies[0]).messages[0].sequence, '1');
      const binary = await http2Call(node.grpc, `${MESSENGER}/ReadHistory`, frame(fieldBytes(1, 'c')), options);
      assert.equal(binary.headers['content-type'], 'application/grpc');
      assert.equal(binary.bodies[0][0], 0x0a);
      const kv = await http2Call(node.grpc, '/phalanx.KV/Read', frame('{"key":"empty"}'), options);
      assert.deepEqual(JSON.parse(kv.bodies[0]), { value: '', found: true, leader_addr: '', error: '' });
      const missing = await http2Call(node.grpc, `${MESSENGER}/ReadHistory`, frame('{"channel_id":"nowhere"}'), options);
      assert.equal(missing.trailers['grpc-status'], String(grpc.status.NOT_FOUND));
      assert.ok(missing.trailers['grpc-status-details-bin']);
    });
  }
});
