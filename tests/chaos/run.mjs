// Real clusters under real faults: `./do chaos --minutes M --seed N`; --help tells the rest.
import { randomBytes } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { canMount } from '../integration/lib/needs.mjs';
import { World } from './clients.mjs';
import { ChaosCluster, delay } from './cluster.mjs';
import { Random } from './random.mjs';
import { plan, strike, verify } from './round.mjs';

const USAGE = `usage: ./do chaos [--minutes M] [--seed N] [--cluster K] [--out DIR] [--json FILE] [--quiet] [--lying-disk]

Starts clusters of three or five nodes, one after the other, makes faults at random, lets clients
write down all that they are told, and checks it. Exit code 1 tells of a violation.
  --minutes M   how long (default 5); the round that is under way is finished
  --seed N      what happens when (default: a new one, printed)
  --cluster K   begin with the K-th cluster of the seed, to repeat what happened there
  --out DIR     where clusters live, and evidence is kept (default: a new directory in /tmp)
  --json FILE   the figures
  --lying-disk  no sync makes anything durable: this must end with violations, or the runner is blind`;

const { values: options } = parseArgs({
  options: {
    minutes: { type: 'string', default: '5' }, seed: { type: 'string' }, cluster: { type: 'string', default: '0' },
    out: { type: 'string' }, json: { type: 'string' }, quiet: { type: 'boolean', default: false },
    'lying-disk': { type: 'boolean', default: false }, help: { type: 'boolean', default: false },
  },
});
if (options.help) {
  console.log(USAGE);
  process.exit(0);
}
const minutes = Number(options.minutes);
if (!(minutes > 0)) {
  console.error(USAGE);
  process.exit(2);
}
const seed = options.seed ?? String(randomBytes(4).readUInt32LE());
const out = options.out ?? mkdtempSync(join(tmpdir(), 'raftogram-chaos-'));
mkdirSync(out, { recursive: true });

const begin = Date.now();
const deadline = begin + minutes * 60000;
const stats = {
  seed, minutes: 0, clusters: 0, rounds: 0, faults: {}, operations: {}, answers: {}, exits: 0, signs: {}, delivered: 0, resumes: 0, checked: {}, violations: [],
};

// What the nodes did about it, by their own logs.
const SIGNS = ['a snapshot is installed', 'a snapshot goes on where it ended', 'the log is compacted', 'an unfinished last write was cut off',
  'the log is damaged', 'the store is damaged', 'the damaged part was in the store already', 'the log is set aside',
  'the store is set aside', 'log and store are set aside', "a member's new data_dir is admitted", 'no room for the log on the disk', 'no leader'];

let current = null;
let isInterrupted = false;
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(name, () => {
    if (isInterrupted) process.exit(130);
    isInterrupted = true;
    console.log(`${name}: stopping`);
    setTimeout(() => process.exit(130), 10000).unref();
    current?.end({ isKilled: true }).finally(() => process.exit(130));
  });
}
// Mounts outlive us, unless they are told.
process.on('exit', () => current?.unmount());

function draw(random, index) {
  const size = random.weighted([[3, 3], [1, 5]]);
  // Little is kept, so that whoever was away needs a snapshot.
  const isSmall = random.chance(0.6);
  const disk = random.weighted([[7, 'journal'], [canMount() ? 1 : 0, 'tmpfs']]);
  const extra = isSmall
    ? `raft: {snapshot_interval: 1s, snapshot_threshold: ${random.pick([50, 200, 500])}, trailing_logs: ${random.pick([10, 50, 200])}}`
    : '';
  return {
    index, size, extra, disk, payloadBytes: random.pick(isSmall ? [1000, 4000, 16000] : [50, 500, 2000]),
    channels: random.between(1, 3), pauseMs: random.pick([5, 15, 40]), rounds: random.between(3, 8), isFoundedInTrouble: random.chance(0.3),
  };
}

const stamp = () => `${((Date.now() - begin) / 1000).toFixed(1).padStart(7)} s`;

async function runCluster(drawn, random) {
  const lines = [];
  const violations = [];
  const log = (text) => {
    lines.push(`${stamp()} ${text}`);
    if (!options.quiet) console.log(lines.at(-1));
  };
  const report = (kind, text) => {
    // A node that ends again and again tells the same each time.
    if (violations.some((other) => other.kind === kind && other.text === text)) return;
    violations.push({ kind, text });
    lines.push(`${stamp()} VIOLATION ${kind}: ${text}`);
    console.log(lines.at(-1));
  };
  const { index, extra, size } = drawn;
  const dir = join(out, `cluster-${index}`);
  mkdirSync(dir, { recursive: true });
  log(`cluster ${index}: ${size} nodes, ${drawn.disk}, ${extra || 'default raft'}, payloads to ${drawn.payloadBytes}`);
  const cluster = await ChaosCluster.create({ size, extra, dir, isTmpfs: drawn.disk === 'tmpfs', report, log, isDiskLying: options['lying-disk'] });
  current = cluster;
  const world = new World({
    cluster, random: random.stream('clients'), report, stats, payloadBytes: drawn.payloadBytes, pauseMs: drawn.pauseMs,
  });
  const context = { cluster, world, stats, report, log };
  try {
    cluster.startAll();
    if (drawn.isFoundedInTrouble) {
      log(' founded in trouble');
      await strike(context, plan(cluster, random.stream('founding'), { seconds: 2, isFounding: true }));
    }
    await cluster.heal(60000);
    await world.start({ channels: drawn.channels });
    for (let round = 0; round < drawn.rounds && violations.length === 0 && Date.now() < deadline && !isInterrupted; round += 1) {
      const own = random.stream(`round ${round}`);
      const seconds = own.between(3, 10);
      log(` round ${round}: ${seconds} s`);
      world.isResting = false;
      await Promise.all([strike(context, plan(cluster, own, { seconds })), delay(seconds * 1000)]);
      await verify(context);
      stats.rounds += 1;
    }
    await world.stop();
  } catch (error) {
    report('runner', error.stack);
  }
  if (violations.length > 0) {
    // As it stands: a stopped node would tidy up.
    world.stop().catch(() => {});
    await keep({ cluster, world, dir, lines, violations });
  } else {
    (await cluster.end()).forEach((text) => report('exit code', text));
  }
  stats.clusters += 1;
  cluster.countSigns(SIGNS, stats.signs);
  stats.exits += cluster.nodes.reduce((sum, node) => sum + node.exits, 0);
  stats.violations.push(...violations.map((violation) => ({ cluster: index, ...violation })));
  current = null;
  if (violations.length === 0) rmSync(dir, { recursive: true, force: true });
  else console.log(`${stamp()} evidence: ${dir}; again: ./do chaos --seed ${seed} --cluster ${index}`);
}

async function keep({ cluster, world, dir, lines, violations }) {
  for (const node of cluster.nodes) {
    if (node.process?.isRunning) {
      node.process.isAskedToEnd = true;
      node.process.signal('SIGKILL');
      await node.process.exited;
    }
    if (node.mount) cpSync(node.dataDir, join(dir, `${node.id}.data`), { recursive: true });
  }
  await cluster.end({ isKilled: true });
  writeFileSync(join(dir, 'events.txt'), `${lines.join('\n')}\n`);
  writeFileSync(join(dir, 'statuses.json'), JSON.stringify(world.statuses ?? [], null, 1));
  writeFileSync(join(dir, 'history.json'), JSON.stringify({
    seed, violations, channels: [...world.channels.values()], keys: { ...Object.fromEntries(world.keys), ...world.guilty },
  }, (key, value) => (value === Infinity ? 'unknown' : value)));
}

function summary() {
  const table = (title, rows) => {
    console.log(title);
    for (const [name, text] of rows) console.log(`    ${String(name).padEnd(32)} ${text}`);
  };
  stats.minutes = Number(((Date.now() - begin) / 60000).toFixed(1));
  console.log(`\nseed ${seed}: ${stats.minutes} minutes, ${stats.clusters} clusters, ${stats.rounds} rounds`);
  table('faults', Object.entries(stats.faults).sort());
  table('operations: acknowledged / unknown / refused', Object.entries(stats.operations).sort()
    .map(([name, row]) => [name, `${row.ok} / ${row.unknown} / ${row.refused}`]));
  table('answers that were not OK', Object.entries(stats.answers).sort());
  table('what the nodes logged', Object.entries(stats.signs));
  table('checked', [...Object.entries(stats.checked), ['messages delivered', stats.delivered], ['subscriptions resumed', stats.resumes],
    ['processes that ended by themselves', stats.exits]]);
  console.log(`violations: ${stats.violations.length}`);
  for (const { cluster, kind, text } of stats.violations) console.log(`    cluster ${cluster}: ${kind}: ${text.slice(0, 300)}`);
}

console.log(`chaos: seed ${seed}, ${minutes} minutes, in ${out}`);
const root = new Random(seed);
for (let index = Number(options.cluster); Date.now() < deadline && !isInterrupted; index += 1) {
  const random = root.stream(`cluster ${index}`);
  await runCluster(draw(random, index), random);
}
summary();
if (options.json) writeFileSync(options.json, JSON.stringify(stats, null, 2));
if (stats.violations.length === 0) rmSync(out, { recursive: true, force: true });
process.exit(stats.violations.length > 0 ? 1 : 0);
