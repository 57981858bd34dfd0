// What the README and the pages of docs/ tell people to type works: their blocks are run as they
// stand, with the addresses of a cluster on free ports in place of the local ones.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { BUILD, Cluster, ROOT } from './lib/cluster.mjs';
import { needs, runs } from './lib/needs.mjs';

const PAGES = ['README.md', ...['clients', 'configuration', 'operating', 'metrics', 'security', 'durability', 'performance']
  .map((name) => `docs/${name}.md`), 'ARCHITECTURE.md', 'CONTRIBUTING.md', 'SECURITY.md',
  'CHANGELOG.md', ...['snapshots', 'damage', 'membership', 'simulator'].map((name) => `docs/design/${name}.md`)];
const read = (path) => readFileSync(join(ROOT, path), 'utf8');
const page = (name) => read(name === 'README' ? 'README.md' : `docs/${name}.md`);
const without = (what, isThere) => needs(isThere, `no ${what}`);
const hasPython = runs('python3', '-c', 'import grpc, grpc_status, grpc_tools');
const hasGo = runs('go', 'version') && runs('protoc-gen-go', '--version') && runs('protoc-gen-go-grpc', '--version');

// The blocks of one language below a heading of a page, up to the next heading that is not deeper.
function blocks(name, heading, language) {
  const level = /^#+/.exec(heading)[0].length;
  const [, rest] = page(name).split(`\n${heading}\n`);
  assert.ok(rest, `no heading ${heading}`);
  const fence = /^```(\w*)\n([\s\S]*?)^```$|^(#+) /gm;
  const found = [];
  for (const [, name, text, hashes] of rest.matchAll(fence)) {
    if (hashes && hashes.length <= level) break;
    if (name === language) found.push(text);
  }
  assert.ok(found.length > 0, `no ${language} below ${heading}`);
  return found;
}

describe('the documents', () => {
  let cluster;
  let folder;

  // As ./do run leaves things, seen from the root of the repository.
  const localise = (text) => cluster.nodes.reduce((all, node, i) => {
    for (const [base, address] of [[7000, node.raft], [9000, node.grpc], [8080, node.http]]) {
      all = all.replaceAll(new RegExp(`\\b${base + i}\\b`, 'g'), address.split(':')[1]);
    }
    return all;
  }, text);

  const run = (command, args, { cwd = folder, timeout = 60000, env = {} } = {}) => new Promise((done) => {
    // No socket as standard input: bash takes that for a remote login, and reads ~/.bashrc.
    const child = spawn(command, args, { cwd, timeout, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env,
      PATH: `${BUILD}:${process.env.PATH}`, RAFTOGRAM_ADDR: cluster.nodes.map((node) => node.grpc).join(), ...env } });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (data) => { stdout += data; });
    child.stderr.on('data', (data) => { stderr += data; });
    child.on('error', (error) => done({ code: -1, stdout, stderr: String(error) }));
    child.on('close', (code) => done({ code, stdout, stderr }));
  });

  // Commands that stay are given two seconds.
  const shell = (text) => run('bash', ['-c', localise(text)
    .replace(/^(raftogramctl tail|grpcurl .*Subscribe)/gm, 'timeout 2 $1')
    .replace(/^export PATH=.*$/m, '')]);

  before(async () => {
    cluster = await Cluster.start();
    folder = mkdtempSync(join(tmpdir(), 'raftogram-readme-'));
    for (const name of ['proto', 'web', 'conf']) symlinkSync(join(ROOT, name), join(folder, name));
    symlinkSync(join(ROOT, 'tests/integration/node_modules'), join(folder, 'node_modules'));
  });
  after(async () => {
    await cluster?.destroy();
    rmSync(folder, { recursive: true, force: true });
  });

  test('the walk, without grpcurl', async () => {
    const [health, verbs] = blocks('README', '## A walk', 'sh');
    const shown = await shell(health);
    assert.equal(JSON.parse(shown.stdout).status, 'ok');
    assert.deepEqual(Object.keys(JSON.parse(shown.stdout)), Object.keys(JSON.parse(blocks('README', '## A walk', 'json')[0])));
    const { stdout, stderr } = await shell(verbs);
    assert.equal(stderr, '');
    for (const pattern of [/node3/, /general +General +yes/, /alice +Hello/]) assert.match(stdout, pattern);
  });

  test('the walk with grpcurl', without('grpcurl', runs('grpcurl', '-version')), async () => {
    const { stdout, stderr } = await shell(blocks('clients', '## grpcurl', 'sh').join('') + blocks('clients', '## The key-value service', 'sh').join(''));
    assert.match(stdout, /raftogram\.v1\.Messenger\.SendMessage/);
    assert.match(stdout, /"channelId": "channel-\d+"/);
    assert.match(stdout, /"payload": "SGVsbG8="/);
    assert.match(stdout, /"success": true/);
    assert.match(stdout, /"value": "myvalue"/);
    assert.equal(stderr.match(/not leader: retry on suggested leader client endpoint/g).length, 2);
    assert.match(stderr, /NotLeader/);
    assert.doesNotMatch(stderr, /Unimplemented|Unknown|Internal/);
  });

  test('curl', async () => {
    const { code, stdout } = await shell(blocks('clients', '## curl', 'sh').join(''));
    assert.equal(code, 0);
    for (const pattern of [/"is_leader":/, /\[\+\]quorum ok/, /"kv_data":/, /^raftogram_is_ready 1$/m]) assert.match(stdout, pattern);
  });

  test('keys, tokens and roles of security.md', async () => {
    const { code, stdout, stderr } = await shell(blocks('security', '## Keys for tokens', 'sh').join(''));
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^kid +2026-12$/m);
    assert.match(stdout, /^signature +valid$/m);
    // What is said of roles is read; what is not implemented yet is all that is wrong with it.
    const [yaml] = blocks('security', '## Roles', 'yaml');
    const path = join(folder, 'secure.yaml');
    writeFileSync(path, `${readFileSync(join(ROOT, 'conf/local/node1.yaml'), 'utf8')}\n${yaml}`);
    const checked = await run('raftogram', ['-check-config', '-config', path]);
    assert.equal(checked.code, 2);
    assert.match(checked.stderr, /^raftogram: \S+: auth\.mode: "required" is not implemented in this version/);
  });

  test('the users file of security.md', without('argon2', runs('sh', '-c', 'command -v argon2')), async () => {
    const { code, stderr } = await shell(`${blocks('security', '## Users', 'sh')[0]}\ncp users users.made`);
    assert.equal(code, 0, stderr);
    assert.match(readFileSync(join(folder, 'users.made'), 'utf8'), /^bot:\$argon2id\$v=19\$m=65536,t=3,p=4\$[^:]+:service\n$/);
  });

  test('Node.js', async () => {
    writeFileSync(join(folder, 'client.mjs'), localise(blocks('clients', '## Node.js', 'js')[0]));
    const { code, stdout, stderr } = await run('node', ['client.mjs']);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /stored as \d+\n.*'node', 'hello'/);
  });

  test('the module of the page', async () => {
    writeFileSync(join(folder, 'page.mjs'), localise(blocks('clients', '## Browsers', 'js')[0]));
    // What browsers and Node.js from 22 on bring along.
    writeFileSync(join(folder, 'websocket.mjs'), "import WebSocket from 'ws';\nglobalThis.WebSocket ??= WebSocket;\n");
    const { code, stdout, stderr } = await run('node', ['--import', pathToFileURL(join(folder, 'websocket.mjs')).href, 'page.mjs']);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /stored as \d+/);
  });

  test('Python', without('grpcio for python3', hasPython), async () => {
    const [generate] = blocks('clients', '## Python', 'sh')[0].match(/^python -m grpc_tools.*$/m);
    const generated = await run('bash', ['-c', generate.replace('python ', 'python3 ')]);
    assert.equal(generated.code, 0, generated.stderr);
    writeFileSync(join(folder, 'client.py'), localise(blocks('clients', '## Python', 'python')[0]));
    const { code, stdout, stderr } = await run('python3', ['client.py']);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /stored as \d+\n\[\(\d+, 'py', b'hello'\)/);
  });

  test('Go', without('go with protoc-gen-go and protoc-gen-go-grpc', hasGo), async () => {
    const [messenger, keys] = blocks('clients', '## Go', 'go').map(localise);
    mkdirSync(join(folder, 'go'));
    writeFileSync(join(folder, 'go/main.go'), messenger);
    const first = await run('bash', ['-ec', blocks('clients', '## Go', 'sh')[0].replace('RAFTOGRAM/', `${ROOT}/`)], { cwd: join(folder, 'go'), timeout: 600000 });
    assert.match(first.stdout, /stored as \d+/, first.stderr);
    writeFileSync(join(folder, 'go/main.go'), keys);
    const second = await run('go', ['run', '.'], { cwd: join(folder, 'go'), timeout: 600000 });
    assert.match(second.stdout, /^\{true .*\n\{false myvalue true/, second.stderr);
  });

  test('a backup fills an empty cluster, and again does no harm', without('jq', runs('jq', '--version')), async () => {
    const [backup, restore] = blocks('operating', '## Backup', 'sh');
    await shell("raftogramctl create 'with space' -name 'A name' && printf 'a\\0b' | raftogramctl send 'with space' - -author 'the author'");
    assert.equal((await shell(backup)).code, 0);
    const saved = readFileSync(join(folder, 'backup/messages.jsonl'), 'utf8');
    assert.match(saved, /"payload":"YQBi"/);
    const empty = await Cluster.start();
    try {
      const env = { RAFTOGRAM_ADDR: empty.nodes.map((node) => node.grpc).join() };
      for (let i = 0; i < 2; i++) {
        const { code, stderr } = await run('bash', ['-c', restore], { env });
        assert.equal(code, 0, stderr);
        assert.equal(stderr, '');
      }
      assert.equal((await run('bash', ['-c', backup.replaceAll('backup', 'again')], { env })).code, 0);
      const timeless = (text) => text.trim().split('\n').map((line) => ({ ...JSON.parse(line), timestampUnixMs: 0 }));
      const restored = readFileSync(join(folder, 'again/messages.jsonl'), 'utf8');
      const expected = timeless(saved).map((message, i) => ({ ...message, clientMessageId: message.clientMessageId || `restored-${i + 1}` }));
      assert.deepEqual(timeless(restored), expected);
    } finally {
      await empty.destroy();
    }
  });

  test('every key of the configuration is in the table, with its default', () => {
    const template = readFileSync(join(ROOT, 'conf/config.yaml.dist'), 'utf8').split('\n').filter((line) => !/^\s*(#|$)/.test(line));
    let group;
    const keys = template.flatMap((line) => {
      const [, indent, name, value] = /^( *)(?:- )?(\w+): *([^ #][^#]*?|)(?: *#.*)?$/.exec(line) ?? [];
      if (indent === '') {
        group = name;
        const inner = /^\{(\w+): *(.*)\}$/.exec(value);
        return inner ? [[`${group}.${inner[1]}`, inner[2]]] : [];
      }
      return indent?.length === 2 ? [[`${group}.${name}`, value]] : [];
    });
    assert.ok(keys.length >= 20, JSON.stringify(keys));
    for (const [key, value] of keys) {
      const [, given] = new RegExp(`^\\| \`${key.replace('.', '\\.')}\` \\| (.*?) \\|`, 'm').exec(page('configuration')) ?? [];
      assert.equal(given, key.startsWith('cluster.') ? 'required' : value, key);
    }
  });

  test('every file that they name is there', () => {
    for (const path of PAGES) {
      for (const [, target] of read(path).replaceAll(/^```[\s\S]*?^```$/gm, '').matchAll(/\]\(((?!http)[^)#]+)\)/g)) {
        assert.ok(existsSync(join(ROOT, dirname(path), target)), `${path}: ${target}`);
      }
    }
  });

  test('no line of them is longer than 120 columns', () => {
    for (const path of PAGES) {
      for (const [i, line] of read(path).split('\n').entries()) assert.ok(line.length <= 120, `${path}:${i + 1}`);
    }
  });
});
