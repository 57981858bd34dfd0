// The program's life: flags, configuration errors, start-up failures, signals, founding, restarts.
import assert from 'node:assert/strict';
import { chmodSync, copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Cluster, DAEMON, Process, delay, freePorts, runDaemon, until } from './lib/cluster.mjs';
import { errorDetails, refused } from './lib/messenger.mjs';
import { ROOT_RUNS, needs, runs } from './lib/needs.mjs';

const STOP_MS_MAX = 10000;

// A start-up failure is one plain line.
function assertOneLine({ stderr, stdout }) {
  assert.match(stderr, /^raftogram: [^\n]+\n$/);
  assert.equal(stdout, '');
}

async function assertFails(args, code, pattern, options) {
  const result = await runDaemon(args, options);
  assertOneLine(result);
  assert.equal(result.code, code, result.stderr);
  assert.match(result.stderr, pattern);
  return result;
}

const escape = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

const logLines = (text) => text.split('\n').filter((line) => line !== '');

async function stopsCleanly(process, signal) {
  const begin = Date.now();
  assert.deepEqual(await process.stop(signal), { code: 0, signal: null }, process.stderr);
  assert.ok(Date.now() - begin < STOP_MS_MAX, `${signal} took ${Date.now() - begin} ms`);
}

describe('flags', () => {
  let cluster;
  let path;
  before(async () => {
    cluster = await Cluster.create({ size: 1 });
    path = cluster.nodes[0].configPath;
  });
  after(async () => { await cluster.destroy(); });

  for (const dashes of ['-', '--']) {
    test(`${dashes}version prints the version`, async () => {
      const result = await runDaemon([`${dashes}version`]);
      assert.match(result.stdout, /^raftogram \d+\.\d+\.\d+\S*\n$/);
      assert.deepEqual([result.code, result.stderr], [0, '']);
    });

    test(`${dashes}help prints every flag`, async () => {
      const result = await runDaemon([`${dashes}help`]);
      for (const flag of ['-config', '-dev', '-check-config', '-version', '-help']) assert.ok(result.stdout.includes(flag), flag);
      assert.deepEqual([result.code, result.stderr], [0, '']);
    });

    test(`${dashes}config takes FILE and =FILE`, async () => {
      for (const args of [[`${dashes}config`, path], [`${dashes}config=${path}`]]) {
        const result = await runDaemon([...args, `${dashes}check-config`]);
        assert.deepEqual([result.code, result.stderr], [0, ''], args.join(' '));
      }
    });
  }

  test('-check-config touches nothing', async () => {
    assert.equal((await runDaemon(['-check-config', '-config', path])).code, 0);
    assert.equal(existsSync(cluster.nodes[0].dataDir), false);
  });

  test('RAFTOGRAM_CONFIG stands in for -config, which wins over it', async () => {
    assert.equal((await runDaemon(['-check-config'], { env: { RAFTOGRAM_CONFIG: path } })).code, 0);
    assert.equal((await runDaemon(['-check-config', '-config', path], { env: { RAFTOGRAM_CONFIG: '/nowhere' } })).code, 0);
    await assertFails(['-check-config'], 2, /\/nowhere/, { env: { RAFTOGRAM_CONFIG: '/nowhere' } });
  });

  test('the default file is config.yaml in the working directory', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'raftogram-cwd-'));
    try {
      for (const env of [{}, { RAFTOGRAM_CONFIG: '' }]) await assertFails(['-check-config'], 2, /config\.yaml/, { cwd: folder, env });
      cpSync(path, join(folder, 'config.yaml'));
      assert.equal((await runDaemon(['-check-config'], { cwd: folder })).code, 0);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('what is no flag is a usage error', async () => {
    for (const args of [['-nonsense'], ['--nonsense=1'], ['-config'], ['extra'], ['-config', path, 'extra'], ['-dev=1', 'x']]) {
      await assertFails(args, 2, /^raftogram: /);
    }
  });
});

const VALID = `cluster:
  node_id: node1
  raft_bind_addr: 127.0.0.1:7000
  grpc_bind_addr: 127.0.0.1:9000
  health_bind_addr: 127.0.0.1:8080
  data_dir: ./data/node1
  peers:
    - {node_id: node1, raft_addr: "127.0.0.1:7000", grpc_addr: "127.0.0.1:9000", http_addr: "127.0.0.1:8080"}
    - {node_id: node2, raft_addr: "127.0.0.1:7001", grpc_addr: "127.0.0.1:9001"}
    - {node_id: node3, raft_addr: "127.0.0.1:7002", grpc_addr: "127.0.0.1:9002"}
raft:
  election_timeout: 500ms
  heartbeat_interval: 50ms
  snapshot_interval: 120s
  snapshot_threshold: 8192
  trailing_logs: 10240
limits:
  max_payload_bytes: 64KiB
  max_frame_bytes: 1MiB
grpc: {reflection: true}
http: {web_root: ""}
websocket: {allowed_origins: []}
`;

describe('configuration', () => {
  let folder;
  let path;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'raftogram-config-'));
    path = join(folder, 'node.yaml');
  });
  after(() => rmSync(folder, { recursive: true }));

  async function check(text) {
    writeFileSync(path, text);
    return runDaemon(['-check-config', '-config', path]);
  }

  test('the contract\'s example and the template are right', async () => {
    assert.deepEqual((await check(VALID)).code, 0);
    const { ROOT } = await import('./lib/paths.mjs');
    for (const file of ['config.yaml.dist', 'local/node1.yaml', 'local/node2.yaml', 'local/node3.yaml']) {
      const result = await runDaemon(['-check-config', '-config', join(ROOT, 'conf', file)]);
      assert.equal(result.code, 0, `${file}: ${result.stderr}`);
    }
  });

  test('all but cluster may be left out', async () => {
    assert.equal((await check(VALID.slice(0, VALID.indexOf('raft:\n')))).code, 0);
  });

  test('durations, sizes and one peer are understood', async () => {
    for (const [from, to] of [['500ms', '2s'], ['120s', '5m'], ['64KiB', '1000'], ['max_frame_bytes: 1MiB', 'max_frame_bytes: 1GiB'.replace('1GiB', '64MiB')],
      ['64KiB\n  max_frame_bytes: 1MiB', '3MiB']]) {
      const text = VALID.replace(from, to);
      assert.notEqual(text, VALID);
      const result = await check(text);
      assert.equal(result.code, 0, `${to}: ${result.stderr}`);
    }
    assert.equal((await check(VALID.split('\n').filter((line) => !/node_id: node[23]/.test(line)).join('\n'))).code, 0);
  });

  test('security that is not implemented yet is refused, never ignored', async () => {
    for (const [section, key] of [['auth: {mode: required, users_file: /u}', 'auth.mode'], ['tls: {cert_file: /c, key_file: /k}', 'tls.cert_file'],
      ['peer_tls: {mode: required, cert_file: /c, key_file: /k, ca_file: /a}', 'peer_tls.mode']]) {
      const result = await check(`${VALID}${section}\n`);
      assert.equal(result.code, 2, section);
      assert.ok(result.stderr.startsWith(`raftogram: ${path}: ${key}: `) && result.stderr.trimEnd().split('\n').length === 1, result.stderr);
    }
  });

  const first = (line) => VALID.split('\n').findIndex((text) => text.includes(line)) + 1;
  const drop = (key) => VALID.split('\n').filter((line) => !line.startsWith(`  ${key}:`)).join('\n');
  const cases = [
    ['an unknown key', VALID.replace('  node_id: node1\n', '  node_id: node1\n  color: red\n'), 3, 'color'],
    ['an unknown section', `colors: {}\n${VALID}`, 1, 'colors'],
    ['an unknown key of a peer', VALID.replace('9001"}', '9001", color: red}'), first('node2'), 'color'],
    ['an unknown raft key', VALID.replace('trailing_logs', 'trailing_log'), first('trailing_logs'), 'trailing_log'],
    ['a number for a string', VALID.replace('node_id: node1\n', 'node_id: 7\n'), 2, 'node_id'],
    ['a list for a string', VALID.replace('node_id: node1\n', 'node_id: [a]\n'), 2, 'node_id'],
    ['a string for a list', VALID.replace(/peers:\n( {4}.*\n)+/, 'peers: node1\n'), 7, 'peers'],
    ['a string for a mapping', VALID.replace('grpc: {reflection: true}', 'grpc: yes please'), first('grpc: {'), 'grpc'],
    ['a string for a boolean', VALID.replace('reflection: true', 'reflection: maybe'), first('grpc: {'), 'reflection'],
    ['a duration without a unit', VALID.replace('500ms', '500'), first('election_timeout'), 'election_timeout'],
    ['a duration of words', VALID.replace('500ms', 'soon'), first('election_timeout'), 'election_timeout'],
    ['a negative duration', VALID.replace('500ms', '-1s'), first('election_timeout'), 'election_timeout'],
    ['a size of words', VALID.replace('64KiB', 'big'), first('max_payload_bytes'), 'max_payload_bytes'],
    ['a payload limit over 3MiB', VALID.replace('64KiB', '3145729'), first('max_payload_bytes'), 'max_payload_bytes'],
    ['a frame limit too small for the payload', VALID.replace('1MiB', '409599'), first('max_frame_bytes'), 'max_frame_bytes'],
    ['a threshold of words', VALID.replace('8192', 'many'), first('snapshot_threshold'), 'snapshot_threshold'],
    ['a heartbeat slower than the timeout', VALID.replace('50ms', '600ms'), first('heartbeat_interval'), 'heartbeat_interval'],
    ['a missing section', VALID.slice(VALID.indexOf('raft:\n')), null, 'cluster'],
    ...['node_id', 'raft_bind_addr', 'grpc_bind_addr', 'health_bind_addr', 'data_dir'].map((key) => [`no ${key}`, drop(key), null, key]),
    ['no peers', VALID.replace(/ {2}peers:\n( {4}.*\n)+/, ''), null, 'peers'],
    ['an empty list of peers', VALID.replace(/peers:\n( {4}.*\n)+/, 'peers: []\n'), 7, 'peers'],
    ...['node_id: node2, ', 'raft_addr: "127.0.0.1:7001", ', ', grpc_addr: "127.0.0.1:9001"'].map((text) =>
      [`a peer without ${text}`, VALID.replace(text, ''), first('node2'), /\w+_\w+/.exec(text)[0]]),
    ['a duplicate node id', VALID.replace('node_id: node3', 'node_id: node2'), first('node3'), 'node_id'],
    ['a duplicate raft address', VALID.replace('127.0.0.1:7002', '127.0.0.1:7001'), first('node3'), 'raft_addr'],
    ['a duplicate gRPC address', VALID.replace('127.0.0.1:9002', '127.0.0.1:9001'), first('node3'), 'grpc_addr'],
    ['an address used twice', VALID.replace('127.0.0.1:9002', '127.0.0.1:7001'), first('node3'), 'grpc_addr'],
    ['a bind address used twice', VALID.replace('health_bind_addr: 127.0.0.1:8080', 'health_bind_addr: 127.0.0.1:9000'), 5, 'health_bind_addr'],
    ['an address without a port', VALID.replace('raft_bind_addr: 127.0.0.1:7000', 'raft_bind_addr: 127.0.0.1'), 3, 'raft_bind_addr'],
    ['a peer address without a port', VALID.replace('"127.0.0.1:7001"', '"127.0.0.1"'), first('node2'), 'raft_addr'],
    ['a port out of range', VALID.replace('grpc_bind_addr: 127.0.0.1:9000', 'grpc_bind_addr: 127.0.0.1:65536'), 4, 'grpc_bind_addr'],
    ['an even number of peers', VALID.replace(/ {4}- \{node_id: node3.*\n/, ''), 7, 'peers'],
    ['a node that is no peer', VALID.replace('node_id: node1\n', 'node_id: node9\n'), 2, 'node_id'],
    ['a duplicate key', VALID.replace('  node_id: node1\n', '  node_id: node1\n  node_id: node1\n'), null, 'node_id'],
    ['an origin that is a word', VALID.replace('allowed_origins: []', 'allowed_origins: [friends]'), first('websocket'), 'allowed_origins'],
    ['an empty file', '', null, 'cluster'],
    ['no YAML', 'cluster: [\n', null, ''],
    ['a tab', 'cluster:\n\tnode_id: x\n', 2, ''],
    ['binary', '\u0000\u0001\u0002', null, ''],
  ];
  for (const [name, text, line, key] of cases) {
    test(`${name} is an error with file, line and key`, async () => {
      assert.notEqual(text, VALID);
      const result = await check(text);
      assertOneLine(result);
      assert.equal(result.code, 2, result.stderr);
      const match = new RegExp(`^raftogram: ${escape(path)}:(\\d+): ([^:]+): .+\\n$`).exec(result.stderr);
      assert.ok(match, result.stderr);
      if (line !== null) assert.equal(Number(match[1]), line, result.stderr);
      assert.ok(match[2].includes(key), result.stderr);
      // Without -check-config it is the same, and nothing was touched.
      assert.deepEqual(await runDaemon(['-config', path], { cwd: folder }), result);
      assert.equal(existsSync(join(folder, 'data')), false);
    });
  }

  test('relative paths start at the working directory', async () => {
    const [raft, grpc, http] = await freePorts(3);
    writeFileSync(path, `cluster:
  node_id: only
  raft_bind_addr: 127.0.0.1:${raft}
  grpc_bind_addr: 127.0.0.1:${grpc}
  health_bind_addr: 127.0.0.1:${http}
  data_dir: ./a/b/c
  peers: [{node_id: only, raft_addr: "127.0.0.1:${raft}", grpc_addr: "127.0.0.1:${grpc}"}]
`);
    const child = new Process('only', ['-config', path], { cwd: folder });
    await child.logged(/"serving"/);
    // Made with its parents, for this user alone.
    for (const made of ['a', 'a/b', 'a/b/c']) assert.equal(statSync(join(folder, made)).mode & 0o777, 0o700, made);
    await stopsCleanly(child, 'SIGTERM');
  });
});

describe('start-up failures', () => {
  let cluster;
  let node;
  before(async () => {
    cluster = await Cluster.create({ size: 1 });
    [node] = cluster.nodes;
  });
  after(async () => { await cluster.destroy(); });

  const failure = (pattern, options) => assertFails(['-config', node.configPath], 1, pattern, options);

  for (const kind of ['raft', 'grpc', 'http']) {
    test(`the ${kind} port in use is one line with the address`, async () => {
      const server = createServer();
      const [host, port] = node[kind].split(':');
      await new Promise((done) => server.listen(Number(port), host, done));
      try {
        await failure(new RegExp(`^raftogram: ${escape(node[kind])}: .+; .+`));
        // Also with -dev.
        await assertFails(['-dev', '-config', node.configPath], 1, new RegExp(escape(node[kind])));
      } finally {
        await new Promise((done) => server.close(done));
      }
      const child = cluster.startNode(0).process;
      await child.logged(/"serving"/);
      await stopsCleanly(child, 'SIGTERM');
    });
  }

  for (const part of ['log', 'store', 'identity']) {
    test(`the ${part} that cannot be opened is one line with its path and a remedy`, async () => {
      const isFile = part !== 'identity';
      const path = join(node.dataDir, part);
      rmSync(node.dataDir, { recursive: true, force: true });
      mkdirSync(node.dataDir);
      if (isFile) writeFileSync(path, '');
      else mkdirSync(path);
      await failure(new RegExp(`^raftogram: ${escape(path)}[^ ]*: .+; .+`));
      rmSync(node.dataDir, { recursive: true });
    });
  }

  test('a data_dir in use is refused, and its owner is not disturbed', async () => {
    cluster.startNode(0);
    await cluster.leader();
    await failure(new RegExp(`^raftogram: .*${escape(node.dataDir)}.*in use`));
    assert.equal((await cluster.client(node).createChannel({ channelId: 'after' })).created, true);
    await stopsCleanly(node.process, 'SIGTERM');
  });

  test('a data_dir that cannot be made or written is refused', async () => {
    const file = join(cluster.dir, 'file');
    writeFileSync(file, 'in the way');
    const original = node.dataDir;
    try {
      for (const path of [file, join(file, 'below'), '/proc/raftogram/data']) {
        node.dataDir = path;
        cluster.writeConfigs();
        await failure(new RegExp(`^raftogram: .*${escape(path)}`));
      }
      assert.equal(readFileSync(file, 'utf8'), 'in the way');
    } finally {
      node.dataDir = original;
      cluster.writeConfigs();
    }
  });

  test('a data_dir of another user is refused', needs(runs(...ROOT_RUNS, 'true'), 'needs root or sudo'), async () => {
    const open = mkdtempSync(join(tmpdir(), 'raftogram-open-'));
    const original = node.dataDir;
    try {
      chmodSync(open, 0o755);
      mkdirSync(join(open, 'data'), { mode: 0o755 });
      node.dataDir = join(open, 'data');
      const config = join(open, 'node.yaml');
      writeFileSync(config, cluster.config(node), { mode: 0o644 });
      // Another user may not be let into the folder of the build.
      copyFileSync(DAEMON, join(open, 'raftogram'));
      const options = { wrapper: [...ROOT_RUNS, 'setpriv', '--reuid=65534', '--regid=65534', '--clear-groups',
        'sh', '-c', `shift; exec ${join(open, 'raftogram')} "$@"`, 'sh'] };
      await assertFails(['-config', config], 1, new RegExp(`^raftogram: .*${escape(node.dataDir)}`), options);
      node.dataDir = join(open, 'other');
      writeFileSync(config, cluster.config(node), { mode: 0o644 });
      await assertFails(['-config', config], 1, new RegExp(`^raftogram: .*${escape(node.dataDir)}`), options);
      chmodSync(config, 0o600);
      await assertFails(['-config', config], 2, new RegExp(`^raftogram: .*${escape(config)}`), options);
    } finally {
      node.dataDir = original;
      rmSync(open, { recursive: true });
    }
  });

  test('another node\'s data_dir is refused and stays as it was', async () => {
    const text = cluster.config(node).replaceAll('node1', 'node7').replace(`${cluster.dir}/node7`, `${cluster.dir}/node1`);
    const path = join(cluster.dir, 'foreign.yaml');
    writeFileSync(path, text);
    await assertFails(['-config', path], 1, new RegExp(`^raftogram: .*${escape(node.dataDir)}.*node1.*node7`));
    cluster.startNode(0);
    await cluster.leader();
    assert.deepEqual((await cluster.client(node).channels()).channels.map((c) => c.channelId), ['after']);
    await stopsCleanly(node.process, 'SIGTERM');
  });
});

describe('signals', () => {
  for (const signal of ['SIGTERM', 'SIGINT']) {
    test(`${signal} ends idle nodes, the last ones without a quorum`, async () => {
      const cluster = await Cluster.start();
      try {
        for (const node of cluster.nodes) await stopsCleanly(node.process, signal);
        // Alone after a restart, with no leader to be found.
        cluster.startNode(1);
        await cluster.nodes[1].process.logged(/"serving"/);
        await stopsCleanly(cluster.nodes[1].process, signal);
      } finally {
        await cluster.destroy();
      }
    });

    test(`${signal} ends all nodes at once`, async () => {
      const cluster = await Cluster.start();
      try {
        await Promise.all(cluster.nodes.map((node) => stopsCleanly(node.process, signal)));
      } finally {
        await cluster.destroy();
      }
    });

    test(`${signal} ends nodes of a cluster that was never founded`, async () => {
      const cluster = await Cluster.create();
      try {
        cluster.startNode(0);
        await cluster.nodes[0].process.logged(/"serving"/);
        await stopsCleanly(cluster.nodes[0].process, signal);
        cluster.startNode(0);
        cluster.startNode(1);
        await cluster.nodes[0].process.logged(/missing/);
        for (const node of cluster.nodes.slice(0, 2)) await stopsCleanly(node.process, signal);
      } finally {
        await cluster.destroy();
      }
    });

    test(`${signal} ends a node with open subscriptions`, async () => {
      const cluster = await Cluster.start({ size: 1 });
      try {
        const client = cluster.client(cluster.nodes[0]);
        await client.createChannel({ channelId: 'c' });
        const stream = client.subscribe({ channelId: 'c' });
        await until('the stream to stand', () => stream.isOpen);
        await stopsCleanly(cluster.nodes[0].process, signal);
        await until('the stream to end', () => stream.isEnded);
        assert.equal(errorDetails(stream.error).info?.reason, 'DRAINING');
      } finally {
        await cluster.destroy();
      }
    });
  }

  test('a signal while it starts ends it cleanly, too', async () => {
    const cluster = await Cluster.create({ size: 1 });
    try {
      const [node] = cluster.nodes;
      for (let i = 0; i < 12; i += 1) {
        cluster.startNode(0);
        // A different moment of the start each time.
        const marks = [/"listening"/, /"serving"/, /this node leads/, /founded/];
        await node.process.logged(marks[i % marks.length]);
        await stopsCleanly(node.process, i % 2 ? 'SIGINT' : 'SIGTERM');
        if (i === 3) rmSync(node.dataDir, { recursive: true });
      }
    } finally {
      await cluster.destroy();
    }
  });

  test('asked twice it does not linger', async () => {
    const cluster = await Cluster.start();
    try {
      const leader = await cluster.leader();
      leader.process.signal('SIGTERM');
      await stopsCleanly(leader.process, 'SIGINT');
    } finally {
      await cluster.destroy();
    }
  });

  test('the leader hands over, and an idle stop costs no election timeout', async () => {
    const cluster = await Cluster.start({ extra: 'raft: {election_timeout: 5s, heartbeat_interval: 100ms}' });
    try {
      const leader = await cluster.leader();
      const begin = Date.now();
      await stopsCleanly(leader.process, 'SIGTERM');
      await cluster.leader({ timeout: 4000 });
      assert.ok(Date.now() - begin < 4500, `${Date.now() - begin} ms`);
    } finally {
      await cluster.destroy();
    }
  });
});

describe('logs', () => {
  test('every line of a life is a JSON object', async () => {
    const cluster = await Cluster.start();
    try {
      const leader = await cluster.leader();
      const client = cluster.client(leader);
      await client.createChannel({ channelId: 'evil"\\\n\u001b[31m', name: 'x' });
      await client.send({ channelId: 'evil"\\\n\u001b[31m', payload: Buffer.from('x') });
      await cluster.kill((leader.index + 1) % 3);
      cluster.startNode((leader.index + 1) % 3);
      await cluster.leader();
      await cluster.kill(leader.index);
      await cluster.leader();
      cluster.startNode(leader.index);
      await cluster.leader();
      for (const node of cluster.nodes) await stopsCleanly(node.process, 'SIGTERM');
      for (const node of cluster.nodes) {
        const lines = logLines(readFileSync(node.logPath, 'utf8'));
        assert.ok(lines.length > 5);
        for (const line of lines) {
          const entry = JSON.parse(line);
          assert.equal(entry.node, node.id, line);
          assert.ok(!Number.isNaN(Date.parse(entry.time)), line);
          assert.match(entry.level, /^(debug|info|warn|error)$/, line);
          assert.equal(typeof entry.msg, 'string', line);
        }
      }
    } finally {
      await cluster.destroy();
    }
  });

  test('-dev and RAFTOGRAM_DEV make them human-readable, an empty RAFTOGRAM_DEV does not', async () => {
    const cluster = await Cluster.create({ size: 1 });
    const { configPath } = cluster.nodes[0];
    try {
      for (const [flags, env, isJson] of [[['-dev'], {}, false], [['--dev'], {}, false], [[], { RAFTOGRAM_DEV: '0' }, false],
        [[], { RAFTOGRAM_DEV: '' }, true], [[], {}, true]]) {
        const child = new Process('node1', ['-config', configPath, ...flags], { env });
        await child.logged(/serving/);
        await stopsCleanly(child, 'SIGTERM');
        for (const line of logLines(child.stderr)) assert.equal(line.startsWith('{"'), isJson, line);
        assert.equal(child.stdout, '');
      }
    } finally {
      await cluster.destroy();
    }
  });
});

describe('founding', () => {
  test('one peer is a cluster at once', async () => {
    const cluster = await Cluster.create({ size: 1 });
    try {
      const begin = Date.now();
      cluster.startNode(0);
      const leader = await cluster.leader();
      const client = cluster.client(leader);
      assert.equal((await client.createChannel({ channelId: 'c' })).created, true);
      assert.equal((await client.send({ channelId: 'c' })).sequence, '1');
      assert.ok(Date.now() - begin < 5000);
      const status = await client.status();
      assert.deepEqual([status.role, status.hasQuorum, status.members.length], ['leader', true, 1]);
    } finally {
      await cluster.destroy();
    }
  });

  test('five nodes stand the loss of two', async () => {
    const cluster = await Cluster.start({ size: 5 });
    try {
      const leader = await cluster.leader();
      await cluster.client(leader).createChannel({ channelId: 'c' });
      const [other] = cluster.followersOf(leader);
      await Promise.all([cluster.kill(leader.index), cluster.kill(other.index)]);
      const next = await cluster.leader();
      assert.equal((await cluster.client(next).send({ channelId: 'c' })).sequence, '1');
      cluster.startNode(leader.index);
      cluster.startNode(other.index);
      await cluster.leader();
      for (const node of cluster.nodes) assert.equal((await cluster.client(node).history({ channelId: 'c' })).messages.length, 1);
    } finally {
      await cluster.destroy();
    }
  });

  test('two of three never found a cluster, say who is missing, and go on when it comes', async () => {
    const cluster = await Cluster.create();
    try {
      cluster.startNode(2);
      await cluster.nodes[2].process.logged(/"missing":"node1, node2"/);
      cluster.startNode(0);
      for (const index of [0, 2]) await cluster.nodes[index].process.logged(/"missing":"node2"/);
      // Many election timeouts: nothing may happen, which takes time to see.
      await delay(2500);
      for (const node of cluster.running) {
        const status = await cluster.status(node);
        assert.deepEqual([status.leaderId, status.hasQuorum, status.clusterId, status.term], ['', false, '', '0']);
        const error = await refused(cluster.client(node).createChannel({ channelId: 'early' }));
        assert.deepEqual(errorDetails(error).notLeader, { leaderGrpcTarget: '', raftLeaderId: '' });
        assert.equal((await cluster.client(node).check('')).status, 'SERVING');
        assert.equal((await cluster.client(node).check('raftogram.v1.Messenger')).status, 'NOT_SERVING');
        assert.equal((await cluster.client(node).check('phalanx.KV')).status, 'NOT_SERVING');
      }
      cluster.startNode(1);
      const leader = await cluster.leader();
      assert.equal((await cluster.client(leader).createChannel({ channelId: 'early' })).created, true);
    } finally {
      await cluster.destroy();
    }
  });

  test('-dump-log prints the log of a stopped node, by its data_dir or by the log itself', async () => {
    const cluster = await Cluster.start({ size: 1 });
    try {
      const [{ process, dataDir }] = cluster.nodes;
      await cluster.client(cluster.nodes[0]).createChannel({ channelId: 'dumped' });
      await stopsCleanly(process, 'SIGTERM');
      const [whole, log] = await Promise.all([dataDir, join(dataDir, 'log')].map((dir) => runDaemon(['-dump-log', dir])));
      assert.equal(log.code, 0);
      assert.match(log.stdout, /dumped[^]*\nclean: entries 1\.\.\d+\n$/);
      assert.deepEqual([whole.code, whole.stdout], [0, log.stdout]);
      await assertFails(['-dump-log', join(dataDir, 'nowhere')], 1, /nowhere: not found/);
    } finally {
      await cluster.destroy();
    }
  });

  test('two empty nodes beside one with data say whom they wait for', async () => {
    const cluster = await Cluster.start();
    try {
      await Promise.all(cluster.nodes.map((node) => stopsCleanly(node.process, 'SIGTERM')));
      for (const index of [1, 2]) rmSync(cluster.nodes[index].dataDir, { recursive: true });
      cluster.startAll();
      for (const index of [1, 2]) await cluster.nodes[index].process.logged(/"have_data":"node1","missing":""/);
    } finally {
      await cluster.destroy();
    }
  });

  test('five nodes with ids of 256 bytes found a cluster, restart, and fill an empty one', async () => {
    const cluster = await Cluster.create({ size: 5, extra: 'raft: {snapshot_interval: 100ms, snapshot_threshold: 1, trailing_logs: 0}' });
    for (const node of cluster.nodes) node.id = node.id.padEnd(256, 'x');
    cluster.writeConfigs();
    cluster.startAll();
    try {
      const client = cluster.client(await cluster.leader());
      await client.createChannel({ channelId: 'kept' });
      const { clusterId } = await client.status();
      await Promise.all(cluster.nodes.map((node) => stopsCleanly(node.process, 'SIGTERM')));
      rmSync(cluster.nodes[0].dataDir, { recursive: true });
      cluster.startAll();
      await cluster.leader();
      await cluster.ready(cluster.nodes[0]);
      const first = cluster.client(cluster.nodes[0]);
      assert.deepEqual((await first.channels()).channels.map((channel) => channel.channelId), ['kept']);
      assert.equal((await first.status()).clusterId, clusterId);
    } finally {
      await cluster.destroy();
    }
  });

  test('a node that restarted before the founding takes part in it', async () => {
    const cluster = await Cluster.create();
    try {
      cluster.startNode(0);
      cluster.startNode(1);
      await cluster.nodes[0].process.logged(/"missing":"node3"/);
      await cluster.kill(0);
      await cluster.stopNode(1);
      cluster.startAll();
      await cluster.leader();
    } finally {
      await cluster.destroy();
    }
  });
});

describe('restarts', () => {
  let cluster;
  let clusterId;
  before(async () => {
    cluster = await Cluster.start();
    const client = cluster.client(await cluster.leader());
    await client.createChannel({ channelId: 'kept', name: 'Kept' });
    for (let i = 1; i <= 20; i += 1) await client.send({ channelId: 'kept', authorId: 'a', payload: Buffer.from(`${i}`), clientMessageId: `m${i}` });
    await client.propose({ op: 'SET', key: 'k', value: 'v' });
    ({ clusterId } = await client.status());
  });
  after(async () => { await cluster.destroy(); });

  async function assertAllKept() {
    const leader = await cluster.leader();
    for (const node of cluster.nodes) {
      const client = cluster.client(node);
      const messages = await client.all('kept');
      assert.deepEqual(messages.map((m) => [m.sequence, m.payload.toString(), m.clientMessageId]),
        Array.from({ length: 20 }, (_, i) => [`${i + 1}`, `${i + 1}`, `m${i + 1}`]));
      const { channels } = await client.channels();
      assert.deepEqual(channels, [{ channelId: 'kept', name: 'Kept', lastSequence: '20', firstSequence: '1' }]);
      assert.equal((await client.status()).clusterId, clusterId);
    }
    const client = cluster.client(leader);
    assert.deepEqual(await client.read('k'), { value: 'v', found: true, leaderAddr: '', error: '' });
    assert.deepEqual(await client.send({ channelId: 'kept', clientMessageId: 'm7' }), { sequence: '7', deduplicated: true });
    assert.deepEqual(await client.createChannel({ channelId: 'kept' }), { channelId: 'kept', name: 'Kept', created: false });
    return leader;
  }

  test('a clean restart of all nodes keeps everything', async () => {
    await Promise.all(cluster.nodes.map((node) => stopsCleanly(node.process, 'SIGTERM')));
    cluster.startAll();
    await assertAllKept();
  });

  test('kill -9 of all nodes keeps everything', async () => {
    await Promise.all(cluster.nodes.map((_, i) => cluster.kill(i)));
    cluster.startAll();
    await assertAllKept();
  });

  test('nodes may start in any order with long gaps', async () => {
    await Promise.all(cluster.nodes.map((node) => stopsCleanly(node.process, 'SIGTERM')));
    cluster.startNode(2);
    await cluster.nodes[2].process.logged(/"serving"/);
    // Alone it serves nobody, but knows whose it is.
    await until('its status', async () => (await cluster.status(cluster.nodes[2])).clusterId === clusterId);
    await until('a long gap', () => readFileSync(cluster.nodes[2].logPath, 'utf8').includes('cannot reach peer'));
    cluster.startNode(0);
    await cluster.leader();
    cluster.startNode(1);
    await assertAllKept();
  });

  test('addresses may change between restarts', async () => {
    await Promise.all(cluster.nodes.map((node) => stopsCleanly(node.process, 'SIGTERM')));
    await cluster.move();
    cluster.startAll();
    const leader = await assertAllKept();
    const [follower] = cluster.followersOf(leader);
    const error = await refused(cluster.client(follower).send({ channelId: 'kept' }));
    assert.deepEqual(errorDetails(error).notLeader, { leaderGrpcTarget: leader.grpc, raftLeaderId: leader.id });
  });

  test('clients are told the addresses of peers, never the bind addresses', async () => {
    await Promise.all(cluster.nodes.map((node) => stopsCleanly(node.process, 'SIGTERM')));
    for (const node of cluster.nodes) {
      writeFileSync(node.configPath, cluster.config(node).replace(/(bind_addr: )127\.0\.0\.1/g, '$10.0.0.0'));
    }
    cluster.startAll();
    const leader = await assertAllKept();
    const [follower] = cluster.followersOf(leader);
    const error = await refused(cluster.client(follower).send({ channelId: 'kept' }));
    assert.deepEqual(errorDetails(error).notLeader, { leaderGrpcTarget: leader.grpc, raftLeaderId: leader.id });
    for (const member of (await cluster.status(follower)).members) {
      for (const address of [member.raftAddr, member.grpcAddr, member.httpAddr]) assert.match(address, /^127\.0\.0\.1:/);
    }
    cluster.writeConfigs();
  });

  test('one node may move alone, when the others hear of it', async () => {
    const node = cluster.nodes[2];
    await stopsCleanly(node.process, 'SIGTERM');
    const [raft, grpc, http] = await freePorts(3);
    Object.assign(node, { raft: `127.0.0.1:${raft}`, grpc: `127.0.0.1:${grpc}`, http: `127.0.0.1:${http}` });
    cluster.closeClients();
    cluster.writeConfigs();
    // One after the other, as an operator would.
    for (const index of [0, 1]) {
      await stopsCleanly(cluster.nodes[index].process, 'SIGTERM');
      cluster.startNode(index);
      await cluster.leader();
    }
    cluster.startNode(2);
    await assertAllKept();
  });

  test('a data_dir of other members is refused with a clear line', async () => {
    await Promise.all(cluster.nodes.map((node) => stopsCleanly(node.process, 'SIGTERM')));
    const [node] = cluster.nodes;
    for (const change of [(text) => text.replaceAll('node3', 'node4'),
      (text) => text.split('\n').filter((line) => !/node_id: node[23],/.test(line)).join('\n')]) {
      const path = join(cluster.dir, 'other.yaml');
      writeFileSync(path, change(cluster.config(node)));
      await assertFails(['-config', path], 1, new RegExp(`^raftogram: .*${escape(node.dataDir)}.*\\S`));
    }
    cluster.startAll();
    await assertAllKept();
  });
});

describe('strangers', () => {
  test('a node with the data of another cluster is refused, and both say how it differs', async () => {
    const [ours, theirs] = await Promise.all([Cluster.start(), Cluster.start()]);
    try {
      const ids = await Promise.all([ours, theirs].map(async (cluster) => (await cluster.status(cluster.nodes[0])).clusterId));
      assert.notEqual(ids[0], ids[1]);
      await theirs.client(await theirs.leader()).createChannel({ channelId: 'theirs' });
      for (const cluster of [ours, theirs]) await stopsCleanly(cluster.nodes[2].process, 'SIGTERM');
      rmSync(ours.nodes[2].dataDir, { recursive: true });
      cpSync(theirs.nodes[2].dataDir, ours.nodes[2].dataDir, { recursive: true });
      ours.startNode(2);
      const differs = new RegExp(`(${ids[0]}.*${ids[1]}|${ids[1]}.*${ids[0]})`);
      await until('a log line that names both clusters', () => ours.nodes.some((node) => differs.test(node.process.stderr)));
      const stranger = ours.nodes[2];
      const leader = await until('the leader of the two', async () => {
        const statuses = await Promise.all(ours.nodes.slice(0, 2).map((node) => ours.status(node)));
        return ours.nodes[statuses.findIndex((status) => status.role === 'leader' && status.hasQuorum)];
      });
      assert.equal((await ours.client(leader).createChannel({ channelId: 'ours' })).created, true);
      const status = await ours.status(stranger);
      assert.deepEqual([status.leaderId, status.clusterId], ['', ids[1]]);
    } finally {
      await Promise.all([ours.destroy(), theirs.destroy()]);
    }
  });

  test('a node with other members is refused with a log line', async () => {
    const cluster = await Cluster.start();
    try {
      await stopsCleanly(cluster.nodes[2].process, 'SIGTERM');
      rmSync(cluster.nodes[2].dataDir, { recursive: true });
      writeFileSync(cluster.nodes[2].configPath, cluster.config(cluster.nodes[2]).replaceAll('node1', 'node8'));
      cluster.startNode(2);
      await until('a log line about the members', () => cluster.nodes.some((node) => /different peers|not among the peers|check node_id|looks for/.test(node.process.stderr)));
      const leader = await until('the leader of the two', async () => {
        const statuses = await Promise.all(cluster.nodes.slice(0, 2).map((node) => cluster.status(node)));
        return cluster.nodes[statuses.findIndex((status) => status.role === 'leader' && status.hasQuorum)];
      });
      assert.equal((await cluster.client(leader).createChannel({ channelId: 'c' })).created, true);
      assert.equal((await cluster.status(cluster.nodes[2])).leaderId, '');
    } finally {
      await cluster.destroy();
    }
  });

  test('a cluster that was founded does not found another beside a wiped majority', async () => {
    const cluster = await Cluster.start();
    try {
      const client = cluster.client(await cluster.leader());
      await client.createChannel({ channelId: 'kept' });
      const { clusterId } = await client.status();
      await Promise.all(cluster.nodes.map((node) => stopsCleanly(node.process, 'SIGTERM')));
      rmSync(cluster.nodes[0].dataDir, { recursive: true });
      cluster.startNode(0);
      cluster.startNode(1);
      await cluster.nodes[0].process.logged(/"have_data":"node2","missing":"node3"/);
      // Many election timeouts: nothing may happen, which takes time to see.
      await delay(2500);
      for (const node of cluster.running) assert.equal((await cluster.status(node)).leaderId, '');
      cluster.startNode(2);
      await cluster.leader();
      for (const node of cluster.nodes) {
        assert.deepEqual((await cluster.client(node).channels()).channels.map((c) => c.channelId), ['kept']);
        assert.equal((await cluster.status(node)).clusterId, clusterId);
      }
    } finally {
      await cluster.destroy();
    }
  });
});
