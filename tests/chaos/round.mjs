// One round: faults over a working cluster, then peace, then the check of all that was said.
import { checkChannel } from './checker/channel.mjs';
import { checkRegister } from './checker/register.mjs';
import { seen } from './clients.mjs';
import { delay, until } from './cluster.mjs';
import { possible } from './faults.mjs';

const CALM_MS = 60000;

// What happens when; drawn before anything happens, so that it follows from the seed alone.
export function plan(cluster, random, { seconds, isFounding = false }) {
  const count = random.weighted([[3, 1], [4, 2], [3, 3], [2, 4], [1, 6]]);
  const begins = Array.from({ length: count }, () => random.between(200, Math.max(300, seconds * 1000 - 1500))).sort((a, b) => a - b);
  let isDamageDone = isFounding;
  return begins.map((at, i) => {
    const fault = random.weighted(possible(cluster, isDamageDone).map((item) => [item.weight, item]));
    isDamageDone ||= fault.needs === 'alone';
    return { at, fault, random: random.stream(`fault ${i}`) };
  });
}

export async function strike(context, steps) {
  const { cluster, stats, log } = context;
  const begin = Date.now();
  await Promise.all(steps.map(async ({ at, fault, random }) => {
    await delay(at);
    const from = Date.now() - begin;
    stats.faults[fault.kind] = (stats.faults[fault.kind] ?? 0) + 1;
    const what = await fault.run({ ...context, cluster, random, count: (kind, count = 1) => { stats.faults[kind] = (stats.faults[kind] ?? 0) + count; } });
    log(`  ${from}-${Date.now() - begin} ms ${fault.kind}${what ? `: ${what}` : ''}`);
  }));
}

// ---- the check

// Reading all may be what finds a damaged row: then the node ends, mends itself, and is asked again.
async function finals(world, channel) {
  return Promise.all(world.cluster.nodes.map(async (node, i) => {
    const messages = await until(`${channel.id} on ${node.id}`, async () => {
      try {
        return await world.clients[i].all(channel.id, { deadline: 20000 });
      } catch (error) {
        world.verdict(error, 'ReadHistory');
        throw error;
      }
    }, { timeout: CALM_MS, every: 200 });
    return { where: node.id, messages: messages.map(seen) };
  }));
}

async function caughtUp(world, channel, count) {
  for (const follower of world.subscriptions) {
    if (follower.channel !== channel || (follower.isLive && !follower.hasPlace)) continue;
    await until(`the subscription on ${follower.where} to reach ${count}, it is at ${follower.cursor}`,
      () => follower.cursor >= count, { timeout: CALM_MS });
  }
}

function rotate(world, channel) {
  channel.reads = [];
  channel.ends = [];
  channel.sends.forEach((send) => { send.isOld = true; });
  // The violation of one round is not told again in the next.
  channel.subscriptions = [];
  for (const follower of world.subscriptions) {
    if (follower.channel !== channel) continue;
    if (follower.isLive && !follower.hasPlace) channel.subscriptions.push(follower.record);
    else follower.begin();
  }
}

// Of the messages of one call all are there or none. A call that was given up may still be stored
// between the reads of two channels, so what is missing is looked for once more.
async function checkBatches(world, stored) {
  for (const { parts } of world.batches) {
    const missing = parts.filter((part) => !stored.get(part.channel).has(part.id));
    if (missing.length === 0 || missing.length === parts.length) continue;
    for (const { channel, id } of missing) {
      const messages = await world.clients[0].all(channel, { deadline: 20000 });
      if (messages.map(seen).some((message) => message.id === id)) continue;
      world.report('torn', `${missing.length} of ${parts.length} messages of one batch are not there: ${id}, but ${parts.find((part) => !missing.includes(part)).id} is`);
      break;
    }
  }
  world.batches = [];
}

async function checkChannels(world, stats) {
  const stored = new Map();
  for (const channel of world.channels.values()) {
    const ends = await finals(world, channel);
    const count = ends[0].messages.length;
    stored.set(channel.id, new Set(ends[0].messages.map((message) => message.id)));
    await caughtUp(world, channel, count);
    channel.subscriptions.forEach((subscription) => { subscription.isComplete = true; });
    checkChannel(channel, ends, (kind, text) => world.report(kind, `${channel.id}: ${text}`));
    stats.checked.messages = (stats.checked.messages ?? 0) + count * ends.length;
    rotate(world, channel);
  }
  await checkBatches(world, stored);
}

// What nobody changes any more is read once: an acknowledged set must be there.
async function readKeys(world) {
  for (const [key, history] of world.keys) {
    const op = { kind: 'read', call: world.tick() };
    const answer = await until(`a read of ${key}`, async () => {
      try {
        return await world.keyToLeader('read', key);
      } catch (error) {
        world.lastError = error;
        return null;
      }
    }, { timeout: CALM_MS });
    history.push({ ...op, end: world.tick(), value: answer.found ? answer.value : null });
  }
}

function checkKeys(world, stats) {
  for (const [key, history] of world.keys) {
    const result = checkRegister(history);
    stats.checked.keys = (stats.checked.keys ?? 0) + 1;
    stats.checked.keyOperations = (stats.checked.keyOperations ?? 0) + history.length;
    if (result.isUndecided) stats.checked.undecided = (stats.checked.undecided ?? 0) + 1;
    if (!result.isLinearizable) {
      world.report('not linearizable', `${key}: no order explains ${JSON.stringify(result.at)} (${history.length} operations)`);
      world.guilty = { ...world.guilty, [key]: history };
    }
  }
  world.keys.clear();
}

// Every replica holds the same keys at the same index.
async function compareReplicas(world) {
  const documents = await until('the replicas to stand at one index', async () => {
    const all = await Promise.all(world.cluster.nodes.map(async (node) => {
      const response = await fetch(`http://${node.http}/debug/status`, { signal: AbortSignal.timeout(3000) });
      return response.json();
    }));
    const applied = all.map((one) => one.metrics.applied_index);
    return all.every((one, i) => applied[i] === applied[0] && applied[i] === one.metrics.last_commit_index) && all;
  }, { timeout: CALM_MS });
  const [first, ...others] = documents.map((document) => JSON.stringify(Object.entries(document.kv_data).sort()));
  others.forEach((text, i) => {
    if (text !== first) world.report('differs', `node${i + 2} holds other keys than node1`);
  });
}

async function checkMade(world) {
  for (const client of world.clients) {
    const there = new Map();
    for (let after = ''; ;) {
      const page = await client.channels({ prefix: 'made-', afterChannelId: after, limit: 1000 }, { deadline: 10000 });
      page.channels.forEach((channel) => there.set(channel.channelId, channel.name));
      if (!page.hasMore) break;
      after = page.channels.at(-1).channelId;
    }
    for (const [id, entry] of world.made) {
      if (entry.isSure && there.get(id) !== entry.name) world.report('lost', `channel ${id} was ${entry.name}, is ${there.get(id)}`);
    }
    for (const [id, name] of there) {
      if (!world.made.get(id)?.names.includes(name)) world.report('refused but there', `channel ${id} is called ${name}`);
    }
  }
}

// What no log may ever say, whatever the faults.
const NEVER = /no correct node sends|differs from the leader's/;

// No power cut looks like damage: it only takes what was never synced.
function checkLogs(world) {
  for (const node of world.cluster.nodes) {
    const never = world.cluster.newLines(node).find((line) => NEVER.test(line));
    if (never) world.report('the log tells of a bug', `${node.id}: ${never}`);
    if (node.isDamaged || node.cutAt === undefined) continue;
    const found = world.cluster.damageSigns(node, node.cutAt);
    if (found) world.report('a power cut taken for damage', `${node.id}: ${found}`);
    node.cutAt = undefined;
  }
}

// What the nodes say of themselves while something is wrong: part of the evidence.
async function statuses(cluster) {
  return Promise.all(cluster.nodes.map(async (node) => {
    const get = async (path) => (await fetch(`http://${node.http}${path}`, { signal: AbortSignal.timeout(3000) })).text();
    try {
      return { node: node.id, ready: await get('/readyz?verbose'), status: JSON.parse(await get('/debug/status?kv_limit=1')), metrics: await get('/metrics') };
    } catch (error) {
      return { node: node.id, error: String(error) };
    }
  }));
}

// Peace, and the verdict. Whatever does not come back in time is a violation too.
export async function verify({ cluster, world, stats, report }) {
  const steps = {
    'logs': () => checkLogs(world),
    'readiness': () => cluster.heal(CALM_MS),
    'logs after healing': () => checkLogs(world),
    'answers': () => {
      world.isResting = true;
      return until('all calls to be answered', () => world.busy === 0, { timeout: CALM_MS });
    },
    'channels': () => checkChannels(world, stats),
    'list of channels': () => checkMade(world),
    'keys': () => readKeys(world),
    'replicas': () => compareReplicas(world),
  };
  for (const [name, step] of Object.entries(steps)) {
    try {
      await step();
    } catch (error) {
      report('liveness', `${name}: ${error.message.split('\n').slice(0, 2).join(' ')}`);
      world.statuses = await statuses(cluster);
      break;
    }
  }
  checkKeys(world, stats);
  world.round += 1;
}
