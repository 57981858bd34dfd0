// What is written is kept until it is stored or its writer discards it, in order, and the page says
// calmly where it stands.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../integration/lib/cluster.mjs';
import { say } from './lib/browser.mjs';
import { people, waitForLeader, waitForText } from './lib/people.mjs';

const scene = people();

const waiting = (page) => page.locator('#outbox > li .text').allTextContents();
const emptyOutbox = (page) => until('an empty outbox', async () => await page.locator('#outbox > li').count() === 0);

// A page whose timers the test moves on.
async function personInTime(node, options) {
  const page = await scene.person(node, options);
  await page.clock.install();
  await page.reload();
  await waitForLeader(page);
  return page;
}

test('a message waits longer than any patience, and no later one overtakes it', async () => {
  scene.cluster.create('general');
  const page = await personInTime(0, { name: 'ann', hash: '#general' });
  scene.cluster.setQuorum(false);
  await say(page, 'first');
  for (let minute = 0; minute < 3; minute += 1) {
    await page.clock.fastForward(60000);
    await until('another connection', () => scene.cluster.nodes.some((node) => node.sockets.size > 0));
  }
  await say(page, 'second');
  await page.clock.fastForward(2000);
  await page.locator('#outbox').getByText(/^Waiting for a/).first().waitFor();
  assert.deepEqual(await waiting(page), ['first', 'second']);
  assert.equal(await page.getByRole('button', { name: 'Retry' }).count(), 0);
  scene.cluster.setQuorum(true);
  await until('both', async () => {
    await page.clock.runFor(1000);
    return scene.stored('general').length >= 2;
  });
  assert.deepEqual(scene.stored('general'), ['first', 'second']);
});

test('an outcome that stays unknown is asked for until it is known, and the message is there once', async () => {
  scene.cluster.create('general');
  const page = await scene.person(0, { name: 'ann' });
  await waitForLeader(page);
  scene.cluster.refuseSends = { code: 10, reason: 'COMMIT_UNKNOWN' };
  await say(page, 'one');
  await say(page, 'two');
  await until('some tries', () => scene.cluster.sends >= 3);
  assert.equal(await page.getByRole('button', { name: 'Retry' }).count(), 0);
  scene.cluster.loseAnswers = 2;
  scene.cluster.refuseSends = null;
  await waitForText(page, 'two');
  await emptyOutbox(page);
  assert.deepEqual(scene.stored('general'), ['one', 'two']);
});

test('what waits outlives reloads and the tab, and is sent once, in order', async () => {
  scene.cluster.create('general');
  const page = await scene.person(0, { name: 'ann' });
  await waitForLeader(page);
  scene.cluster.setQuorum(false);
  for (const text of ['one', 'two', 'three']) await say(page, text);
  await page.reload();
  await page.getByText('Waiting for a quorum…').nth(2).waitFor();
  await page.close();
  const next = await scene.person(0, { beside: page, hash: '#general' });
  await next.getByText('Waiting for a quorum…').nth(2).waitFor();
  assert.deepEqual(await waiting(next), ['one', 'two', 'three']);
  await say(next, 'four');
  scene.cluster.setQuorum(true);
  await waitForText(next, 'four');
  await emptyOutbox(next);
  assert.deepEqual(scene.stored('general'), ['one', 'two', 'three', 'four']);
  assert.deepEqual(await next.evaluate(() => Object.keys(localStorage).filter((key) => /outbox|sender/.test(key))), []);
});

test('a message that cannot be sent holds up those behind it, until it is retried or discarded', async () => {
  scene.cluster.create('general');
  const page = await scene.person(0, { name: 'ann' });
  await waitForLeader(page);
  scene.cluster.refuseSends = { code: 8, reason: 'DISK_FULL' };
  for (const text of ['one', 'two', 'three']) await say(page, text);
  await page.getByText('Not sent: the disk of the cluster is full.').waitFor();
  await page.getByText('Waiting for the message before it').nth(1).waitFor();
  scene.cluster.refuseSends = null;
  await page.reload();
  await page.getByText('Waiting for the message before it').nth(1).waitFor();
  assert.equal(scene.cluster.sends, 1);
  await page.getByRole('button', { name: 'Retry' }).click();
  await waitForText(page, 'three');
  assert.deepEqual(scene.stored('general'), ['one', 'two', 'three']);
  scene.cluster.refuseSends = { code: 3, reason: 'INVALID_FIELD' };
  await say(page, 'bad');
  await say(page, 'good');
  await page.getByText('Not sent: INVALID_FIELD.').waitFor();
  scene.cluster.refuseSends = null;
  await page.getByRole('button', { name: 'Discard' }).first().click();
  await waitForText(page, 'good');
  assert.deepEqual(scene.stored('general'), ['one', 'two', 'three', 'good']);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'composer-text');
});

test('what its writer discards while it waits for a connection is never sent', async () => {
  scene.cluster.create('general');
  const page = await scene.person(0, { name: 'ann' });
  await waitForLeader(page);
  await Promise.all(scene.cluster.nodes.map((node) => node.stop()));
  await say(page, 'regretted');
  await say(page, 'meant');
  await page.getByText('Waiting for a connection…').nth(1).waitFor();
  await page.getByRole('button', { name: 'Discard' }).first().click();
  assert.deepEqual(await waiting(page), ['meant']);
  await Promise.all(scene.cluster.nodes.map((node) => node.start()));
  await waitForText(page, 'meant');
  assert.deepEqual(scene.stored('general'), ['meant']);
});

test('while the page tries nodes without a quorum it says one thing, with the number that waits', async () => {
  scene.cluster.create('general');
  const page = await scene.person(0, { name: 'ann' });
  await waitForLeader(page);
  await scene.cluster.nodes[2].stop();
  scene.cluster.nodes[2].stop = async () => {};
  scene.cluster.setQuorum(false);
  await page.getByText('The cluster has no quorum: messages wait').waitFor();
  await say(page, 'one');
  await say(page, 'two');
  const banner = page.locator('#banner', { hasText: '2 messages wait.' });
  await banner.waitFor();
  await page.evaluate(() => {
    window.said = [];
    const note = () => window.said.push([...document.querySelectorAll('#banner, #cluster-button, #outbox .message-status')]
      .map((element) => `${element.hidden} ${element.innerText}`).join(' | '));
    note();
    new MutationObserver(note).observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });
  });
  const before = scene.cluster.connections;
  await until('three other nodes tried', () => scene.cluster.connections >= before + 3, { timeout: 60000 });
  const said = await page.evaluate(() => [...new Set(window.said)]);
  assert.deepEqual(said, [said[0]]);
  scene.cluster.setQuorum(true);
  await waitForText(page, 'two');
  await page.locator('#banner').waitFor({ state: 'hidden' });
});

test('two tabs share what waits: each message is sent by one of them, in the order of writing', async () => {
  scene.cluster.create('general');
  const one = await scene.person(0, { name: 'ann' });
  await waitForLeader(one);
  const two = await scene.person(0, { beside: one, hash: '#general' });
  await waitForLeader(two);
  scene.cluster.setQuorum(false);
  await say(one, 'first, in one tab');
  await two.locator('#outbox .text', { hasText: 'first, in one tab' }).waitFor();
  await say(two, 'second, in the other');
  await one.locator('#outbox .text', { hasText: 'second, in the other' }).waitFor();
  await say(one, 'third, in one tab');
  scene.cluster.setQuorum(true);
  for (const page of [one, two]) {
    await waitForText(page, 'third, in one tab');
    await emptyOutbox(page);
  }
  assert.deepEqual(scene.stored('general'), ['first, in one tab', 'second, in the other', 'third, in one tab']);
  assert.equal(scene.cluster.sends, 3);
});

test('a tab that died without a word leaves its messages to the next', async () => {
  scene.cluster.create('general');
  const page = await scene.person(0, { name: 'ann' });
  await waitForLeader(page);
  scene.cluster.setQuorum(false);
  await say(page, 'left behind');
  await page.getByText('Waiting for a quorum…').waitFor();
  const kept = await page.evaluate(() => {
    const entries = Object.entries(localStorage);
    localStorage.clear(); // so that the tab cannot give back its lease
    return entries;
  });
  await page.close();
  scene.cluster.setQuorum(true);
  const next = await scene.person(1, { name: 'ann' });
  await waitForLeader(next);
  await next.evaluate((entries) => {
    for (const [key, value] of entries) localStorage.setItem(key, value);
  }, kept);
  assert.ok(kept.some(([key]) => key === 'raftogram.sender.general'), 'no lease');
  await next.reload();
  await waitForText(next, 'left behind');
  assert.deepEqual(scene.stored('general'), ['left behind']);
});

// Leaves no room for another letter.
const fillStorage = (page, storage) => page.evaluate((name) => {
  for (let size = 2 ** 22, i = 0; size >= 1; size = Math.floor(size / 2)) {
    try {
      for (;; i += 1) window[name].setItem(`filler${i}`, 'x'.repeat(size));
    } catch {
      // full for this size
    }
  }
}, storage);

// Answers the browser's question whether to leave.
function answering(page, isLeaving) {
  const asked = [];
  page.on('dialog', (dialog) => {
    asked.push(dialog.type());
    (isLeaving ? dialog.accept() : dialog.dismiss()).catch(() => {});
  });
  return asked;
}

test('a full storage is said, the message is kept in the tab and sent, and leaving asks', async () => {
  scene.cluster.create('general');
  const page = await scene.person(0, { name: 'ann' });
  await waitForLeader(page);
  const asked = answering(page, false);
  await fillStorage(page, 'localStorage');
  scene.cluster.setQuorum(false);
  await say(page, 'one');
  await say(page, 'two');
  await page.locator('#keeping', { hasText: "This browser's storage is full: 2 messages wait in this tab only" }).waitFor();
  await page.close({ runBeforeUnload: true });
  await until('the question', () => asked.length > 0);
  assert.deepEqual(asked, ['beforeunload']);
  // Room again: they are kept as all are.
  await page.evaluate(() => { for (const key of Object.keys(localStorage)) if (key.startsWith('filler')) localStorage.removeItem(key); });
  await say(page, 'three');
  await page.locator('#keeping').waitFor({ state: 'hidden' });
  await page.reload();
  await page.getByText('Waiting for a quorum…').nth(2).waitFor();
  assert.deepEqual(await waiting(page), ['one', 'two', 'three']);
  scene.cluster.setQuorum(true);
  await waitForText(page, 'three');
  assert.deepEqual(scene.stored('general'), ['one', 'two', 'three']);
});

test('a draft that finds no room is said to be in this tab only, and stays while it is open', async () => {
  scene.cluster.create('alpha');
  scene.cluster.create('general');
  const page = await scene.person(0, { name: 'ann', hash: '#general' });
  await waitForLeader(page);
  await fillStorage(page, 'sessionStorage');
  await page.getByLabel('Message', { exact: true }).fill('half a thought');
  await page.locator('#keeping', { hasText: 'what you are writing is in this tab only' }).waitFor();
  await page.getByRole('link', { name: 'alpha' }).click();
  await page.getByRole('link', { name: 'general' }).click();
  assert.equal(await page.getByLabel('Message', { exact: true }).inputValue(), 'half a thought');
  await page.keyboard.press('Enter');
  await waitForText(page, 'half a thought');
  await page.locator('#keeping').waitFor({ state: 'hidden' });
});

test('a browser that forbids storage still sends under the name that one gives', async () => {
  scene.cluster.create('general');
  const page = await scene.person(0);
  await page.context().addInitScript(() => {
    for (const name of ['localStorage', 'sessionStorage']) {
      Object.defineProperty(window, name, { get() { throw new DOMException('forbidden', 'SecurityError'); } });
    }
  });
  await page.reload();
  await waitForLeader(page);
  await say(page, 'first words');
  await page.getByRole('textbox', { name: 'Name' }).fill('Zoë');
  await page.getByRole('button', { name: 'Save' }).click();
  await waitForText(page, 'first words');
  await say(page, 'second words');
  await waitForText(page, 'second words');
  assert.equal(await page.locator('#messages > li.is-own').count(), 2);
  assert.equal(scene.cluster.channels.get('general').messages[1].authorId, 'Zoë');
});

test('one message more costs as much as that message, however many long ones wait', async () => {
  scene.cluster.create('general');
  const page = await scene.person(0, { name: 'ann' });
  await waitForLeader(page);
  scene.cluster.setQuorum(false);
  await page.evaluate(() => {
    window.written = 0;
    const { setItem } = Storage.prototype;
    Storage.prototype.setItem = function counted(key, value) {
      window.written += value.length;
      setItem.call(this, key, value);
    };
  });
  const field = page.getByLabel('Message', { exact: true });
  for (let i = 0; i < 40; i += 1) {
    await field.fill(`${i} ${'x'.repeat(60000)}`);
    await field.press('Enter');
  }
  await page.locator('#outbox > li').nth(39).waitFor();
  const elements = await page.evaluateHandle(() => [...document.querySelectorAll('#outbox > li')]);
  await page.evaluate(() => { window.written = 0; });
  await field.fill('short');
  await field.press('Enter');
  await page.locator('#outbox > li').nth(40).waitFor();
  assert.ok(await page.evaluate(() => window.written) < 2000);
  assert.equal(await page.evaluate((list) => list.every((element) => element.isConnected), elements), true, 'made anew');
  scene.cluster.setQuorum(true);
  await waitForText(page, 'short');
  assert.deepEqual(scene.stored('general').map((text) => text.split(' ')[0]), [...Array(40).keys()].map(String).concat('short'));
});

test('a full outbox takes no more and says so; what is written stays in the box', async () => {
  scene.cluster.create('general');
  const page = await scene.person(0, { name: 'ann' });
  await waitForLeader(page);
  scene.cluster.setQuorum(false);
  const field = page.getByLabel('Message', { exact: true });
  await field.focus();
  for (let i = 0; i < 200; i += 1) {
    await page.keyboard.insertText(`m${i}`);
    await page.keyboard.press('Enter');
  }
  await page.locator('#keeping', { hasText: 'no other is taken' }).waitFor();
  await field.fill('one too many');
  await field.press('Enter');
  assert.equal(await field.inputValue(), 'one too many');
  assert.equal(await page.locator('#outbox > li').count(), 200);
  scene.cluster.setQuorum(true);
  await waitForText(page, 'm199');
  await page.locator('#keeping').waitFor({ state: 'hidden' });
  await field.press('Enter');
  await waitForText(page, 'one too many');
});
