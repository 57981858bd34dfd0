// Debian's Chromium, driven by playwright-core.
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const SHOTS = process.env.RAFTOGRAM_SCREENSHOTS ??
  resolve(dirname(fileURLToPath(import.meta.url)), '../../../build/screenshots');

export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'],
  });
}

// A person at a node's page: a context of its own, so its own storage, or a tab more of `context`.
// What the browser complains about (an exception, a policy, a missing file) is kept in `complaints`.
export async function visit(browser, url, { name, context: given, ...options } = {}) {
  const context = given ?? await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  if (name) {
    await context.addInitScript((value) => {
      // about:blank has no storage
      if (window.location.origin !== 'null') localStorage.setItem('raftogram.name', JSON.stringify(value));
    }, name);
  }
  const page = await context.newPage();
  page.complaints = [];
  page.on('pageerror', (error) => page.complaints.push(String(error)));
  page.on('console', (message) => { if (message.type() === 'error') page.complaints.push(message.text()); });
  await page.goto(url);
  return page;
}

// A node that was killed refuses or resets connections, and the browser says so: that is no fault
// of the page.
export function assertNoComplaints(page) {
  const expected = /WebSocket connection to .* failed|net::ERR_CONNECTION_(RESET|REFUSED)/;
  assert.deepEqual(page.complaints.filter((text) => !expected.test(text)), []);
}

export async function say(page, text) {
  await page.getByLabel('Message', { exact: true }).fill(text);
  await page.keyboard.press('Enter');
}

// The texts of the messages that the cluster has, in order.
export function texts(page) {
  return page.locator('#messages .text').allTextContents();
}

export async function shot(page, name) {
  mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: join(SHOTS, `${name}.png`) });
}
