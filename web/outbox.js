// Messages on their way. Each channel sends in order, one at a time, and each message keeps its
// client message id until it is known to be stored or its author gives it up; so it can be sent
// again, after a failure or a reload of the page, and is never there twice.
import { newClientMessageId } from './raftogram.js';
import { byId } from './dom.js';
import { explain, isUnknown } from './format.js';
import { outboxElement } from './message_view.js';

const ENTRIES_MAX = 200;

// Those behind a message that got no answer never left.
function noteOf(error, isFirst) {
  if (!isUnknown(error)) return `Not sent: ${explain(error)}`;
  return isFirst ? `Not confirmed: ${explain(error)}` : 'Not sent: the message before it got no answer';
}

export class Outbox {
  #client;
  #memory;
  #list = byId('outbox');
  #entries; // {clientMessageId, channelId, authorId, text, createdMs, state, note}
  #busy = new Set(); // channels that have a message in flight
  #channelId = null;
  #isShown; // (channelId, sequence): has the open channel's subscription passed it?
  #rendered = '';

  constructor({ client, memory, isShown }) {
    this.#client = client;
    this.#memory = memory;
    this.#isShown = isShown;
    this.#entries = memory.outbox.slice(0, ENTRIES_MAX);
    client.on('state', () => this.#render());
    client.on('leader', () => this.#render());
    for (const entry of this.#entries) if (entry.state !== 'failed') this.#flush(entry.channelId);
  }

  // How many messages failed, by channel.
  get failed() {
    const counts = new Map();
    for (const { state, channelId } of this.#entries) {
      if (state === 'failed') counts.set(channelId, (counts.get(channelId) ?? 0) + 1);
    }
    return counts;
  }

  get isFull() { return this.#entries.length >= ENTRIES_MAX; }

  add({ channelId, authorId, text }) {
    this.#entries.push({
      clientMessageId: `${this.#memory.browserId}-${newClientMessageId()}`,
      channelId,
      authorId,
      text,
      createdMs: Date.now(),
      state: 'sending',
      note: '',
    });
    this.#changed();
    this.#flush(channelId);
  }

  // What was written for another cluster goes to this one only if its author says so.
  failWaiting(error) {
    for (const entry of this.#entries) {
      if (entry.state !== 'sending') continue;
      entry.state = 'failed';
      entry.note = noteOf(error, true);
    }
    this.#changed();
  }

  show(channelId) {
    this.#channelId = channelId;
    this.#render();
  }

  // What a subscription delivers is stored, whatever became of the answer.
  delivered(messages) {
    const ids = new Set(messages.map((message) => message.clientMessageId));
    const left = this.#entries.filter((entry) => !ids.has(entry.clientMessageId));
    if (left.length === this.#entries.length) return;
    this.#entries = left;
    this.#changed();
  }

  #changed() {
    this.#memory.outbox = this.#entries.filter((entry) => entry.state !== 'sent');
    this.#render();
  }

  #drop(entry) {
    this.#entries = this.#entries.filter((other) => other !== entry);
    this.#changed();
  }

  async #flush(channelId) {
    if (this.#busy.has(channelId)) return;
    this.#busy.add(channelId);
    for (;;) {
      const entry = this.#entries.find((e) => e.channelId === channelId && e.state === 'sending');
      if (!entry) break;
      await this.#send(entry);
    }
    this.#busy.delete(channelId);
  }

  async #send(entry) {
    const { channelId, authorId, text, clientMessageId } = entry;
    try {
      const { sequence } = await this.#client.send({ channelId, authorId, text, clientMessageId });
      entry.state = 'sent';
      // In the open channel it stays until the subscription brings it, so that it never blinks.
      if (channelId === this.#channelId && !this.#isShown(channelId, Number(sequence))) this.#changed();
      else this.#drop(entry);
    } catch (error) {
      if (error.reason === 'CLOSED') return;
      // No node would have taken those behind it either.
      const isOutage = error.status === 'UNAVAILABLE' || error.reason === 'TIMEOUT';
      for (const other of this.#entries) {
        if (other !== entry && !(isOutage && other.channelId === channelId && other.state === 'sending')) continue;
        other.state = 'failed';
        other.note = noteOf(error, other === entry);
      }
      this.#changed();
    }
  }

  #waitingNote() {
    if (this.#client.state !== 'open') return 'Waiting for a connection…';
    if (!this.#client.leader?.hasQuorum) return 'Waiting for a quorum…';
    return 'Sending…';
  }

  #render() {
    const note = this.#waitingNote();
    for (const entry of this.#entries) if (entry.state === 'sending') entry.note = note;
    this.#entries = this.#entries.filter((e) => e.state !== 'sent' || e.channelId === this.#channelId);
    const shown = this.#entries.filter((entry) => entry.channelId === this.#channelId);
    // Written again only when it differs: a button that has the focus keeps it.
    const rendered = JSON.stringify(shown);
    if (rendered === this.#rendered) return;
    this.#rendered = rendered;
    this.#list.replaceChildren(...shown.map((entry) => outboxElement(entry, {
      onRetry: () => {
        entry.state = 'sending';
        this.#changed();
        this.#flush(entry.channelId);
      },
      onDiscard: () => this.#drop(entry),
    })));
  }
}
