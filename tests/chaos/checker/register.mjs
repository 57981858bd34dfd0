// Is a history of one key linearizable? The algorithm is Wing and Gong's ("Testing and Verifying
// Concurrent Objects", 1993) with Lowe's memory of states already met ("Testing for
// linearizability", 2017), as in Knossos and Porcupine. Keys are independent, so each is checked by
// itself (Herlihy and Wing: linearizability is local).
//
// An operation is {kind: 'set' | 'delete' | 'read', value, call, end}: `call` and `end` are points of
// one order in time, `end` is Infinity when the outcome is unknown: it may take effect at any time
// after its call, or never. A read that answered nothing is left out; one that found nothing has
// the value null. Sets have values that are all different.

const STEPS_MAX = 3_000_000;

// A set of unknown outcome whose value nobody ever read may be left out: were it to take effect, no
// answer would tell.
function relevant(operations) {
  const seen = new Set(operations.filter((op) => op.kind === 'read').map((op) => op.value));
  return operations.filter((op) => op.end !== Infinity || op.kind === 'delete' || seen.has(op.value));
}

// Calls and ends in the order of time, as a doubly linked list that can lift pairs out and back.
function makeList(operations) {
  const events = operations.flatMap((op, id) => [
    { at: op.call, op, id, isCall: true },
    ...(op.end === Infinity ? [] : [{ at: op.end, op, id, isCall: false }]),
  ]).sort((a, b) => a.at - b.at);
  const head = { next: null, previous: null };
  let last = head;
  const calls = new Map();
  for (const event of events) {
    event.previous = last;
    event.next = null;
    last.next = event;
    last = event;
    if (event.isCall) calls.set(event.id, event);
    else calls.get(event.id).match = event;
  }
  return head;
}

function lift(entry) {
  entry.previous.next = entry.next;
  if (entry.next) entry.next.previous = entry.previous;
  const { match } = entry;
  if (match) {
    match.previous.next = match.next;
    if (match.next) match.next.previous = match.previous;
  }
}

function unlift(entry) {
  const { match } = entry;
  if (match) {
    match.previous.next = match;
    if (match.next) match.next.previous = match;
  }
  entry.previous.next = entry;
  if (entry.next) entry.next.previous = entry;
}

function apply(state, op) {
  if (op.kind === 'set') return { ok: true, state: op.value };
  if (op.kind === 'delete') return { ok: true, state: null };
  return { ok: op.value === state, state };
}

// Answers {isLinearizable, isUndecided, steps, at}; `at` is the operation that nothing could explain.
export function checkRegister(history, initial = null) {
  const operations = relevant(history);
  const head = makeList(operations);
  const certain = operations.filter((op) => op.end !== Infinity).length;
  const bits = new Uint32Array(Math.ceil(operations.length / 32));
  const memory = new Set();
  const stack = [];
  let state = initial;
  let done = 0;
  let entry = head.next;
  let steps = 0;
  let deepest = { done: -1, op: null };
  while (done < certain) {
    steps += 1;
    if (steps > STEPS_MAX) return { isLinearizable: true, isUndecided: true, steps };
    if (entry !== null && entry.isCall) {
      const result = apply(state, entry.op);
      let isNew = false;
      if (result.ok) {
        bits[entry.id >>> 5] |= 1 << (entry.id & 31);
        const key = `${bits.join(',')}|${result.state}`;
        isNew = !memory.has(key);
        if (isNew) memory.add(key);
        else bits[entry.id >>> 5] &= ~(1 << (entry.id & 31));
      }
      if (isNew) {
        stack.push({ entry, state });
        state = result.state;
        if (entry.op.end !== Infinity) done += 1;
        lift(entry);
        entry = head.next;
      } else entry = entry.next;
      continue;
    }
    // An operation ended that is not yet in its place: the last choice was wrong.
    if (entry !== null && done > deepest.done) deepest = { done, op: entry.op };
    if (stack.length === 0) return { isLinearizable: false, steps, at: deepest.op };
    const top = stack.pop();
    state = top.state;
    if (top.entry.op.end !== Infinity) done -= 1;
    bits[top.entry.id >>> 5] &= ~(1 << (top.entry.id & 31));
    unlift(top.entry);
    entry = top.entry.next;
  }
  return { isLinearizable: true, steps };
}
