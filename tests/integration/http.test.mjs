// Section 7 of the contract: every row answers as written.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { Cluster, ROOT, delay, runDaemon, until } from './lib/cluster.mjs';
import { RawSocket } from './lib/websocket.mjs';

const REFERENCE_METRICS = ['messages_sent_total', 'election_count', 'last_commit_index', 'proposals_total', 'reads_total', 'applied_index'];

// A whole exchange without fetch's manners.
function exchange(node, path, { method = 'GET', headers = {}, body, agent } = {}) {
  const [host, port] = node.http.split(':');
  return new Promise((done, fail) => {
    const sent = request({ host, port, path, method, headers, agent, timeout: 5000 }, (response) => {
      let text = '';
      response.on('data', (data) => { text += data; });
      response.on('end', () => done({ status: response.statusCode, headers: response.headers, text, get json() { return JSON.parse(text); } }));
    });
    sent.on('error', fail);
    sent.end(body);
  });
}

// Bytes in, bytes out, until the server is silent or closes.
async function raw(node, text, enough) {
  const socket = new RawSocket(node.http);
  socket.write(text);
  await until('an answer', () => enough(socket) || socket.isClosed || socket.isEnded);
  const answer = { text: socket.received.toString(), isClosed: Boolean(socket.isEnded) };
  socket.destroy();
  return answer;
}
const answers = (count) => (socket) => socket.received.toString().split('HTTP/1.').length > count;

describe('HTTP', () => {
  let cluster;
  let leader;
  let follower;

  before(async () => {
    cluster = await Cluster.start({ extra: 'http: {allowed_hosts: [chat.example]}' });
    await until('all to be ready', async () => {
      const all = await Promise.all(cluster.nodes.map((node) => exchange(node, '/readyz')));
      return all.every((answer) => answer.status === 200);
    });
  });
  beforeEach(async () => {
    leader = await cluster.leader();
    [follower] = cluster.followersOf(leader);
  });
  after(async () => cluster?.destroy());

  test('/health is the document of the contract, member by member', async () => {
    for (const node of cluster.nodes) {
      const { status, headers, json } = await exchange(node, '/health');
      assert.equal(status, 200);
      assert.equal(headers['content-type'], 'application/json');
      const role = node === leader ? 'leader' : 'follower';
      assert.deepEqual(json, {
        status: 'ok', node: node.id, state: role.toUpperCase(), node_id: node.id, role, is_leader: node === leader,
        leader_id: leader.id, leader_raft_addr: leader.raft, leader_grpc_addr: leader.grpc,
      });
    }
  });

  test('/livez and /readyz are plain text, and verbose on request', async () => {
    for (const path of ['/livez', '/readyz']) {
      const short = await exchange(follower, path);
      assert.equal(short.status, 200);
      assert.match(short.headers['content-type'], /^text\/plain/);
      assert.doesNotMatch(short.text, /\[[+-]\]/);
      for (const query of ['?verbose', '?verbose=1', '?x=y&verbose']) {
        const { status, text } = await exchange(follower, path + query);
        assert.equal(status, 200);
        assert.match(text, /^\[\+\]\S+ ok$/m);
        assert.doesNotMatch(text, /^\[-\]/m);
      }
    }
    const { text } = await exchange(follower, '/readyz?verbose');
    for (const name of ['leader', 'quorum', 'caught_up', 'not_draining']) assert.match(text, new RegExp(`^\\[\\+\\]${name} ok$`, 'm'));
  });

  test('/status is the document of the reference', async () => {
    await cluster.client(leader).propose({ op: 'SET', key: 'foo', value: 'bar "ö"' });
    for (const node of cluster.nodes) {
      const status = await until('the key', async () => {
        const { json } = await exchange(node, '/status');
        return json.kv_data.foo !== undefined && json;
      });
      const other = (await exchange(node, '/debug/status')).json;
      assert.deepEqual(Object.keys(other), Object.keys(status));
      assert.equal(status.node_id, node.id);
      assert.equal(status.state, node === leader ? 'LEADER' : 'FOLLOWER');
      assert.equal(status.leader_id, leader.id);
      for (const name of ['term', 'commit_index', 'applied_index', 'log_length', 'kv_size']) {
        assert.equal(typeof status[name], 'number', name);
      }
      assert.deepEqual(status.peers, cluster.nodes.map((n) => n.id).filter((id) => id !== node.id));
      assert.equal(status.kv_data.foo, 'bar "ö"');
      assert.equal(status.kv_size, Object.keys(status.kv_data).length);
      assert.deepEqual(Object.keys(status.metrics), [...REFERENCE_METRICS, 'current_state']);
      for (const name of REFERENCE_METRICS) assert.equal(typeof status.metrics[name], 'number', name);
      assert.equal(status.metrics.current_state, status.state);
    }
  });

  test('kv_data is cut at kv_limit, at 1000 keys and at 1 MiB, and says so', async () => {
    const client = cluster.client(leader);
    const sends = [];
    for (let i = 0; i < 1010; i++) sends.push(client.propose({ op: 'SET', key: `many-${String(i).padStart(4, '0')}`, value: 'v' }));
    await Promise.all(sends);
    const keys = async (query) => {
      const { json } = await exchange(leader, `/status${query}`);
      return { count: Object.keys(json.kv_data).length, cut: json.kv_truncated === true, size: json.kv_size };
    };
    const all = await keys('');
    assert.equal(all.count, 1000);
    assert.ok(all.cut);
    assert.ok(all.size >= 1010);
    assert.deepEqual(await keys('?kv_limit=3'), { count: 3, cut: true, size: all.size });
    assert.deepEqual(await keys('?kv_limit=0'), { count: 0, cut: true, size: all.size });
    assert.equal((await keys('?kv_limit=100000')).count, 1000);
    for (const bad of ['', '=', '=x', '=abc', '=-1', '=+1', '=1x', '=0x10', '=1.0', '=%31%', '=%zz', '=99999999999999999999', `=${'1'.repeat(300)}`]) {
      const { status, json } = await exchange(leader, `/status?kv_limit${bad}`);
      assert.equal(status, 400, bad);
      assert.match(json.error, /kv_limit/);
    }
    assert.deepEqual(await keys('?kv_limit=%33&x=y'), { count: 3, cut: true, size: all.size });
    const large = [];
    for (let i = 0; i < 20; i++) large.push(client.propose({ op: 'SET', key: `a-large-${i}`, value: 'x'.repeat(60000) }));
    await Promise.all(large);
    const { json, text } = await exchange(leader, '/status');
    assert.equal(json.kv_truncated, true);
    assert.ok(text.length < 1.2 * (1 << 20));
    assert.ok(text.length > 0.8 * (1 << 20));
  });

  test('/metrics is Prometheus text with the metrics of the reference', async () => {
    const { status, headers, text } = await exchange(leader, '/metrics');
    assert.equal(status, 200);
    assert.match(headers['content-type'], /^text\/plain; version=0\.0\.4/);
    assert.ok(text.endsWith('\n'));
    const series = new Map();
    const typed = new Map();
    const helped = new Set();
    for (const line of text.trimEnd().split('\n')) {
      const type = /^# TYPE (\S+) (counter|gauge|histogram)$/.exec(line);
      const help = /^# HELP (\S+) \S.*$/.exec(line);
      const sample = /^([a-z_]+)(\{[a-z_]+="[^"]*"(?:,[a-z_]+="[^"]*")*\})? (\S+)$/.exec(line);
      assert.ok(type || help || sample, line);
      if (type) {
        assert.ok(!typed.has(type[1]), `${type[1]} is there twice`);
        typed.set(type[1], type[2]);
      } else if (help) helped.add(help[1]);
      else {
        const family = typed.has(sample[1]) ? sample[1] : sample[1].replace(/_(bucket|sum|count)$/, '');
        assert.ok(typed.has(family) && helped.has(family), line);
        assert.ok(!Number.isNaN(Number(sample[3].replace('+Inf', 'Infinity'))), line);
        assert.ok(!series.has(sample[1] + (sample[2] ?? '')), line);
        series.set(sample[1] + (sample[2] ?? ''), Number(sample[3]));
      }
    }
    for (const [name, type] of typed) {
      assert.equal(name.endsWith('_total'), type === 'counter', name);
      if (name !== 'raftogram_election_count') assert.doesNotMatch(name, /_(count|sum|bucket)$/);
    }
    const { json } = await exchange(leader, '/status');
    for (const name of REFERENCE_METRICS) assert.ok(series.has(`raftogram_${name}`), name);
    assert.equal(series.get('raftogram_proposals_total'), json.metrics.proposals_total);
    assert.equal(series.get('raftogram_elections_total'), series.get('raftogram_election_count'));
    assert.equal(series.get('raftogram_current_state{state="LEADER"}'), 1);
    assert.equal(series.get('raftogram_current_state{state="FOLLOWER"}'), 0);
    assert.doesNotMatch(text, /channel=|key=|user=|author/);
  });

  test('/ws without an upgrade is 426', async () => {
    const { status, headers, json } = await exchange(leader, '/ws');
    assert.equal(status, 426);
    assert.equal(headers.upgrade, 'websocket');
    assert.equal(typeof json.error, 'string');
  });

  test('/ is the page, with its files and their types', async () => {
    const page = await exchange(leader, '/');
    assert.equal(page.status, 200);
    assert.equal(page.headers['content-type'], 'text/html; charset=utf-8');
    assert.equal(page.text, readFileSync(join(ROOT, 'web/index.html'), 'utf8'));
    const types = { '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8', '.svg': 'image/svg+xml' };
    for (const name of readdirSync(join(ROOT, 'web'))) {
      const type = types[name.slice(name.lastIndexOf('.'))];
      if (type === undefined) continue;
      const file = await exchange(leader, `/${name}`);
      assert.equal(file.status, 200, name);
      assert.equal(file.headers['content-type'], type);
      assert.equal(file.text, readFileSync(join(ROOT, 'web', name), 'utf8'));
    }
  });

  test('the page is safe: no script from elsewhere, no frames, the nodes alone to talk to', async () => {
    const { headers } = await exchange(leader, '/', { headers: { host: 'chat.example:81' } });
    const policy = Object.fromEntries(headers['content-security-policy'].split('; ').map((part) => {
      const [name, ...values] = part.split(' ');
      return [name, values];
    }));
    assert.deepEqual(policy['script-src'], ["'self'"]);
    assert.deepEqual(policy['frame-ancestors'], ["'none'"]);
    assert.deepEqual(policy['default-src'], ["'none'"]);
    for (const node of cluster.nodes) assert.ok(policy['connect-src'].includes(`ws://${node.http}`));
    assert.ok(policy['connect-src'].includes('ws://chat.example:81'));
    assert.equal(headers['x-content-type-options'], 'nosniff');
    assert.equal(headers['referrer-policy'], 'no-referrer');
    const odd = await exchange(leader, '/', { headers: { host: "a; script-src 'unsafe-inline'" } });
    assert.equal(odd.status, 400);
  });

  test('a file that is known already is 304', async () => {
    const { headers } = await exchange(leader, '/raftogram.js');
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    for (const tag of [headers.etag, `W/${headers.etag}`, `"x", ${headers.etag}`, '*']) {
      const again = await exchange(leader, '/raftogram.js', { headers: { 'if-none-match': tag }, agent });
      assert.equal(again.status, 304);
      assert.equal(again.headers.etag, headers.etag);
      assert.equal(again.text, '');
    }
    const other = await exchange(leader, '/raftogram.js', { headers: { 'if-none-match': '"x"' }, agent });
    assert.equal(other.status, 200);
    agent.destroy();
  });

  test('HEAD is GET without the body', async () => {
    for (const path of ['/health', '/livez', '/', '/raftogram.js', '/none', '/ws']) {
      const whole = await exchange(leader, path);
      const head = await exchange(leader, path, { method: 'HEAD' });
      assert.equal(head.status, whole.status, path);
      assert.equal(head.text, '');
      assert.equal(head.headers['content-length'], whole.headers['content-length'], path);
    }
  });

  test('other methods are 405, on every path, and say what is allowed', async () => {
    for (const path of ['/health', '/metrics', '/', '/none', '/ws']) {
      for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE', 'PROPFIND']) {
        const { status, headers, json } = await exchange(leader, path, { method });
        assert.equal(status, 405, `${method} ${path}`);
        assert.equal(headers.allow, 'GET, HEAD');
        assert.equal(typeof json.error, 'string');
      }
    }
  });

  test('an unknown path is 404, and no path leaves the folder', async () => {
    for (const path of ['/none', '/health/', '/Health', '/../etc/passwd', '/%2e%2e/etc/passwd', '/..%2fetc/passwd', '//health/x', '/.git/config']) {
      const { status, json } = await exchange(leader, path);
      assert.equal(status, 404, path);
      assert.equal(typeof json.error, 'string');
    }
  });

  test('a foreign Host is 421 on every path, a known one is served', async () => {
    const paths = ['/', '/raftogram.js', '/health', '/livez', '/readyz', '/status', '/debug/status', '/metrics', '/ws', '/none'];
    for (const path of paths) {
      const expected = (await exchange(leader, path)).status;
      for (const host of ['evil.example', 'evil.example:8080', 'chat.example.evil', 'xchat.example', 'localhost.evil', '127.0.0.1.nip.io', '127.1']) {
        for (const method of ['GET', 'HEAD', 'POST']) {
          const { status, text } = await exchange(leader, path, { method, headers: { host } });
          assert.equal(status, 421, `${method} ${path} of ${host}`);
          if (method !== 'HEAD') assert.equal(typeof JSON.parse(text).error, 'string');
        }
      }
      for (const host of ['localhost', 'LOCALHOST:1', 'localhost.', '127.0.0.1', '10.0.0.1:80', '[::1]', '[::1]:8080', 'chat.example', 'Chat.Example.:81', follower.http]) {
        assert.equal((await exchange(leader, path, { headers: { host } })).status, expected, `${path} of ${host}`);
      }
    }
    const absolute = await exchange(leader, 'http://evil.example/livez', { headers: { host: 'localhost' } });
    assert.equal(absolute.status, 421);
  });

  test('a connection is kept alive, and requests may be sent ahead', async () => {
    const one = 'GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n';
    const { text, isClosed } = await raw(leader, one.repeat(5), answers(5));
    assert.equal(text.split('HTTP/1.1 200 OK').length, 6);
    assert.equal(isClosed, false);
    const closed = await raw(leader, 'GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n', (socket) => socket.isEnded);
    assert.equal(closed.isClosed, true);
    const old = await raw(leader, 'GET /livez HTTP/1.0\r\n\r\n', (socket) => socket.isEnded);
    assert.equal(old.isClosed, true);
  });

  test('bodies are ignored, whatever their size', async () => {
    const { text } = await raw(leader, 'POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhelloGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n', answers(2));
    assert.match(text, /^HTTP\/1\.1 405 /);
    assert.match(text, /HTTP\/1\.1 200 OK/);
    const big = await exchange(leader, '/health', { method: 'POST', body: Buffer.alloc(16 << 20) });
    assert.equal(big.status, 405);
    const chunked = await exchange(leader, '/health', { method: 'POST', body: 'x'.repeat(1000), headers: { 'transfer-encoding': 'chunked' } });
    assert.equal(chunked.status, 405);
  });

  test('what is no HTTP is answered and closed', async () => {
    for (const bytes of ['\x16\x03\x01\x00\xa5\x01\x00', 'hello\r\n\r\n', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n']) {
      const { text } = await raw(leader, bytes, (socket) => socket.isEnded);
      assert.match(text, /^HTTP\/1\.1 400 /);
    }
  });

  test('headers over 8 KiB are 431, and the answer arrives while they are still sent', async () => {
    for (const size of [8192, 100000, 8 << 20]) {
      const { text } = await raw(leader, `GET /health HTTP/1.1\r\nHost: localhost\r\nX-Big: ${'a'.repeat(size)}\r\n\r\n`, (socket) => socket.isEnded);
      assert.match(text, /^HTTP\/1\.1 431 /);
      assert.equal(typeof JSON.parse(text.slice(text.indexOf('\r\n\r\n'))).error, 'string');
    }
    const many = await raw(leader, `GET /health HTTP/1.1\r\n${'Origin: a\r\n'.repeat(100)}\r\n`, (socket) => socket.isEnded);
    assert.match(many.text, /^HTTP\/1\.1 431 /);
    const line = await raw(leader, `GET /${'a'.repeat(100000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`, (socket) => socket.isEnded);
    assert.match(line.text, /^HTTP\/1\.1 414 /);
    const fits = await exchange(leader, '/health', { headers: { 'x-big': 'a'.repeat(7900) } });
    assert.equal(fits.status, 200);
  });

  test('a header of any name is no matter', async () => {
    for (const name of ['X', 'X-A', 'A', 'C', 'Co', 'Sec', 'Sec-', 'Sec-WebSocket', 'If', 'Upgrade-Insecure-Requests', 'Hos', 'Via', 'From', 'Te']) {
      const { status } = await exchange(leader, '/livez', { headers: { [name]: '1' } });
      assert.equal(status, 200, name);
    }
  });

  test('a head that is none is refused with its status', async () => {
    const cases = [
      ['GET /health\r\n\r\n', 400], ['GET /health HTTP/1.1\r\nHost : x\r\n\r\n', 400], ['GET /health HTTP/1.1\r\nHost: localhost\r\n y\r\n\r\n', 400],
      ['GET /health HTTP/1.1\r\nHost: localhost\r\nHost: y\r\n\r\n', 400], ['GET /health HTTP/1.1\r\nX: \x01\r\n\r\n', 400],
      ['POST /health HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n', 400],
      ['POST /health HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n', 400],
      ['GET /health HTTP/2.0\r\nHost: localhost\r\n\r\n', 505], ['OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n', 405], ['CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n', 405],
    ];
    for (const [head, status] of cases) {
      const { text } = await raw(leader, head, (socket) => socket.isEnded);
      assert.match(text, new RegExp(`^HTTP/1\\.1 ${status} `), head);
      assert.equal(/^allow: GET, HEAD\r$/m.test(text), status === 405);
    }
  });

  test('a head may come in any pieces, after empty lines, with a whole address', async () => {
    const socket = new RawSocket(leader.http);
    socket.socket.setNoDelay(true);
    for (const byte of '\r\n\r\nGET http://localhost/livez HTTP/1.1\r\nHost: elsewhere\r\n\r\n') {
      socket.write(byte);
      await delay(1);
    }
    await until('the answer', () => socket.received.includes('ok\n'));
    socket.destroy();
  });

  test('a client that falls silent is hung up on, whatever it began', async () => {
    const begun = ['', 'GET /health HTTP/1.1\r\nHo', 'POST /health HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc', `GET /health HTTP/1.1\r\nX: ${'a'.repeat(9000)}`];
    const sockets = begun.map((text) => {
      const socket = new RawSocket(leader.http);
      socket.write(text);
      // Only what the node closes counts.
      socket.socket.removeAllListeners('end');
      socket.socket.on('end', () => { socket.isEnded = true; });
      return socket;
    });
    await until('the node to hang up', () => sockets.every((socket) => socket.isEnded), { timeout: 75000 });
    sockets.forEach((socket) => socket.destroy());
    const count = async () => (await exchange(leader, '/status')).json.http_connections;
    await until('no connection but this one', async () => await count() <= 1, { timeout: 15000 });
  });

  test('endless headers end the connection', async () => {
    await raw(leader, `GET /health HTTP/1.1\r\nHost: localhost\r\nUser-Agent: ${'a'.repeat(100000)}`, () => false);
    assert.equal((await exchange(leader, '/livez')).status, 200);
  });

  test('an offer of HTTP/2 is ignored', async () => {
    const { text } = await raw(leader, 'GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n', (socket) => socket.received.includes('ok\n'));
    assert.match(text, /^HTTP\/1\.1 200 OK/);
  });

  test('a hundred connections at once are served', async () => {
    const all = await Promise.all(Array.from({ length: 100 }, () => exchange(follower, '/health')));
    assert.ok(all.every((answer) => answer.status === 200));
  });
});

describe('HTTP, without a quorum and at the end', () => {
  test('/readyz says why within three election timeouts, /livez stays', async () => {
    const cluster = await Cluster.start();
    try {
      const leader = await cluster.leader();
      await until('readiness', async () => (await exchange(leader, '/readyz')).status === 200);
      await Promise.all(cluster.nodes.filter((node) => node !== leader).map((node) => cluster.kill(node.index)));
      const since = Date.now();
      await until('unreadiness', async () => (await exchange(leader, '/readyz')).status === 503, { timeout: 1500 + 500 });
      assert.ok(Date.now() - since < 1500 + 500);
      const { text } = await exchange(leader, '/readyz?verbose');
      assert.match(text, /^\[-\](leader|quorum) failed: \S/m);
      assert.match(text, /^\[\+\]not_draining ok$/m);
      assert.equal((await exchange(leader, '/livez')).status, 200);
      const { status, json } = await exchange(leader, '/health');
      assert.equal(status, 200);
      assert.notEqual(json.role, 'leader');
      if (json.leader_id === undefined) assert.ok(!('leader_grpc_addr' in json) && !('leader_raft_addr' in json));
    } finally {
      await cluster.destroy();
    }
  });

  test('a port that is taken is one line and exit code 1', async () => {
    const cluster = await Cluster.create({ size: 1 });
    const [node] = cluster.nodes;
    const [host, port] = node.http.split(':');
    const server = createServer();
    await new Promise((done) => server.listen(Number(port), host, done));
    const { code, stderr } = await runDaemon(['-config', node.configPath]);
    server.close();
    assert.equal(code, 1);
    const line = stderr.split('\n').find((text) => text.startsWith('raftogram: '));
    assert.ok(line.includes(node.http) && line.includes('in use') && line.includes('health_bind_addr'), stderr);
    await cluster.destroy();
  });

  test('web_root serves a folder instead of the embedded page', async () => {
    const cluster = await Cluster.create({ size: 1 });
    const [node] = cluster.nodes;
    const root = join(cluster.dir, 'page');
    mkdirSync(root);
    writeFileSync(join(root, 'index.html'), '<p>mine');
    cluster.extra = `http: {web_root: ${root}}`;
    cluster.writeConfigs();
    cluster.startAll();
    await cluster.leader();
    const first = await exchange(node, '/');
    assert.equal(first.text, '<p>mine');
    writeFileSync(join(root, 'index.html'), '<p>changed');
    const second = await exchange(node, '/');
    assert.equal(second.text, '<p>changed');
    assert.notEqual(second.headers.etag, first.headers.etag);
    assert.equal((await exchange(node, '/raftogram.js')).status, 404);
    assert.equal((await exchange(node, '/../node1.yaml')).status, 404);
    await cluster.destroy();
  });

  test('an idle connection does not hold up the end', async () => {
    const cluster = await Cluster.start({ size: 1 });
    const [node] = cluster.nodes;
    const agent = new Agent({ keepAlive: true });
    await exchange(node, '/health', { agent });
    const silent = new RawSocket(node.http);
    const count = async () => (await exchange(node, '/status', { agent })).json.http_connections;
    await until('both connections', async () => await count() === 2);
    const since = Date.now();
    const { code } = await cluster.stopNode(0);
    assert.equal(code, 0);
    assert.ok(Date.now() - since < 3000, `took ${Date.now() - since} ms`);
    agent.destroy();
    silent.destroy();
    await cluster.destroy();
  });
});
