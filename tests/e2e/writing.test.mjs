// What people write, and who they are: names, links, and scripts that run from right to left.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { say, shot, texts } from './lib/browser.mjs';
import { people, waitForLeader, waitForText } from './lib/people.mjs';

const scene = people();

test('a name changed in one tab is shown in the other, and is the one that it posts under', async () => {
  scene.cluster.create('general');
  const one = await scene.person(0);
  await waitForLeader(one);
  const two = await scene.person(0, { beside: one, hash: '#general' });
  await waitForLeader(two);
  const rename = async (page, name) => {
    await page.locator('#name-button').click();
    await page.getByRole('textbox', { name: 'Name' }).fill(name);
    await page.getByRole('button', { name: 'Save' }).click();
  };
  for (const name of ['ann', 'bo']) {
    await rename(one, name);
    await two.locator('#my-name', { hasText: new RegExp(`^${name}$`) }).waitFor();
    await say(two, `as ${name}`);
    await waitForText(two, `as ${name}`);
    assert.equal(scene.cluster.channels.get('general').messages.at(-1).authorId, name);
  }
});

test('a tab posts under the name that it shows, also before it has heard of another', async () => {
  scene.cluster.create('general');
  const page = await scene.person(0, { name: 'ann' });
  await waitForLeader(page);
  // The storage as another tab leaves it, and no event yet.
  await page.evaluate(() => localStorage.setItem('raftogram.name', '"bo"'));
  await say(page, 'who am I');
  await waitForText(page, 'who am I');
  assert.equal(await page.locator('#my-name').textContent(), 'ann');
  assert.equal(scene.cluster.channels.get('general').messages[0].authorId, 'ann');
});

test('addresses in messages are links that give the other site no hold; the rest stays text', async () => {
  const hostile = '<a href="javascript:alert(1)">x</a> javascript:alert(1) http://bank.example@evil.example/ data:text/html,x';
  scene.cluster.create('general');
  for (const text of ['read https://a.example/raft_(algorithm), please', hostile, 'http://b.example/"><script>alert(1)</script>']) {
    scene.cluster.store({ channelId: 'general', authorId: 'eve', text });
  }
  const page = await scene.person(0, { name: 'ann' });
  await waitForText(page, 'script');
  assert.equal((await texts(page))[1], hostile);
  const found = await page.locator('#messages .text a').evaluateAll((links) => links.map((link) =>
    [link.textContent, link.getAttribute('href'), link.rel, link.target, link.attributes.length]));
  assert.deepEqual(found, [
    ['https://a.example/raft_(algorithm)', 'https://a.example/raft_(algorithm)', 'noopener noreferrer', '_blank', 3],
    ['http://b.example/', 'http://b.example/', 'noopener noreferrer', '_blank', 3],
  ]);
  assert.equal(await page.locator('#messages script').count(), 0);
  await say(page, 'mine: http://c.example.');
  assert.equal(await page.getByRole('link', { name: 'http://c.example' }).first().getAttribute('href'), 'http://c.example/');
});

test('a long message is cut between characters and outside addresses, and shown whole when asked for', async () => {
  const family = '👩‍👩‍👧';
  const text = `${'x'.repeat(3990)} ${family.repeat(3)} http://a.example/end`;
  scene.cluster.create('general');
  scene.cluster.store({ channelId: 'general', authorId: 'bo', text });
  const page = await scene.person(0, { name: 'ann' });
  const message = page.locator('#messages .text');
  await message.waitFor();
  assert.ok((await message.textContent()).startsWith(`${'x'.repeat(3990)} ${family}…`));
  await page.getByRole('button', { name: /^Show all of it/ }).click();
  assert.equal(await message.textContent(), text);
  assert.equal(await message.locator('a').textContent(), 'http://a.example/end');
});

test('Arabic and Hebrew run from right to left: messages, names, channels and what one types', async () => {
  scene.cluster.create('general', 'ערוץ כללי');
  scene.cluster.create('second', 'Second');
  scene.cluster.store({ channelId: 'general', authorId: 'أحمد', text: 'مرحبا (hello)!\nsecond line' });
  scene.cluster.store({ channelId: 'general', authorId: 'bo', text: 'left to right' });
  const page = await scene.person(0, { name: 'دانا', hash: '#general' });
  await waitForText(page, 'left to right');
  const direction = (selector) => page.locator(selector).first().evaluate((element) => getComputedStyle(element).direction);
  assert.equal(await direction('#messages .text'), 'rtl');
  assert.equal(await direction('#messages li:nth-child(2) .text'), 'ltr');
  assert.equal(await direction('#messages .author'), 'rtl');
  assert.equal(await direction('.channel[aria-current] .channel-name'), 'rtl');
  assert.equal(await direction('#channel-title-name'), 'rtl');
  assert.equal(await direction('#channel-title'), 'ltr');
  assert.equal(await direction('#my-name'), 'rtl');
  for (const field of ['#composer-text', '#name-text', '#channel-name', '#channel-id', '#filter-text']) {
    assert.equal(await page.locator(field).getAttribute('dir'), 'auto', field);
  }
  await page.getByRole('textbox', { name: 'Message' }).fill('שלום');
  assert.equal(await direction('#composer-text'), 'rtl');
  await page.getByRole('textbox', { name: 'Message' }).fill('hello');
  assert.equal(await direction('#composer-text'), 'ltr');
  assert.equal(await page.getByRole('list').filter({ hasText: 'left to right' }).getByRole('listitem').count(), 2);
  await shot(page, 'right-to-left');
});
