// The page in a real browser, against a cluster made up for the test.
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { until } from '../integration/lib/cluster.mjs';
import { assertNoComplaints, launch, say, shot, texts, visit } from './lib/browser.mjs';
import { FakeCluster } from './lib/fake_cluster.mjs';

const WINDOW_MAX = 500;
let browser;
let cluster;
let pages;

before(async () => { browser = await launch(); });
after(async () => { await browser?.close(); });
beforeEach(async () => {
  cluster = await FakeCluster.start();
  pages = [];
});
afterEach(async () => {
  await Promise.all(pages.map((page) => page.context().close()));
  await cluster.stop();
  pages.forEach(assertNoComplaints);
});

async function person(node, options = {}) {
  const page = await visit(browser, `http://${cluster.nodes[node].http}/${options.hash ?? ''}`, options);
  pages.push(page);
  return page;
}

function fill(channelId, count, { from = 1, words = 'message' } = {}) {
  cluster.create(channelId);
  const start = Date.now() - count * 60000;
  for (let i = 0; i < count; i += 1) {
    cluster.store({ channelId, authorId: ['ann', 'bo'][i % 7 > 3 ? 1 : 0], text: `${words} ${from + i}`, timestampUnixMs: start + i * 60000 });
  }
}

const NEAR_PX = 800; // web/timeline.js: this close to an edge the next page is read

// Nothing moves by itself any more: no older page is being read, and two frames are the same.
async function settled(page) {
  const seen = await page.evaluateHandle(() => ({ place: '' }));
  await page.waitForFunction(({ seen, near }) => {
    const region = document.querySelector('#timeline');
    const edge = document.querySelector('#timeline-edge').textContent;
    const isReading = region.scrollTop < near && edge.startsWith('Loading');
    const before = seen.place;
    seen.place = `${region.scrollTop}/${region.scrollHeight}`;
    return region.getAttribute('aria-busy') === 'false' && !isReading && seen.place === before;
  }, { seen, near: NEAR_PX });
}

const shown = (page) => page.locator('#messages > li');
const waitForText = (page, text) => page.locator('#messages .text', { hasText: text }).last().waitFor();

test('two people on two nodes read each other at once', async () => {
  cluster.create('general', 'General');
  const [ann, bo] = [await person(0, { name: 'ann' }), await person(1, { name: 'bo' })];
  await waitForLeader(ann);
  await say(ann, 'hello bo');
  await waitForText(bo, 'hello bo');
  await say(bo, 'hello ann');
  await waitForText(ann, 'hello ann');
  assert.deepEqual(await texts(ann), ['hello bo', 'hello ann']);
  assert.deepEqual(await texts(bo), ['hello bo', 'hello ann']);
  assert.equal(await ann.locator('#outbox > li').count(), 0);
});

const waitForLeader = (page) => page.locator('#cluster-line', { hasText: 'leads' }).waitFor();

test('what people write is text, whatever it looks like', async () => {
  cluster.create('general', '<b>General</b>');
  const markup = '<img src=x onerror="document.title=\'owned\'"><script>document.title="owned"</script>';
  cluster.store({ channelId: 'general', authorId: '<i>eve</i>', text: markup });
  cluster.store({ channelId: 'general', authorId: 'eve', payload: '//4A' });
  const page = await person(0);
  await waitForText(page, 'onerror');
  assert.deepEqual((await texts(page))[0], markup);
  assert.equal((await texts(page))[1], 'Not text: 3 B of data');
  assert.equal(await page.locator('#messages img, #messages script, #messages i, h2 b').count(), 0);
  assert.match(await page.title(), /<b>General<\/b>/);
});

test('a channel is created, and everybody sees it', async () => {
  const [ann, bo] = [await person(0), await person(1)];
  await ann.getByRole('button', { name: 'Create a channel' }).last().click();
  await ann.getByRole('textbox', { name: 'Name' }).fill('Über uns & Co');
  assert.equal(await ann.getByRole('textbox', { name: 'Id' }).inputValue(), 'uber-uns-co');
  await ann.getByRole('button', { name: 'Create', exact: true }).click();
  await ann.getByRole('heading', { name: '# Über uns & Co' }).waitFor();
  await bo.getByRole('link', { name: 'Über uns & Co' }).waitFor();
});

test('who has no name is asked for one when first writing, and keeps it', async () => {
  cluster.create('general');
  const page = await person(0);
  await waitForLeader(page);
  await say(page, 'first words');
  await page.getByRole('textbox', { name: 'Name' }).fill('Zoë Ångström');
  await page.getByRole('button', { name: 'Save' }).click();
  await waitForText(page, 'first words');
  assert.equal(cluster.channels.get('general').messages[0].authorId, 'Zoë Ångström');
  await page.reload();
  await page.locator('#my-name', { hasText: 'Zoë Ångström' }).waitFor();
});

// What the browser shows beside a field.
const problemOf = (page, id) => page.locator(id).evaluate((field) => field.validationMessage);

test('a name of spaces only is refused with a reason, and can be mended', async () => {
  cluster.create('general');
  const page = await person(0);
  await waitForLeader(page);
  await page.locator('#name-button').click();
  const name = page.getByRole('textbox', { name: 'Name' });
  await name.fill('   ');
  await page.getByRole('button', { name: 'Save' }).click();
  assert.equal(await problemOf(page, '#name-text'), 'Spaces alone will not do.');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'name-text');
  await page.getByRole('button', { name: 'Cancel' }).click();
  await page.locator('#name-button').click();
  assert.equal(await page.locator('#name-text').evaluate((field) => field.validity.customError), false);
  await name.fill(' Zoë ');
  await page.keyboard.press('Enter');
  await page.locator('#my-name', { hasText: /^Zoë$/ }).waitFor();
});

test('a channel is not created of spaces, nor with an id of too many bytes, and the form says why', async () => {
  const page = await person(0);
  await page.getByRole('button', { name: 'Create a channel' }).last().click();
  const name = page.getByRole('textbox', { name: 'Name' });
  const id = page.getByRole('textbox', { name: 'Id' });
  const create = page.getByRole('button', { name: 'Create', exact: true });
  await name.fill('   ');
  await id.fill('some-id');
  await create.click();
  assert.equal(await problemOf(page, '#channel-name'), 'Spaces alone will not do.');
  await name.fill('A name');
  await id.fill('  ');
  await create.click();
  assert.equal(await problemOf(page, '#channel-id'), 'Spaces alone will not do.');
  await id.fill('漢'.repeat(90));
  await create.click();
  assert.match(await problemOf(page, '#channel-id'), /^At most 256 bytes/);
  assert.equal(cluster.channels.size, 0);
  await id.fill('漢');
  await create.click();
  await page.getByRole('heading', { name: '# A name' }).waitFor();
  assert.deepEqual([...cluster.channels.keys()], ['漢']);
});

test('the skip link leads to the channels, or past them to the message box, and opens no channel', async () => {
  const page = await person(0, { name: 'ann' });
  await page.getByText('No channel yet').first().waitFor();
  await page.keyboard.press('Tab');
  const focused = () => page.evaluate(() => document.activeElement.id);
  assert.equal(await focused(), 'skip-link');
  assert.equal(await page.locator('#skip-link').textContent(), 'Skip to the channels');
  await page.keyboard.press('Enter');
  assert.equal(await focused(), 'channels');
  fill('general', 2);
  await waitForText(page, 'message 2');
  await page.locator('#skip-link').focus();
  assert.equal(await page.locator('#skip-link').textContent(), 'Skip to the message box');
  await page.keyboard.press('Enter');
  assert.equal(await focused(), 'composer-text');
  assert.equal(new URL(page.url()).hash, '#general');
  await page.getByRole('heading', { name: '# general' }).waitFor();
});

test('history loads as one scrolls up, whole and in order, and the document stays small', async () => {
  fill('general', 1234);
  const page = await person(0);
  await waitForText(page, 'message 1234');
  const seen = new Set();
  await page.locator('#timeline').focus();
  for (let i = 0; i < 400 && !seen.has(1); i += 1) {
    for (const text of await texts(page)) seen.add(Number(text.split(' ')[1]));
    assert.ok(await shown(page).count() <= WINDOW_MAX, 'the document grows without bound');
    await page.evaluate(() => { document.querySelector('#timeline').scrollTop -= 700; });
    await page.waitForTimeout(10);
  }
  assert.equal(seen.size, 1234);
  await page.getByText('This is where the channel begins.').waitFor();
  const numbers = (await texts(page)).map((text) => Number(text.split(' ')[1]));
  numbers.forEach((number, i) => assert.equal(number, i + 1));
  // Live messages are counted meanwhile, and one step leads to them.
  cluster.store({ channelId: 'general', authorId: 'bo', text: 'message 1235' });
  await page.locator('#jump-button').waitFor();
  await page.locator('#jump-button').click();
  await waitForText(page, 'message 1235');
});

test('history that its node has damaged is read from another', async () => {
  fill('general', 60);
  cluster.damaged.add('node1');
  const page = await person(0);
  await waitForText(page, 'message 60');
  await page.locator('#cluster-detail', { hasText: /through node[23]|this node/ }).waitFor();
  await page.waitForFunction(() => !document.querySelector('#cluster-detail').textContent.includes('node1'));
  assert.equal(await page.locator('#timeline-error').isVisible(), false);
});

test('history that cannot be read says why, and is read again only when asked for', async () => {
  fill('general', 60);
  cluster.damaged = new Set(['node1', 'node2', 'node3']);
  const page = await person(0);
  await page.getByText('Not to be read: what the disk has of it is damaged.').waitFor();
  assert.equal(await page.locator('#timeline-edge').textContent(), '');
  cluster.damaged.clear();
  await page.getByRole('button', { name: 'Retry' }).click();
  await waitForText(page, 'message 60');
  assert.equal(await page.locator('#timeline-error').isVisible(), false);
});

test('an earlier page that cannot be read says so above the messages, and Retry goes on', async () => {
  fill('general', 300);
  const page = await person(0);
  await waitForText(page, 'message 300');
  cluster.refuseReads = { code: 3, reason: 'INVALID_FIELD' };
  const upwards = () => page.evaluate(() => { document.querySelector('#timeline').scrollTop -= 5000; });
  await until('the error', async () => {
    await upwards();
    return page.locator('#timeline-error').isVisible();
  });
  await page.getByText('Not to be read: INVALID_FIELD.').waitFor();
  assert.equal(await page.locator('#timeline-edge').textContent(), '');
  const asked = cluster.reads;
  await upwards();
  await page.waitForTimeout(300);
  assert.equal(cluster.reads, asked, 'it was asked for again by itself');
  cluster.refuseReads = null;
  await page.getByRole('button', { name: 'Retry' }).click();
  await until('the beginning', async () => {
    await upwards();
    return page.getByText('This is where the channel begins.').isVisible();
  });
  assert.equal((await texts(page))[0], 'message 1');
});

test('the way to the latest messages says so when they cannot be read, and Retry goes there', async () => {
  fill('general', 700);
  const page = await person(0, { name: 'ann' });
  await waitForText(page, 'message 700');
  // Up until the window no longer reaches to the end.
  await until('an earlier window', async () => {
    await page.evaluate(() => { document.querySelector('#timeline').scrollTop = 0; });
    return !(await texts(page)).includes('message 700');
  });
  cluster.refuseReads = { code: 13, reason: 'BROKEN' };
  await page.locator('#jump-button').click();
  await page.getByText('Not to be read: BROKEN.').waitFor();
  assert.equal(await page.getByText('Not to be read: BROKEN.').evaluate((element) => {
    const { top, bottom } = document.querySelector('#timeline').getBoundingClientRect();
    const box = element.getBoundingClientRect();
    return box.top >= top && box.bottom <= bottom;
  }), true, 'out of sight');
  cluster.refuseReads = null;
  await page.getByRole('button', { name: 'Retry' }).click();
  await waitForText(page, 'message 700');
});

test('a channel that does not exist is said to be missing, until somebody creates it', async () => {
  const page = await person(0, { name: 'ann', hash: '#nowhere' });
  await page.getByRole('alert').getByText('Not to be read: there is no such channel.').waitFor();
  assert.equal(await page.locator('#timeline').getAttribute('aria-busy'), 'false');
  assert.equal(await page.locator('#composer-text').isDisabled(), true);
  assert.equal(await page.locator('#send-button').isDisabled(), true);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'timeline');
  await page.getByRole('button', { name: 'Retry' }).click();
  await page.getByRole('alert').getByText('Not to be read: there is no such channel.').waitFor();
  fill('nowhere', 3);
  await waitForText(page, 'message 3');
  await page.locator('#timeline[aria-busy="false"]').waitFor();
  assert.equal(await page.locator('#timeline-error').isVisible(), false);
  await say(page, 'somewhere after all');
  await waitForText(page, 'somewhere after all');
});

test('a missing channel that one creates oneself, or leaves, can be written to', async () => {
  cluster.create('general');
  const page = await person(0, { name: 'ann', hash: '#nowhere' });
  await page.getByRole('alert').getByText('there is no such channel').waitFor();
  await page.getByRole('link', { name: 'general' }).click();
  await say(page, 'here');
  await waitForText(page, 'here');
  assert.equal(await page.locator('#timeline-error').isVisible(), false);
  await page.goBack();
  await page.getByRole('alert').getByText('there is no such channel').waitFor();
  await page.getByRole('button', { name: 'Create a channel' }).first().click();
  await page.getByRole('textbox', { name: 'Name' }).fill('Nowhere');
  await page.getByRole('button', { name: 'Create', exact: true }).click();
  await page.getByRole('heading', { name: '# Nowhere' }).waitFor();
  await say(page, 'founded');
  await waitForText(page, 'founded');
});

test('reading older messages is not disturbed by new ones, nor by older ones that load', async () => {
  fill('general', 400);
  const page = await person(0);
  await waitForText(page, 'message 400');
  await page.evaluate(() => { document.querySelector('#timeline').scrollTop -= 1500; });
  await settled(page);
  const topmost = () => page.evaluate(() => {
    const region = document.querySelector('#timeline').getBoundingClientRect();
    const item = [...document.querySelectorAll('#messages > li')].find((li) => li.getBoundingClientRect().bottom > region.top);
    return `${item.dataset.sequence}@${Math.round(item.getBoundingClientRect().top)}`;
  });
  const before = await topmost();
  for (let i = 0; i < 5; i += 1) cluster.store({ channelId: 'general', authorId: 'bo', text: `new ${i}` });
  await page.locator('#jump-text', { hasText: '5 new messages' }).waitFor();
  assert.equal(await topmost(), before);
});

test('a reload keeps channel, place, draft and what has been read', async () => {
  fill('alpha', 10);
  fill('general', 600);
  const page = await person(0, { name: 'ann', hash: '#general' });
  await waitForText(page, 'message 600');
  for (let i = 0; i < 6; i += 1) {
    await page.evaluate(() => { document.querySelector('#timeline').scrollTop -= 900; });
    await settled(page);
  }
  await page.getByLabel('Message', { exact: true }).fill('not yet sent');
  await settled(page);
  const sequence = await page.evaluate(() => {
    const { top, bottom } = document.querySelector('#timeline').getBoundingClientRect();
    return [...document.querySelectorAll('#messages > li')].find((li) =>
      li.getBoundingClientRect().top > (top + bottom) / 2).dataset.sequence;
  });
  const item = page.locator(`#messages [data-sequence="${sequence}"]`);
  const before = (await item.boundingBox()).y;
  for (let reload = 1; reload <= 3; reload += 1) {
    await page.reload();
    await item.waitFor();
    await settled(page);
    const now = (await item.boundingBox()).y;
    assert.ok(Math.abs(now - before) <= 1, `after reload ${reload} at ${now}, not ${before}`);
  }
  assert.equal(await page.getByLabel('Message', { exact: true }).inputValue(), 'not yet sent');
});

test('unread messages are marked in other channels, and after coming back', async () => {
  fill('alpha', 3);
  fill('beta', 40);
  const page = await person(0, { hash: '#alpha' });
  await waitForText(page, 'message 3');
  for (let i = 0; i < 4; i += 1) cluster.store({ channelId: 'beta', authorId: 'bo', text: `new ${i}` });
  await page.getByRole('link', { name: 'beta 4 unread messages' }).waitFor();
  assert.match(await page.title(), /^\(4\) #alpha/);
  await page.getByRole('link', { name: 'beta' }).click();
  await page.locator('.divider.unread').waitFor();
  assert.equal(await page.locator('li:has(.divider.unread) .text').textContent(), 'new 0');
  await page.getByRole('link', { name: 'beta', exact: true }).waitFor();
});

test('a lost answer is tried again and stored once; the others wait their turn in order', async () => {
  cluster.create('general');
  const page = await person(0, { name: 'ann' });
  await waitForLeader(page);
  cluster.loseAnswers = 2;
  for (const text of ['one', 'two', 'three']) await say(page, text);
  await waitForText(page, 'three');
  await page.waitForTimeout(300);
  assert.deepEqual(cluster.channels.get('general').messages.map((m) => m.text), ['one', 'two', 'three']);
  assert.deepEqual(await texts(page), ['one', 'two', 'three']);
  assert.equal(await page.locator('#outbox > li').count(), 0);
});

test('a send that fails says so, and can be retried after a reload', async () => {
  cluster.create('general');
  const page = await person(0, { name: 'ann' });
  await waitForLeader(page);
  cluster.refuseSends = { code: 8, reason: 'DISK_FULL' };
  await say(page, 'important');
  await page.getByText('Not sent: the disk of the cluster is full.').waitFor();
  await page.reload();
  await page.getByText('Not sent: the disk of the cluster is full.').waitFor();
  cluster.refuseSends = null;
  await page.getByRole('button', { name: 'Retry' }).click();
  await waitForText(page, 'important');
  assert.equal(await page.locator('#outbox > li').count(), 0);
});

test('without a quorum the page says so, keeps what is written and sends it afterwards', async () => {
  cluster.create('general');
  const page = await person(0, { name: 'ann' });
  await waitForLeader(page);
  cluster.setQuorum(false);
  await page.getByText('The cluster has no quorum: messages wait').waitFor();
  await say(page, 'patience');
  await page.getByText('Waiting for a quorum…').waitFor();
  cluster.setQuorum(true);
  await waitForText(page, 'patience');
  await page.locator('#banner').waitFor({ state: 'hidden' });
});

test('when its node dies the page goes on through another', async () => {
  fill('general', 5);
  const page = await person(0, { name: 'ann' });
  await waitForText(page, 'message 5');
  await cluster.nodes[0].stop();
  cluster.nodes[0].stop = async () => {};
  await page.locator('#cluster-detail', { hasText: /through node[23]|this node/ }).waitFor();
  await page.waitForFunction(() => !document.querySelector('#cluster-detail').textContent.includes('node1'));
  cluster.store({ channelId: 'general', authorId: 'bo', text: 'still here?' });
  await waitForText(page, 'still here?');
  await say(page, 'yes');
  await waitForText(page, 'yes');
  assert.deepEqual((await texts(page)).slice(-3), ['message 5', 'still here?', 'yes']);
});

test('a wiped cluster is noticed and begun afresh', async () => {
  fill('general', 30);
  const page = await person(0);
  await waitForText(page, 'message 30');
  cluster.clusterId = 'another';
  cluster.channels.clear();
  fill('general', 2, { words: 'fresh' });
  for (const socket of cluster.nodes[0].sockets) socket.terminate();
  await waitForText(page, 'fresh 2');
  assert.deepEqual(await texts(page), ['fresh 1', 'fresh 2']);
});

test('what waited for a cluster that is another one now is kept, told, and not sent to that one', async () => {
  cluster.create('beta');
  fill('general', 3);
  const page = await person(0, { name: 'ann', hash: '#beta' });
  await waitForLeader(page);
  await page.getByRole('link', { name: 'general' }).waitFor();
  cluster.setQuorum(false);
  await say(page, 'for the old beta');
  await page.getByRole('link', { name: 'general' }).click();
  await say(page, 'first for the old general');
  await say(page, 'second for the old general');
  await page.getByText('Waiting for a quorum…').first().waitFor();
  cluster.clusterId = 'another';
  cluster.hasQuorum = true;
  cluster.leaderId = 'node2';
  cluster.channels.clear();
  fill('general', 2, { words: 'fresh' });
  for (const node of cluster.nodes) for (const socket of node.sockets) socket.terminate();
  await page.getByText('What waited to be sent was not sent: 1 message in #beta, 2 messages in #general.').waitFor();
  await waitForText(page, 'fresh 2');
  const notes = page.locator('#outbox').getByText('Not sent: the cluster is another one now.');
  await notes.nth(1).waitFor();
  assert.deepEqual(await page.locator('#outbox .text').allTextContents(),
    ['first for the old general', 'second for the old general']);
  assert.deepEqual(cluster.channels.get('general').messages.map((m) => m.text), ['fresh 1', 'fresh 2']);
  await page.locator('#news').getByRole('link', { name: '#beta' }).click();
  await page.locator('#outbox').getByText('for the old beta').waitFor();
  await page.getByRole('button', { name: 'Close', exact: true }).click();
  assert.equal(await page.locator('#news').isVisible(), false);
  await page.goBack();
  await page.locator('#outbox').getByRole('button', { name: 'Retry' }).first().click();
  await waitForText(page, 'first for the old general');
  assert.equal(await notes.count(), 1);
});

test('a tab that was away while another found the new cluster keeps what it had not sent', async () => {
  cluster.create('general');
  const page = await person(0, { name: 'ann', hash: '#general' });
  await waitForLeader(page);
  cluster.setQuorum(false);
  await say(page, 'for the old one');
  await page.getByText('Waiting for a quorum…').waitFor();
  const address = page.url();
  await page.goto('about:blank');
  cluster.clusterId = 'another';
  cluster.setQuorum(true);
  const other = await page.context().newPage();
  await other.goto(address);
  await waitForLeader(other);
  await other.close();
  await page.goto(address);
  await page.getByText('Not sent: the cluster is another one now.').waitFor();
  assert.equal(cluster.sends, 0);
});

test('a flood is taken without a growing document', async () => {
  fill('general', 10);
  const page = await person(0);
  await waitForText(page, 'message 10');
  for (let round = 0; round < 40; round += 1) {
    for (let i = 0; i < 500; i += 1) cluster.store({ channelId: 'general', authorId: 'bo', text: `flood ${round * 500 + i}` });
    await page.waitForTimeout(5);
  }
  await waitForText(page, 'flood 19999');
  assert.ok(await shown(page).count() <= WINDOW_MAX);
  const numbers = (await texts(page)).map((text) => Number(text.split(' ')[1]));
  numbers.forEach((number, i) => assert.equal(number, numbers[0] + i));
});

test('the cluster panel shows every node, also one that is gone', async () => {
  fill('general', 5);
  const page = await person(0);
  await waitForLeader(page);
  await cluster.nodes[2].stop();
  cluster.nodes[2].stop = async () => {};
  await page.locator('#cluster-button').click();
  await page.getByRole('row', { name: /node2 leader 7/ }).waitFor();
  await page.getByRole('row', { name: /node1 this page follower 7/ }).waitFor();
  await page.getByRole('row', { name: /node3 unreachable/ }).waitFor();
  await shot(page, 'cluster');
  await page.keyboard.press('Escape');
  await page.locator('#cluster-dialog').waitFor({ state: 'hidden' });
});

test('the cluster panel says never of a node that the leader never heard', async () => {
  cluster.contacts.node3 = '18446744073709551615';
  cluster.contacts.node1 = '61000';
  const page = await person(0);
  await waitForLeader(page);
  await page.locator('#cluster-button').click();
  const contact = (node) => page.getByRole('row', { name: new RegExp(`^${node} `) }).locator('[data-label="Contact"]');
  await contact('node3').getByText(/^never$/).waitFor();
  assert.equal(await contact('node1').textContent(), '1 min');
  assert.equal(await contact('node2').textContent(), 'leads');
});

test('everything can be done with the keyboard', async () => {
  fill('alpha', 2);
  fill('beta', 2);
  const page = await person(0, { name: 'ann', hash: '#alpha' });
  await waitForText(page, 'message 2');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'composer-text');
  await page.keyboard.type('line one');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.type('line two');
  await page.keyboard.press('Enter');
  await waitForText(page, 'line two');
  assert.equal((await texts(page)).at(-1), 'line one\nline two');
  await page.keyboard.press('Alt+ArrowDown');
  await page.getByRole('heading', { name: '# beta' }).waitFor();
  cluster.store({ channelId: 'beta', authorId: 'bo', text: 'spoken' });
  await page.getByRole('log', { name: 'New messages' }).getByText('bo: spoken').waitFor({ state: 'attached' });
});

test('the theme follows the system until one is chosen', async () => {
  cluster.create('general');
  const page = await person(0, { colorScheme: 'dark' });
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.equal(await ground(), 'rgb(21, 23, 28)');
  await page.getByRole('button', { name: 'Change to the light theme' }).click();
  assert.equal(await ground(), 'rgb(255, 255, 255)');
  await page.reload();
  assert.equal(await ground(), 'rgb(255, 255, 255)');
});

test('on a phone the list and the channel are two screens, and nothing is too wide', async () => {
  fill('general', 60);
  cluster.store({ channelId: 'general', authorId: 'bo', text: 'w'.repeat(500) });
  const page = await person(0, { name: 'ann', viewport: { width: 375, height: 720 }, hasTouch: true, isMobile: true });
  await page.getByRole('link', { name: 'general' }).tap();
  await waitForText(page, 'wwww');
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 375);
  await page.getByRole('link', { name: 'Back to the channels' }).tap();
  await page.getByRole('link', { name: 'general' }).waitFor();
  assert.equal(await page.locator('#conversation').isVisible(), false);
});
