// Thousands of channels: the document stays small, the cluster is asked in small steps, none is denied,
// and none is unread that is not.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../integration/lib/cluster.mjs';
import { say, shot } from './lib/browser.mjs';
import { people, waitForLeader, waitForText } from './lib/people.mjs';

const COUNT = 6000;
const ROWS_MAX = 100;
const scene = people();

function many(count = COUNT) {
  for (let i = 0; i < count; i += 1) {
    const channelId = `channel-${String(i).padStart(6, '0')}`;
    scene.cluster.create(channelId);
    scene.cluster.store({ channelId, authorId: 'bo', text: 'old' });
  }
}

const rows = (page) => page.locator('#channel-list > li');
const unreadLinks = (page) => page.locator('#channel-list .has-unread').count();

// The whole list has come, as its height tells.
const listed = (page, count) => page.waitForFunction((rowCount) => {
  const list = document.querySelector('#channel-list');
  const height = list.firstElementChild?.offsetHeight ?? 0;
  return height > 0 && Math.round(list.offsetHeight / height) === rowCount;
}, count);

test('six thousand channels are all there and a hundred rows at most; nothing old is unread', async () => {
  many();
  const page = await scene.person(0, { name: 'ann', hash: '#channel-000000' });
  await listed(page, COUNT);
  assert.ok(await rows(page).count() <= ROWS_MAX);
  assert.equal(await unreadLinks(page), 0);
  assert.match(await page.title(), /^#channel-000000/);
  const seen = new Set();
  for (let i = 0; i < 12; i += 1) {
    await page.evaluate((part) => {
      const list = document.querySelector('#channels');
      list.scrollTop = (list.scrollHeight - list.clientHeight) * part;
    }, i / 11);
    const index = Math.round(i / 11 * (COUNT - 1));
    await page.locator(`#channel-list [data-channel-id="channel-${String(index).padStart(6, '0')}"]`).waitFor();
    assert.ok(await rows(page).count() <= ROWS_MAX, 'the document grows');
    seen.add(index);
  }
  await shot(page, 'six-thousand-channels');
  await page.getByRole('link', { name: 'channel-005999' }).click();
  await waitForText(page, 'old');
  await page.reload();
  await listed(page, COUNT);
  await page.getByRole('link', { name: 'channel-005999' }).waitFor();
  assert.equal(await unreadLinks(page), 0);
  assert.doesNotMatch(await page.title(), /^\(/);
});

test('one new message in the last of six thousand channels is one unread message', async () => {
  many();
  const page = await scene.person(0, { name: 'ann', hash: '#channel-000000' });
  await listed(page, COUNT);
  scene.cluster.store({ channelId: 'channel-005998', authorId: 'bo', text: 'new' });
  await until('the number in the title', async () => (await page.title()).startsWith('(1) '));
  await page.getByLabel('Find a channel').fill('5998');
  await page.getByRole('listitem').getByRole('link', { name: 'channel-005998 1 unread message' }).click();
  await waitForText(page, 'new');
  await until('no number in the title', async () => !(await page.title()).startsWith('('));
});

test('a channel whose reading was so long ago that it is forgotten counts as read', async () => {
  scene.fill('general', 3);
  const page = await scene.person(0, { name: 'ann', hash: '#general' });
  await waitForText(page, 'message 3');
  const unread = await page.evaluate(async () => {
    const { memory } = await import('/memory.js');
    memory.addBaselines([{ channelId: 'old', sequence: 10 }]);
    const before = memory.unreadIn('old', 60);
    memory.setRead('old', 50);
    const after = memory.unreadIn('old', 60);
    for (let i = 0; i < 2000; i += 1) memory.setRead(`other-${i}`, 1);
    return [before, after, memory.unreadIn('old', 60)];
  });
  assert.deepEqual(unread, [50, 10, 0]);
});

test('a round asks for two pages at most, however many channels there are', async () => {
  many();
  const page = await scene.person(0, { name: 'ann', hash: '#channel-000000' });
  await listed(page, COUNT);
  await page.clock.install(); // from here on the page's time stands still
  const before = scene.cluster.lists;
  await page.clock.runFor(2100);
  await until('a round', () => scene.cluster.lists > before);
  await page.waitForTimeout(300);
  const asked = scene.cluster.lists - before;
  assert.ok(asked <= 4, `${asked} pages in one round or two`);
});

test('with the arrows one goes through the list, also out of what is in the document', async () => {
  many(300);
  const page = await scene.person(0, { name: 'ann', hash: '#channel-000000' });
  await listed(page, 300);
  await page.getByLabel('Find a channel').focus();
  for (let i = 0; i < 80; i += 1) await page.keyboard.press('ArrowDown');
  const focused = () => page.evaluate(() => document.activeElement.closest('li').dataset.channelId);
  assert.equal(await focused(), 'channel-000079');
  await page.evaluate(() => { document.querySelector('#channels').scrollTop = 0; });
  await page.locator('[data-channel-id="channel-000000"]').waitFor();
  assert.equal(await focused(), 'channel-000079', 'the focus was lost by scrolling');
  await page.keyboard.press('ArrowUp');
  assert.equal(await focused(), 'channel-000078');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: '# channel-000078' }).waitFor();
});

test('a channel that the page does not know is found by the beginning of its id', async () => {
  many();
  const page = await scene.person(0, { name: 'ann', hash: '#channel-000000' });
  await listed(page, COUNT);
  await page.clock.install(); // it does not ask for the list again
  scene.cluster.create('uber-uns', 'Über uns');
  await page.getByLabel('Find a channel').fill('Über u');
  await page.keyboard.press('Enter'); // before the answer: it opens what comes
  await page.clock.runFor(300);
  await page.getByRole('heading', { name: '# Über uns' }).waitFor();
  await page.getByLabel('Find a channel').fill('nothing of that kind');
  await page.clock.runFor(300);
  await page.getByText('No channel of that name.').waitFor();
});

test('beyond twenty thousand channels those that are not listed are found, and opened', async () => {
  many(20500);
  const page = await scene.person(0, { name: 'ann', hash: '#channel-000000' });
  await listed(page, 20000);
  await page.getByLabel('Find a channel').fill('channel-0204');
  await page.getByRole('link', { name: 'channel-020404' }).click();
  await waitForText(page, 'old');
  await page.getByRole('heading', { name: '# channel-020404' }).waitFor();
  await page.getByLabel('Find a channel').fill('channel-020');
  await page.getByText('More than 100 ids begin so: write more of it.').waitFor();
  assert.ok(await rows(page).count() <= ROWS_MAX);
});

test('a channel that comes while the page is open is new with what is in it', async () => {
  scene.fill('alpha', 1);
  const page = await scene.person(0, { name: 'ann', hash: '#alpha' });
  await waitForText(page, 'message 1');
  scene.fill('fresh', 2);
  await page.getByRole('link', { name: 'fresh 2 unread messages' }).waitFor();
});

test('own messages are not unread, wherever one is when they are stored', async () => {
  scene.fill('alpha', 1);
  scene.fill('beta', 3);
  const page = await scene.person(0, { name: 'ann', hash: '#beta' });
  await waitForText(page, 'message 3');
  scene.cluster.setQuorum(false);
  await say(page, 'mine');
  await say(page, 'mine too');
  await page.getByRole('link', { name: 'alpha' }).click();
  scene.cluster.setQuorum(true);
  await until('both stored', () => scene.cluster.channels.get('beta').messages.length === 5);
  // A mark by a later message shows that the list was read since.
  scene.cluster.store({ channelId: 'beta', authorId: 'bo', text: 'theirs' });
  await page.getByRole('link', { name: 'beta 1 unread message' }).waitFor();
  assert.match(await page.title(), /^\(1\) #alpha/);
  await page.getByRole('link', { name: 'beta' }).click();
  await waitForText(page, 'theirs');
  assert.equal(await page.locator('li:has(.divider.unread) .text').textContent(), 'theirs');
});

test('own messages among those of others, and of another tab, are not unread', async () => {
  scene.fill('alpha', 1);
  scene.fill('beta', 1);
  const one = await scene.person(0, { name: 'ann', hash: '#alpha' });
  await waitForText(one, 'message 1');
  await until('the list', async () => await one.locator('#channel-list > li').count() === 2);
  const two = await scene.person(0, { beside: one, hash: '#beta' });
  await waitForText(two, 'message 1');
  // The other tab stands in the back: what comes is not read there.
  await two.evaluate(() => { document.hasFocus = () => false; });
  scene.cluster.store({ channelId: 'beta', authorId: 'bo', text: 'theirs' });
  await waitForText(two, 'theirs');
  await say(two, 'mine');
  await waitForText(two, 'mine');
  scene.cluster.store({ channelId: 'beta', authorId: 'bo', text: 'theirs again' });
  await waitForText(two, 'theirs again');
  await one.getByRole('link', { name: 'beta 2 unread messages' }).waitFor();
});
