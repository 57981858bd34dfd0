// Two people in two browsers on two nodes of a real cluster, and a program with the client module:
// the leader dies, and nobody loses or doubles a word.
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { WebSocket } from 'ws';
import { Cluster, until } from '../integration/lib/cluster.mjs';
import { connect } from '../../web/raftogram.js';
import { assertNoComplaints, launch, say, shot, texts, visit } from './lib/browser.mjs';

const TIMEOUT = { timeout: 60000 };
const PATIENCE = { timeout: 30000 };
let browser;
let cluster;
let open; // pages and clients to close

before(async () => { browser = await launch(); });
after(async () => { await browser?.close(); });
beforeEach(async () => {
  cluster = await Cluster.start();
  open = { pages: [], clients: [] };
});
afterEach(async () => {
  await Promise.all(open.pages.map((page) => page.context().close()));
  open.clients.forEach((client) => client.close());
  await cluster.destroy();
  open.pages.forEach(assertNoComplaints);
});

async function person(node, options = {}) {
  const page = await visit(browser, `http://${node.http}/${options.hash ?? ''}`, options);
  open.pages.push(page);
  return page;
}

function program(...nodes) {
  const client = connect(nodes.map((node) => `http://${node.http}`), { WebSocket });
  open.clients.push(client);
  return client;
}

const waitForText = (page, text) =>
  page.locator('#messages .text', { hasText: text }).last().waitFor(PATIENCE);

async function stored(node, channelId) {
  const client = program(node);
  const { messages } = await client.call('ReadHistory', { channelId, limit: 1000, encoding: 'text' }, { retry: true });
  return messages;
}

test('two browsers chat through the death of the leader; nothing is lost or doubled', TIMEOUT, async () => {
  const leader = await cluster.leader();
  const [follower, other] = cluster.nodes.filter((node) => node !== leader);
  const ann = await person(leader, { name: 'Ann' });
  await ann.getByRole('button', { name: 'Create a channel' }).last().click(PATIENCE);
  await ann.getByRole('textbox', { name: 'Name' }).fill('General');
  await ann.getByRole('button', { name: 'Create', exact: true }).click();
  await ann.getByRole('heading', { name: '# General' }).waitFor(PATIENCE);
  const bo = await person(follower, { name: 'Bo', colorScheme: 'dark' });
  await bo.getByRole('heading', { name: '# General' }).waitFor(PATIENCE);

  const said = [];
  const both = async (round) => {
    for (const [page, who] of [[ann, 'Ann'], [bo, 'Bo']]) {
      said.push(`${who} ${round}`);
      await say(page, said.at(-1));
    }
  };
  for (let round = 1; round <= 3; round += 1) await both(round);
  await waitForText(ann, 'Bo 3');
  await waitForText(bo, 'Ann 3');

  await both(4);
  await cluster.kill(leader.index);
  for (let round = 5; round <= 7; round += 1) await both(round);
  for (const page of [ann, bo]) {
    for (const text of ['Ann 7', 'Bo 7']) await waitForText(page, text);
    await until('an empty outbox', async () => await page.locator('#outbox > li').count() === 0);
  }
  await shot(ann, 'chat-after-the-death-of-the-leader');
  await shot(bo, 'chat-after-the-death-of-the-leader-dark');

  const truth = (await stored(other, 'general')).map((message) => message.text);
  assert.deepEqual([...truth].sort(), [...said].sort());
  assert.deepEqual(await texts(ann), truth);
  assert.deepEqual(await texts(bo), truth);
  for (const who of ['Ann', 'Bo']) {
    assert.deepEqual(truth.filter((text) => text.startsWith(who)), [1, 2, 3, 4, 5, 6, 7].map((n) => `${who} ${n}`));
  }
  assert.match(await ann.locator('#cluster-line').textContent(), /^node\d leads$/);

  // The dead node comes back and serves a page again, with all that was said meanwhile.
  cluster.startNode(leader.index);
  await cluster.leader();
  await ann.reload();
  await waitForText(ann, 'Bo 7');
  assert.deepEqual(await texts(ann), truth);
});

test('a reload keeps the place in a long channel', TIMEOUT, async () => {
  const [node] = cluster.nodes;
  const client = program(node);
  await client.call('CreateChannel', { channelId: 'long', name: 'A long one' }, { retry: true });
  await Promise.all(Array.from({ length: 600 }, (_, i) =>
    client.send({ channelId: 'long', authorId: `writer ${i % 3}`, text: `word ${i + 1}` })));
  const page = await person(node, { name: 'Ann', hash: '#long' });
  await page.locator('#messages .text', { hasText: 'word' }).first().waitFor(PATIENCE);
  for (let i = 0; i < 8; i += 1) {
    await page.evaluate(() => { document.querySelector('#timeline').scrollTop -= 900; });
    await page.waitForTimeout(100);
  }
  await page.waitForTimeout(500);
  const sequence = await page.evaluate(() => {
    const { top, bottom } = document.querySelector('#timeline').getBoundingClientRect();
    return [...document.querySelectorAll('#messages > li')].find((li) =>
      li.getBoundingClientRect().top > (top + bottom) / 2).dataset.sequence;
  });
  assert.ok(Number(sequence) < 580, 'did not scroll');
  const item = page.locator(`#messages [data-sequence="${sequence}"]`);
  const before = (await item.boundingBox()).y;
  await page.reload();
  await item.waitFor(PATIENCE);
  await page.waitForTimeout(500);
  assert.ok(Math.abs((await item.boundingBox()).y - before) <= 1);
});

test('the page shows a lost quorum, keeps what is written and goes on when it is back', TIMEOUT, async () => {
  const leader = await cluster.leader();
  const [survivor, victim] = cluster.nodes.filter((node) => node !== leader);
  await program(leader).call('CreateChannel', { channelId: 'general' }, { retry: true });
  const page = await person(survivor, { name: 'Ann' });
  await page.getByRole('heading', { name: '# general' }).waitFor(PATIENCE);
  await Promise.all([cluster.kill(leader.index), cluster.kill(victim.index)]);
  await page.getByText('The cluster has no quorum').waitFor(PATIENCE);
  await say(page, 'kept');
  await page.getByText('Waiting for a').waitFor();
  await page.locator('#cluster-button').click();
  await page.getByRole('row', { name: new RegExp(`${leader.id} unreachable`) }).waitFor(PATIENCE);
  await page.keyboard.press('Escape');
  cluster.startNode(leader.index);
  await waitForText(page, 'kept');
  await page.locator('#banner').waitFor({ state: 'hidden', ...PATIENCE });
  assert.equal((await stored(survivor, 'general')).length, 1);
});

test('a program follows a channel from node to node without a gap or a duplicate', TIMEOUT, async () => {
  const writer = program(...cluster.nodes);
  await writer.call('CreateChannel', { channelId: 'feed' }, { retry: true });
  const reader = program(cluster.nodes[0]);
  const sequences = [];
  reader.subscribe('feed', {}, { onMessages: (messages) => sequences.push(...messages.map((m) => Number(m.sequence))) });
  await until('hello of the reader', () => reader.state === 'open');
  const acknowledged = new Set();
  let count = 0;
  let isWriting = true;
  const writing = Array.from({ length: 8 }, async () => {
    while (isWriting) {
      count += 1;
      const { sequence } = await writer.send({ channelId: 'feed', text: `m${count}` });
      acknowledged.add(Number(sequence));
    }
  });
  for (let index = 0; index < 3; index += 1) {
    await until('progress', () => sequences.length > (index + 1) * 100, PATIENCE);
    await cluster.kill(index);
    cluster.startNode(index);
    await cluster.leader();
  }
  await until('progress', () => sequences.length > 500, PATIENCE);
  isWriting = false;
  await Promise.all(writing);
  const last = Math.max(...acknowledged);
  await until('the last message', () => sequences.at(-1) >= last, PATIENCE);
  assert.deepEqual(sequences, Array.from({ length: sequences.length }, (_, i) => i + 1));
  assert.equal(acknowledged.size, count, 'a retried send was stored twice, or two were one');
  assert.equal((await stored(cluster.nodes[1], 'feed')).length, Math.min(1000, count));
});
