// A browser and a cluster made up for each test, and people at its pages.
import { after, afterEach, before, beforeEach } from 'node:test';
import { assertNoComplaints, launch, visit } from './browser.mjs';
import { FakeCluster } from './fake_cluster.mjs';

// Registers the hooks; the object's `cluster` is the present test's.
export function people() {
  const scene = {
    browser: null,
    cluster: null,
    pages: [],

    // A person at a node's page: a browser of its own, unless `beside` is another page.
    async person(node, { hash = '', beside, ...options } = {}) {
      const url = `http://${scene.cluster.nodes[node].http}/${hash}`;
      const page = await visit(scene.browser, url, { context: beside?.context(), ...options });
      scene.pages.push(page);
      return page;
    },

    fill(channelId, count, { words = 'message', authorId = 'bo' } = {}) {
      scene.cluster.create(channelId);
      for (let i = 1; i <= count; i += 1) scene.cluster.store({ channelId, authorId, text: `${words} ${i}` });
    },

    // What a node has, as texts.
    stored(channelId) { return scene.cluster.channels.get(channelId).messages.map((message) => message.text); },
  };
  before(async () => { scene.browser = await launch(); });
  after(async () => { await scene.browser?.close(); });
  beforeEach(async () => {
    scene.cluster = await FakeCluster.start();
    scene.pages = [];
  });
  afterEach(async () => {
    await Promise.all([...new Set(scene.pages.map((page) => page.context()))].map((context) => context.close()));
    await scene.cluster.stop();
    scene.pages.forEach(assertNoComplaints);
  });
  return scene;
}

export const waitForLeader = (page) => page.locator('#cluster-line', { hasText: 'leads' }).waitFor();
export const waitForText = (page, text) => page.locator('#messages .text', { hasText: text }).last().waitFor();
