// The messages that wait to be sent, in localStorage: they outlive the page, and the tabs of a
// browser share them. Each has a key of its own, so the cost of adding one does not depend on the
// number that wait.

const PREFIX = 'raftogram.outbox.';
const FIELDS = ['clientMessageId', 'channelId', 'authorId', 'text', 'clusterId', 'state', 'note'];

function parse(text) {
  try {
    const entry = JSON.parse(text);
    const isWhole = FIELDS.every((field) => typeof entry[field] === 'string') &&
      Number.isFinite(entry.order) && Number.isFinite(entry.createdMs);
    return isWhole ? entry : null;
  } catch {
    return null;
  }
}

export class OutboxStore {
  // Events of other tabs: onPut(entry), onRemove(clientMessageId), onCleared().
  constructor({ onPut, onRemove, onCleared }) {
    window.addEventListener('storage', ({ key, newValue }) => {
      if (key === null) onCleared();
      if (!key?.startsWith(PREFIX)) return;
      if (newValue === null) onRemove(key.slice(PREFIX.length));
      const entry = parse(newValue);
      if (entry) onPut(entry);
    });
  }

  load() {
    try {
      const keys = Array.from({ length: localStorage.length }, (_, i) => localStorage.key(i));
      return keys.filter((key) => key?.startsWith(PREFIX))
        .map((key) => parse(localStorage.getItem(key))).filter(Boolean);
    } catch {
      return []; // forbidden
    }
  }

  // Returns false if the storage is full or forbidden. An earlier state of the entry then stays.
  put(entry) {
    const { order, createdMs } = entry;
    const stored = { order, createdMs };
    for (const field of FIELDS) stored[field] = entry[field];
    try {
      localStorage.setItem(PREFIX + entry.clientMessageId, JSON.stringify(stored));
      return true;
    } catch {
      return false;
    }
  }

  has(clientMessageId) {
    try {
      return localStorage.getItem(PREFIX + clientMessageId) !== null;
    } catch {
      return false;
    }
  }

  remove(clientMessageId) {
    try {
      localStorage.removeItem(PREFIX + clientMessageId);
    } catch {
      // forbidden: it was never there
    }
  }
}
