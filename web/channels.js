// The list of channels with their unread marks, kept fresh by asking for the list every few
// seconds: a flood in a channel that nobody looks at costs the page nothing.
import { byId, make, perFrame, setText } from './dom.js';
import { plural } from './format.js';

const POLL_MS = 2000;
const POLL_HIDDEN_MS = 15000;
const PAGE = 1000;
const CHANNELS_MAX = 5000;
const FILTER_FROM = 9; // with so many channels a field to find one appears
const UNREAD_MAX = 99; // above it stands 99+

export class Channels {
  #client;
  #memory;
  #list = byId('channel-list');
  #byId = new Map(); // channelId -> {channelId, name, lastSequence, row}
  #current = null;
  #timer = null;
  #isAsking = false;
  #isLoaded = false;
  #renderSoon = perFrame(() => this.#render());

  constructor({ client, memory, onChange }) {
    this.#client = client;
    this.#memory = memory;
    this.onChange = onChange;
    byId('filter-text').addEventListener('input', () => this.#filter());
    byId('filter-text').addEventListener('keydown', (event) => {
      if (event.key === 'Enter') this.#visibleLinks()[0]?.click();
      else if (event.key === 'ArrowDown') this.#visibleLinks()[0]?.focus();
    });
    this.#list.addEventListener('keydown', (event) => this.#moved(event));
    document.addEventListener('visibilitychange', () => this.refresh());
    client.on('hello', () => this.refresh());
    client.on('leader', ({ hasQuorum }) => { if (hasQuorum) this.refresh(); });
  }

  get isLoaded() { return this.#isLoaded; }

  get ids() { return [...this.#list.children].map((row) => row.dataset.channelId); }

  get unreadTotal() {
    return [...this.#byId.values()].reduce((sum, channel) => sum + this.#unread(channel), 0);
  }

  get(channelId) { return this.#byId.get(channelId); }

  nameOf(channelId) { return this.#byId.get(channelId)?.name || channelId; }

  add(channel) {
    this.#merge([{ lastSequence: '0', ...channel }]);
    this.#render();
  }

  select(channelId) {
    this.#current = channelId;
    this.#render();
  }

  // The open channel is told of by its subscription, sooner than by the list.
  saw(channelId, lastSequence) {
    const channel = this.#byId.get(channelId);
    if (channel) channel.lastSequence = Math.max(channel.lastSequence, lastSequence);
    this.#renderSoon();
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

  async #load() {
    const found = [];
    let afterChannelId = '';
    for (;;) {
      const { channels, hasMore } = await this.#client.call('ListChannels', { afterChannelId, limit: PAGE });
      found.push(...channels);
      if (!hasMore || channels.length === 0 || found.length >= CHANNELS_MAX) break;
      afterChannelId = channels.at(-1).channelId;
    }
    // On the first visit nothing that is already there counts as unread.
    if (!this.#isLoaded && this.#memory.isFirstVisit) {
      for (const { channelId, lastSequence } of found) this.#memory.setRead(channelId, Number(lastSequence));
    }
    this.#isLoaded = true;
    this.#merge(found);
    this.#render();
  }

  #merge(channels) {
    let isNew = false;
    for (const { channelId, name, lastSequence } of channels) {
      const known = this.#byId.get(channelId);
      if (known) {
        known.name = name;
        known.lastSequence = Math.max(known.lastSequence, Number(lastSequence));
      } else {
        this.#byId.set(channelId, { channelId, name, lastSequence: Number(lastSequence), row: this.#row(channelId) });
        isNew = true;
      }
    }
    if (!isNew) return;
    const sorted = [...this.#byId.values()].sort((a, b) =>
      (a.name || a.channelId).localeCompare(b.name || b.channelId, undefined, { numeric: true, sensitivity: 'base' }) ||
      (a.channelId < b.channelId ? -1 : 1));
    const focused = document.activeElement;
    this.#list.append(...sorted.map(({ row }) => row));
    if (this.#list.contains(focused)) focused.focus();
  }

  #row(channelId) {
    const row = make('li', {},
      make('a', { class: 'channel', href: `#${encodeURIComponent(channelId)}` },
        make('span', { class: 'channel-sign', 'aria-hidden': 'true' }, '#'),
        make('span', { class: 'channel-name' }),
        make('span', { class: 'unread' })));
    row.dataset.channelId = channelId;
    return row;
  }

  #unread({ channelId, lastSequence }) {
    return Math.max(0, lastSequence - (this.#memory.readIn(channelId) ?? 0));
  }

  #render() {
    for (const channel of this.#byId.values()) {
      const link = channel.row.firstChild;
      const [, name, mark] = link.children;
      const unread = this.#unread(channel);
      setText(name, channel.name || channel.channelId);
      setText(mark, unread === 0 ? '' : unread > UNREAD_MAX ? `${UNREAD_MAX}+` : String(unread));
      link.title = channel.name ? channel.channelId : '';
      link.classList.toggle('has-unread', unread > 0);
      if (unread > 0) mark.setAttribute('aria-label', plural(unread, 'unread message'));
      else mark.removeAttribute('aria-label');
      if (channel.channelId === this.#current) link.setAttribute('aria-current', 'page');
      else link.removeAttribute('aria-current');
    }
    byId('filter').hidden = this.#byId.size < FILTER_FROM;
    this.#filter();
    this.onChange();
  }

  #filter() {
    const sought = byId('filter').hidden ? '' : byId('filter-text').value.trim().toLowerCase();
    let shown = 0;
    for (const { channelId, name, row } of this.#byId.values()) {
      row.hidden = sought !== '' && !`${name}\n${channelId}`.toLowerCase().includes(sought);
      if (!row.hidden) shown += 1;
    }
    const empty = byId('channels-empty');
    empty.hidden = shown > 0 || !this.#isLoaded;
    setText(empty, sought ? 'No channel of that name.' : 'No channel yet.');
  }

  #visibleLinks() {
    return [...this.#list.children].filter((row) => !row.hidden).map((row) => row.firstChild);
  }

  #moved(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || event.altKey) return;
    event.preventDefault();
    const links = this.#visibleLinks();
    links[links.indexOf(document.activeElement) + step]?.focus();
  }

  // The channel above or below the open one.
  neighbour(step) {
    const { ids } = this;
    if (ids.length === 0) return null;
    return ids[(ids.indexOf(this.#current) + step + ids.length) % ids.length];
  }
}
