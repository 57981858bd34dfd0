// The checker of registers finds what is planted, and nothing else.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Random } from '../random.mjs';
import { checkRegister } from './register.mjs';

const set = (value, call, end) => ({ kind: 'set', value, call, end });
const read = (value, call, end) => ({ kind: 'read', value, call, end });
const del = (call, end) => ({ kind: 'delete', value: null, call, end });
const isLinearizable = (...history) => {
  const result = checkRegister(history);
  assert.ok(!result.isUndecided);
  return result.isLinearizable;
};

test('one after the other', () => {
  assert.ok(isLinearizable(set('a', 1, 2), read('a', 3, 4), del(5, 6), read(null, 7, 8)));
});

test('a stale read is a violation', () => {
  assert.ok(!isLinearizable(set('a', 1, 2), set('b', 3, 4), read('a', 5, 6)));
  assert.ok(!isLinearizable(set('a', 1, 2), read(null, 3, 4)));
  assert.ok(!isLinearizable(set('a', 1, 2), del(3, 4), read('a', 5, 6)));
});

test('a lost acknowledged set is a violation', () => {
  assert.ok(!isLinearizable(set('a', 1, 2), set('b', 3, 4), read('a', 5, 6), read('a', 7, 8)));
});

test('concurrent operations may have any order, but one order', () => {
  assert.ok(isLinearizable(set('a', 1, 10), set('b', 2, 9), read('b', 11, 12)));
  assert.ok(isLinearizable(set('a', 1, 10), set('b', 2, 9), read('a', 11, 12)));
  assert.ok(!isLinearizable(set('a', 1, 10), set('b', 2, 9), read('a', 11, 12), read('b', 13, 14)));
  assert.ok(isLinearizable(set('a', 1, 10), read('a', 3, 4), read('a', 5, 6)));
  assert.ok(!isLinearizable(set('a', 1, 10), read('a', 3, 4), read(null, 5, 6)));
});

test('an unknown outcome may have happened late, once, or never', () => {
  assert.ok(isLinearizable(set('a', 1, 2), set('b', 3, Infinity), read('a', 5, 6), read('b', 7, 8)));
  assert.ok(isLinearizable(set('a', 1, 2), set('b', 3, Infinity), read('a', 5, 6)));
  assert.ok(!isLinearizable(set('a', 1, 2), set('b', 3, Infinity), read('b', 5, 6), read('a', 7, 8)));
  assert.ok(isLinearizable(set('a', 1, 2), del(3, Infinity), read('a', 5, 6), read(null, 7, 8)));
  assert.ok(!isLinearizable(set('a', 1, 2), del(3, Infinity), read(null, 5, 6), read('a', 7, 8)));
});

test('a value that nobody set is a violation', () => {
  assert.ok(!isLinearizable(set('a', 1, 2), read('c', 3, 4)));
});

// Histories of a true register with random times, and the same with one read made stale.
function simulate(random, count) {
  const history = [];
  let now = 0;
  let state = null;
  for (let i = 0; i < count; i += 1) {
    // Points of effect are 10 apart; each operation reaches some way around its own.
    now += 10;
    const call = now - random.next() * 35;
    const end = now + random.next() * 35;
    const kind = random.weighted([[4, 'set'], [1, 'delete'], [5, 'read']]);
    if (kind === 'set') state = `v${i}`;
    if (kind === 'delete') state = null;
    const op = { kind, value: kind === 'delete' ? null : state, call, end, at: now };
    if (kind !== 'read' && random.chance(0.1)) op.end = Infinity;
    history.push(op);
  }
  return history;
}

test('random histories of a true register are all linearizable', () => {
  const random = new Random('true register');
  for (let i = 0; i < 200; i += 1) {
    const result = checkRegister(simulate(random, 200));
    assert.ok(result.isLinearizable && !result.isUndecided, `history ${i}`);
  }
});

test('a read that goes back to a value that was surely gone is found in random histories', () => {
  const random = new Random('stale');
  let planted = 0;
  for (let i = 0; i < 100; i += 1) {
    const history = simulate(random, 120);
    // Something set, surely replaced before the read began, and not by an unknown outcome.
    const reads = history.filter((op) => op.kind === 'read' && op.at > 600);
    const victim = reads[random.below(reads.length)];
    const gone = history.filter((op) => op.kind === 'set' && op.end < victim.call - 200);
    if (gone.length === 0) continue;
    const old = random.pick(gone);
    const isReplaced = history.some((op) => op.kind === 'set' && op.end < victim.call && op.call > old.end);
    if (!isReplaced) continue;
    victim.value = old.value;
    planted += 1;
    assert.ok(!checkRegister(history).isLinearizable, `history ${i}`);
  }
  assert.ok(planted > 50, `${planted} were planted`);
});
