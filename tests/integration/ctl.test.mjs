// raftogramctl, as a person and as a script use it.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { generateKeyPairSync, verify } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { BUILD, Cluster, delay, freePorts, until } from './lib/cluster.mjs';
import { Client } from './lib/messenger.mjs';

const CTL = process.env.RAFTOGRAMCTL ?? join(BUILD, 'raftogramctl');

// In order, 100 at a time: the cluster must come through with the same leader, on a busy machine too.
async function times(count, call) {
  for (let first = 0; first < count; first += 100) {
    await Promise.all(Array.from({ length: Math.min(100, count - first) }, (_, i) => call(first + i)));
  }
}

class Command {
  constructor(program, args, { input, env = {} } = {}) {
    this.stdout = Buffer.alloc(0);
    this.stderr = '';
    this.child = spawn(program, args, { env: { ...process.env, RAFTOGRAM_ADDR: '', USER: '', ...env } });
    this.child.stdout.on('data', (data) => { this.stdout = Buffer.concat([this.stdout, data]); });
    this.child.stderr.on('data', (data) => { this.stderr += data; });
    this.child.stdin.on('error', () => {}); // who does not read it may be gone
    if (input !== null) this.child.stdin.end(input);
    this.exited = new Promise((done) => {
      this.child.on('close', (code, signal) => {
        this.result = { code, signal };
        done(this.result);
      });
    });
  }

  get text() { return this.stdout.toString(); }

  get lines() { return this.text.split('\n').slice(0, -1); }

  get json() { return JSON.parse(this.text); }

  get objects() { return this.lines.map((line) => JSON.parse(line)); }
}

async function run(args, options = {}) {
  const command = new Command(CTL, args, options);
  const timer = setTimeout(() => command.child.kill('SIGKILL'), 60000);
  const { code, signal } = await command.exited;
  clearTimeout(timer);
  command.code = code;
  assert.equal(signal, null, `raftogramctl ${args.join(' ')}: ${signal}\n${command.stderr}`);
  return command;
}

async function succeed(args, options) {
  const command = await run(args, options);
  assert.equal(command.code, 0, `raftogramctl ${args.join(' ')}: ${command.stderr}`);
  return command;
}

async function fail(code, args, pattern, options) {
  const command = await run(args, options);
  assert.equal(command.code, code, `raftogramctl ${args.join(' ')}: ${command.text}${command.stderr}`);
  assert.match(command.stderr, pattern);
  assert.match(command.stderr, /^raftogramctl: /);
  return command;
}

// A tail that collects; `stop` is what Ctrl-C is.
class Tail extends Command {
  constructor(args, words = ['tail']) {
    super(CTL, [...words, ...args]);
  }

  async stop(signal = 'SIGINT') {
    this.child.kill(signal);
    const timer = setTimeout(() => this.child.kill('SIGKILL'), 10000);
    const result = await this.exited;
    clearTimeout(timer);
    return result;
  }
}

// The same of status -watch.
class Watch extends Tail {
  constructor(args) {
    super(args, ['status', '-watch']);
  }
}

// Where connections are taken and nothing is ever said, as long as the test runs.
async function silentAddress(t) {
  const sockets = new Set();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
  });
  const [port] = await freePorts(1);
  await new Promise((done) => { server.listen(port, '127.0.0.1', done); });
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `127.0.0.1:${port}`;
}

const rows = (command) => command.lines.map((line) => line.trim().split(/ {2,}/));

async function startCluster() {
  const cluster = await Cluster.create();
  cluster.startAll();
  await leaderOf(cluster);
  return cluster;
}

// Who leads, as a stock client hears it from every running node.
async function leaderOf(cluster) {
  return until('a leader that all running nodes know', async () => {
    const answers = await Promise.all(cluster.running.map(async (node) => {
      const client = new Client(node.grpc);
      try { return await client.status({ deadline: 1000 }); } finally { client.close(); }
    }));
    const [id, ...others] = new Set(answers.map((answer) => answer.leaderId));
    const leader = cluster.running.find((node) => node.id === id);
    return others.length === 0 && leader && answers.every((answer) => answer.hasQuorum) ? leader : null;
  });
}

describe('wrong usage is exit code 2 and says what is wrong', () => {
  const cases = [
    [['nope'], /unknown verb nope/],
    [['send'], /send wants CHANNEL TEXT/],
    [['send', 'general'], /send wants CHANNEL TEXT/],
    [['get', 'a', 'b'], /unexpected argument b/],
    [['get', 'a', 'b', 'c', 'd', 'e'], /unexpected argument e/],
    [['send', 'a', 'b', '-limit', '3'], /send does not take -limit/],
    [['status', '-bogus'], /-bogus/],
    [['-addr'], /value is missing after -addr/],
    [['status', '-addr', 'localhost'], /"localhost" has no port/],
    [['status', '-addr', '127.0.0.1:9000,'], /has no port/],
    [['status', '-o', 'xml'], /-o is table or json, not xml/],
    [['status', '-timeout', '5'], /-timeout is like/],
    [['status', '-timeout', '0s'], /-timeout is like/],
    [['history', 'a', '-limit', '0'], /-limit is a number from 1/],
    [['history', 'a', '-limit', '2', '-all'], /-limit and -all exclude each other/],
    [['history', 'a', '-after', '-1'], /-after is a sequence number/],
    [['history', 'a', '-after', '18446744073709551616'], /-after is a sequence number/],
    [['tail', 'a', '-live', '-after', '3'], /exclude each other/],
    [['help', 'nope'], /unknown verb nope/],
    [['--'], /a verb is missing/],
    [['stauts'], /unknown verb stauts; did you mean status\?/],
    [['histroy', 'a'], /unknown verb histroy; did you mean history\?/],
    [['snd', 'a', 'b'], /unknown verb snd; did you mean send\?/],
    [['transfer-leeder'], /unknown verb transfer-leeder; did you mean transfer-leader\?/],
    [['help', 'tial'], /unknown verb tial; did you mean tail\?/],
    [['xyzzy'], /unknown verb xyzzy; see raftogramctl -h/],
    [['x'.repeat(5000)], /unknown verb x+/],
    [['history', 'a', '-limti', '3'], /unknown flag -limti; did you mean -limit\?; see raftogramctl history -h/],
    [['send', 'a', 'b', '--auhtor=x'], /unknown flag --auhtor=x; did you mean -author\?/],
    [['status', '-xyzzy'], /unknown flag -xyzzy; see/],
    [['status', '-a'], /ambiguous flag -a;/],
    [['history', 'a', '-all=3'], /that flag takes no value: -all=3/],
    [['create', ''], /the channel's id is empty/],
    [['history', ''], /the channel's id is empty/],
    [['tail', ''], /the channel's id is empty/],
    [['send', '', 'text'], /the channel's id is empty/],
    [['send', 'a', ''], /the text is empty/],
    [['history', 'a', '-last', '0'], /-last is a number from 1/],
    [['history', 'a', '-last', '3', '-after', '2'], /-after and -last exclude each other/],
    [['history', 'a', '-last', '3', '-limit', '2'], /-limit and -last exclude each other/],
    [['history', 'a', '-all', '-last', '3'], /-all and -last exclude each other/],
    [['channels', '-watch'], /channels does not take -watch/],
    [['status', '-addr', 'http://127.0.0.1:8080'], /-addr: "http:\/\/127\.0\.0\.1:8080" is a URL.*gRPC port.*HTTP port/],
    [['status', '-addr', '127.0.0.1:9000,https://example.org'], /"https:\/\/example\.org" is a URL/],
  ];
  for (const [args, pattern] of cases) {
    test(args.join(' '), async () => { await fail(2, args, pattern); });
  }

  test('what is wrong with RAFTOGRAM_ADDR is said of that', async () => {
    await fail(2, ['status'], /^raftogramctl: \$RAFTOGRAM_ADDR: "http:.* is a URL/, { env: { RAFTOGRAM_ADDR: 'http://127.0.0.1:9000' } });
  });

  test('no words at all print the overview to stderr', async () => {
    const command = await run([]);
    assert.equal(command.code, 2);
    assert.match(command.stderr, /^Usage: raftogramctl/);
    assert.equal(command.text, '');
  });
});

describe('help teaches', () => {
  const verbs = ['status', 'channels', 'create', 'send', 'history', 'tail', 'get', 'put', 'del', 'keys', 'transfer-leader', 'token', 'completion', 'version', 'help'];
  test('the overview names every verb and the exit codes', async () => {
    for (const args of [['-h'], ['--help'], ['help']]) {
      const { text } = await succeed(args);
      for (const verb of verbs) assert.match(text, new RegExp(`^  ${verb} `, 'm'));
      assert.match(text, /Exit codes: 0 done/);
      assert.ok(text.split('\n').every((line) => line.length <= 100));
    }
  });
  test('completion knows every verb and every flag of its help, in each shell', async () => {
    const flags = new Map(verbs.map((verb) => [verb, new Set()]));
    for (const [verb, own] of flags) {
      const usage = (await succeed([verb, '-h'])).text.split('\n')[0];
      for (const [, flag] of usage.matchAll(/[[|](-[a-z]+)/g)) own.add(flag.slice(1));
    }
    const common = [...(await succeed(['help'])).text.matchAll(/^  -(\w+)(?:, -(\w+))?/gm)].map((match) => [match[1], match[2]].filter(Boolean).join());
    for (const shell of ['bash', 'zsh', 'fish']) {
      const { lines } = await succeed(['completion', shell]);
      const table = (first) => lines.slice(lines.indexOf(lines.find((line) => line.startsWith(first)))).join('\n').split(/\n'/)[0].split('\n').map((line) => line.split(' '));
      assert.deepEqual(table('status ').map(([verb]) => verb), verbs, shell);
      const rows = table('addr ');
      assert.deepEqual(rows.filter(([, takers]) => /^[*-]$/.test(takers)).map(([names]) => names), common, shell);
      for (const [verb, own] of flags) {
        assert.deepEqual(new Set(rows.filter(([, takers]) => takers.split(',').includes(verb)).map(([name]) => name)), own, `${shell}: ${verb}`);
      }
    }
  });
  test('completion of an unknown shell is refused', async () => {
    await fail(2, ['completion', 'tcsh'], /no completion for the shell "tcsh", only for bash, zsh and fish/);
  });
  test('every verb has examples', async () => {
    for (const verb of verbs) {
      const { text } = await succeed([verb, '-h']);
      assert.match(text, new RegExp(`^Usage: raftogramctl ${verb}`));
      assert.match(text, new RegExp(`Examples:\n  .*raftogramctl ${verb}`));
      assert.equal((await succeed(['help', verb])).text, text);
    }
  });
  test('the version', async () => {
    const { text } = await succeed(['-version']);
    assert.match(text, /^raftogramctl \d+\.\d+\.\d+\n$/);
    // It asks nobody.
    assert.equal((await succeed(['version'], { env: { RAFTOGRAM_ADDR: '127.0.0.1:1' } })).text, text);
    assert.deepEqual((await succeed(['version', '-o', 'json'])).json, { version: text.trim().split(' ')[1] });
  });
});

describe('tokens', () => {
  let folder;
  const keys = {};
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'raftogramctl-token-'));
    for (const [name, type, options] of [['ES256', 'ec', { namedCurve: 'P-256' }], ['RS256', 'rsa', { modulusLength: 2048 }], ['EdDSA', 'ed25519', {}]]) {
      const pair = generateKeyPairSync(type, options);
      keys[name] = { ...pair, private: join(folder, `${name}.pem`), public: join(folder, `${name}.pub`) };
      writeFileSync(keys[name].private, pair.privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
      writeFileSync(keys[name].public, pair.publicKey.export({ type: 'spki', format: 'pem' }));
    }
  });
  after(() => rmSync(folder, { recursive: true }));

  const decode = (part) => JSON.parse(Buffer.from(part, 'base64url'));
  const make = async (name, ...args) => (await succeed(['token', 'new', 'alice', '-key', keys[name].private, ...args])).text.trim();

  test('new signs with each kind of key what others verify', async () => {
    for (const [name, key] of Object.entries(keys)) {
      const token = await make(name, '-roles', 'member,admin', '-ttl', '2h');
      const [header, claims, signature] = token.split('.');
      assert.deepEqual(decode(header), { alg: name, kid: name, typ: 'JWT' });
      const { iat, exp, ...rest } = decode(claims);
      assert.deepEqual(rest, { sub: 'alice', aud: 'raftogram', roles: ['member', 'admin'] });
      assert.equal(exp - iat, 7200);
      assert.ok(Math.abs(iat - Date.now() / 1000) < 60);
      assert.ok(verify(name === 'EdDSA' ? null : 'sha256', `${header}.${claims}`, { key: key.publicKey, dsaEncoding: 'ieee-p1363' }, Buffer.from(signature, 'base64url')));
    }
  });
  test('new takes audience, issuer and kid, and writes JSON', async () => {
    const { json } = await succeed(['token', 'new', 'bot', '-key', keys.ES256.private, '-aud', '', '-iss', 'https://id', '-kid', 'k1', '-o', 'json']);
    const [header, claims] = json.token.split('.').map((part, i) => i < 2 && decode(part));
    assert.equal(header.kid, 'k1');
    assert.equal(json.kid, 'k1');
    assert.equal(claims.iss, 'https://id');
    assert.equal(claims.aud, undefined);
    assert.equal(json.expiresUnixMs, String(claims.exp * 1000));
  });
  test('inspect shows a token of a file or of stdin, and checks its signature', async () => {
    const path = join(folder, 'alice.jwt');
    for (const name of Object.keys(keys)) {
      const token = await make(name);
      writeFileSync(path, `${token}\n`);
      const { text } = await succeed(['token', 'inspect', path]);
      assert.match(text, /^sub +alice$/m);
      assert.match(text, /^exp +\S+Z, in \d+ s$/m);
      assert.match(text, /not checked/);
      const { json } = await succeed(['token', 'inspect', '-', '-key', keys[name].public, '-o', 'json'], { input: token });
      assert.equal(json.signature, 'valid');
      assert.equal(json.header.alg, name);
      assert.equal(json.claims.sub, 'alice');
      const forged = `${token.slice(0, -8)}AAAAAAAA`;
      const wrong = await run(['token', 'inspect', '-key', keys[name].public], { input: forged });
      assert.equal(wrong.code, 1);
      assert.match(wrong.text, /signature +the signature is wrong/);
    }
  });
  test('a key that others can read, a wrong file and a missing value are refused', async () => {
    const open = join(folder, 'open.pem');
    writeFileSync(open, keys.ES256.privateKey.export({ type: 'pkcs8', format: 'pem' }));
    chmodSync(open, 0o644);
    await fail(1, ['token', 'new', 'a', '-key', open], /open\.pem: others can read or write it/);
    chmodSync(keys.ES256.public, 0o600);
    await fail(1, ['token', 'new', 'a', '-key', keys.ES256.public], /is not a PEM file with a PRIVATE KEY/);
    await fail(1, ['token', 'new', 'a', '-key', '/nowhere'], /cannot be read/);
    await fail(2, ['token', 'new', 'a'], /wants -key FILE/);
    await fail(2, ['token', 'new', '-key', open], /wants a subject/);
    await fail(2, ['token', 'new', 'a', '-key', open, '-ttl', 'soon'], /-ttl is like/);
    await fail(2, ['token', 'inspect', '-', '-roles', 'x'], /does not take -roles/);
    await fail(2, ['token', 'show'], /followed by new or inspect/);
    const bad = await run(['token', 'inspect'], { input: 'a.b' });
    assert.equal(bad.code, 1);
    assert.match(bad.stderr, /the token is not three parts/);
  });
});

describe('an unreachable cluster is exit code 3', () => {
  let address;
  before(async () => { address = `127.0.0.1:${(await freePorts(1))[0]}`; });
  const calls = [['channels'], ['create'], ['create', 'a'], ['send', 'a', 'b'], ['history', 'a'], ['tail', 'a'],
    ['tail', 'a', '-live'], ['get', 'a'], ['put', 'a', 'b'], ['del', 'a'], ['keys'], ['history', 'a', '-last', '3'], ['transfer-leader']];
  for (const args of calls) {
    test(args.join(' '), async () => {
      const begin = Date.now();
      const command = await fail(3, [...args, '-addr', address, '-timeout', '300ms'], /the cluster is unavailable/);
      assert.ok(Date.now() - begin < 3000);
      assert.equal(command.text, '');
    });
  }
  test('a name without a host is no unknown outcome: nothing was sent', async () => {
    // Too long a label: no server has to be asked.
    const args = ['-addr', `${'x'.repeat(64)}.invalid:9000`, '-timeout', '300ms'];
    for (const call of [['send', 'a', 'b'], ['put', 'a', 'b'], ['create'], ['transfer-leader']]) {
      const command = await fail(3, [...call, ...args], /the cluster is unavailable; x+\.invalid:9000: cannot connect/);
      assert.doesNotMatch(command.stderr, /outcome unknown/);
    }
  });
  test('nothing is sent once to an address that keeps silent', async (t) => {
    const silent = await silentAddress(t);
    for (const call of [['put', 'a', 'b'], ['del', 'a'], ['create'], ['transfer-leader']]) {
      const command = await fail(3, [...call, '-addr', silent, '-timeout', '300ms'], /the cluster is unavailable/);
      assert.doesNotMatch(command.stderr, /outcome unknown/);
    }
  });
  test('status says so for each address', async () => {
    const command = await fail(3, ['status', '-addr', address], /the cluster is unavailable/);
    assert.ok(command.stderr.includes(`${address}: cannot connect`));
  });
});

describe('each verb against a cluster', () => {
  let cluster;
  let leader;
  let follower;
  let client;
  before(async () => {
    cluster = await startCluster();
  });
  beforeEach(async () => {
    leader = await leaderOf(cluster);
    follower = cluster.nodes.find((node) => node !== leader);
    client?.close();
    client = new Client(leader.grpc);
  });
  after(async () => {
    client?.close();
    await cluster?.destroy();
  });

  test('flags stand before or after the verb, in every spelling', async () => {
    for (const args of [
      ['-addr', leader.grpc, 'status'], ['status', '-addr', leader.grpc], ['--addr', leader.grpc, 'status'],
      [`-addr=${leader.grpc}`, 'status'], ['status', `--addr=${leader.grpc}`], ['status', '-addr', `${follower.grpc},${leader.grpc}`],
    ]) {
      assert.equal((await succeed([...args, '-o=json'])).json.leaderId, leader.id);
    }
    const env = { RAFTOGRAM_ADDR: follower.grpc, POSIXLY_CORRECT: '1' };
    assert.equal((await succeed(['status', '-o', 'json'], { env })).json.leaderId, leader.id);
  });

  test('status shows all nodes whichever is asked', async () => {
    for (const node of cluster.nodes) {
      const table = rows(await succeed(['status', '-addr', node.grpc]));
      assert.deepEqual(table[0].slice(0, 3), ['NODE', 'ROLE', 'TERM']);
      assert.deepEqual(table.slice(1, 4).map((row) => [row[0], row[1], row.at(-1)]),
        cluster.nodes.map((n) => [n.id, n === leader ? 'leader' : 'follower', n.grpc]));
      const { json } = await succeed(['status', '-addr', node.grpc, '-o', 'json']);
      assert.equal(json.hasQuorum, true);
      assert.equal(json.leaderId, leader.id);
      assert.match(json.clusterId, /./);
      assert.deepEqual(json.nodes.map((n) => [n.nodeId, n.isReachable, n.grpcAddr]),
        cluster.nodes.map((n) => [n.id, true, n.grpc]));
      assert.equal(json.nodes[0].members.length, 3);
    }
  });

  test('create finds the leader from any node', async () => {
    const table = rows(await succeed(['create', 'general', '-name', 'General talk', '-addr', follower.grpc]));
    assert.deepEqual(table, [['CHANNEL', 'NAME', 'CREATED'], ['general', 'General talk', 'yes']]);
    const again = await succeed(['create', 'general', '-name', 'Other', '-addr', leader.grpc, '-o', 'json']);
    assert.deepEqual(again.json, { channelId: 'general', name: 'General talk', created: false });
    const named = await succeed(['create', '-addr', follower.grpc, '-o', 'json']);
    assert.match(named.json.channelId, /^channel-\d+$/);
    assert.equal(named.json.created, true);
  });

  test('send gives every message an id of its own', async () => {
    const args = ['-addr', follower.grpc, '-o', 'json'];
    const first = (await succeed(['send', 'general', 'Hello', '-author', 'alice', ...args])).json;
    assert.match(first.clientMessageId, /^[0-9a-f]{32}$/);
    assert.deepEqual(first, { channelId: 'general', clientMessageId: first.clientMessageId, sequence: '1', deduplicated: false });
    const second = (await succeed(['send', 'general', 'Hello', ...args])).json;
    assert.equal(second.sequence, '2');
    assert.notEqual(second.clientMessageId, first.clientMessageId);
    const { messages } = await client.history({ channelId: 'general' });
    assert.deepEqual(messages.map((m) => [m.sequence, m.authorId, m.payload.toString(), m.clientMessageId]),
      [['1', 'alice', 'Hello', first.clientMessageId], ['2', '', 'Hello', second.clientMessageId]]);
  });

  test('the author is $USER where none is given', async () => {
    await succeed(['create', 'authors', '-addr', leader.grpc]);
    const send = (...args) => succeed(['send', 'authors', 'x', '-addr', leader.grpc, ...args], { env: { USER: 'carol' } });
    await send();
    await send('-author', 'dave');
    await send('-author', '');
    const { messages } = await client.history({ channelId: 'authors' });
    assert.deepEqual(messages.map((m) => m.authorId), ['carol', 'dave', '']);
  });

  test('send with -id is stored once', async () => {
    const table = rows(await succeed(['send', 'general', 'once', '-id', 'my-id', '-addr', leader.grpc]));
    assert.deepEqual(table, [['CHANNEL', 'SEQUENCE', 'DEDUPLICATED', 'ID'], ['general', '3', 'no', 'my-id']]);
    const again = rows(await succeed(['send', 'general', 'other', '-id', 'my-id', '-addr', follower.grpc]));
    assert.deepEqual(again[1], ['general', '3', 'yes', 'my-id']);
  });

  test('send - takes stdin byte for byte', async () => {
    await succeed(['create', 'bytes', '-addr', leader.grpc]);
    const all = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
    const big = Buffer.alloc(60000, 'x');
    for (const input of [all, big, Buffer.alloc(0), Buffer.from('line\n')]) {
      await succeed(['send', 'bytes', '-', '-addr', leader.grpc], { input });
    }
    const { messages } = await client.history({ channelId: 'bytes' });
    assert.deepEqual(messages.map((m) => m.payload), [all, big, Buffer.alloc(0), Buffer.from('line\n')]);
    const { objects } = await succeed(['history', 'bytes', '-addr', follower.grpc, '-o', 'json']);
    assert.deepEqual(objects.map((m) => Buffer.from(m.payload, 'base64')), messages.map((m) => m.payload));
    await fail(1, ['send', 'bytes', '-', '-addr', leader.grpc], /PAYLOAD_TOO_LARGE/, { input: Buffer.alloc(70000) });
    await fail(1, ['send', 'bytes', '-', '-addr', leader.grpc], /stdin is larger/, { input: Buffer.alloc(4 << 20) });
  });

  test('send -lines sends each line as a message, in order and in batches', async () => {
    await succeed(['create', 'lines', '-addr', leader.grpc]);
    const lines = Array.from({ length: 2500 }, (_, i) => `line ${i} ${'é'.repeat(i % 50)}`);
    lines[7] = '';
    lines[8] = 'with a carriage return\r';
    const args = ['send', 'lines', '-lines', '-author', 'ann', '-addr', follower.grpc];
    const table = rows(await succeed([...args, '-id', 'run'], { input: lines.join('\n') }));
    assert.deepEqual(table, [['CHANNEL', 'MESSAGES', 'DEDUPLICATED', 'FIRST', 'LAST', 'ID'], ['lines', '2500', '0', '1', '2500', 'run']]);
    const stored = await client.all('lines');
    assert.deepEqual(stored.map((m) => m.payload.toString()), lines);
    assert.deepEqual(stored.map((m) => m.clientMessageId), lines.map((_, i) => `run-${i + 1}`));
    assert.ok(stored.every((m) => m.authorId === 'ann'));
    // The same input again, and more of it, is safe.
    const again = await succeed([...args, '-id', 'run', '-o', 'json'], { input: `${[...lines, 'one more', 'and more'].join('\n')}\n` });
    assert.deepEqual(again.json, { channelId: 'lines', id: 'run', messages: '2502', deduplicated: '2500', firstSequence: '1', lastSequence: '2502' });
    const { json } = await succeed([...args, '-o', 'json'], { input: 'x\n' });
    assert.match(json.id, /^[0-9a-f]{32}$/);
    assert.equal(json.lastSequence, '2503');
  });

  test('send -lines with nothing to send is done, and a line goes at once when no other is there', async () => {
    const none = await succeed(['send', 'lines', '-lines', '-addr', leader.grpc, '-o', 'json'], { input: '' });
    assert.equal(none.json.messages, '0');
    const { messages: before } = await client.history({ channelId: 'lines', afterSequence: 2503 });
    assert.equal(before.length, 0);
    const live = new Command(CTL, ['send', 'lines', '-lines', '-addr', leader.grpc, '-o', 'json'], { input: null });
    for (const text of ['first', 'second']) {
      live.child.stdin.write(`${text}\n`);
      await until(text, async () => {
        const { messages } = await client.history({ channelId: 'lines', afterSequence: 2503 });
        return messages.at(-1)?.payload.toString() === text;
      });
    }
    live.child.stdin.end('without its end');
    assert.equal((await live.exited).code, 0);
    assert.equal(live.json.messages, '3');
    // Without ids nothing is deduplicated.
    for (const last of ['2507', '2508']) {
      const { json } = await succeed(['send', 'lines', '-lines', '-id', '', '-addr', leader.grpc, '-o', 'json'], { input: 'same\n' });
      assert.equal(json.lastSequence, last);
    }
  });

  test('send -lines names the line that is refused, and what is stored', async () => {
    await succeed(['create', 'refused', '-addr', leader.grpc]);
    const lines = Array.from({ length: 1500 }, (_, i) => `${i}`);
    lines[1200] = 'x'.repeat(65537);
    const args = ['send', 'refused', '-lines', '-id', 'r', '-addr', leader.grpc];
    const command = await fail(1, args, /^raftogramctl: line 1201: channel "refused": .*PAYLOAD_TOO_LARGE/, { input: lines.join('\n') });
    assert.match(command.stderr, /1000 lines are stored\n.*-id r\n/);
    assert.equal((await client.all('refused')).length, 1000);
    lines[1200] = 'short';
    const { json } = await succeed([...args, '-o', 'json'], { input: lines.join('\n') });
    assert.deepEqual([json.messages, json.deduplicated], ['1500', '1000']);
    assert.deepEqual((await client.all('refused')).map((m) => m.payload.toString()), lines);
    await fail(1, ['send', 'nowhere', '-lines', '-addr', leader.grpc], /line 1: channel "nowhere": no such channel/, { input: 'a\nb\n' });
    await fail(1, ['send', 'refused', '-lines', '-addr', leader.grpc], /line 1: .*PAYLOAD_TOO_LARGE/, { input: Buffer.alloc(70000, 'x') });
    await fail(1, ['send', 'refused', '-lines', '-addr', leader.grpc], /a line of stdin is larger/, { input: Buffer.alloc(4 << 20, 'x') });
    await fail(2, ['send', 'refused', 'text', '-lines', '-addr', leader.grpc], /-lines takes the messages from stdin/);
    await fail(3, ['send', 'refused', '-lines', '-addr', '127.0.0.1:1', '-timeout', '300ms'], /0 lines are stored/, { input: 'a\n' });
  });

  test('send -lines shows its progress on a terminal only', async () => {
    const line = `seq 1 3000 | '${CTL}' send lines -lines -id seq -addr ${leader.grpc}`;
    const terminal = new Command('script', ['-qec', line, '/dev/null'], { env: { SHELL: '/bin/bash' } });
    assert.equal((await terminal.exited).code, 0);
    assert.match(terminal.text, /\r\u001b\[K\d+ messages, \d+ a second/);
    const plain = await succeed(['send', 'lines', '-lines', '-addr', leader.grpc], { input: 'x\n' });
    assert.equal(plain.stderr, '');
  });

  test('a text with a dash goes behind --', async () => {
    await succeed(['send', '-addr', leader.grpc, '-author', 'bob', 'general', '--', '-5 degrees']);
    const { objects } = await succeed(['history', 'general', '-after', '3', '-o', 'json', '-addr', leader.grpc]);
    assert.equal(Buffer.from(objects[0].payload, 'base64').toString(), '-5 degrees');
  });

  test('history is printable and aligned, JSON is exact', async () => {
    await succeed(['create', 'print', '-addr', leader.grpc]);
    for (const payload of ['plain', 'two\nlines\t\u001b[31m', '漢字 é \u202e', Buffer.from([0xff, 0x41, 0x0a])]) {
      await client.send({ channelId: 'print', authorId: 'évé', payload: Buffer.from(payload) });
    }
    const table = rows(await succeed(['history', 'print', '-addr', follower.grpc]));
    assert.deepEqual(table[0], ['SEQUENCE', 'TIME', 'AUTHOR', 'MESSAGE']);
    assert.deepEqual(table.slice(1).map((row) => [row[0], row[2], row[3]]), [
      ['1', 'évé', 'plain'], ['2', 'évé', 'two\\nlines\\t\\x1b[31m'], ['3', 'évé', '漢字 é \\u202e'], ['4', 'évé', '\\xffA\\n'],
    ]);
    table.slice(1).forEach((row) => assert.match(row[1], /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/));
    const { objects } = await succeed(['history', 'print', '-addr', follower.grpc, '-o', 'json']);
    assert.deepEqual(Object.keys(objects[0]), ['sequence', 'authorId', 'payload', 'clientMessageId', 'timestampUnixMs']);
  });

  test('history pages', async () => {
    await succeed(['create', 'long', '-addr', leader.grpc]);
    await times(2100, (i) => client.send({ channelId: 'long', payload: Buffer.from(`m${i}`) }));
    const sequences = async (...args) => (await succeed(['history', 'long', ...args, '-o', 'json', '-addr', follower.grpc])).objects.map((m) => Number(m.sequence));
    const range = (first, last) => Array.from({ length: last - first + 1 }, (_, i) => first + i);
    assert.deepEqual(await sequences(), range(1, 100));
    assert.deepEqual(await sequences('-limit', '3'), range(1, 3));
    assert.deepEqual(await sequences('-after', '500', '-limit', '1200'), range(501, 1700));
    assert.deepEqual(await sequences('-all'), range(1, 2100));
    assert.deepEqual(await sequences('-all', '-after', '2095'), range(2096, 2100));
    assert.deepEqual(await sequences('-after', '2100'), []);
    const table = await succeed(['history', 'long', '-limit', '5', '-addr', follower.grpc]);
    assert.equal(table.lines.length, 6);
    assert.match(table.stderr, /there are more: -after 5/);
    assert.equal((await succeed(['history', 'long', '-all', '-addr', follower.grpc])).lines.length, 2101);
  });

  test('history -last shows the newest', async () => {
    const sequences = async (channel, ...args) => (await succeed(['history', channel, ...args, '-o', 'json', '-addr', follower.grpc])).objects.map((m) => Number(m.sequence));
    const range = (first, last) => Array.from({ length: last - first + 1 }, (_, i) => first + i);
    assert.deepEqual(await sequences('long', '-last', '1'), [2100]);
    assert.deepEqual(await sequences('long', '-last', '3'), range(2098, 2100));
    assert.deepEqual(await sequences('long', '-last', '1500'), range(601, 2100));
    assert.deepEqual(await sequences('long', '-last', '5000'), range(1, 2100));
    await succeed(['create', 'silent', '-addr', leader.grpc]);
    assert.deepEqual(await sequences('silent', '-last', '3'), []);
    const table = await succeed(['history', 'long', '-last', '2', '-addr', follower.grpc]);
    assert.deepEqual(rows(table).slice(1).map((row) => row[0]), ['2099', '2100']);
    assert.equal(table.stderr, '');
    // Only the channel itself, not the next one that begins with the same letters.
    await fail(1, ['history', 'lon', '-last', '2', '-addr', follower.grpc], /channel "lon": no such channel \(CHANNEL_NOT_FOUND\)/);
  });

  test('channels lists, with a prefix and a limit', async () => {
    for (const id of ['team-a', 'team-b', 'team-c']) await succeed(['create', id, '-addr', follower.grpc]);
    const ids = async (...args) => (await succeed(['channels', ...args, '-o', 'json', '-addr', follower.grpc])).json.channels.map((c) => c.channelId);
    assert.ok((await ids()).includes('general'));
    assert.deepEqual(await ids('-prefix', 'team-'), ['team-a', 'team-b', 'team-c']);
    assert.deepEqual(await ids('-prefix', 'team-', '-limit', '2'), ['team-a', 'team-b']);
    assert.deepEqual(await ids('-prefix', 'nothing'), []);
    const table = rows(await succeed(['channels', '-prefix', 'general', '-addr', follower.grpc]));
    assert.deepEqual(table, [['CHANNEL', 'NAME', 'MESSAGES', 'FIRST', 'LAST'], ['general', 'General talk', '4', '1', '4']]);
  });

  test('channels over many pages is one object', async () => {
    await times(1005, (i) => client.createChannel({ channelId: `many-${String(i).padStart(4, '0')}` }));
    const { json } = await succeed(['channels', '-prefix', 'many-', '-o', 'json', '-addr', follower.grpc]);
    assert.equal(json.channels.length, 1005);
    assert.equal(json.hasMore, false);
    assert.equal((await succeed(['channels', '-prefix', 'many-', '-addr', follower.grpc])).lines.length, 1006);
  });

  test('put, get and del', async () => {
    const at = ['-addr', follower.grpc];
    assert.equal((await succeed(['put', 'a key', 'v "1" é', ...at])).text, 'OK\n');
    assert.equal((await succeed(['get', 'a key', ...at])).text, 'v "1" é\n');
    assert.deepEqual((await succeed(['get', 'a key', '-o', 'json', ...at])).json, { value: 'v "1" é', found: true, leaderAddr: '', error: '' });
    assert.deepEqual((await succeed(['del', 'a key', '-o', 'json', ...at])).json, { success: true, leaderAddr: '', error: '' });
    assert.equal((await fail(1, ['get', 'a key', ...at], /no such key: a key/)).text, '');
    const missing = await fail(1, ['get', 'a key', '-o', 'json', ...at], /no such key/);
    assert.equal(missing.json.found, false);
    await succeed(['del', 'a key', ...at]);
    await succeed(['put', 'empty', '', ...at]);
    assert.equal((await succeed(['get', 'empty', ...at])).text, '\n');
    await fail(1, ['put', '', 'x', ...at], /1 to 256 bytes/);
  });

  test('put - takes stdin as it is', async () => {
    const at = ['-addr', follower.grpc];
    for (const input of ['two\nlines\n', '', '漢字 "quoted" \\ \t', 'x'.repeat(60000)]) {
      assert.equal((await succeed(['put', 'stdin', '-', ...at], { input })).text, 'OK\n');
      assert.equal((await client.read('stdin')).value, input);
    }
    await fail(2, ['put', 'stdin', '-', ...at], /UTF-8 text without NUL/, { input: Buffer.from('a\0b') });
    await fail(2, ['put', 'stdin', '-', ...at], /UTF-8 text without NUL/, { input: Buffer.from([0xff]) });
    await fail(1, ['put', 'stdin', '-', ...at], /larger than limits\.max_payload_bytes/, { input: Buffer.alloc(70000, 'x') });
    await fail(1, ['put', 'stdin', '-', ...at], /stdin is larger than \d+ bytes, the most that a value can have/, { input: Buffer.alloc(4 << 20, 'x') });
  });

  test('keys lists, with a prefix and a limit, over many pages', async () => {
    const all = Array.from({ length: 1205 }, (_, i) => `page-${String(i).padStart(4, '0')}`);
    await times(all.length, (i) => client.propose({ op: 'SET', key: all[i], value: '' }));
    const keys = async (...args) => (await succeed(['keys', ...args, '-o', 'json', '-addr', follower.grpc])).json;
    assert.deepEqual(await keys('-prefix', 'page-'), { keys: all, hasMore: false });
    assert.deepEqual(await keys('-prefix', 'page-', '-limit', '2'), { keys: all.slice(0, 2), hasMore: true });
    assert.deepEqual(await keys('-prefix', 'page-', '-limit', '1100'), { keys: all.slice(0, 1100), hasMore: true });
    assert.deepEqual(await keys('-prefix', 'nothing'), { keys: [], hasMore: false });
    assert.ok((await keys()).keys.includes('stdin'));
    const table = await succeed(['keys', '-prefix', 'page-', '-addr', follower.grpc]);
    assert.deepEqual(table.lines, ['KEY', ...all]);
  });

  test('errors name what they are about', async () => {
    const at = ['-addr', follower.grpc];
    await fail(1, ['history', 'no\u009bwhere', ...at], /^raftogramctl: channel "no\\u009bwhere": no such channel \(CHANNEL_NOT_FOUND\)\n$/);
    await fail(1, ['send', 'nowhere', 'x', ...at], /^raftogramctl: channel "nowhere": no such channel/);
    await fail(1, ['tail', 'nowhere', ...at], /^raftogramctl: channel "nowhere": no such channel/);
    await fail(1, ['tail', 'nowhere', '-live', ...at], /^raftogramctl: channel "nowhere": no such channel/);
    const long = await fail(1, ['create', 'x'.repeat(257), ...at], /channel_id is too long: 257 bytes, at most 256 /);
    assert.doesNotMatch(long.stderr, /required/);
    await fail(1, ['put', 'k'.repeat(257), 'v', ...at], /^raftogramctl: key "k+": bad command: key must be/);
    await fail(1, ['transfer-leader', 'node9', ...at], /^raftogramctl: node "node9": .* not a member/);
  });

  test('a wrong port is recognised and explained, whatever the verb', async () => {
    for (const args of [['status'], ['channels'], ['put', 'a', 'b'], ['send', 'general', 'x'], ['tail', 'general'], ['keys'], ['status', '-watch']]) {
      const begin = Date.now();
      const raft = await fail(2, [...args, '-addr', leader.raft, '-timeout', '20s'], /is the Raft port of a node \(raft_bind_addr.*give the gRPC port \(grpc_bind_addr\)/);
      assert.ok(raft.stderr.includes(leader.raft));
      const http = await fail(2, [...args, '-addr', leader.http, '-timeout', '20s'], /is an HTTP port \(health_bind_addr.*give the gRPC port \(grpc_bind_addr\)/);
      assert.ok(http.stderr.includes(leader.http));
      assert.ok(Date.now() - begin < 20000, 'it does not try to the end');
    }
    // Beside a right one it does no harm.
    for (const wrong of [leader.raft, leader.http]) {
      const at = ['-addr', `${wrong},${follower.grpc}`];
      await succeed(['status', ...at]);
      await succeed(['channels', ...at]);
      await succeed(['put', 'a', 'b', ...at]);
      await succeed(['history', 'general', ...at]);
    }
  });

  test('status -watch draws once a second until it is stopped', async () => {
    for (const signal of ['SIGINT', 'SIGTERM']) {
      const watch = new Watch(['-addr', follower.grpc]);
      const heads = () => watch.lines.filter((line) => line.startsWith('NODE ')).length;
      await until('three tables', () => heads() >= 3);
      assert.deepEqual(await watch.stop(signal), { code: 0, signal: null });
      assert.doesNotMatch(watch.text, /\u001b/, 'no escape code where there is no terminal');
      assert.equal(watch.stderr, '');
      assert.ok(watch.text.split('\n\n').every((part) => part.startsWith('NODE ') || part.startsWith('cluster ')));
    }
    const json = new Watch(['-addr', follower.grpc, '-o', 'json']);
    await until('two objects', () => json.lines.length >= 2);
    await json.stop();
    assert.ok(json.objects.every((one) => one.hasQuorum && one.nodes.length === 3));
  });

  test('status -watch redraws a terminal and ends with its reader', async () => {
    const screen = new Command('script', ['-qec', `'${CTL}' status -watch -addr ${leader.grpc}; echo "code $?"`, '/dev/null'],
      { input: null, env: { SHELL: '/bin/bash' } });
    await until('two pictures', () => screen.text.split('\u001b[H\u001b[J').length > 2);
    screen.child.stdin.write('\u0003');
    await screen.exited;
    assert.match(screen.text, /code 0/);
    const pipe = new Command('bash', ['-c', `"${CTL}" status -watch -addr ${follower.grpc} | head -n 1`]);
    const timer = setTimeout(() => pipe.child.kill('SIGKILL'), 20000);
    const { signal } = await pipe.exited;
    clearTimeout(timer);
    assert.equal(signal, null);
    assert.equal(pipe.lines.length, 1);
  });

  test('-o json has no control character that a terminal would obey', async () => {
    const nasty = 'a\u0085\u009b2J\u007f\u202e\u2028\u2066\u001b[31m漢';
    await succeed(['create', 'nasty', '-name', nasty, '-addr', leader.grpc]);
    await client.send({ channelId: 'nasty', authorId: nasty, clientMessageId: nasty, payload: Buffer.from('x') });
    await client.propose({ op: 'SET', key: `nasty ${nasty}`, value: nasty });
    const at = ['-addr', follower.grpc, '-o', 'json'];
    const outputs = [
      [await succeed(['channels', '-prefix', 'nasty', ...at]), (o) => o.json.channels[0].name],
      [await succeed(['create', 'nasty', ...at]), (o) => o.json.name],
      [await succeed(['history', 'nasty', ...at]), (o) => o.json.authorId],
      [await succeed(['send', 'nasty', 'y', '-id', nasty, ...at]), (o) => o.json.clientMessageId],
      [await succeed(['get', `nasty ${nasty}`, ...at]), (o) => o.json.value],
      [await succeed(['keys', '-prefix', 'nasty ', ...at]), (o) => o.json.keys[0].slice(6)],
    ];
    for (const [output, field] of outputs) {
      // eslint-disable-next-line no-control-regex
      assert.doesNotMatch(output.text, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/);
      assert.match(output.text, /\\u009b/);
      assert.equal(field(output), nasty);
    }
    // eslint-disable-next-line no-control-regex
    assert.doesNotMatch((await succeed(['history', 'nasty', '-addr', follower.grpc])).text, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/);
  });

  test('what the cluster refuses is exit code 1', async () => {
    const at = ['-addr', follower.grpc];
    await fail(1, ['history', 'nowhere', ...at], /CHANNEL_NOT_FOUND/);
    await fail(1, ['send', 'nowhere', 'x', ...at], /CHANNEL_NOT_FOUND/);
    await fail(1, ['tail', 'nowhere', ...at], /CHANNEL_NOT_FOUND/);
    await fail(1, ['tail', 'nowhere', '-live', ...at], /CHANNEL_NOT_FOUND/);
    await fail(1, ['tail', 'general', '-after', '1000', ...at], /CURSOR_AHEAD/);
    await fail(1, ['create', 'x'.repeat(257), ...at], /INVALID_FIELD/);
    await fail(1, ['transfer-leader', 'node9', ...at], /INVALID_FIELD/);
  });

  test('tail prints what is stored and what comes, and ends with 0', async () => {
    const all = new Tail(['print', '-o', 'json', '-addr', follower.grpc]);
    const later = new Tail(['print', '-after', '3', '-o', 'json', '-addr', follower.grpc]);
    const table = new Tail(['print', '-addr', leader.grpc]);
    await until('the stored ones', () => all.lines.length === 4 && later.lines.length === 1 && table.lines.length === 5);
    await client.send({ channelId: 'print', payload: Buffer.from('live') });
    await until('the new one', () => all.lines.length === 5 && later.lines.length === 2 && table.lines.length === 6);
    assert.deepEqual(all.objects.map((m) => m.sequence), ['1', '2', '3', '4', '5']);
    assert.deepEqual(later.objects.map((m) => m.sequence), ['4', '5']);
    assert.match(table.lines[5], /^5 .*live$/);
    assert.deepEqual(await all.stop(), { code: 0, signal: null });
    assert.deepEqual(await later.stop('SIGTERM'), { code: 0, signal: null });
    assert.deepEqual(await table.stop(), { code: 0, signal: null });
    assert.equal(all.stderr + later.stderr + table.stderr, '');
  });

  test('tail -live begins at the end', async () => {
    const tail = new Tail(['print', '-live', '-o', 'json', '-addr', follower.grpc]);
    // Its beginning cannot be seen from outside, so the messages go on until one gets through.
    await until('a live message', async () => {
      await client.send({ channelId: 'print', payload: Buffer.from('now') });
      return tail.lines.length > 0;
    });
    await tail.stop();
    assert.ok(Number(tail.objects[0].sequence) > 5);
  });

  test('tail ends when its reader goes', async () => {
    const pipe = new Command('bash', ['-c', `"${CTL}" tail print -addr ${follower.grpc} | head -n 2`]);
    const timer = setTimeout(() => pipe.child.kill('SIGKILL'), 10000);
    const { signal } = await pipe.exited;
    clearTimeout(timer);
    assert.equal(signal, null);
    assert.equal(pipe.lines.length, 2);
  });

  test('an output that cannot be written is exit code 1', async () => {
    const command = new Command('bash', ['-c', `"${CTL}" status -addr ${leader.grpc} > /dev/full`]);
    assert.equal((await command.exited).code, 1);
    assert.match(command.stderr, /cannot write/);
  });

  test('on a terminal a value cannot send escape codes, and Ctrl-C ends tail', async () => {
    await client.propose({ op: 'SET', key: 'evil', value: 'a\u001b[31mb' });
    // script runs its line in $SHELL. dash, which it takes where that is not set, dies of the Ctrl-C
    // with its child, however that ended; bash asks the child first.
    const terminal = (line) => new Command('script', ['-qec', line, '/dev/null'],
      { input: null, env: { SHELL: '/bin/bash' } });
    const get = terminal(`'${CTL}' get evil -addr ${leader.grpc}`);
    assert.equal((await get.exited).code, 0);
    assert.equal(get.text, 'a\\x1b[31mb\r\n');
    const tail = terminal(`'${CTL}' tail general -addr ${leader.grpc}; echo "code $?"`);
    await until('the messages', () => tail.text.includes('degrees'));
    tail.child.stdin.write('\u0003');
    await tail.exited;
    assert.match(tail.text, /code 0/);
  });

  // What each shell offers for the last word of a line, in a process of its own.
  const shells = {
    bash: (words) => {
      const quoted = words.map((word) => `'${word}'`).join(' ');
      return ['bash', '-c', `source <('${CTL}' completion bash)
        COMP_WORDS=('${CTL}' ${quoted}); COMP_CWORD=${words.length}; _raftogramctl
        if ((\${#COMPREPLY[@]})); then printf '%s\\n' "\${COMPREPLY[@]}"; fi`];
    },
    // compadd works in the line editor only. What the function hands to it is what is offered.
    zsh: (words) => {
      const quoted = words.map((word) => `'${word}'`).join(' ');
      return ['zsh', '-fc', `source <('${CTL}' completion zsh)
        words=('${CTL}' ${quoted}); CURRENT=${words.length + 1}; PREFIX='${words.at(-1)}'
        compadd() { for name in $names; do if [[ $name == $PREFIX* ]]; then print -r -- $name; fi; done; }
        _raftogramctl`];
    },
    fish: (words) => ['fish', '--no-config', '-c', `'${CTL}' completion fish | source
      complete -C '${[CTL, ...words].join(' ')}'`],
  };
  for (const [shell, line] of Object.entries(shells)) {
    const isInstalled = spawnSync(shell, ['--version']).status === 0;
    test(`${shell} completes verbs, flags, channels, keys and nodes`, { skip: !isInstalled && `no ${shell} here` }, async () => {
      const complete = async (...words) => {
        const [program, ...args] = line(words);
        const command = new Command(program, args, { env: { RAFTOGRAM_ADDR: follower.grpc } });
        assert.equal((await command.exited).code, 0);
        assert.equal(command.stderr, '');
        // fish adds summaries, and sorts what it offers.
        const choices = command.lines.map((choice) => choice.split('\t')[0]);
        return shell === 'fish' ? new Set(choices) : choices;
      };
      const expect = async (words, choices) => {
        assert.deepEqual(await complete(...words), shell === 'fish' ? new Set(choices) : choices, words.join(' '));
      };
      await expect(['st'], ['status']);
      await expect(['help', 'tr'], ['transfer-leader']);
      await expect(['tail', '-a'], ['-addr', '-after']);
      await expect(['tail', '--a'], ['--addr', '--after']);
      await expect(['-o', ''], ['table', 'json']);
      await expect(['-output', 'j'], ['json']);
      if (shell === 'bash') await expect(['-o', '=', 'j'], ['json']);
      else await expect(['-o=j'], ['-o=json']);
      await expect(['tail', 'team-'], ['team-a', 'team-b', 'team-c']);
      await expect(['tail', 'team-a', ''], []);
      const address = shell === 'bash' ? leader.grpc.split(/(:)/) : [leader.grpc];
      await expect(['-addr', ...address, 'tail', 'gen'], ['general']);
      await expect(['transfer-leader', ''], ['node1', 'node2', 'node3']);
      await expect(['k'], ['keys']);
      await expect(['v'], ['version']);
      await expect(['completion', ''], ['bash', 'zsh', 'fish']);
      await expect(['status', '-w'], ['-watch']);
      await expect(['history', '-l'], ['-limit', '-last']);
      await expect(['history', 'general', '-limit', '3', '-al'], ['-all']);
      for (const verb of ['get', 'put', 'del']) await expect([verb, 'page-000'], Array.from({ length: 10 }, (_, i) => `page-000${i}`));
    });
  }

  test('an address that keeps silent hides no member from status', async (t) => {
    const silent = await silentAddress(t);
    // Less than a dial takes that nobody answers.
    const args = ['-addr', `${silent},${follower.grpc}`, '-timeout', '800ms', '-o', 'json'];
    const { json } = await succeed(['status', ...args]);
    assert.deepEqual(json.nodes.map((n) => [n.nodeId, n.isReachable]), cluster.nodes.map((n) => [n.id, true]));
  });

  test('a call that is sent once passes over an address that keeps silent or has no host', async (t) => {
    const silent = await silentAddress(t);
    for (const dead of [silent, 'nosuch.invalid:9000']) {
      for (const node of [leader, follower]) {
        const at = ['-addr', `${dead},${node.grpc}`, '-timeout', '800ms']; // less than such a dial takes
        await succeed(['put', 'passed', dead, ...at]);
        assert.equal((await succeed(['get', 'passed', '-addr', node.grpc])).text, `${dead}\n`);
        await succeed(['del', 'passed', ...at]);
        assert.equal((await succeed(['create', ...at, '-o', 'json'])).json.created, true);
      }
    }
  });

  test('transfer-leader hands over, to whom it is told', async () => {
    const target = cluster.nodes.find((node) => node !== leader && node !== follower);
    const table = rows(await succeed(['transfer-leader', target.id, '-addr', follower.grpc]));
    assert.deepEqual(table[0], ['LEADER', 'TERM']);
    assert.equal(table[1][0], target.id);
    const { json } = await succeed(['transfer-leader', '-addr', follower.grpc, '-o', 'json']);
    assert.notEqual(json.leaderId, target.id);
    assert.equal((await leaderOf(cluster)).id, json.leaderId);
    leader = await leaderOf(cluster);
  });
});

test('status says never of a member that the leader has not heard since it was started', async () => {
  const cluster = await startCluster();
  try {
    await Promise.all(cluster.nodes.map((node) => cluster.stopNode(node.index)));
    const [silent, ...others] = cluster.nodes;
    others.forEach((node) => cluster.startNode(node.index));
    const leader = await leaderOf(cluster);
    const table = await succeed(['status', '-addr', leader.grpc]);
    const column = rows(table)[0].indexOf('CONTACT');
    const contacts = Object.fromEntries(rows(table).slice(1, 4).map((row) => [row[0], row[column]]));
    assert.equal(contacts[silent.id], 'never');
    assert.equal(contacts[leader.id], '-');
    assert.match(contacts[others.find((node) => node !== leader).id], /^\d+ ms$/);
  } finally {
    await cluster.destroy();
  }
});

describe('nodes die', () => {
  let cluster;
  let numbers = 0;
  before(async () => { cluster = await startCluster(); });
  after(async () => { await cluster?.destroy(); });
  const everywhere = () => cluster.nodes.map((node) => node.grpc).join(',');

  test('tail and send outlive leaders: no gap, no double', async () => {
    const addresses = everywhere();
    await succeed(['create', 'alive', '-addr', addresses]);
    const tails = cluster.nodes.map((node) => new Tail(['alive', '-o', 'json', '-addr', node.grpc]));
    const live = cluster.nodes.map((node) => new Tail(['alive', '-live', '-o', 'json', '-addr', node.grpc]));
    let isStopping = false;
    const sent = [];
    const senders = [0, 1, 2].map(async () => {
      while (!isStopping) {
        const text = `m${numbers += 1}`;
        const { json } = await succeed(['send', 'alive', text, '-o', 'json', '-addr', addresses, '-timeout', '20s']);
        sent.push([json.sequence, text]);
      }
    });
    await until('every live tail to have begun', () => live.every((tail) => tail.lines.length > 0));
    for (let round = 0; round < 3; round += 1) {
      const leader = await leaderOf(cluster);
      await cluster.kill(leader.index);
      const mark = sent.length;
      await until('sends to go on', () => sent.length > mark + 20, { timeout: 30000 });
      cluster.startNode(leader.index);
      await leaderOf(cluster);
    }
    isStopping = true;
    await Promise.all(senders);
    const texts = new Map(sent.map(([sequence, text]) => [Number(sequence), text]));
    assert.equal(texts.size, sent.length, 'a sequence was acknowledged twice');
    const expected = Array.from({ length: sent.length }, (_, i) => [i + 1, texts.get(i + 1)]);
    for (const tail of [...tails, ...live]) {
      await until('every tail to have all', () => Number(tail.objects.at(-1).sequence) >= sent.length);
      const got = tail.objects.map((m) => [Number(m.sequence), Buffer.from(m.payload, 'base64').toString()]);
      assert.deepEqual(got, expected.slice(got[0][0] - 1), tail.stderr);
      assert.deepEqual(await tail.stop(), { code: 0, signal: null });
    }
    assert.ok(tails.every((tail) => tail.objects[0].sequence === '1'));
    assert.match(tails.map((tail) => tail.stderr).join(''), /goes on at/);
  });

  test('tail passes a frozen node over', async () => {
    const leader = await leaderOf(cluster);
    const frozen = cluster.nodes.find((node) => node !== leader);
    const tail = new Tail(['alive', '-o', 'json', '-addr', `${frozen.grpc},${leader.grpc}`]);
    await until('the stored ones', () => tail.lines.length === numbers);
    frozen.process.signal('SIGSTOP');
    await succeed(['send', 'alive', `m${numbers += 1}`, '-addr', leader.grpc]);
    await until('the new one', () => tail.lines.length === numbers, { timeout: 60000 });
    await tail.stop();
    // And from the beginning.
    const other = new Tail(['alive', '-o', 'json', '-addr', `${frozen.grpc},${leader.grpc}`]);
    await until('all', () => other.lines.length === numbers, { timeout: 30000 });
    await other.stop();
    const status = await succeed(['status', '-addr', leader.grpc]);
    assert.match(status.text, new RegExp(`^${frozen.id} +unreachable`, 'm'));
    frozen.process.signal('SIGCONT');
    await leaderOf(cluster);
  });

  test('a member that is down is shown as unreachable', async () => {
    const leader = await leaderOf(cluster);
    const dead = cluster.nodes.find((node) => node !== leader);
    await cluster.kill(dead.index);
    const { json } = await succeed(['status', '-o', 'json', '-addr', everywhere()]);
    assert.equal(json.hasQuorum, true);
    const row = json.nodes.find((node) => node.nodeId === dead.id);
    assert.equal(row.isReachable, false);
    assert.equal(row.role, 'unreachable');
    assert.match(row.error, /cannot connect/);
    // A dead address among the given ones costs nothing but a moment.
    await succeed(['send', 'alive', `m${numbers += 1}`, '-addr', `${dead.grpc},${leader.grpc}`]);
    await succeed(['put', 'k', 'v', '-addr', `${dead.grpc},${leader.grpc}`]);
    assert.equal((await succeed(['get', 'k', '-addr', `${dead.grpc},${leader.grpc}`])).text, 'v\n');
    cluster.startNode(dead.index);
    await leaderOf(cluster);
  });

  test('without a quorum: 3, status still shows who is there, tail waits for its return', async () => {
    const leader = await leaderOf(cluster);
    const others = cluster.nodes.filter((node) => node !== leader);
    const tail = new Tail(['alive', '-o', 'json', '-addr', others[0].grpc]);
    const limited = new Tail(['alive', '-o', 'json', '-addr', others[1].grpc, '-timeout', '1s']);
    await until('the stored ones', () => tail.lines.length === numbers && limited.lines.length === numbers);
    await Promise.all(cluster.nodes.filter((node) => node !== others[0]).map((node) => cluster.kill(node.index)));
    const at = ['-addr', everywhere(), '-timeout', '1s'];
    await until('the node to know', async () => !(await run(['status', '-o', 'json', ...at])).json.hasQuorum);
    for (const args of [['send', 'alive', 'x', '-id', 'late'], ['put', 'k', 'w'], ['get', 'k'], ['history', 'alive'], ['history', 'alive', '-last', '3'],
      ['channels'], ['keys'], ['create', 'z'], ['create'], ['transfer-leader'], ['tail', 'alive']]) {
      await fail(3, [...args, ...at], /NO QUORUM.*unavailable/);
    }
    await fail(3, ['history', 'alive', ...at], /^raftogramctl: channel "alive": NO QUORUM/);
    const status = await run(['status', '-o', 'json', ...at]);
    assert.equal(status.code, 3);
    assert.equal(status.json.nodes.filter((node) => node.isReachable).length, 1);
    const table = await run(['status', ...at]);
    assert.equal(table.code, 3);
    assert.match(table.text, /NO QUORUM.*NO LEADER/);
    const watch = new Watch(at);
    await until('two tables', () => watch.text.split('NO QUORUM').length > 2);
    assert.deepEqual(await watch.stop(), { code: 0, signal: null });
    await cluster.kill(others[0].index);
    assert.deepEqual(await Promise.race([limited.exited, delay(20000)]), { code: 3, signal: null });
    assert.match(limited.stderr, /the cluster is unavailable/);
    cluster.startAll();
    await leaderOf(cluster);
    await succeed(['send', 'alive', `m${numbers += 1}`, '-addr', everywhere(), '-timeout', '20s']);
    await until('the new one', () => tail.lines.length === numbers);
    assert.deepEqual(tail.objects.map((m) => Number(m.sequence)), Array.from({ length: numbers }, (_, i) => i + 1));
    assert.deepEqual(await tail.stop(), { code: 0, signal: null });
  });

  test('tail refuses to go on in another cluster', async () => {
    const tail = new Tail(['alive', '-o', 'json', '-addr', cluster.nodes[0].grpc]);
    await until('the stored ones', () => tail.lines.length === numbers);
    const { rmSync } = await import('node:fs');
    await Promise.all(cluster.nodes.map((node) => cluster.kill(node.index)));
    cluster.nodes.forEach((node) => rmSync(node.dataDir, { recursive: true }));
    cluster.startAll();
    await leaderOf(cluster);
    assert.deepEqual(await Promise.race([tail.exited, delay(20000)]), { code: 1, signal: null });
    assert.match(tail.stderr, /CLUSTER_CHANGED/);
  });
});
