// Shows the messages of the open channel that are being sent, below the stored ones.
import { byId } from './dom.js';
import { outboxElement, showStatus } from './message_view.js';

const OUTAGES = { lost: 'Waiting for a connection…', quorum: 'Waiting for a quorum…' };

export class OutboxView {
  #outbox;
  #clusterState;
  #list = byId('outbox');
  #rows = new Map(); // clientMessageId -> {element, status}
  #channelId = null;

  constructor({ outbox, clusterState }) {
    this.#outbox = outbox;
    this.#clusterState = clusterState;
  }

  show(channelId) {
    this.#channelId = channelId;
    this.render();
  }

  // Changes only what differs, so that a button keeps the focus.
  render() {
    const entries = this.#channelId === null ? [] : this.#outbox.entriesIn(this.#channelId);
    const ids = new Set(entries.map(({ clientMessageId }) => clientMessageId));
    for (const [id, { element }] of this.#rows) {
      if (ids.has(id)) continue;
      element.remove();
      this.#rows.delete(id);
    }
    entries.forEach((entry, i) => {
      const { element } = this.#rowOf(entry);
      if (this.#list.children[i] !== element) this.#list.insertBefore(element, this.#list.children[i] ?? null);
    });
  }

  #rowOf(entry) {
    const id = entry.clientMessageId;
    if (!this.#rows.has(id)) this.#rows.set(id, { element: outboxElement(entry), status: '' });
    const row = this.#rows.get(id);
    const { note, verbs } = this.#statusOf(entry);
    const status = [entry.state, note, ...verbs].join('\n');
    if (row.status !== status) {
      row.status = status;
      showStatus(row.element, { state: entry.state, note, actions: verbs.map((verb) => [verb, () => this.#act(verb, id)]) });
    }
    return row;
  }

  #statusOf({ state, note, isHeld, problem }) {
    if (state === 'sent') return { note: 'Sent', verbs: [] };
    if (state === 'failed') return { note: `${note}.`, verbs: ['Retry', 'Discard'] };
    const outage = OUTAGES[this.#clusterState.shown];
    let waiting = '';
    if (isHeld) waiting = 'Waiting for the message before it';
    else if (outage) waiting = outage;
    else if (problem) waiting = `Trying again: ${problem}…`;
    return waiting ? { note: waiting, verbs: ['Discard'] } : { note: 'Sending…', verbs: [] };
  }

  #act(verb, id) {
    byId('composer-text').focus(); // the button disappears
    if (verb === 'Retry') this.#outbox.retry(id);
    else this.#outbox.discard(id);
  }
}
