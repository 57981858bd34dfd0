// The list of channels, with unread marks and a search field.
import { isOfInputMethod } from './composition.js';
import { ChannelSearch } from './channel_search.js';
import { compareChannels } from './channels.js';
import { byId, make, setText } from './dom.js';
import { plural } from './format.js';
import { VirtualList } from './virtual_list.js';

const FILTER_FROM = 9; // number of channels from which the search field is shown
const UNREAD_MAX = 99; // larger numbers are shown as 99+

function makeRow({ channelId }) {
  return make('li', { 'data-channel-id': channelId },
    make('a', { class: 'channel', href: `#${encodeURIComponent(channelId)}` },
      make('span', { class: 'channel-sign', 'aria-hidden': 'true' }, '#'),
      make('span', { class: 'channel-name', dir: 'auto' }),
      make('span', { class: 'unread' })));
}

export class ChannelList {
  #channels;
  #search;
  #field = byId('filter-text');
  #current = '';
  #shown = []; // channels
  #isRevealing = false; // the open channel must be visible, until the user scrolls
  #isEnterDue = false; // Enter was pressed before the cluster answered
  #rows = new VirtualList({
    list: byId('channel-list'),
    scroller: byId('channels'),
    keyOf: ({ channelId }) => channelId,
    makeRow,
    fillRow: (row, channel) => this.#fill(row, channel),
  });

  constructor({ channels }) {
    this.#channels = channels;
    this.#search = new ChannelSearch({ channels, onAnswer: () => this.#answered() });
    this.#field.addEventListener('input', () => {
      this.#isEnterDue = false;
      this.render();
      byId('channels').scrollTop = 0;
    });
    this.#field.addEventListener('keydown', (event) => {
      if (isOfInputMethod(event)) return;
      if (event.key === 'Enter') this.#enter();
      else if (event.key === 'ArrowDown') this.#focus(0);
    });
    byId('channel-list').addEventListener('keydown', (event) => this.#moved(event));
    for (const event of ['wheel', 'pointerdown', 'keydown']) {
      byId('channels').addEventListener(event, () => { this.#isRevealing = false; }, { passive: true });
    }
  }

  select(channelId) {
    this.#current = channelId;
    this.#isRevealing = true;
    this.render();
  }

  render() {
    byId('filter').hidden = this.#channels.size < FILTER_FROM && !this.#channels.isPartial;
    const sought = byId('filter').hidden ? '' : this.#field.value.trim();
    this.#search.seek(sought);
    this.#shown = sought === '' ? this.#channels.sorted : this.#matches(sought.toLowerCase());
    this.#rows.show(this.#shown);
    if (this.#isRevealing) this.#reveal();
    this.#note(sought);
  }

  // While the list is growing, the open channel moves down.
  #reveal() {
    const index = this.#shown.findIndex(({ channelId }) => channelId === this.#current);
    if (index >= 0) this.#rows.reveal(index);
    this.#isRevealing = !this.#channels.isSwept;
  }

  #matches(text) {
    const here = this.#channels.sorted.filter((channel) => channel.sought.includes(text));
    const beyond = this.#search.found.filter(({ channelId }) => !this.#channels.get(channelId));
    return beyond.length === 0 ? here : [...here, ...beyond].sort(compareChannels);
  }

  #note(sought) {
    const isEmpty = this.#shown.length === 0;
    let note = '';
    if (sought !== '' && this.#search.isAsking && isEmpty) note = 'Searching…';
    else if (sought !== '' && this.#search.note) note = this.#search.note;
    else if (sought !== '' && isEmpty) note = 'No channel of that name.';
    else if (isEmpty && this.#channels.isLoaded) note = 'No channel yet.';
    byId('channels-empty').hidden = note === '';
    setText(byId('channels-empty'), note);
  }

  #answered() {
    this.render();
    if (this.#isEnterDue) this.#enter();
  }

  #enter() {
    this.#isEnterDue = this.#shown.length === 0 && this.#search.isAsking;
    if (this.#shown.length > 0) this.#rows.rowAt(0).firstChild.click();
  }

  #focus(index) {
    if (index >= 0 && index < this.#shown.length) this.#rows.rowAt(index).firstChild.focus();
  }

  #moved(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || event.altKey) return;
    event.preventDefault();
    const { channelId } = event.target.closest('li').dataset;
    this.#focus(this.#shown.findIndex((channel) => channel.channelId === channelId) + step);
  }

  #fill(row, { channelId, name, unread }) {
    const link = row.firstChild;
    const [, label, mark] = link.children;
    setText(label, name || channelId);
    setText(mark, unread === 0 ? '' : unread > UNREAD_MAX ? `${UNREAD_MAX}+` : String(unread));
    link.title = name ? channelId : '';
    link.classList.toggle('has-unread', unread > 0);
    if (unread > 0) mark.setAttribute('aria-label', plural(unread, 'unread message'));
    else mark.removeAttribute('aria-label');
    if (channelId === this.#current) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
}
