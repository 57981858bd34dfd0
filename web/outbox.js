// The messages that are being sent. Each is kept until it is stored or its author discards it, over
// reloads and in every tab. It keeps its client message id, so it is stored once however often it
// is sent. Each channel sends one message at a time, in the order of writing. A message that cannot
// be sent blocks the later ones until its author decides.
import { isPassing, newClientMessageId } from './raftogram.js';
import { explain } from './format.js';
import { OutboxStore } from './outbox_store.js';
import { SenderLease } from './sender_lease.js';

const ENTRIES_MAX = 200;
const PAUSE_MIN_MS = 250; // between two attempts of one message
const PAUSE_MAX_MS = 5000;
const TURN_MS = 2000; // interval of the check whether another tab has left a channel

// Errors that go away, but only after an action of an operator.
const LASTING = new Set(['DISK_FULL', 'PAYLOAD_TOO_LARGE', 'FRAME_TOO_LARGE']);

const needsWriter = (error) => (!isPassing(error) && error.reason !== 'CLOSED') || LASTING.has(error.reason);

export class Outbox {
  #client;
  #memory;
  #store;
  #lease = new SenderLease();
  #onStored;
  #onChange;
  #isShown; // (channelId, sequence): has the open channel's subscription passed it?
  #entries = []; // in the order of writing; see #adopt
  #sending = new Map(); // channelId -> function that ends the pause between two attempts
  #turnTimer = null;
  #channelId = null;

  // onChange() is called after every change of what `entriesIn` and the counts tell.
  constructor({ client, memory, isShown, onStored, onChange }) {
    this.#client = client;
    this.#memory = memory;
    this.#isShown = isShown;
    this.#onStored = onStored;
    this.#onChange = onChange;
    this.#store = new OutboxStore({
      onPut: (stored) => this.#putElsewhere(stored),
      onRemove: (id) => this.#removedElsewhere(id),
      onCleared: () => this.#storeRest(() => true),
    });
    for (const stored of this.#store.load()) this.#adopt(stored);
    const flush = () => this.#flushAll();
    client.on('hello', flush);
    client.on('leader', ({ hasQuorum }) => { if (hasQuorum) flush(); });
    window.addEventListener('pageshow', ({ persisted }) => { if (persisted) this.#reload(); });
    queueMicrotask(flush);
  }

  get isFull() { return this.#unsent.length >= ENTRIES_MAX; }

  // Messages that are sent without an action of the user.
  get waitingCount() { return this.#entries.filter(({ state }) => state === 'sending').length; }

  // Messages that would be lost with this page.
  get unstoredCount() { return this.#unsent.filter(({ isStored }) => !isStored).length; }

  // Number of failed messages, by channel.
  get failed() {
    const counts = new Map();
    for (const { state, channelId } of this.#entries) {
      if (state === 'failed') counts.set(channelId, (counts.get(channelId) ?? 0) + 1);
    }
    return counts;
  }

  // Each has the fields that outbox_store.js keeps and `problem` (why the last try failed) and
  // `isHeld` (behind one that failed).
  entriesIn(channelId) {
    let isHeld = false;
    return this.#entries.filter((entry) => entry.channelId === channelId).map((entry) => {
      const shown = { ...entry, isHeld: isHeld && entry.state === 'sending' };
      isHeld ||= entry.state === 'failed';
      return shown;
    });
  }

  isSendingIn(channelId) { return this.#entries.some((entry) => entry.channelId === channelId && entry.controller); }

  // Adds a message and returns its entry; false if the outbox is full.
  add({ channelId, authorId, text }) {
    if (this.isFull) return false;
    const entry = this.#adopt({
      clientMessageId: `${this.#memory.browserId}-${newClientMessageId()}`,
      order: (this.#entries.at(-1)?.order ?? 0) + 1,
      createdMs: Date.now(),
      clusterId: this.#client.clusterId || this.#memory.clusterId,
      channelId,
      authorId,
      text,
      state: 'sending',
      note: '',
    }, { isStored: false });
    this.#lease.take(channelId); // before other tabs see the message
    this.#storeRest();
    this.#flush(entry.channelId);
    this.#onChange();
    return true;
  }

  retry(clientMessageId) {
    const entry = this.#find(clientMessageId);
    if (!entry) return;
    // Sends it to this cluster, as its author confirmed.
    Object.assign(entry, { state: 'sending', note: '', problem: '', clusterId: this.#client.clusterId });
    this.#storeRest((other) => other === entry);
    this.#wake(entry.channelId);
    this.#flush(entry.channelId);
    this.#onChange();
  }

  discard(clientMessageId) {
    const entry = this.#find(clientMessageId);
    if (!entry) return;
    this.#drop(entry);
    this.#flush(entry.channelId);
    this.#onChange();
  }

  // A message for another cluster is sent to this one only if its author confirms it.
  failOthers(clusterId) {
    for (const entry of this.#entries) {
      if (entry.state === 'sending' && (!clusterId || entry.clusterId !== clusterId)) {
        this.#fail(entry, { reason: 'CLUSTER_CHANGED' });
      }
    }
    this.#onChange();
  }

  show(channelId) {
    this.#channelId = channelId;
    for (const entry of this.#entries) if (entry.state === 'sent' && entry.channelId !== channelId) this.#drop(entry);
    this.#onChange();
  }

  // A message that a subscription delivers is stored, whatever the answer was.
  delivered(messages) {
    const ids = new Set(messages.map((message) => message.clientMessageId));
    const done = this.#entries.filter((entry) => ids.has(entry.clientMessageId));
    if (done.length === 0) return;
    for (const entry of done) this.#drop(entry);
    for (const channelId of new Set(done.map((entry) => entry.channelId))) this.#flush(channelId);
    this.#onChange();
  }

  get #unsent() { return this.#entries.filter(({ state }) => state !== 'sent'); }

  #find(clientMessageId) { return this.#entries.find((entry) => entry.clientMessageId === clientMessageId); }

  #inOrder() {
    this.#entries.sort((a, b) => a.order - b.order || (a.clientMessageId < b.clientMessageId ? -1 : 1));
  }

  // ---- what is kept -----------------------------------------------------------------------------

  // Beside the stored fields: isStored, problem, controller (of the call in flight).
  #adopt(stored, { isStored = true } = {}) {
    const entry = { ...stored, isStored, problem: '', controller: null };
    this.#entries.push(entry);
    this.#inOrder();
    return entry;
  }

  // Entries that found no room in the storage come first when there is some.
  #storeRest(isDue = (entry) => !entry.isStored) {
    for (const entry of this.#unsent.filter(isDue)) {
      if (this.#store.put(entry)) entry.isStored = true;
      else if (!entry.isStored) break;
    }
  }

  #drop(entry) {
    this.#entries = this.#entries.filter((other) => other !== entry);
    entry.controller?.abort();
    this.#store.remove(entry.clientMessageId);
    this.#storeRest();
    this.#wake(entry.channelId);
  }

  #putElsewhere(stored) {
    const entry = this.#find(stored.clientMessageId);
    if (entry?.state === 'sent') return;
    if (entry) Object.assign(entry, stored, { isStored: true });
    else this.#adopt(stored);
    this.#inOrder();
    this.#wake(stored.channelId);
    this.#flush(stored.channelId);
    this.#onChange();
  }

  // Removes an entry that is stored or discarded.
  #removedElsewhere(clientMessageId) {
    const entry = this.#find(clientMessageId);
    if (!entry || entry.state === 'sent') return;
    this.#drop(entry);
    this.#flush(entry.channelId);
    this.#onChange();
  }

  // The page was suspended, and received no events.
  #reload() {
    const stored = this.#store.load();
    const ids = new Set(stored.map(({ clientMessageId }) => clientMessageId));
    for (const entry of this.#unsent) {
      if (entry.isStored && !ids.has(entry.clientMessageId)) this.#removedElsewhere(entry.clientMessageId);
    }
    for (const entry of stored) this.#putElsewhere(entry);
  }

  #fail(entry, error) {
    Object.assign(entry, { state: 'failed', note: `Not sent: ${explain(error)}`, problem: '' });
    if (this.#store.has(entry.clientMessageId)) this.#store.put(entry);
  }

  // ---- sending ----------------------------------------------------------------------------------

  #flushAll() {
    for (const channelId of new Set(this.#entries.map((entry) => entry.channelId))) {
      this.#wake(channelId);
      this.#flush(channelId);
    }
  }

  #next(channelId) {
    const entry = this.#entries.find((other) => other.channelId === channelId && other.state !== 'sent');
    return entry?.state === 'sending' ? entry : undefined;
  }

  async #flush(channelId) {
    if (this.#sending.has(channelId)) return;
    this.#sending.set(channelId, null);
    for (let attempt = 0, entry; (entry = this.#next(channelId));) {
      if (!this.#lease.take(channelId)) {
        this.#turnTimer ??= setTimeout(() => {
          this.#turnTimer = null;
          this.#flushAll();
        }, TURN_MS);
        break;
      }
      if (await this.#send(entry)) {
        attempt = 0;
      } else {
        await this.#pause(channelId, attempt);
        attempt += 1;
      }
    }
    this.#sending.delete(channelId);
    this.#lease.release(channelId);
  }

  // Waits until the next attempt, or until something has changed.
  #pause(channelId, attempt) {
    const ceiling = Math.min(PAUSE_MAX_MS, PAUSE_MIN_MS * 2 ** Math.min(attempt, 10));
    return new Promise((done) => {
      this.#sending.set(channelId, done);
      setTimeout(done, ceiling * (0.5 + Math.random() / 2));
    });
  }

  #wake(channelId) { this.#sending.get(channelId)?.(); }

  // Returns whether the entry is finished; false if it must be sent again.
  async #send(entry) {
    const { clusterId } = this.#client;
    if (!entry.clusterId && clusterId) {
      entry.clusterId = clusterId;
      this.#storeRest((other) => other === entry);
    }
    if (entry.clusterId && !clusterId) return false; // not before a node has reported its cluster
    if (entry.clusterId && entry.clusterId !== clusterId) {
      this.#fail(entry, { reason: 'CLUSTER_CHANGED' });
      this.#onChange();
      return true;
    }
    const { channelId, authorId, text, clientMessageId } = entry;
    entry.controller = new AbortController();
    const { signal } = entry.controller;
    try {
      const { sequence } = await this.#client.send({ channelId, authorId, text, clientMessageId }, { signal });
      entry.controller = null;
      this.#stored(entry, Number(sequence));
      return true;
    } catch (error) {
      entry.controller = null;
      if (!this.#entries.includes(entry) || entry.state !== 'sending') return true;
      if (needsWriter(error)) this.#fail(entry, error);
      else entry.problem = explain(error);
      this.#onChange();
      return entry.state !== 'sending';
    }
  }

  #stored(entry, sequence) {
    this.#memory.addOwn(entry.channelId, [sequence]);
    const isAwaited = entry.channelId === this.#channelId && !this.#isShown(entry.channelId, sequence);
    if (isAwaited && this.#entries.includes(entry)) {
      // It stays until the subscription delivers it, so that it does not flicker.
      entry.state = 'sent';
      this.#store.remove(entry.clientMessageId);
      this.#storeRest();
    } else {
      this.#drop(entry);
    }
    this.#onStored(entry.channelId);
    this.#onChange();
  }
}
