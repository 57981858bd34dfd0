// The channels that this page knows. The list is read again every few seconds, a limited number of
// pages in a round. So a flood in another channel, or a hundred thousand channels, cost the page
// and the cluster as much as a few. Channels beyond CHANNELS_MAX are loaded when they are searched
// for or opened.
import { perFrame } from './dom.js';

const POLL_MS = 2000;
const POLL_HIDDEN_MS = 15000;
const PAGE = 1000;
const PAGES_A_ROUND = 2;
const CHANNELS_MAX = 20000;

const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' });

// Sorts by name, then by id.
export function compareChannels(a, b) {
  return collator.compare(a.name || a.channelId, b.name || b.channelId) || (a.channelId < b.channelId ? -1 : 1);
}

export class Channels {
  #client;
  #memory;
  #byId = new Map(); // channelId -> {channelId, name, lastSequence, unread}
  #sorted = [];
  #unreadTotal = 0;
  #current = '';
  #after = ''; // begin of the next page
  #isAsking = false;
  #isLoaded = false; // the first page has arrived
  #isSwept = false; // every page has arrived
  #timer = null;
  #changedSoon = perFrame(() => this.onChange());

  constructor({ client, memory, isSendingIn, onChange }) {
    this.#client = client;
    this.#memory = memory;
    this.isSendingIn = isSendingIn;
    this.onChange = onChange;
    document.addEventListener('visibilitychange', () => this.refresh());
    // Follows what was read and sent in another tab.
    window.addEventListener('storage', perFrame(() => this.#recountAll()));
    client.on('hello', () => this.refresh());
    client.on('leader', ({ hasQuorum }) => { if (hasQuorum) this.refresh(); });
  }

  get isLoaded() { return this.#isLoaded; }

  get isSwept() { return this.#isSwept; }

  // Returns whether a channel that is not listed may exist.
  get isPartial() { return !this.#isSwept || this.#byId.size >= CHANNELS_MAX; }

  get size() { return this.#byId.size; }

  // Sorted by name. Must not be changed.
  get sorted() { return this.#sorted; }

  get unreadTotal() { return this.#unreadTotal; }

  get(channelId) { return this.#byId.get(channelId); }

  nameOf(channelId) { return this.#byId.get(channelId)?.name || channelId; }

  add(channel) {
    this.#merge([{ lastSequence: '0', ...channel }]);
    this.onChange();
  }

  select(channelId) {
    this.#current = channelId;
    this.#lookUp([channelId]);
  }

  // The subscription of the open channel reports its messages earlier than the list.
  saw(channelId, lastSequence) {
    const channel = this.#byId.get(channelId);
    if (!channel) return;
    channel.lastSequence = Math.max(channel.lastSequence, lastSequence);
    this.recount(channelId);
  }

  // Updates the unread counts after a change of what was read or sent.
  recount(channelId) {
    const channel = this.#byId.get(channelId);
    if (channel) this.#count(channel);
    this.#changedSoon();
  }

  // Returns the channel above or below the open one.
  neighbour(step) {
    const count = this.#sorted.length;
    if (count === 0) return null;
    const index = this.#sorted.findIndex(({ channelId }) => channelId === this.#current);
    return this.#sorted[(index + step + count) % count].channelId;
  }

  // Resolves to the first channels whose ids begin so, in the order of ids: {channels, hasMore}.
  async find(prefix, limit) {
    const { channels, hasMore } = await this.#client.call('ListChannels', { prefix, limit });
    this.#addBaselines(channels);
    return { channels: channels.map((channel) => this.#record(channel)), hasMore };
  }

  async refresh() {
    clearTimeout(this.#timer);
    if (this.#isAsking || this.#client.state === 'closed') return;
    this.#isAsking = true;
    try {
      if (this.#client.state === 'open' && this.#client.leader?.hasQuorum) await this.#load();
    } catch {
      // the line above the channels says what is wrong; the next round asks again
    }
    this.#isAsking = false;
    this.#timer = setTimeout(() => this.refresh(), document.hidden ? POLL_HIDDEN_MS : POLL_MS);
  }

  // Reads the whole list the first time, while the connection lasts; later some pages in a round.
  async #load() {
    await this.#lookUp(this.#isLoaded ? [this.#current] : [this.#current, this.#memory.channel]);
    for (let pages = 0; !this.#isSwept || pages < PAGES_A_ROUND; pages += 1) {
      const afterChannelId = this.#after;
      const { channels, hasMore } = await this.#client.call('ListChannels', { afterChannelId, limit: PAGE });
      let room = CHANNELS_MAX - this.#byId.size;
      const kept = channels.filter(({ channelId }) => this.#byId.has(channelId) || (room -= 1) >= 0);
      const isEnd = !hasMore || kept.length === 0;
      this.#merge(kept);
      this.#isLoaded = true;
      this.#isSwept ||= isEnd;
      this.#after = isEnd ? '' : channels.at(-1).channelId;
      this.onChange();
      if (isEnd) break;
    }
  }

  // Asks for single channels that are needed before their page arrives, or that are in no page.
  async #lookUp(channelIds) {
    for (const channelId of new Set(channelIds)) {
      if (!channelId || this.#byId.has(channelId) || this.#client.state !== 'open') continue;
      try {
        const { channels } = await this.#client.call('ListChannels', { prefix: channelId, limit: 1 });
        const found = channels.filter((channel) => channel.channelId === channelId);
        if (found.length > 0) {
          this.#merge(found);
          this.onChange();
        }
      } catch {
        // the next round asks again
      }
    }
  }

  // The contents of a channel in the first complete list are not unread. A channel that appears
  // later is new, and its contents are unread.
  #addBaselines(channels) {
    const news = channels.filter(({ channelId }) => !this.#byId.has(channelId));
    this.#memory.addBaselines(news.map(({ channelId, lastSequence }) =>
      ({ channelId, sequence: this.isPartial ? Number(lastSequence) : 0 })));
  }

  #record({ channelId, name, lastSequence }) {
    const channel = { channelId, name, lastSequence: Number(lastSequence), unread: 0 };
    channel.unread = this.#memory.unreadIn(channelId, channel.lastSequence);
    channel.sought = `${name}\n${channelId}`.toLowerCase();
    return channel;
  }

  #merge(rows) {
    this.#addBaselines(rows);
    const news = [];
    let isRenamed = false;
    for (const row of rows) {
      const known = this.#byId.get(row.channelId);
      const channel = this.#record(row);
      if (!known) {
        channel.unread = 0; // see #count
        this.#byId.set(row.channelId, channel);
        news.push(channel);
      } else {
        isRenamed ||= known.name !== channel.name;
        const lastSequence = Math.max(known.lastSequence, channel.lastSequence);
        Object.assign(known, { name: channel.name, sought: channel.sought, lastSequence });
      }
      this.#count(known ?? channel);
    }
    if (isRenamed) this.#sorted = [...this.#byId.values()].sort(compareChannels);
    else if (news.length > 0) this.#sorted = merged(this.#sorted, news.sort(compareChannels));
  }

  // Messages in the outbox may be among the new ones.
  #count(channel) {
    const { channelId, lastSequence } = channel;
    const unread = Math.max(0, this.#memory.unreadIn(channelId, lastSequence) - (this.isSendingIn(channelId) ? 1 : 0));
    this.#unreadTotal += unread - channel.unread;
    channel.unread = unread;
  }

  #recountAll() {
    for (const channel of this.#byId.values()) this.#count(channel);
    this.onChange();
  }
}

function merged(sorted, news) {
  const all = [];
  let i = 0;
  for (const channel of news) {
    while (i < sorted.length && compareChannels(sorted[i], channel) < 0) all.push(sorted[i++]);
    all.push(channel);
  }
  return all.concat(sorted.slice(i));
}
