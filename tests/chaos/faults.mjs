// The faults. Each is {kind, weight, run(context)}: it begins, lasts, and ends by itself.
//
// A round never does more at once than the promises allow: bits are flipped and files cut or removed
// on one node of a cluster only, and on another one only after all were ready again (the round's
// end sees to that) and the first has told that it found the damage. Processes may be killed, stopped and restarted at will, power may fail
// everywhere at once, and the network may do what it likes.
import { DAMAGES } from './disk/damage.mjs';
import { delay } from './cluster.mjs';

const running = (cluster) => cluster.nodes.filter((node) => node.process?.isRunning);

async function leaderOf(cluster) {
  for (const node of running(cluster)) {
    const answer = await cluster.health(node).catch(() => null);
    const leader = answer && cluster.nodes.find((other) => other.id === answer.leader_id);
    if (leader) return leader;
  }
  return null;
}

// The leader more often than the others: faults hurt most there.
async function victim({ cluster, random }) {
  const isLeaderMeant = random.chance(0.5);
  const other = random.pick(cluster.nodes);
  return (isLeaderMeant && await leaderOf(cluster)) || other;
}

async function some(context, count) {
  const first = await victim(context);
  const rest = context.random.shuffle(context.cluster.nodes.filter((node) => node !== first));
  return [first, ...rest].slice(0, count);
}

const names = (nodes) => nodes.map((node) => node.id).join(', ');

async function down(context, nodes, { signal = 'SIGKILL', whileDown = () => {} } = {}) {
  const { cluster, random } = context;
  const times = nodes.map(() => random.between(0, context.short ? 300 : 2500));
  const results = await Promise.all(nodes.map((node) => cluster.takeDown(node, signal)));
  await whileDown(results);
  await Promise.all(nodes.map(async (node, i) => {
    await delay(times[i]);
    cluster.release(node);
  }));
}

// With a slow disk more is under way when the power fails.
async function slowed(context, nodes) {
  const { cluster, random } = context;
  if (!random.chance(0.6)) return;
  const us = random.pick([10, 50, 200]) * 1000;
  for (const node of nodes) cluster.setDisk(node, { syncDelayUs: us });
  await delay(random.between(100, 900));
}

async function cutPower(context, nodes) {
  const { cluster, random } = context;
  const lost = [];
  await slowed(context, nodes);
  await down(context, nodes, {
    whileDown: () => nodes.forEach((node) => {
      cluster.setDisk(node, { syncDelayUs: 0 });
      const { mode, sectors, names: changes } = cluster.cutPower(node, random.stream(node.id));
      lost.push(`${node.id} ${mode} ${sectors}+${changes}`);
      context.count('sectors that a power cut took', sectors);
      context.count('names that a power cut took', changes);
    }),
  });
  return lost.join(', ');
}

// A disk that fails for some time.
async function disk(context, nodes, values, ms, { excuse } = {}) {
  const { cluster } = context;
  for (const node of nodes) {
    if (excuse) cluster.excuse(node, excuse, ms + 5000);
    cluster.setDisk(node, values);
  }
  await delay(ms);
  for (const node of nodes) cluster.setDisk(node, Object.fromEntries(Object.keys(values).map((key) => [key, 0])));
}

// The exit after a failing disk is part of the promise.
async function failingDisk(context, values, what) {
  const { cluster, random } = context;
  const node = await victim(context);
  const { process } = node;
  if (!process?.isRunning) return 'not running';
  const before = node.exits;
  await disk(context, [node], values, random.between(200, 1500), { excuse: what });
  return `${node.id}${node.exits > before ? ', it ended' : ', it did not notice'}`;
}

function ways(cluster, from, to) {
  return from.flatMap((a) => to.map((b) => [a, b])).filter(([a, b]) => a !== b).map(([a, b]) => cluster.proxy(a, b));
}

async function network(context, proxies, begin) {
  const { random } = context;
  proxies.forEach(begin);
  await delay(random.between(300, 4000));
  // What was held comes late, as after a lost route; or the connections are gone, as after a firewall.
  const isLate = random.chance(0.5);
  for (const proxy of proxies) {
    if (!isLate) proxy.reset();
    proxy.heal();
  }
}

function split({ cluster, random }, nodes) {
  const left = nodes;
  const right = cluster.nodes.filter((node) => !left.includes(node));
  return random.shuffle([left, right]);
}

// Damage that was not yet found stays alone.
async function damageVictim(context) {
  return context.cluster.nodes.find((other) => other.isDamaged) ?? victim(context);
}

// The first kind that finds something to hurt.
function hurt({ cluster, random, count }, node, kinds) {
  for (const kind of kinds) {
    const what = DAMAGES[kind](node.dataDir, random);
    if (what === null) continue;
    count(`damage: ${kind}`);
    cluster.noteDamage(node);
    return `${node.id}: ${kind}: ${what}`;
  }
  return 'nothing to hurt';
}

export const FAULTS = [
  { kind: 'kill one', weight: 8, async run(context) {
    const nodes = await some(context, 1);
    await down(context, nodes);
    return names(nodes);
  } },
  { kind: 'kill several', weight: 4, async run(context) {
    const nodes = await some(context, context.random.between(2, context.cluster.nodes.length - 1));
    await down(context, nodes);
    return names(nodes);
  } },
  { kind: 'kill all', weight: 3, async run(context) {
    await down(context, context.cluster.nodes);
  } },
  { kind: 'kill in a row', weight: 3, async run(context) {
    const [node] = await some(context, 1);
    const count = context.random.between(2, 5);
    for (let i = 0; i < count; i += 1) {
      await down({ ...context, short: true }, [node]);
      await delay(context.random.between(0, 400));
    }
    return `${node.id}, ${count} times`;
  } },
  { kind: 'restart', weight: 4, async run(context) {
    const nodes = await some(context, 1);
    await down(context, nodes, {
      signal: 'SIGTERM',
      // Another fault may have killed it meanwhile.
      whileDown: ([result]) => {
        const [node] = nodes;
        const isExcused = node.excuseUntil > Date.now() || node.isDamaged || result?.signal === 'SIGKILL';
        if (result && result.code !== 0 && !isExcused) {
          context.report('exit code', `${node.id} ended with ${JSON.stringify(result)} on SIGTERM`);
        }
      },
    });
    return names(nodes);
  } },
  { kind: 'stop and continue', weight: 6, async run(context) {
    const nodes = await some(context, context.random.weighted([[6, 1], [2, 2], [1, 3]]));
    const processes = nodes.map((node) => node.process);
    await Promise.all(processes.map((process) => process?.pause()));
    await delay(context.random.between(100, 5000));
    processes.forEach((process) => process?.resume());
    return names(nodes);
  } },
  { kind: 'hand leadership over', weight: 3, async run({ cluster }) {
    const leader = await leaderOf(cluster);
    if (!leader) return 'no leader';
    await cluster.client(leader).transfer('', { deadline: 3000 }).catch(() => {});
    return leader.id;
  } },

  { kind: 'partition in halves', weight: 6, async run(context) {
    const { cluster, random } = context;
    const count = random.between(1, Math.floor(cluster.nodes.length / 2));
    const [left, right] = split(context, await some(context, count));
    await network(context, [...ways(cluster, left, right), ...ways(cluster, right, left)],
      random.chance(0.7) ? (proxy) => proxy.hold() : (proxy) => proxy.cut());
    return `${names(left)} | ${names(right)}`;
  } },
  { kind: 'partition of all', weight: 2, async run(context) {
    await network(context, [...context.cluster.proxies.values()], (proxy) => proxy.hold());
  } },
  { kind: 'one link lost', weight: 4, async run(context) {
    const [a, b] = await some(context, 2);
    await network(context, [context.cluster.proxy(a, b), context.cluster.proxy(b, a)], (proxy) => proxy.hold());
    return `${a.id} - ${b.id}`;
  } },
  { kind: 'one-way partition', weight: 5, async run(context) {
    const { cluster, random } = context;
    const [node] = await some(context, 1);
    const others = cluster.nodes.filter((other) => other !== node);
    const isDeaf = random.chance(0.5);
    // Both the connections that it made and those that were made to it.
    const own = ways(cluster, [node], others);
    const foreign = ways(cluster, others, [node]);
    await network(context, [...own, ...foreign], (proxy) => {
      const isOwn = own.includes(proxy);
      proxy.hold(isOwn !== isDeaf ? { up: true, down: false } : { up: false, down: true });
    });
    return `${node.id} ${isDeaf ? 'hears nobody' : 'is heard by nobody'}`;
  } },
  { kind: 'half-open links', weight: 3, async run(context) {
    const { cluster, random } = context;
    const proxies = random.shuffle([...cluster.proxies.values()]).slice(0, random.between(1, cluster.proxies.size));
    await network(context, proxies, (proxy) => proxy.hold(random.chance(0.5) ? { up: true, down: false } : { up: false, down: true }));
    return `${proxies.length} ways`;
  } },
  { kind: 'connections reset', weight: 3, async run(context) {
    const count = context.random.between(1, 6);
    for (let i = 0; i < count; i += 1) {
      context.cluster.proxies.forEach((proxy) => { if (context.random.chance(0.6)) proxy.reset(); });
      await delay(context.random.between(20, 500));
    }
    return `${count} times`;
  } },
  { kind: 'delay', weight: 5, async run(context) {
    const { cluster, random } = context;
    const ms = random.pick([5, 20, 100, 300, 800]);
    const proxies = random.shuffle([...cluster.proxies.values()]).slice(0, random.between(1, cluster.proxies.size));
    await network(context, proxies, (proxy) => proxy.slow(ms, random.stream(proxy.name)));
    return `up to ${ms} ms on ${proxies.length} ways`;
  } },

  // What it took is told as sectors + names.
  { kind: 'power cut of all', weight: 8, needs: 'journal', run: (context) => cutPower(context, context.random.shuffle(context.cluster.nodes)) },
  { kind: 'power cut of some', weight: 6, needs: 'journal', async run(context) {
    return cutPower(context, await some(context, context.random.between(1, context.cluster.nodes.length - 1)));
  } },
  { kind: 'power cuts in a row', weight: 3, needs: 'journal', async run(context) {
    const { random } = context;
    const [node] = await some(context, 1);
    const count = random.between(2, 5);
    for (let i = 0; i < count; i += 1) {
      await cutPower({ ...context, random: random.stream(i), short: true }, [node]);
      await delay(random.between(0, 300));
    }
    return `${node.id}, ${count} times`;
  } },

  { kind: 'fsync fails', weight: 4, needs: 'disk', run: (context) => failingDisk(context, { syncEio: 1 }, 'fsync fails') },
  { kind: 'writes fail', weight: 2, needs: 'disk', run: (context) => failingDisk(context, { writeEio: 1 }, 'writes fail') },
  { kind: 'reads fail', weight: 1, needs: 'disk', run: (context) => failingDisk(context, { readEio: 1 }, 'reads fail') },
  { kind: 'fsync is slow', weight: 4, needs: 'disk', async run(context) {
    const { random } = context;
    const nodes = await some(context, random.between(1, 2));
    const ms = random.pick([5, 50, 300]);
    await disk(context, nodes, { syncDelayUs: ms * 1000 }, random.between(500, 4000));
    return `${names(nodes)}, ${ms} ms`;
  } },
  { kind: 'disk full', weight: 5, needs: 'disk', async run(context) {
    const { cluster, random } = context;
    const nodes = await some(context, random.weighted([[4, 1], [1, 2], [1, cluster.nodes.length]]));
    nodes.forEach((node) => { node.isFull = true; });
    await disk(context, nodes, { noSpace: 1 }, random.between(500, 8000));
    nodes.forEach((node) => { node.isFull = false; });
    return names(nodes);
  } },

  { kind: 'damage', weight: 14, needs: 'alone', async run(context) {
    const node = await damageVictim(context);
    let what;
    await down(context, [node], { whileDown: () => { what = hurt(context, node, context.random.shuffle(Object.keys(DAMAGES))); } });
    return what;
  } },
  // It is noticed when it is read, at the latest by the scrub; the process ends and its next start mends.
  { kind: 'damage while running', weight: 5, needs: 'alone', async run(context) {
    const node = await damageVictim(context);
    return hurt(context, node, [context.random.pick(['storeBits', 'logBits'])]);
  } },
  // A node that lost everything is filled again over slow links, and is hit meanwhile: the steps of
  // taking and installing a snapshot must each survive that.
  { kind: 'recovery is interrupted', weight: 6, needs: 'alone', async run(context) {
    const { cluster, random } = context;
    const node = await damageVictim(context);
    let what;
    await down({ ...context, short: true }, [node], { whileDown: () => { what = hurt(context, node, [random.pick(['wipe', 'storeGone', 'logGone'])]); } });
    const others = cluster.nodes.filter((other) => other !== node);
    const proxies = [...ways(cluster, [node], others), ...ways(cluster, others, [node])];
    const ms = random.pick([2, 20, 100]);
    proxies.forEach((proxy) => proxy.slow(ms));
    const count = random.between(1, 5);
    for (let i = 0; i < count; i += 1) {
      await delay(random.between(20, 2500));
      const isLeaderHit = random.chance(0.2);
      const target = (isLeaderHit && await leaderOf(cluster)) || node;
      const own = { ...context, random: random.stream(i), short: true };
      if (node.journal && cluster.hasFaultyDisk && random.chance(0.5)) await cutPower(own, [target]);
      else await down(own, [target]);
    }
    proxies.forEach((proxy) => proxy.heal());
    return `${what}; ${count} times, with ${ms} ms`;
  } },
];

// Those that this cluster can have, with `isDamageDone` in this round.
export function possible(cluster, isDamageDone) {
  return FAULTS.filter(({ needs }) => {
    if (needs === 'journal') return cluster.hasFaultyDisk && cluster.nodes[0].journal !== null;
    if (needs === 'disk') return cluster.hasFaultyDisk;
    return needs !== 'alone' || !isDamageDone;
  });
}
