// What libwebsockets must never see: bytes that two readers could take for different requests, and
// the upgrades that its own code stumbles over. All of it is answered by us, and nothing that stands
// in a body is ever served.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { Cluster, delay, until } from './lib/cluster.mjs';
import { OPCODE, RawSocket, frame, handshake } from './lib/websocket.mjs';

const PROBE = 'GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n';

// The answers in what came, one after the other: [{status, reason, headers, body}].
function answersIn(bytes, isHead = false) {
  const answers = [];
  let rest = bytes.toString('latin1');
  while (rest !== '') {
    const end = rest.indexOf('\r\n\r\n');
    assert.ok(end >= 0, `no head: ${JSON.stringify(rest)}`);
    const [first, ...lines] = rest.slice(0, end).split('\r\n');
    const [, status, reason] = /^HTTP\/1\.1 (\d{3}) (.*)$/.exec(first) ?? assert.fail(first);
    const headers = Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]));
    const size = isHead && answers.length === 0 ? 0 : Number(headers['content-length'] ?? 0);
    answers.push({ status: Number(status), reason, headers, body: rest.slice(end + 4, end + 4 + size) });
    rest = rest.slice(end + 4 + size);
  }
  return answers;
}

describe('requests that are none', () => {
  let cluster;
  let node;

  before(async () => {
    cluster = await Cluster.start({ size: 1 });
    [node] = cluster.nodes;
  });
  after(async () => cluster?.destroy());

  // Sends the texts and returns all answers, once the node has closed the connection.
  async function answersTo(...texts) {
    const socket = new RawSocket(node.http);
    for (const text of texts) {
      socket.write(text);
      if (texts.length > 1) await delay(5);
    }
    await until('the end of the connection', () => socket.isEnded || socket.isClosed);
    socket.destroy();
    return answersIn(socket.received, texts[0].startsWith('HEAD'));
  }

  // One refusal in the contract's JSON, and then nothing more.
  async function refused(text, status) {
    const answers = await answersTo(text);
    assert.equal(answers.length, 1, `${JSON.stringify(text)}: ${answers.map((answer) => answer.status)}`);
    const [answer] = answers;
    assert.equal(answer.status, status, JSON.stringify(text));
    assert.notEqual(answer.reason, '');
    assert.equal(answer.headers.connection, 'close');
    assert.equal(typeof JSON.parse(answer.body).error, 'string');
    assert.ok(Math.abs(Date.parse(answer.headers.date) - Date.now()) < 60000, answer.headers.date);
    return answer;
  }

  const stillServes = async () => assert.equal((await fetch(`http://${node.http}/livez`)).status, 200);

  test('an upgrade to anything, as a later request of a connection, is served as if it were not there', async () => {
    for (const offer of ['foo', 'h2c', 'TLS/1.0', 'websockets', 'h2c, foo']) {
      for (const path of ['/livez', '/ws', '/none']) {
        const upgrade = `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: ${offer}\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n`;
        const last = PROBE.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n');
        const answers = await answersTo(PROBE, upgrade, upgrade, last);
        const expected = { '/livez': 200, '/ws': 426, '/none': 404 }[path];
        assert.deepEqual(answers.map((answer) => answer.status), [200, expected, expected, 200], offer);
      }
    }
    await stillServes();
  });

  test('a WebSocket may begin as a later request of a connection', async () => {
    const socket = new RawSocket(node.http);
    socket.write(PROBE);
    await until('the answer', () => socket.received.includes('ok\n'));
    socket.received = Buffer.alloc(0);
    socket.write(Buffer.concat([Buffer.from(handshake()), frame(OPCODE.text, '{"jsonrpc":"2.0","id":1,"method":"Status"}')]));
    await until('the answer to a call', () => socket.texts.find((item) => item.id === 1));
    socket.destroy();
  });

  test('a refused handshake is one answer, and the connection goes on', async () => {
    const bad = handshake({ headers: { Origin: 'http://evil.example' } });
    const last = PROBE.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n');
    const answers = await answersTo(PROBE + bad + bad + last);
    assert.deepEqual(answers.map((answer) => answer.status), [200, 403, 403, 200]);
  });

  test('what a body holds is never served, whatever the method and however it is written', async () => {
    const hidden = 'GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n';
    const length = `Content-Length: ${hidden.length}`;
    const last = PROBE.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n');
    for (const method of ['get', 'Get', 'head', 'gEt', 'post', 'POST', 'PUT', 'options', 'FOO', 'G-E-T']) {
      const answers = await answersTo(`${method} / HTTP/1.1\r\nHost: localhost\r\n${length}\r\n\r\n${hidden}${last}`);
      assert.deepEqual(answers.map((answer) => answer.status), [405, 200], method);
      assert.equal(answers[0].headers.allow, 'GET, HEAD');
      assert.equal(answers[1].body, 'ok\n');
    }
    for (const method of ['GET', 'HEAD']) {
      const answers = await answersTo(`${method} /livez HTTP/1.1\r\nHost: localhost\r\n${length}\r\n\r\n${hidden}`, last);
      assert.equal(answers.length, 2);
      assert.ok(answers.every((answer) => answer.status === 200 && !answer.body.includes('node_id')));
    }
    const chunk = `${hidden.length.toString(16)};a=b\r\n${hidden}\r\n`;
    const chunked = await answersTo(`POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: CHUNKED\r\n\r\n${chunk}${chunk}0\r\nX: y\r\n\r\n${last}`);
    assert.deepEqual(chunked.map((answer) => answer.status), [405, 200]);
    await stillServes();
  });

  test('framing that two readers could see differently is 400, and nothing behind it is served', async () => {
    const hidden = PROBE;
    const begin = (fields) => `POST / HTTP/1.1\r\nHost: localhost\r\n${fields}\r\n\r\n`;
    const cases = [
      'Transfer-Encoding:', 'Transfer-Encoding: ', 'Transfer-Encoding: identity', 'Transfer-Encoding: gzip, chunked', 'Transfer-Encoding: chunked, chunked',
      'Transfer-Encoding: xchunked', 'Transfer-Encoding: "chunked"', 'Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked', 'Transfer-Encoding: chunked\r\nTransfer-Encoding:',
      'Transfer-Encoding: chunked\r\nContent-Length: 5', 'Content-Length: 5\r\nTransfer-Encoding: chunked', 'Transfer-Encoding:\r\nContent-Length: 5',
      'Content-Length: 5\r\nContent-Length: 5', 'Content-Length: 0\r\nContent-Length: 5', 'Content-Length: 5, 5', 'Content-Length: +5', 'Content-Length: -0', 'Content-Length: 0x5', 'Content-Length: 5 5',
      'Content-Length:', 'Content-Length: 5a', 'Content-Length: 99999999999999999999', 'Content-Length : 5', ' Content-Length: 5', 'X: y\r\n Content-Length: 5', 'Content-Length\r\n : 5',
    ];
    for (const fields of cases) await refused(begin(fields) + hidden.repeat(2), 400);
    await refused(`POST / HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${hidden}`, 400);
    const tail = await answersTo(`POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n${hidden}`);
    assert.deepEqual(tail.map((answer) => answer.status), [405, 400]);
    for (const chunk of ['5\nhello\r\n', '5\r\nhello0\r\n\r\n', '\r\n', ';a=b\r\n', '5 x\u0001\r\n', 'fffffffffffffffff\r\n', '-1\r\n', '0x5\r\nhello\r\n']) {
      const answers = await answersTo(`POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n${chunk}0\r\n\r\n${hidden}`);
      assert.deepEqual(answers.map((answer) => answer.status), [405, 400], chunk);
    }
    await stillServes();
  });

  test('lines end with CR LF, and heads have no NUL', async () => {
    for (const text of [
      'GET /livez HTTP/1.1\nHost: localhost\n\n', 'GET /livez HTTP/1.1\r\nHost: localhost\n\r\n', 'GET /livez HTTP/1.1\r\nHost: localhost\r\n\n', '\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n',
      'GET /livez HTTP/1.1\r\nHost: localhost\rX: y\r\n\r\n', 'GET /livez HTTP/1.1\r\rHost: localhost\r\n\r\n', 'GET /livez HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n', 'GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n',
      'GET /livez HTTP/1.1\r\nHost: localhost\r\nX: a\r\n folded\r\n\r\n', 'GET /livez HTTP/1.1\r\nHost: localhost\r\nX\u0001: a\r\n\r\n', 'GET /livez HTTP/1.1\r\nHost: localhost\r\n: a\r\n\r\n', 'GET /livez HTTP/1.1\r\n X: y\r\nHost: localhost\r\n\r\n',
    ]) await refused(text + PROBE, 400);
  });

  test('HTTP/1.1 has one Host', async () => {
    await refused('GET /livez HTTP/1.1\r\n\r\n', 400);
    await refused('GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n', 400);
    await refused('GET /livez HTTP/1.1\r\nHost: localhost\r\nhost: 127.0.0.1\r\n\r\n', 400);
    await refused('GET http://localhost/livez HTTP/1.1\r\n\r\n', 400);
    await refused('GET /livez HTTP/1.1\r\nHost: a b\r\n\r\n', 400);
    await refused('GET /livez HTTP/1.1\r\nHost: localhost:x\r\n\r\n', 400);
    const [old] = await answersTo('GET /livez HTTP/1.0\r\n\r\n');
    assert.equal(old.status, 200);
  });

  test('other first lines and other protocols are refused', async () => {
    for (const [text, status] of [
      ['GET /livez\r\n\r\n', 400], ['GET /livez HTTP/1.1 \r\nHost: localhost\r\n\r\n', 400], ['GET  /livez HTTP/1.1\r\nHost: localhost\r\n\r\n', 400], ['GET\t/livez\tHTTP/1.1\r\nHost: localhost\r\n\r\n', 400],
      ['GET livez HTTP/1.1\r\nHost: localhost\r\n\r\n', 400], ['GET /livez http/1.1\r\nHost: localhost\r\n\r\n', 400], ['GET /livez HTTP/1.10\r\nHost: localhost\r\n\r\n', 505], ['GET /livez HTTP/1.2\r\nHost: localhost\r\n\r\n', 505],
      ['GET /livez HTTP/2\r\nHost: localhost\r\n\r\n', 505], ['GET /livez HTTP/0.9\r\nHost: localhost\r\n\r\n', 505], ['GET /livez HTTP/1.\r\nHost: localhost\r\n\r\n', 505], ['GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n', 400], ['GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n', 400], ['GET /%4 HTTP/1.1\r\nHost: localhost\r\n\r\n', 400],
      ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u0004\0\0\0\0\0', 400], ['\x16\x03\x01\x00\xa5\x01\x00', 400], ['(GET / HTTP/1.1\r\n', 400], ['GET /livez HTTP/1.1\r\nHost: localhost\r\nExpect: 200-ok\r\n\r\n', 417],
    ]) await refused(text, status);
  });

  test('requests that are sent ahead are answered in order, in any pieces, also behind a large answer', async () => {
    const paths = ['/app.js', '/livez', '/none', '/raftogram.js', '/health'];
    const text = paths.map((path) => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`).join('');
    const last = PROBE.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n');
    const whole = await answersTo(text + last);
    assert.deepEqual(whole.map((answer) => answer.status), [200, 200, 404, 200, 200, 200]);
    const pieces = [];
    for (let at = 0; at < text.length; at += 7) pieces.push(text.slice(at, at + 7));
    const again = await answersTo(...pieces, last);
    assert.deepEqual(again.map((answer) => answer.body), whole.map((answer) => answer.body));
  });

  test('a client that sends ahead and does not read costs no turning', async () => {
    const cpuSeconds = async () => {
      const text = await (await fetch(`http://${node.http}/metrics`)).text();
      return Number(/^raftogram_process_cpu_seconds_total (\S+)$/m.exec(text)?.[1] ?? /^process_cpu_seconds_total (\S+)$/m.exec(text)[1]);
    };
    const socket = new RawSocket(node.http);
    socket.socket.pause();
    const request = 'GET /app.js HTTP/1.1\r\nHost: localhost\r\n\r\n';
    for (let i = 0; i < 3000; i += 1) socket.write(request);
    // The answers fill the socket's buffers, and then one stands still with requests behind it.
    let before = await cpuSeconds();
    await until('the answers to stand still', async () => {
      await delay(500);
      const now = await cpuSeconds();
      const used = now - before;
      before = now;
      return used < 0.2;
    });
    socket.destroy();
    await stillServes();
  });

  test('an answer that was to be waited for ends the connection: what comes next, nobody knows', async () => {
    const hidden = PROBE;
    const answers = await answersTo(`POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: ${hidden.length}\r\n\r\n${hidden}`);
    assert.deepEqual(answers.map((answer) => answer.status), [405]);
    assert.equal(answers[0].headers.connection, 'close');
  });

  test('a head that does not come within 10 s is 408', async () => {
    const begun = ['GET /livez HTTP/1.1\r\nHo', `GET /livez HTTP/1.1\r\nX: ${'a'.repeat(5000)}`];
    const sockets = begun.map((text) => {
      const socket = new RawSocket(node.http);
      socket.write(text);
      return socket;
    });
    const trickle = setInterval(() => sockets[0].write('s'), 500);
    const since = Date.now();
    await until('the answers', () => sockets.every((socket) => socket.isEnded), { timeout: 30000 });
    clearInterval(trickle);
    assert.ok(Date.now() - since > 8000);
    for (const socket of sockets) {
      const [answer] = answersIn(socket.received);
      assert.equal(answer.status, 408);
      socket.destroy();
    }
  });

  test('there is no WebSocket over HTTP/1.0, with a body, or with a faulty key', async () => {
    const old = await answersTo(handshake().replace('HTTP/1.1', 'HTTP/1.0'));
    assert.deepEqual(old.map((answer) => answer.status), [426]);
    const last = PROBE.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n');
    for (const headers of [{ 'Content-Length': '5' }, { 'Sec-WebSocket-Key': 'x'.repeat(24) }, { 'Sec-WebSocket-Key': `${'\u00e9'.repeat(11)}==` }, { 'Sec-WebSocket-Key': randomBytes(15).toString('base64') }, { Connection: 'keep-alive' }]) {
      const [answer] = await answersTo(handshake({ headers }) + last);
      assert.equal(answer.status, 400, JSON.stringify(headers));
    }
    const twice = handshake().replace('Upgrade: websocket', 'Upgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==');
    await refused(twice, 400);
  });

  test('an offer of unknown subprotocols only gets none, one of several gets ours', async () => {
    for (const [offer, expected] of [['mqtt', undefined], ['a, b', undefined], ['a, raftogram.v1.json', 'raftogram.v1.json'], [null, undefined]]) {
      const socket = await RawSocket.upgraded(node.http, { headers: { 'Sec-WebSocket-Protocol': offer } });
      const [head] = answersIn(socket.received);
      assert.equal(head.status, 101);
      assert.equal(head.headers['sec-websocket-protocol'], expected);
      assert.ok(Math.abs(Date.parse(head.headers.date) - Date.now()) < 60000);
      await until('hello', () => socket.texts.find((item) => item.method === 'hello'));
      socket.destroy();
    }
  });

  test('extensions that are offered are not taken', async () => {
    const socket = await RawSocket.upgraded(node.http, { headers: { 'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits' } });
    assert.doesNotMatch(socket.received.toString(), /extensions/i);
    socket.destroy();
  });
});
