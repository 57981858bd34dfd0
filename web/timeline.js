// The messages of the open channel: a window of at most WINDOW_MAX consecutive messages of a
// history of any length. Scrolling near an edge reads the next page. Live messages are added while
// the window reaches the end of the channel; otherwise they are only counted. Failed reads are
// reported at the edge where the messages are missing, and repeated on request.
import { isPassing } from './raftogram.js';
import { byId, make, perFrame, setText } from './dom.js';
import { explain, plural } from './format.js';
import { arrange, messageElement } from './message_view.js';

const PAGE = 50;
const WINDOW_MAX = 500;
const NEAR_PX = 800; // distance to an edge at which the next page is read
const BOTTOM_PX = 48; // distance that counts as the end
const UNREAD_OFFSET_PX = 120; // position of the first unread message
const SAVE_MS = 250;
const RETRY_MS = 2000;
const ANNOUNCED_MAX = 5;

export class Timeline {
  #client;
  #memory;
  #onRead;
  #onEnded;
  #region = byId('timeline');
  #list = byId('messages');
  #edge = byId('timeline-edge');
  #error = byId('timeline-error');
  #jump = byId('jump-button');
  #announcer = byId('announcer');
  #visit = 0; // counts opened channels: answers for an earlier one are discarded
  #channelId = null;
  #subscription = null;
  #isMissing = false; // the channel does not exist
  #items = []; // {sequence, message, element}
  #latest = 0; // the channel's last sequence, as far as known
  #unreadStart = 0; // the first message that was new when the channel was opened
  #readUpTo = 0;
  #isReady = false;
  #isAtBottom = true;
  #isLoading = { older: false, newer: false };
  #hasFailed = { older: false, newer: false }; // until the user asks for another attempt
  #again = null; // that attempt
  #saveTimer = null;

  constructor({ client, memory, onRead, onDelivered, onEnded }) {
    this.#client = client;
    this.#memory = memory;
    this.#onRead = onRead;
    this.#onEnded = onEnded;
    this.onDelivered = onDelivered;
    const settle = perFrame(() => this.#settle());
    this.scheduleSettle = settle;
    this.#region.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    new ResizeObserver(settle).observe(this.#region);
    new ResizeObserver(settle).observe(byId('outbox'));
    this.#jump.addEventListener('click', () => this.toEnd());
    byId('timeline-retry').addEventListener('click', () => {
      this.#region.focus(); // the button goes
      this.retry();
    });
    document.addEventListener('visibilitychange', settle);
    window.addEventListener('focus', settle);
    window.addEventListener('pagehide', () => this.#savePlace());
  }

  get channelId() { return this.#channelId; }

  get latest() { return this.#latest; }

  get isMissing() { return this.#isMissing; }

  // `readUpTo`: the last sequence read before; undefined when the channel was never seen.
  open(channelId, readUpTo) {
    this.close();
    const visit = this.#visit;
    this.#channelId = channelId;
    this.#readUpTo = readUpTo ?? 0;
    this.#edge.textContent = 'Loading…';
    this.#region.setAttribute('aria-busy', 'true');
    this.#subscription = this.#client.subscribe(channelId, { liveOnly: true, encoding: 'text' }, {
      onMessages: (messages) => this.#receive(messages),
      onState: (state, subscription) => {
        if (state !== 'live' || this.#visit !== visit || this.#latest > 0 || this.#isReady) return;
        this.#latest = Number(subscription.lastSequence);
        this.#begin(visit, readUpTo);
      },
      onEnd: (error) => {
        if (this.#visit !== visit || error.reason === 'CLUSTER_CHANGED') return; // the page starts again
        this.#isMissing = error.reason === 'CHANNEL_NOT_FOUND';
        this.#fail('newer', error, () => this.open(channelId, readUpTo));
        this.#onEnded();
      },
    });
  }

  close() {
    if (this.#channelId !== null) this.#savePlace();
    this.#visit += 1;
    this.#subscription?.close();
    this.#subscription = null;
    this.#channelId = null;
    this.#isMissing = false;
    this.#latest = 0;
    this.#unreadStart = 0;
    this.#isReady = false;
    this.#isAtBottom = true;
    this.#isLoading = { older: false, newer: false };
    this.#forgive();
    this.#clear();
    this.#edge.textContent = '';
    this.#region.setAttribute('aria-busy', 'false');
    this.#jump.hidden = true;
  }

  // Scrolls to the newest message, as after sending one.
  async toEnd() {
    this.#isAtBottom = true;
    if (this.#isReady && !this.#reachesEnd) {
      const visit = this.#visit;
      this.#isReady = false;
      this.#forgive();
      const messages = await this.#read(visit, Math.max(1, this.#latest - PAGE + 1), this.#latest,
        (error) => this.#fail('newer', error, () => this.toEnd()));
      if (this.#visit !== visit) return;
      this.#isReady = true;
      if (messages) {
        this.#clear();
        this.#append(messages);
      } else {
        this.#isAtBottom = false;
        this.#region.scrollTop = this.#region.scrollHeight; // place of the reason
      }
    }
    this.scheduleSettle();
  }

  // Repeats the read that failed last.
  retry() {
    const again = this.#again;
    this.#forgive();
    again?.();
  }

  get #first() { return this.#items[0]?.sequence ?? this.#latest + 1; }

  get #last() { return this.#items.at(-1)?.sequence ?? 0; }

  get #reachesEnd() { return this.#last >= this.#latest; }

  // ---- reading ----------------------------------------------------------------------------------

  // All messages from..to; a page may be shorter than asked for, as its bytes are limited too. Goes
  // on trying as long as the channel is open and that may help. Undefined when it is not, and after
  // `onError`, which is told what no other try would change.
  async #read(visit, from, to, onError) {
    const messages = [];
    let after = from - 1;
    while (after < to) {
      try {
        const { messages: page } = await this.#client.call('ReadHistory',
          { channelId: this.#channelId, afterSequence: String(after), limit: to - after, encoding: 'text' },
          { retry: true });
        if (this.#visit !== visit) return undefined;
        if (page.length === 0) break;
        messages.push(...page);
        after = Number(page.at(-1).sequence);
      } catch (error) {
        if (this.#visit !== visit) return undefined;
        if (!isPassing(error)) {
          if (error.reason !== 'CLUSTER_CHANGED') onError(error);
          return undefined;
        }
        await new Promise((done) => { setTimeout(done, RETRY_MS); });
        if (this.#visit !== visit) return undefined;
      }
    }
    return messages;
  }

  async #begin(visit, readUpTo) {
    const place = this.#memory.placeIn(this.#channelId);
    const isPlaceKnown = place && place.sequence >= 1 && place.sequence <= this.#latest;
    const hasUnread = readUpTo !== undefined && readUpTo < this.#latest;
    if (hasUnread) this.#unreadStart = readUpTo + 1;
    let target = null;
    if (isPlaceKnown) target = place;
    else if (hasUnread) target = { sequence: this.#unreadStart, offset: UNREAD_OFFSET_PX };
    const from = target ? Math.min(target.sequence - PAGE / 2, this.#latest - PAGE + 1) : this.#latest - PAGE + 1;
    const to = target ? Math.min(this.#latest, target.sequence + PAGE) : this.#latest;
    const messages = await this.#read(visit, Math.max(1, from), to,
      (error) => this.#fail('older', error, () => this.open(this.#channelId, readUpTo)));
    if (this.#visit !== visit || !messages) return;
    this.onDelivered(messages);
    const own = new Set(messages.filter((message) => this.#memory.isOwn(message)).map(({ sequence }) => Number(sequence)));
    while (own.has(this.#unreadStart)) this.#unreadStart += 1;
    this.#append(messages);
    this.#isReady = true;
    const item = target && this.#items.find(({ sequence }) => sequence >= target.sequence);
    if (item) {
      this.#isAtBottom = false;
      this.#region.scrollTop += this.#offsetOf(item.element) - target.offset;
      this.#isAtBottom = this.#distanceToBottom < BOTTOM_PX && this.#reachesEnd;
    }
    this.#region.setAttribute('aria-busy', 'false');
    this.#settle();
  }

  async #loadOlder() {
    if (this.#isLoading.older || this.#hasFailed.older) return;
    if (this.#items.length === 0 || this.#first <= 1) return;
    this.#isLoading.older = true;
    const visit = this.#visit;
    const first = this.#first;
    const messages = await this.#read(visit, Math.max(1, first - PAGE), first - 1,
      (error) => this.#fail('older', error, this.scheduleSettle));
    if (this.#visit !== visit) return;
    this.#isLoading.older = false;
    if (!messages || this.#first !== first) return; // the window has moved meanwhile
    this.#keepingPlace(() => this.#prepend(messages));
    this.scheduleSettle();
  }

  async #loadNewer() {
    if (this.#isLoading.newer || this.#hasFailed.newer || this.#reachesEnd) return;
    this.#isLoading.newer = true;
    const visit = this.#visit;
    const last = this.#last;
    const messages = await this.#read(visit, last + 1, Math.min(last + PAGE, this.#latest),
      (error) => this.#fail('newer', error, this.scheduleSettle));
    if (this.#visit !== visit) return;
    this.#isLoading.newer = false;
    if (!messages) return;
    if (this.#isAtBottom) this.#append(messages);
    else this.#keepingPlace(() => this.#append(messages));
    this.scheduleSettle();
  }

  // Says it at the upper edge or below the messages. Only `again`, for which there is a button, tries
  // once more.
  #fail(where, error, again) {
    this.#hasFailed[where] = true;
    this.#again = again;
    this.#keepingPlace(() => {
      if (where === 'older') this.#list.before(this.#error);
      else this.#list.after(this.#error);
      this.#error.hidden = false;
      setText(byId('timeline-error-text'), `Not to be read: ${explain(error)}.`);
      this.#edge.textContent = '';
    });
    this.#region.setAttribute('aria-busy', 'false');
    this.scheduleSettle();
  }

  #forgive() {
    this.#hasFailed = { older: false, newer: false };
    this.#again = null;
    this.#error.hidden = true;
    setText(byId('timeline-error-text'), '');
  }

  #receive(messages) {
    this.onDelivered(messages);
    const wasAtEnd = this.#isReady && this.#reachesEnd;
    this.#latest = Math.max(this.#latest, Number(messages.at(-1).sequence));
    const isFull = this.#items.length + messages.length > WINDOW_MAX;
    if (wasAtEnd && (this.#isAtBottom || !isFull)) {
      this.#append(messages);
      if (this.#isAtBottom) this.#announce(messages);
    }
    this.scheduleSettle();
  }

  #announce(messages) {
    for (const { authorId, text } of messages.slice(-ANNOUNCED_MAX)) {
      this.#announcer.append(make('p', {},
        make('bdi', {}, authorId || 'Somebody'), ': ', make('bdi', {}, text ?? 'data')));
    }
    while (this.#announcer.children.length > ANNOUNCED_MAX) this.#announcer.firstChild.remove();
  }

  // ---- the window -------------------------------------------------------------------------------

  #clear() {
    this.#items = [];
    this.#list.replaceChildren();
  }

  #item(message) {
    const element = messageElement(message, { isOwn: this.#memory.isOwn(message) });
    return { sequence: Number(message.sequence), message, element };
  }

  #arrange(index) {
    const item = this.#items[index];
    if (!item) return;
    const isUnreadStart = item.sequence === this.#unreadStart && item.sequence > 1;
    arrange(item.element, item.message, this.#items[index - 1]?.message, isUnreadStart);
  }

  // Only messages that follow the window are added: a late or repeated answer changes nothing.
  #append(messages) {
    let next = this.#items.length > 0 ? this.#last + 1 : Number(messages[0]?.sequence);
    const fragment = document.createDocumentFragment();
    for (const message of messages.slice(-WINDOW_MAX)) {
      if (Number(message.sequence) !== next) {
        const isSkipped = messages.length > WINDOW_MAX && this.#isAtBottom;
        if (!isSkipped || fragment.childNodes.length > 0) continue;
        this.#clear();
        next = Number(message.sequence);
      }
      next += 1;
      const item = this.#item(message);
      this.#items.push(item);
      this.#arrange(this.#items.length - 1);
      fragment.append(item.element);
    }
    this.#list.append(fragment);
    this.#trim('top');
  }

  #prepend(messages) {
    const items = [];
    let next = this.#first - 1;
    for (const message of [...messages].reverse()) {
      if (Number(message.sequence) !== next) break;
      next -= 1;
      items.unshift(this.#item(message));
    }
    this.#items.unshift(...items);
    for (let i = 0; i <= items.length; i += 1) this.#arrange(i);
    this.#list.prepend(...items.map(({ element }) => element));
    this.#trim('bottom');
  }

  #trim(side) {
    const excess = this.#items.length - WINDOW_MAX;
    if (excess <= 0) return;
    const gone = side === 'top' ? this.#items.splice(0, excess) : this.#items.splice(-excess);
    for (const { element } of gone) element.remove();
    if (side === 'top') this.#arrange(0);
  }

  // ---- the place --------------------------------------------------------------------------------

  get #distanceToBottom() {
    return this.#region.scrollHeight - this.#region.scrollTop - this.#region.clientHeight;
  }

  // The index of the first item that ends below `y`, in the region's own coordinates.
  #indexAt(y) {
    let low = 0;
    let high = this.#items.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const { element } = this.#items[middle];
      if (element.offsetTop + element.offsetHeight > y) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  // Where an element stands below the upper edge of the region, with its fractions: rounded ones
  // would add up to a drift.
  #offsetOf(element) {
    return element.getBoundingClientRect().top - this.#region.getBoundingClientRect().top;
  }

  #keepingPlace(change) {
    const item = this.#items[this.#indexAt(this.#region.scrollTop)];
    const before = item ? this.#offsetOf(item.element) : 0;
    change();
    if (item?.element.isConnected) this.#region.scrollTop += this.#offsetOf(item.element) - before;
  }

  #scrolled() {
    if (!this.#isReady) return;
    this.#isAtBottom = this.#reachesEnd && this.#distanceToBottom < BOTTOM_PX;
    this.scheduleSettle();
  }

  // After any change: stays at the end, reads the next page, marks visible messages as read, stores
  // the position.
  #settle() {
    if (!this.#isReady) return;
    if (this.#isAtBottom) this.#region.scrollTop = this.#region.scrollHeight;
    setText(this.#edge, this.#edgeText());
    if (this.#region.scrollTop < NEAR_PX) this.#loadOlder();
    if (this.#distanceToBottom < NEAR_PX) this.#loadNewer();
    this.#markRead();
    const below = this.#memory.unreadIn(this.#channelId, this.#latest);
    this.#jump.hidden = this.#isAtBottom && this.#reachesEnd;
    setText(byId('jump-text'), below > 0 ? plural(below, 'new message') : 'Latest messages');
    this.#saveTimer ??= setTimeout(() => this.#savePlace(), SAVE_MS);
  }

  #edgeText() {
    if (this.#hasFailed.older) return '';
    if (this.#items.length === 0) return 'No message yet. Write the first one.';
    return this.#first > 1 ? 'Loading earlier messages…' : 'This is where the channel begins.';
  }

  // A message is read once it was on a visible screen with the focus.
  #markRead() {
    if (document.hidden || !document.hasFocus() || this.#items.length === 0) return;
    const bottom = this.#region.scrollTop + this.#region.clientHeight;
    const index = this.#isAtBottom ? this.#items.length - 1 : this.#indexAt(bottom) - 1;
    const sequence = this.#items[index]?.sequence ?? 0;
    if (sequence <= this.#readUpTo) return;
    this.#readUpTo = sequence;
    this.#onRead(this.#channelId, sequence);
  }

  #savePlace() {
    clearTimeout(this.#saveTimer);
    this.#saveTimer = null;
    if (!this.#isReady || this.#channelId === null) return;
    const item = this.#items[this.#indexAt(this.#region.scrollTop)];
    const place = this.#isAtBottom || !item ? undefined
      : { sequence: item.sequence, offset: this.#offsetOf(item.element) };
    this.#memory.setPlaceIn(this.#channelId, place);
  }
}
