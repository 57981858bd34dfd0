// Section 8 of the contract: JSON-RPC 2.0 over WebSocket, with the stock `ws` package.
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import { Cluster, delay, until } from './lib/cluster.mjs';
import { counter, metric } from './lib/prometheus.mjs';
import { OPCODE, RawSocket, WebSocket, WsClient, frame, handshake } from './lib/websocket.mjs';

const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => String(from + i));

describe('WebSocket', () => {
  let cluster;
  let leader;
  let follower;
  let client;

  before(async () => {
    cluster = await Cluster.start({ extra: 'http: {allowed_hosts: [name.example]}\nwebsocket: {allowed_origins: ["https://chat.example"]}' });
  });
  beforeEach(async () => {
    leader = await cluster.leader();
    if (follower && follower !== leader && client.socket.readyState === WebSocket.OPEN) return;
    client?.socket.terminate();
    [follower] = cluster.followersOf(leader);
    client = await WsClient.open(follower.http);
  });
  after(async () => {
    client?.socket.terminate();
    await cluster?.destroy();
  });

  async function channel(id, count = 0) {
    await client.call('CreateChannel', { channelId: id, name: id });
    for (let i = 1; i <= count; i++) await client.call('SendMessage', { channelId: id, text: `${i}` });
    return id;
  }

  describe('connecting', () => {
    test('the first frame is hello', async () => {
      const fresh = new WsClient(follower.http);
      await until('a frame', () => fresh.frames.length > 0);
      const { jsonrpc, method, params, id } = JSON.parse(fresh.frames[0]);
      assert.equal(jsonrpc, '2.0');
      assert.equal(method, 'hello');
      assert.equal(id, undefined);
      const { clusterId, version, heartbeatMs, ...rest } = params;
      assert.ok(heartbeatMs >= 1000);
      assert.match(clusterId, /^[0-9a-f]{32}$/);
      assert.equal(typeof version, 'string');
      assert.deepEqual(rest, {
        nodeId: follower.id, role: 'follower', leaderId: leader.id, hasQuorum: true,
        maxPayloadBytes: 65536, maxFrameBytes: 1 << 20,
        peers: cluster.nodes.map((node) => ({ nodeId: node.id, httpAddr: node.http })),
      });
      assert.deepEqual(await fresh.close(), { code: 1000, reason: '' });
    });

    test('the subprotocol is echoed when it is offered, and not needed', async () => {
      for (const [protocols, expected] of [[['raftogram.v1.json'], 'raftogram.v1.json'], [['other', 'raftogram.v1.json'], 'raftogram.v1.json'], [[], '']]) {
        const fresh = await WsClient.open(follower.http, { protocols });
        assert.equal(fresh.socket.protocol, expected);
        await fresh.close();
      }
      // Without one the client may hang up by itself, as this one does (RFC 6455, 4.1).
      const other = new WsClient(follower.http, { protocols: ['graphql-ws'] });
      assert.match((await other.opened.catch((error) => error)).message, /no subprotocol/i);
    });

    test('a page of the cluster may connect, another gets 403', async () => {
      const [third] = cluster.nodes.filter((node) => node !== follower);
      for (const origin of [`http://${follower.http}`, `http://${third.http}`, 'https://chat.example']) {
        const fresh = await WsClient.open(follower.http, { origin });
        await fresh.close();
      }
      const { http } = follower;
      const bad = ['http://evil.example', 'null', 'http://chat.example', `http://${http}0`, `https://${http.split(':')[0]}`, `https://${http}`, `ftp://${http}`, `${http}`, 'http://localhost', 'http://localhost:1',
        `https://${third.http}`, `http://evil.example:${third.http.split(':')[1]}`, `http://localhost.evil.example:${third.http.split(':')[1]}`, `http://10.0.0.1:${third.http.split(':')[1]}`];
      for (const origin of bad) {
        const fresh = new WsClient(http, { origin });
        const error = await fresh.opened.catch((e) => e);
        assert.equal(error.status, 403, origin);
        assert.equal(typeof JSON.parse(error.body).error, 'string');
      }
    });

    test('the Host of the request is an origin if it may be asked for, also behind a proxy with TLS', async () => {
      for (const [origin, host] of [['https://name.example', 'name.example'], ['http://name.example', 'name.example'], ['http://name.example:81', 'NAME.example.:81'], ['http://localhost:81', 'localhost:81'], ['http://10.1.2.3:81', '10.1.2.3:81'], ['http://[::1]:81', '[::1]:81']]) {
        const fresh = await WsClient.open(follower.http, { origin, headers: { host } });
        await fresh.close();
      }
    });

    test('a foreign Host is 421, with its own Origin, another one or none', async () => {
      for (const host of ['evil.example', 'evil.example:8080', 'name.example.evil.example', 'localhost.evil.example', '127.0.0.1.evil.example', '127.1', '0x7f000001', 'xname.example']) {
        for (const origin of [undefined, `http://${host}`, `http://${follower.http}`]) {
          const fresh = new WsClient(follower.http, { origin, headers: { host } });
          const error = await fresh.opened.catch((e) => e);
          assert.equal(error.status, 421, host);
          assert.equal(typeof JSON.parse(error.body).error, 'string');
        }
      }
    });

    test('a page opened as localhost, or by an allowed name, may go on at the other nodes', async () => {
      const port = follower.http.split(':')[1];
      for (const node of cluster.nodes) {
        for (const name of ['localhost', '127.0.0.1', '[::1]', 'name.example', 'LOCALHOST']) {
          const fresh = await WsClient.open(node.http, { origin: `http://${name}:${port}` });
          await fresh.close();
        }
      }
    });

    test('a wrong handshake is answered', async () => {
      const cases = [
        [{ headers: { 'Sec-WebSocket-Version': '8' } }, 426], [{ headers: { 'Sec-WebSocket-Version': null } }, 426],
        [{ headers: { 'Sec-WebSocket-Key': null } }, 400], [{ headers: { 'Sec-WebSocket-Key': 'short' } }, 400],
        [{ headers: { Connection: 'keep-alive' } }, 400], [{ path: '/elsewhere' }, 404],
        [{ headers: { Upgrade: null, Connection: null } }, 426],
      ];
      for (const [options, status] of cases) {
        const raw = new RawSocket(follower.http);
        raw.write(handshake(options));
        await until('an answer', () => raw.received.includes('\r\n\r\n'));
        assert.match(raw.received.toString(), new RegExp(`^HTTP/1\\.1 ${status} `), JSON.stringify(options));
        raw.destroy();
      }
    });
  });

  describe('JSON-RPC', () => {
    test('an id is echoed as it was', async () => {
      for (const id of ['"a"', '7', '1.50', '-1e3', '18446744073709551615', 'null', '""', '"\\u00f6"']) {
        const before = client.frames.length;
        client.send(`{"jsonrpc":"2.0","id":${id},"method":"Read","params":{"key":"none"}}`);
        const text = await until('an answer', () => client.frames[before]);
        const expected = id.startsWith('"') ? JSON.stringify(JSON.parse(id)) : id;
        assert.ok(text.includes(`"id":${expected},`), `${id}: ${text}`);
      }
    });

    test('a call without id is executed and never answered', async () => {
      const before = client.frames.length;
      client.send({ jsonrpc: '2.0', method: 'CreateChannel', params: { channelId: 'silent' } });
      client.send({ jsonrpc: '2.0', method: 'NoSuchMethod' });
      client.send({ jsonrpc: '2.0', method: 'SendMessage', params: { channelId: 5 } });
      client.send({ jsonrpc: '2.0', method: 'SendMessage', params: [] });
      await until('the channel', async () => (await client.call('ListChannels', { prefix: 'silent' })).channels.length === 1);
      assert.ok(client.frames.slice(before).every((text) => JSON.parse(text).result?.channels), client.frames.slice(before).join());
    });

    test('faults have their codes, and the connection stays open', async () => {
      const cases = [
        ['{', -32700, null], ['', -32700, null], ['{"jsonrpc":"2.0","id":1', -32700, null],
        ['1', -32600, null], ['[]', -32600, null], ['{"id":3,"method":"Status"}', -32600, 3],
        ['{"jsonrpc":"1.0","id":3,"method":"Status"}', -32600, 3], ['{"jsonrpc":"2.0","id":{},"method":"Status"}', -32600, null],
        ['{"jsonrpc":"2.0","id":3,"method":5}', -32600, 3], ['{"jsonrpc":"2.0","method":5}', -32600, null],
        ['{"jsonrpc":"2.0","id":3,"method":"status"}', -32601, 3], ['{"jsonrpc":"2.0","id":3,"method":"raftogram.v1.Messenger.SendMessage"}', -32601, 3],
        ['{"jsonrpc":"2.0","id":3,"method":"SendMessage","params":[1]}', -32602, 3],
        ['{"jsonrpc":"2.0","id":3,"method":"SendMessage","params":{"channelId":5}}', -32602, 3],
        ['{"jsonrpc":"2.0","id":3,"method":"SendMessage","params":{"channelId":"a","payload":"!"}}', -32602, 3],
        ['{"jsonrpc":"2.0","id":3,"method":"SendMessage","params":{"channelId":"a","text":5}}', -32602, 3],
        ['{"jsonrpc":"2.0","id":3,"method":"SendMessage","params":{"channelId":"a","text":"x","payload":"eA=="}}', -32602, 3],
        ['{"jsonrpc":"2.0","id":3,"method":"ReadHistory","params":{"channelId":"a","limit":-1}}', -32602, 3],
        ['{"jsonrpc":"2.0","id":3,"method":"ReadHistory","params":{"channelId":"a","encoding":"utf-16"}}', -32602, 3],
        ['{"jsonrpc":"2.0","id":3,"method":"Unsubscribe"}', -32602, 3], ['{"jsonrpc":"2.0","id":3,"method":"Unsubscribe","params":["1"]}', -32602, 3],
        ['{"jsonrpc":"2.0","id":3,"method":"None","params":[1]}', -32601, 3], ['{"jsonrpc":"2.0","id":3,"method":"None","params":null}', -32601, 3],
        ['{"jsonrpc":"2.0","id":3,"method":"SendMessage","params":[]}', -32602, 3], ['{"jsonrpc":"2.0","id":3,"method":"SendMessage","params":null}', -32602, 3],
        ['{"jsonrpc":"2.0","id":3,"method":"Status","params":[1]}', -32602, 3], ['{"jsonrpc":"2.0","id":3,"method":"Status","params":1}', -32600, 3],
      ];
      for (const [text, code, id] of cases) {
        const answer = await client.answerTo(text);
        assert.equal(answer.jsonrpc, '2.0');
        assert.equal(answer.error.code, code, text);
        assert.equal(typeof answer.error.message, 'string');
        assert.equal(answer.id, id, text);
        if (code === -32602) assert.deepEqual(answer.error.data, { status: 'INVALID_ARGUMENT', reason: 'INVALID_FIELD' });
      }
    });

    test('a method without parameters takes none in any form', async () => {
      for (const params of ['', ',"params":{}', ',"params":[]', ',"params":null']) {
        const answer = await client.answerTo(`{"jsonrpc":"2.0","id":3,"method":"Status"${params}}`);
        assert.equal(typeof answer.result?.nodeId, 'string', params);
      }
    });

    test('the others have the number of the gRPC status', async () => {
      const cases = [
        ['SendMessage', { channelId: 'nowhere' }, 5, { status: 'NOT_FOUND', reason: 'CHANNEL_NOT_FOUND' }],
        ['SendMessage', {}, 3, { status: 'INVALID_ARGUMENT', reason: 'INVALID_FIELD' }],
        ['SendMessage', { channelId: 'x'.repeat(257) }, 3, { status: 'INVALID_ARGUMENT', reason: 'INVALID_FIELD' }],
        ['SendMessage', { channelId: 'a', text: 'x'.repeat(65537) }, 3, { status: 'INVALID_ARGUMENT', reason: 'PAYLOAD_TOO_LARGE' }],
        ['ReadHistory', { channelId: 'nowhere' }, 5, { status: 'NOT_FOUND', reason: 'CHANNEL_NOT_FOUND' }],
        ['Subscribe', { channelId: 'nowhere' }, 5, { status: 'NOT_FOUND', reason: 'CHANNEL_NOT_FOUND' }],
        ['Subscribe', {}, 3, { status: 'INVALID_ARGUMENT', reason: 'INVALID_FIELD' }],
        ['TransferLeadership', {}, 9, { status: 'FAILED_PRECONDITION', reason: 'NOT_LEADER', leaderGrpcTarget: leader.grpc, raftLeaderId: leader.id }],
      ];
      for (const [method, params, code, data] of cases) {
        const error = await client.refused(method, params);
        assert.equal(error.code, code, method);
        assert.deepEqual(error.data, data);
      }
    });

    test('a batch is answered by one frame', async () => {
      await channel('batch');
      const before = client.frames.length;
      const parts = [
        client.request('SendMessage', { channelId: 'batch', text: 'a' }, 'one'), client.request('NoSuch', {}, 'two'),
        client.request('ReadHistory', { channelId: 'nowhere' }, 'three'), client.request('Status', undefined, 'four'),
        { text: { jsonrpc: '2.0', method: 'SendMessage', params: { channelId: 'batch', text: 'b' } } }, { text: 5 },
      ];
      client.send(parts.map((part) => part.text));
      const answer = JSON.parse(await until('the answer', () => client.frames[before]));
      assert.deepEqual(answer.map((item) => item.id).sort(), ['four', 'one', 'three', 'two', null].sort());
      assert.equal(client.frames.length, before + 1);
      assert.equal(answer.find((item) => item.id === null).error.code, -32600);
      await until('both messages', async () => (await client.call('ReadHistory', { channelId: 'batch' })).messages.length === 2);
    });

    test('a batch of notifications is not answered, one of 101 is refused', async () => {
      const before = client.frames.length;
      const note = { jsonrpc: '2.0', method: 'Status' };
      client.send(Array(100).fill(note));
      const refused = await client.answerTo(JSON.stringify(Array(101).fill(note)));
      assert.equal(refused.error.code, -32600);
      assert.equal(refused.id, null);
      assert.equal(client.frames.length, before + 1);
    });

    test('calls are proposed in the order received', async () => {
      await channel('order');
      const answers = [];
      for (let i = 0; i < 1000; i++) answers.push(client.call('SendMessage', { channelId: 'order', text: String(i) }));
      const sequences = (await Promise.all(answers)).map((answer) => answer.sequence);
      assert.deepEqual(sequences, numbers(1, 1000));
    });
  });

  describe('methods', () => {
    test('a message may be text or bytes, and is read as either', async () => {
      await channel('texts');
      const sends = [{ text: 'plain ö 😀 \u0000 "' }, { payload: '//4A' }, { payload: Buffer.from('bytes').toString('base64url') }, {}, { text: '' }];
      for (const part of sends) await client.call('SendMessage', { channelId: 'texts', authorId: 'ann', ...part });
      const plain = await client.call('ReadHistory', { channelId: 'texts' });
      assert.deepEqual(plain.messages.map((m) => m.payload), [Buffer.from('plain ö 😀 \u0000 "').toString('base64'), '//4A', 'Ynl0ZXM=', '', '']);
      assert.deepEqual(Object.keys(plain.messages[0]), ['sequence', 'authorId', 'payload', 'clientMessageId', 'timestampUnixMs']);
      const text = await client.call('ReadHistory', { channelId: 'texts', encoding: 'text' });
      assert.deepEqual(text.messages.map((m) => m.text ?? { payload: m.payload }), ['plain ö 😀 \u0000 "', { payload: '//4A' }, 'bytes', '', '']);
      assert.ok(text.messages.every((m) => ('text' in m) !== ('payload' in m)));
      assert.equal(text.hasMore, false);
    });

    test('names may be snake_case, numbers strings, unknown members anything', async () => {
      await channel('names', 3);
      for (const params of [{ channel_id: 'names', after_sequence: 1 }, { channelId: 'names', afterSequence: '1', what: [1, {}] }]) {
        assert.deepEqual((await client.call('ReadHistory', params)).messages.map((m) => m.sequence), ['2', '3']);
      }
      const page = await client.call('ReadHistory', { channelId: 'names', limit: 2 });
      assert.equal(page.hasMore, true);
    });

    test('a repeated clientMessageId is deduplicated', async () => {
      await channel('dedupe');
      const params = { channelId: 'dedupe', text: 'x', clientMessageId: 'id-1' };
      assert.deepEqual(await client.call('SendMessage', params), { sequence: '1', deduplicated: false });
      assert.deepEqual(await client.call('SendMessage', params), { sequence: '1', deduplicated: true });
    });

    test('Propose takes op, key and value, and Read finds them', async () => {
      const ok = { success: true, leaderAddr: '', error: '' };
      const local = await WsClient.open(leader.http);
      assert.deepEqual(await local.call('Propose', { op: 'SET', key: 'k', value: 'v "ö"' }), ok);
      assert.deepEqual(await local.call('Read', { key: 'k' }), { value: 'v "ö"', found: true, leaderAddr: '', error: '' });
      assert.deepEqual(await local.call('Propose', { data: Buffer.from('{"op":"DELETE","key":"k"}').toString('base64') }), ok);
      assert.equal((await local.call('Read', { key: 'k' })).found, false);
      for (const bad of [{}, { op: 'XX', key: 'k' }, { op: 'SET' }, { op: 5, key: 'k' }, { op: 'SET', key: 'k', value: 5 }, { op: 'SET', key: 'k', value: {} }, { op: 'SET', key: '' }]) {
        const answer = await local.call('Propose', bad);
        assert.equal(answer.success, false, JSON.stringify(bad));
        assert.ok(answer.error.length > 0);
      }
      assert.equal((await client.call('Propose', { op: 'SET', key: 'through', value: 'a follower' })).success, true);
      await local.close();
    });

    test('Status is that of this node', async () => {
      const status = await client.call('Status');
      assert.equal(status.nodeId, follower.id);
      assert.equal(status.leaderId, leader.id);
      assert.deepEqual(status.members.map((m) => m.nodeId), cluster.nodes.map((node) => node.id));
      assert.deepEqual(await client.call('Status', {}).then((s) => s.clusterId), status.clusterId);
    });
  });

  describe('subscriptions', () => {
    test('the stored messages come, then the new ones, on every node', async () => {
      await channel('live', 5);
      const readers = await Promise.all(cluster.nodes.map((node) => WsClient.open(node.http)));
      for (const reader of readers) {
        const { clusterId, ...answer } = await reader.call('Subscribe', { channelId: 'live', encoding: 'text' });
        assert.deepEqual(answer, { subscription: answer.subscription, channelId: 'live', lastSequence: '5' });
        assert.equal(typeof answer.subscription, 'string');
        assert.equal(clusterId, (await client.notification('hello')).clusterId);
        reader.id = answer.subscription;
      }
      for (let i = 6; i <= 10; i++) await client.call('SendMessage', { channelId: 'live', text: `${i}` });
      for (const reader of readers) {
        await until('all messages', () => reader.messages(reader.id).length === 10);
        assert.deepEqual(reader.messages(reader.id).map((m) => m.sequence), numbers(1, 10));
        assert.deepEqual(reader.messages(reader.id).map((m) => m.text), numbers(1, 10));
        assert.ok(reader.of('messages').every((item) => item.channelId === 'live'));
        await reader.close();
      }
    });

    test('the answer comes before the messages, in a batch too', async () => {
      await channel('first', 3);
      const fresh = await WsClient.open(follower.http);
      const parts = [fresh.request('Subscribe', { channelId: 'first' }, 's'), ...numbers(1, 20).map((n) => fresh.request('SendMessage', { channelId: 'first', text: n }))];
      const before = fresh.frames.length;
      fresh.send(parts.map((part) => part.text));
      const { subscription } = await parts[0].answer;
      assert.ok(Array.isArray(JSON.parse(fresh.frames[before])));
      await until('all messages', () => fresh.messages(subscription).length === 23);
      assert.deepEqual(fresh.messages(subscription).map((m) => m.sequence), numbers(1, 23));
      await fresh.close();
    });

    test('a cursor resumes, liveOnly begins at the end', async () => {
      await channel('cursor', 4);
      const later = await client.call('Subscribe', { channelId: 'cursor', afterSequence: '2' });
      const live = await client.call('Subscribe', { channelId: 'cursor', liveOnly: true });
      assert.notEqual(later.subscription, live.subscription);
      await client.call('SendMessage', { channelId: 'cursor', text: '5' });
      await until('the messages', () => client.messages(later.subscription).length === 3 && client.messages(live.subscription).length === 1);
      assert.deepEqual(client.messages(later.subscription).map((m) => m.sequence), ['3', '4', '5']);
      assert.deepEqual(client.messages(live.subscription).map((m) => m.sequence), ['5']);
      for (const { subscription } of [later, live]) assert.deepEqual(await client.call('Unsubscribe', { subscription }), {});
    });

    test('a cursor past the end and one of another cluster are refused', async () => {
      await channel('refusals', 2);
      const ahead = await client.refused('Subscribe', { channelId: 'refusals', afterSequence: '3' });
      assert.equal(ahead.code, 11);
      assert.deepEqual(ahead.data, { status: 'OUT_OF_RANGE', reason: 'CURSOR_AHEAD' });
      const other = await client.refused('Subscribe', { channelId: 'refusals', clusterId: '0'.repeat(32) });
      assert.equal(other.code, 9);
      assert.deepEqual(other.data, { status: 'FAILED_PRECONDITION', reason: 'CLUSTER_CHANGED' });
    });

    test('after Unsubscribe nothing comes', async () => {
      await channel('over', 1);
      const { subscription } = await client.call('Subscribe', { channelId: 'over' });
      await until('the message', () => client.messages(subscription).length === 1);
      assert.deepEqual(await client.call('Unsubscribe', { subscription }), {});
      await client.call('SendMessage', { channelId: 'over', text: '2' });
      await client.call('ReadHistory', { channelId: 'over' });
      assert.equal(client.messages(subscription).length, 1);
      assert.equal((await client.refused('Unsubscribe', { subscription })).code, 5);
    });

    test('many subscriptions on one connection each get all', async () => {
      await channel('many', 3);
      const fresh = await WsClient.open(follower.http);
      const ids = await Promise.all(numbers(1, 20).map(() => fresh.call('Subscribe', { channelId: 'many' })));
      await client.call('SendMessage', { channelId: 'many', text: '4' });
      for (const { subscription } of ids) {
        await until('all messages', () => fresh.messages(subscription).length === 4);
        assert.deepEqual(fresh.messages(subscription).map((m) => m.sequence), numbers(1, 4));
      }
      await fresh.close();
    });

    test('messages that wait together go into one frame, of at most 1 MiB', async () => {
      await channel('pages');
      const payload = 'x'.repeat(60000);
      await Promise.all(numbers(1, 40).map(() => client.call('SendMessage', { channelId: 'pages', text: payload })));
      const fresh = await WsClient.open(leader.http, { maxPayload: 4 << 20 });
      const { subscription } = await fresh.call('Subscribe', { channelId: 'pages', encoding: 'text' });
      await until('all messages', () => fresh.messages(subscription).length === 40);
      const pages = fresh.of('messages');
      assert.ok(pages.length <= 6, `${pages.length} frames`);
      for (const page of pages) assert.ok(page.messages.reduce((sum, m) => sum + m.text.length, 0) <= 1 << 20);
      await fresh.close();
    });

    test('a frame has at most 1 MiB whatever the encoding makes of its messages', async () => {
      await channel('wide');
      const texts = ['x'.repeat(60000), '\u0001'.repeat(60000), '"\\'.repeat(30000)];
      for (let i = 0; i < 10; i += 1) await Promise.all(texts.map((text) => client.call('SendMessage', { channelId: 'wide', text })));
      for (const encoding of [undefined, 'text']) {
        const fresh = await WsClient.open(follower.http);
        const { subscription } = await fresh.call('Subscribe', { channelId: 'wide', ...(encoding && { encoding }) });
        await until('all messages', () => fresh.messages(subscription).length === 30);
        assert.deepEqual(fresh.messages(subscription).map((m) => m.sequence), numbers(1, 30));
        for (const frame of fresh.frames) assert.ok(Buffer.byteLength(frame) <= 1 << 20, `${Buffer.byteLength(frame)}`);
        await fresh.close();
      }
    });

    test('a reader that stalls holds up nobody, and gets all when it is back', async () => {
      await channel('stall');
      const stalled = await RawSocket.upgraded(follower.http);
      stalled.write(frame(OPCODE.text, JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'Subscribe', params: { channelId: 'stall' } })));
      await until('the answer', () => stalled.texts.some((item) => item.id === 1));
      stalled.socket.pause();
      const reader = await WsClient.open(follower.http);
      const { subscription } = await reader.call('Subscribe', { channelId: 'stall' });
      const payload = Buffer.alloc(48000, 1).toString('base64');
      for (let i = 0; i < 10; i++) await Promise.all(numbers(1, 40).map(() => client.call('SendMessage', { channelId: 'stall', payload })));
      await until('the reader', () => reader.messages(subscription).length === 400);
      const isSanitized = await metric(follower, 'process_virtual_memory_bytes') > 2 ** 42;
      const memory = await metric(follower, 'process_resident_memory_bytes');
      assert.ok(memory < 200 << 20 || isSanitized, `${memory} bytes`);
      stalled.socket.resume();
      await until('the stalled one', () => stalled.messages().length === 400);
      const sequences = stalled.messages().map((m) => m.sequence);
      assert.deepEqual(sequences, numbers(1, 400));
      stalled.destroy();
      await reader.close();
    });
  });

  describe('bounds', () => {
    test('a client that does not read its answers is slowed down, and gets them all', async () => {
      await channel('unread', 0);
      const payload = Buffer.alloc(60000, 1).toString('base64');
      for (let i = 0; i < 12; i++) await client.call('SendMessage', { channelId: 'unread', payload });
      const raw = await RawSocket.upgraded(follower.http);
      raw.socket.pause();
      const taken = await counter(follower, 'raftogram_websocket_frames_received_total');
      for (let i = 0; i < 200; i++) raw.write(frame(OPCODE.text, JSON.stringify({ jsonrpc: '2.0', id: i, method: 'ReadHistory', params: { channelId: 'unread' } })));
      await until('the first calls', async () => await taken() > 0);
      // It takes time to see that no more of them run at once, and that it does not read on.
      for (const end = Date.now() + 1000; Date.now() < end; await delay(20)) {
        const calls = await metric(follower, 'raftogram_websocket_calls');
        assert.ok(calls <= 8, `${calls} calls`);
      }
      assert.ok(await taken() < 200, 'all calls were taken');
      raw.socket.resume();
      await until('all answers', () => raw.texts.filter((item) => item.result).length === 200, { timeout: 60000, every: 500 });
      raw.destroy();
    });

    test('subscriptions are bounded for each connection', async () => {
      await channel('bounded');
      const fresh = await WsClient.open(follower.http);
      let refused = null;
      for (let i = 0; i < 2000 && refused === null; i++) refused = await fresh.call('Subscribe', { channelId: 'bounded' }).then(() => null, (error) => error);
      assert.equal(refused.code, 8);
      assert.deepEqual(refused.data, { status: 'RESOURCE_EXHAUSTED', reason: 'OVERLOADED' });
      await fresh.close();
    });

    test('a heartbeat comes when nothing else was sent', async () => {
      const fresh = await WsClient.open(follower.http);
      const { heartbeatMs } = await fresh.notification('hello');
      const since = Date.now();
      await until('a heartbeat', () => fresh.of('heartbeat').length === 1, { timeout: heartbeatMs + 3000 });
      assert.ok(Date.now() - since > heartbeatMs - 500);
      assert.deepEqual(fresh.of('heartbeat'), [{}]);
      await fresh.close();
    });

    test('several pings at once are answered, the latest in any case', async () => {
      const raw = await RawSocket.upgraded(follower.http);
      const sent = Array.from({ length: 10 }, (_, i) => `ping ${i}`);
      raw.write(Buffer.concat(sent.map((text) => frame(OPCODE.ping, text))));
      const pongs = () => raw.frames.filter((item) => item.opcode === OPCODE.pong).map((item) => item.payload.toString());
      await until('the pongs', () => pongs().includes('ping 9'));
      assert.deepEqual(pongs(), sent);
      raw.write(Buffer.concat([...Array.from({ length: 1000 }, (_, i) => frame(OPCODE.ping, String(i))), frame(OPCODE.ping, ''), frame(OPCODE.ping, 'x'.repeat(125))]));
      await until('the latest', () => pongs().includes('x'.repeat(125)));
      assert.ok(pongs().includes(''));
      raw.destroy();
    });

    test('pings are answered', async () => {
      const fresh = await WsClient.open(follower.http);
      const pong = new Promise((done) => fresh.socket.on('pong', (data) => done(String(data))));
      fresh.socket.ping('hi');
      assert.equal(await pong, 'hi');
      await fresh.close();
    });
  });
});

describe('WebSocket, through changes of the cluster', () => {
  test('the client of a page that was opened as localhost goes on at another node when its own dies', async () => {
    const cluster = await Cluster.start();
    const { connect } = await import('../../web/raftogram.js');
    try {
      const leader = await cluster.leader();
      const [own] = cluster.followersOf(leader);
      const address = `localhost:${own.http.split(':')[1]}`;
      class PageSocket extends WebSocket {
        constructor(url) { super(url, [], { origin: `http://${address}` }); }
      }
      const client = connect(`http://${address}`, { WebSocket: PageSocket });
      await client.call('CreateChannel', { channelId: 'page' }, { retry: true });
      const texts = [];
      client.subscribe('page', { afterSequence: '0', encoding: 'text' }, { onMessages: (messages) => texts.push(...messages.map((m) => m.text)) });
      await client.send({ channelId: 'page', authorId: 'a', text: 'before' });
      await until('the message', () => texts.includes('before'));
      await cluster.kill(own.index);
      await client.send({ channelId: 'page', authorId: 'a', text: 'after' });
      await until('the message at another node', () => texts.includes('after'));
      assert.notEqual(new URL(client.url).port, own.http.split(':')[1]);
      client.close();
    } finally {
      await cluster.destroy();
    }
  });

  test('leader and quorum are told, subscriptions outlive a leader', async () => {
    const cluster = await Cluster.start();
    try {
      const leader = await cluster.leader();
      const [node, other] = cluster.followersOf(leader);
      const client = await WsClient.open(node.http);
      await client.call('CreateChannel', { channelId: 'c' });
      const { subscription } = await client.call('Subscribe', { channelId: 'c', encoding: 'text' });
      await client.call('SendMessage', { channelId: 'c', text: 'before' });
      await cluster.kill(leader.index);
      const next = await until('the new leader', () => client.of('leader').find((item) => item.leaderId !== '' && item.leaderId !== leader.id));
      assert.deepEqual(Object.keys(next), ['role', 'leaderId', 'hasQuorum']);
      await until('a message', () => client.call('SendMessage', { channelId: 'c', text: 'after', clientMessageId: 'after' }));
      await until('both', () => client.messages(subscription).length === 2);
      assert.deepEqual(client.messages(subscription).map((m) => m.text), ['before', 'after']);
      await cluster.kill(other.index);
      await until('no quorum', () => client.of('leader').at(-1).hasQuorum === false);
      const refused = await client.refused('SendMessage', { channelId: 'c', text: 'x', clientMessageId: 'x' });
      assert.ok([4, 10, 14].includes(refused.code), `${refused.code}`);
      const ended = await until('the end', () => client.of('ended')[0], { timeout: 20000 });
      assert.equal(ended.subscription, subscription);
      assert.equal(ended.code, 14);
      assert.deepEqual(ended.data, { status: 'UNAVAILABLE', reason: 'NO_QUORUM' });
      client.socket.terminate();
    } finally {
      await cluster.destroy();
    }
  });

  test('a node that shuts down ends subscriptions and closes with 1001', async () => {
    const cluster = await Cluster.start({ size: 1 });
    const [node] = cluster.nodes;
    const clients = await Promise.all(numbers(1, 5).map(() => WsClient.open(node.http)));
    await clients[0].call('CreateChannel', { channelId: 'c' });
    await clients[0].call('Subscribe', { channelId: 'c' });
    const stalled = new WebSocket(`ws://${node.http}/ws`);
    await new Promise((done) => stalled.on('open', done));
    stalled.pause();
    const { code } = await cluster.stopNode(0);
    assert.equal(code, 0);
    for (const client of clients) assert.equal((await client.closed).code, 1001);
    assert.equal(clients[0].of('ended')[0]?.data.reason, 'DRAINING');
    stalled.terminate();
    await cluster.destroy();
  });

  test('beyond max_connections a client is refused, and /livez still answers', async () => {
    const cluster = await Cluster.start({ size: 1, extra: 'limits: {max_connections: 16}' });
    const [node] = cluster.nodes;
    const clients = await Promise.all(numbers(1, 12).map(() => WsClient.open(node.http)));
    let refused = null;
    while (refused === null) {
      const next = new WsClient(node.http);
      refused = await next.opened.then(() => null, (error) => error);
      clients.push(next);
    }
    assert.equal(refused.status, 503);
    assert.ok(clients.length <= 18);
    assert.equal((await fetch(`http://${node.http}/livez`)).status, 200);
    clients.forEach((client) => client.socket.terminate());
    await until('room again', async () => { const c = await WsClient.open(node.http); await c.close(); return true; });
    await cluster.destroy();
  });
});
