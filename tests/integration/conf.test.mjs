// The files under conf/ are right: configurations, unit, alert rules, dashboard.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { DAEMON, ROOT, runDaemon } from './lib/cluster.mjs';
import { ROOT_RUNS, needs, runs } from './lib/needs.mjs';

const CONF = join(ROOT, 'conf');
const has = (program) => needs(runs(program, '--version'), `no ${program}`);
const configurations = readdirSync(CONF, { recursive: true }).map(String).filter((name) => /\.(yaml|dist)$/.test(name));

test('every example is a valid configuration', async () => {
  assert.ok(configurations.length >= 7, configurations.join());
  for (const name of configurations) {
    const { code, stderr } = await runDaemon(['-config', join(CONF, name), '-check-config']);
    assert.equal(code, 0, `${name}: ${stderr}`);
  }
});

test('the examples of one cluster differ in what is one node\'s own, and in nothing else', () => {
  for (const folder of ['local', 'three-hosts']) {
    const peers = readdirSync(join(CONF, folder)).map((name) => {
      const text = readFileSync(join(CONF, folder, name), 'utf8');
      return { id: /node_id: (\S+)/.exec(text)[1], file: name, peers: text.slice(text.indexOf('  peers:')) };
    });
    assert.deepEqual(peers.map(({ file }) => file), peers.map(({ id }) => `${id}.yaml`));
    assert.equal(new Set(peers.map((node) => node.peers)).size, 1, folder);
  }
});

// It wants to write below /run, which an ordinary user may only where systemd runs.
test('systemd takes the unit', needs(runs(...ROOT_RUNS, 'systemd-analyze', '--version'), 'no systemd-analyze, or not as root'), () => {
  const folder = mkdtempSync(join(tmpdir(), 'raftogram-unit-'));
  const path = join(folder, 'raftogram.service');
  writeFileSync(path, readFileSync(join(CONF, 'raftogram.service'), 'utf8').replace('/usr/local/bin/raftogram ', `${DAEMON} `));
  const [program, ...args] = [...ROOT_RUNS, 'systemd-analyze', 'verify', '--man=no', path];
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' });
  rmSync(folder, { recursive: true });
  const ours = (stdout + stderr).split('\n').filter((line) => line.includes('raftogram'));
  assert.deepEqual({ status, ours }, { status: 0, ours: [] });
});

test('the unit bounds the memory, with room for limits.memory and for the node itself', () => {
  const bytes = (text) => Number(/^\d+/.exec(text)[0]) * { K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 }[/[KMG]/.exec(text)[0]];
  const [, most] = /^MemoryMax=(\S+)$/m.exec(readFileSync(join(CONF, 'raftogram.service'), 'utf8'));
  const [, clients] = /^ *memory: (\S+)/m.exec(readFileSync(join(CONF, 'config.yaml.dist'), 'utf8'));
  assert.ok(bytes(most) >= bytes(clients) + 2 ** 30, `${most} for ${clients}`);
});

test('Prometheus takes the alert rules', has('promtool'), () => {
  const { status, stdout, stderr } = spawnSync('promtool', ['check', 'rules', join(CONF, 'prometheus-alerts.yml')], { encoding: 'utf8' });
  assert.equal(status, 0, stdout + stderr);
});

test('Prometheus takes every query of the dashboard', has('promtool'), () => {
  const { panels } = JSON.parse(readFileSync(join(CONF, 'grafana-dashboard.json'), 'utf8'));
  const rules = panels.flatMap(({ targets = [] }) => targets).map(({ expr }, i) => ({ record: `query:${i}`,
    expr: expr.replaceAll('$__rate_interval', '5m').replaceAll(/\$(job|instance)/g, '.*') }));
  assert.ok(rules.length > 20);
  const folder = mkdtempSync(join(tmpdir(), 'raftogram-rules-'));
  const path = join(folder, 'rules.yml');
  writeFileSync(path, JSON.stringify({ groups: [{ name: 'dashboard', rules }] }));
  const { status, stdout, stderr } = spawnSync('promtool', ['check', 'rules', path], { encoding: 'utf8' });
  rmSync(folder, { recursive: true });
  assert.equal(status, 0, stdout + stderr);
});

test('the dashboard is JSON, and its panels do not overlap', () => {
  const { panels } = JSON.parse(readFileSync(join(CONF, 'grafana-dashboard.json'), 'utf8'));
  assert.equal(new Set(panels.map((panel) => panel.id)).size, panels.length);
  const taken = new Set();
  for (const { title, gridPos: { x, y, w, h } } of panels) {
    assert.ok(x + w <= 24, title);
    for (let column = x; column < x + w; column++) {
      for (let line = y; line < y + h; line++) {
        assert.ok(!taken.has(`${column},${line}`), title);
        taken.add(`${column},${line}`);
      }
    }
  }
});
