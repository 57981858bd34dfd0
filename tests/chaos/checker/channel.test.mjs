// The checker of channels finds what is planted, and nothing else.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkChannel } from './channel.mjs';

const message = (sequence, id = `m${sequence}`) => ({ sequence, id, digest: `${id}/x`, time: 1000 + sequence });
const run = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => message(from + i));
const send = (id, call, sequence, extra = {}) => ({
  id, call, outcome: 'ok', answers: [{ at: call + 1, sequence, isDeduplicated: false }], ...extra,
});

// Five messages that were sent one after the other, read and followed: nothing is wrong.
const sound = () => ({
  history: {
    sends: [1, 2, 3, 4, 5].map((n) => send(`m${n}`, n * 10, n)),
    reads: [
      { where: 'node1', call: 32, end: 33, after: 0, messages: run(1, 3), hasMore: false },
      { where: 'node2', call: 60, end: 61, after: 2, messages: run(3, 4), hasMore: true },
      { where: 'node3', call: 62, end: 63, after: 5, messages: [], hasMore: false },
    ],
    ends: [{ where: 'node1', call: 43, end: 44, sequence: 4 }],
    subscriptions: [
      { where: 'node1', after: 0, seen: run(1, 5).map((m) => ({ ...m, at: m.sequence * 10 + 5 })), isComplete: true },
      { where: 'node2', after: 3, seen: run(4, 5).map((m) => ({ ...m, at: m.sequence * 10 + 5 })), isComplete: true },
      { where: 'node3', liveFrom: { call: 22, open: 24 }, seen: run(3, 5).map((m) => ({ ...m, at: m.sequence * 10 + 5 })), isComplete: true },
    ],
  },
  finals: [{ where: 'node1', messages: run(1, 5) }, { where: 'node2', messages: run(1, 5) }, { where: 'node3', messages: run(1, 5) }],
});

function kinds({ history, finals }) {
  const found = [];
  checkChannel(history, finals, (kind) => found.push(kind));
  return [...new Set(found)].sort();
}

const planted = (plant) => {
  const world = sound();
  plant(world);
  return kinds(world);
};

test('a sound history has no violation', () => assert.deepEqual(kinds(sound()), []));

test('a lost acknowledgement', () => {
  assert.ok(planted(({ history }) => history.sends.push(send('m6', 70, 6))).includes('lost'));
  assert.ok(planted(({ history }) => { history.sends[2].answers[0].sequence = 4; }).includes('lost'));
});

test('a doubled message', () => {
  assert.ok(planted(({ finals }) => finals.forEach((f) => { f.messages = [...run(1, 5), message(6, 'm5')]; })).includes('doubled'));
});

test('a gap in the sequence', () => {
  assert.ok(planted(({ finals }) => finals.forEach((f) => f.messages.splice(2, 1))).includes('gap'));
});

test('nodes that differ', () => {
  assert.deepEqual(planted(({ finals }) => finals[1].messages.pop()), ['differs']);
  assert.deepEqual(planted(({ finals }) => { finals[2].messages[3] = message(4, 'other'); }), ['differs']);
});

test('a message that nobody sent', () => {
  assert.deepEqual(planted(({ history }) => history.sends.pop()), ['invented']);
});

test('a refused send that is there', () => {
  assert.deepEqual(planted(({ history }) => Object.assign(history.sends[4], { outcome: 'refused', answers: [] })), ['refused but there']);
});

test('an unknown outcome may be there or not', () => {
  assert.deepEqual(planted(({ history }) => Object.assign(history.sends[4], { outcome: 'unknown', answers: [] })), []);
  assert.deepEqual(planted(({ history }) => history.sends.push({ id: 'm9', call: 80, outcome: 'unknown', answers: [] })), []);
});

test('two first answers for one client message id', () => {
  assert.deepEqual(planted(({ history }) => history.sends[0].answers.push({ at: 90, sequence: 1, isDeduplicated: false })), ['dedupe']);
  assert.deepEqual(planted(({ history }) => history.sends[0].answers.push({ at: 90, sequence: 1, isDeduplicated: true })), []);
});

test('a send that overtakes one that was answered before it began', () => {
  const world = sound();
  world.history.reads = [];
  world.history.ends = [];
  world.history.subscriptions = [];
  [world.history.sends[0].answers[0].sequence, world.history.sends[1].answers[0].sequence] = [2, 1];
  world.finals = [{ where: 'node1', messages: [message(1, 'm2'), message(2, 'm1'), ...run(3, 5)] }];
  assert.deepEqual(kinds(world), ['order']);
});

test('a stale read', () => {
  assert.deepEqual(planted(({ history }) => history.reads[0].messages.pop()), ['stale']);
  assert.deepEqual(planted(({ history }) => { history.ends[0].sequence = 3; }), ['stale']);
  assert.deepEqual(planted(({ history }) => { history.reads[2].after = 4; }), ['stale']);
});

test('a read of what never was', () => {
  assert.ok(planted(({ history }) => history.reads[0].messages.push(message(4, 'ghost'))).includes('differs'));
  assert.ok(planted(({ history }) => history.reads[2].messages.push(message(6))).includes('phantom'));
});

test('a subscription with a gap, a doubled or a reordered message', () => {
  assert.deepEqual(planted(({ history }) => history.subscriptions[0].seen.splice(2, 1)), ['gap', 'reordered'].slice(0, 1));
  assert.ok(planted(({ history }) => {
    const { seen } = history.subscriptions[0];
    seen.splice(2, 0, seen[1]);
  }).includes('doubled'));
  assert.ok(planted(({ history }) => {
    const { seen } = history.subscriptions[0];
    [seen[1], seen[2]] = [seen[2], seen[1]];
  }).includes('reordered'));
});

test('a subscription that ends too early', () => {
  assert.deepEqual(planted(({ history }) => history.subscriptions[0].seen.pop()), ['gap']);
});

test('a live subscription that missed what was sent after it had opened', () => {
  assert.deepEqual(planted(({ history }) => history.subscriptions[2].seen.shift()), ['gap']);
  assert.ok(planted(({ history }) => history.subscriptions[2].seen.unshift({ ...message(2), at: 25 })).includes('stale'));
});

test('time that goes backwards', () => {
  assert.deepEqual(planted(({ finals }) => finals.forEach((f) => { f.messages[3].time = 1; })), ['time']);
});
