// Input methods: the Enter that takes a proposal sends nothing and opens nothing.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../integration/lib/cluster.mjs';
import { people, waitForLeader, waitForText } from './lib/people.mjs';

const scene = people();

// The events of a key that ends a composition, as one browser fires them. `order` names them.
const compose = (page, id, order) => page.evaluate(({ id, order }) => {
  const field = document.getElementById(id);
  field.focus();
  const key = (name, options) => field.dispatchEvent(new KeyboardEvent('keydown', {
    key: name, code: name, bubbles: true, cancelable: true, ...options,
  }));
  const fire = {
    start: () => field.dispatchEvent(new CompositionEvent('compositionstart', { bubbles: true })),
    end: () => field.dispatchEvent(new CompositionEvent('compositionend', { bubbles: true, data: '日本' })),
    composingEnter: () => key('Enter', { keyCode: 229, isComposing: true }),
    composingArrow: () => key('ArrowDown', { keyCode: 229, isComposing: true }),
    markedEnter: () => key('Enter', { keyCode: 229 }),
    bareEnter: () => key('Enter', { keyCode: 13 }),
  };
  order.forEach((name) => fire[name]());
}, { id, order });

const ORDERS = {
  'Chromium and Firefox, the key first': ['start', 'composingEnter', 'end'],
  'Safari, the end first and the key marked': ['start', 'end', 'markedEnter'],
  'the end first and the key bare': ['start', 'end', 'bareEnter'],
};

for (const [browser, order] of Object.entries(ORDERS)) {
  test(`the Enter that ends a composition does not send: ${browser}`, async () => {
    scene.cluster.create('general');
    const page = await scene.person(0, { name: 'ann' });
    await waitForLeader(page);
    await page.getByLabel('Message', { exact: true }).fill('日本');
    await compose(page, 'composer-text', order);
    assert.equal(await page.getByLabel('Message', { exact: true }).inputValue(), '日本');
    assert.equal(await page.locator('#outbox > li').count(), 0);
    await page.keyboard.press('Enter');
    await waitForText(page, '日本');
    assert.deepEqual(scene.stored('general'), ['日本']);
  });

  test(`nor does it open a channel: ${browser}`, async () => {
    for (let i = 0; i < 12; i += 1) scene.cluster.create(`channel-${i}`);
    scene.cluster.create('日本');
    const page = await scene.person(0, { name: 'ann', hash: '#channel-0' });
    await waitForLeader(page);
    await page.getByLabel('Find a channel').fill('日本');
    await page.getByRole('link', { name: '日本' }).waitFor();
    await compose(page, 'filter-text', order);
    await compose(page, 'filter-text', ['start', 'composingArrow', 'end']);
    await page.getByRole('heading', { name: '# channel-0' }).waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.id), 'filter-text');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: '# 日本' }).waitFor();
  });
}

test('a real composition of the browser is sent by the Enter after it, and by no earlier one', async () => {
  scene.cluster.create('general');
  const page = await scene.person(0, { name: 'ann' });
  await waitForLeader(page);
  const field = page.getByLabel('Message', { exact: true });
  await field.focus();
  const devtools = await page.context().newCDPSession(page);
  await devtools.send('Input.imeSetComposition', { text: 'にほん', selectionStart: 3, selectionEnd: 3 });
  await devtools.send('Input.dispatchKeyEvent', { type: 'rawKeyDown', key: 'Enter', code: 'Enter', windowsVirtualKeyCode: 229 });
  await devtools.send('Input.insertText', { text: '日本' });
  await until('the text', async () => await field.inputValue() === '日本');
  assert.equal(scene.cluster.sends, 0);
  await page.keyboard.press('Enter');
  await waitForText(page, '日本');
});
