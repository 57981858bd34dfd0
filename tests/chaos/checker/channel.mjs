// Is a channel's history what was promised? A channel is a log: sends append, reads and
// subscriptions see it from the front. Whether that is linearizable needs no search, for the final
// order of the messages is known: each answer must fit it, and the order of time.
//
// All `at`, `call` and `end` are points of one order in time. A message is
// {sequence, id, digest, time}: `digest` stands for all that a reader is told of it.

// What everybody could know: after `at`, the channel has at least `sequence` messages.
class Floor {
  constructor(facts) {
    this.facts = [...facts].sort((a, b) => a.at - b.at);
    let most = 0;
    for (const fact of this.facts) {
      most = Math.max(most, fact.sequence);
      fact.most = most;
    }
  }

  before(at) {
    let [low, high] = [0, this.facts.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.facts[middle].at < at) low = middle + 1;
      else high = middle;
    }
    return low === 0 ? 0 : this.facts[low - 1].most;
  }
}

// The messages themselves: from 1 without a gap, nothing twice, time never backwards.
export function checkMessages(messages, where, report) {
  const ids = new Map();
  messages.forEach((message, i) => {
    if (message.sequence !== i + 1) report('gap', `${where}: place ${i + 1} has sequence ${message.sequence}`);
    if (ids.has(message.id)) report('doubled', `${where}: ${message.id} is ${ids.get(message.id)} and ${message.sequence}`);
    ids.set(message.id, message.sequence);
    if (i > 0 && message.time < messages[i - 1].time) report('time', `${where}: ${message.sequence} is older than the one before`);
  });
  return ids;
}

// sends: {id, call, end, sequence, outcome: 'ok' | 'unknown' | 'refused', answers: [{sequence, isDeduplicated}]}
function checkSends(history, ids, floor, report) {
  const sent = new Map(history.sends.map((send) => [send.id, send]));
  for (const [id, sequence] of ids) {
    const send = sent.get(id);
    if (send === undefined) report('invented', `${id} (${sequence}) was never sent`);
    else if (send.outcome === 'refused') report('refused but there', `${id} is ${sequence}, and was answered ${send.code}`);
  }
  for (const send of history.sends) {
    const firsts = send.answers.filter((answer) => !answer.isDeduplicated);
    if (firsts.length > 1) report('dedupe', `${send.id}: ${firsts.length} answers say that they were the first`);
    for (const answer of send.answers) {
      if (ids.get(send.id) !== answer.sequence) {
        report('lost', `${send.id}: acknowledged as ${answer.sequence}, now ${ids.get(send.id) ?? 'not there'}`);
      }
    }
    if (send.outcome === 'ok') {
      const known = floor.before(send.call);
      if (send.answers[0].sequence <= known && !send.isOld) {
        report('order', `${send.id}: sent when ${known} were known, became ${send.answers[0].sequence}`);
      }
    }
  }
}

function checkContents(seen, messages, where, report) {
  for (const message of seen) {
    const truth = messages[message.sequence - 1];
    if (truth === undefined) report('phantom', `${where}: saw ${message.sequence} of ${messages.length}`);
    else if (truth.digest !== message.digest) {
      report('differs', `${where}: ${message.sequence} was ${message.id}, is ${truth.id}`);
    }
  }
}

function checkRun(seen, first, where, report) {
  seen.forEach((message, i) => {
    const expected = first + i;
    if (message.sequence === expected) return;
    const kind = message.sequence > expected ? 'gap' : seen.slice(0, i).some((old) => old.sequence === message.sequence) ? 'doubled' : 'reordered';
    report(kind, `${where}: ${message.sequence} where ${expected} was due`);
  });
}

// Only the first few of each kind are told.
function firstOf(report) {
  const counts = new Map();
  return (kind, text) => {
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
    if (counts.get(kind) <= 3) report(kind, text);
  };
}

// history: {
//   sends,
//   reads: {where, call, end, after, limit, messages, hasMore},
//   ends: {where, call, end, sequence}   (ListChannels and the like: the channel's last sequence)
//   subscriptions: {where, after, liveFrom: {call, open} | undefined, seen: [{..., at}], isComplete}
// }
// finals: [{where, messages}], the channel as each node tells it at the end.
// Calls `report(kind, text)` for each violation.
export function checkChannel(history, finals, anyReport) {
  const report = firstOf(anyReport);
  const [reference, ...others] = finals;
  const { messages } = reference;
  const ids = checkMessages(messages, reference.where, report);
  for (const other of others) {
    if (other.messages.length !== messages.length) {
      report('differs', `${other.where} has ${other.messages.length}, ${reference.where} ${messages.length}`);
    }
    checkContents(other.messages, messages, other.where, report);
  }
  const facts = [];
  for (const send of history.sends) for (const answer of send.answers) facts.push({ at: answer.at, sequence: answer.sequence });
  for (const read of history.reads) {
    facts.push({ at: read.end, sequence: read.messages.at(-1)?.sequence ?? 0 });
  }
  for (const end of history.ends) facts.push({ at: end.end, sequence: end.sequence });
  for (const subscription of history.subscriptions) {
    for (const message of subscription.seen) facts.push({ at: message.at, sequence: message.sequence });
  }
  const floor = new Floor(facts);
  checkSends(history, ids, floor, report);
  for (const read of history.reads) {
    checkRun(read.messages, read.after + 1, `a read on ${read.where}`, report);
    checkContents(read.messages, messages, `a read on ${read.where}`, report);
    const known = floor.before(read.call);
    const end = read.messages.at(-1)?.sequence ?? read.after;
    if (!read.hasMore && end < known && read.after < known) {
      report('stale', `a read on ${read.where} from ${read.after} ended at ${end} when ${known} were known`);
    }
  }
  for (const end of history.ends) {
    if (end.sequence < floor.before(end.call)) {
      report('stale', `${end.where} told of ${end.sequence} messages when ${floor.before(end.call)} were known`);
    }
    if (end.sequence > messages.length) report('phantom', `${end.where} told of ${end.sequence} messages of ${messages.length}`);
  }
  for (const subscription of history.subscriptions) checkSubscription(subscription, history, messages, floor, report);
}

function checkSubscription(subscription, history, messages, floor, report) {
  const where = `a subscription on ${subscription.where}`;
  const { seen, liveFrom } = subscription;
  const first = liveFrom ? seen[0]?.sequence ?? 1 : subscription.after + 1;
  checkRun(seen, first, where, report);
  checkContents(seen, messages, where, report);
  if (liveFrom) {
    // It began at the channel's end at some time between its call and its opening.
    const later = history.sends.filter((send) => send.outcome === 'ok' && !send.isOld && send.call > liveFrom.open);
    const due = later.reduce((least, send) => Math.min(least, send.answers[0].sequence), Infinity);
    if (seen.length > 0 && first <= floor.before(liveFrom.call)) {
      report('stale', `${where}: live from ${first} when ${floor.before(liveFrom.call)} were known`);
    }
    if (subscription.isComplete && due !== Infinity && (seen.length === 0 || first > due)) {
      report('gap', `${where}: live, but ${due} did not come`);
    }
  }
  const last = seen.at(-1)?.sequence ?? 0;
  if (subscription.isComplete && !liveFrom && last !== messages.length && subscription.after < messages.length) {
    report('gap', `${where}: ended at ${last} of ${messages.length}`);
  }
}
