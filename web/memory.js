// What this browser remembers between visits: name, theme, which messages have been read, where in
// a channel one was, what was written and not yet sent. The last two belong to the tab first
// (sessionStorage), so that two tabs can be in two places, and to the next new tab second.
// Everything is bounded, and a browser that forbids storage merely forgets.

const PREFIX = 'raftogram.';
const POSITIONS_MAX = 2000;

function read(storage, key, fallback) {
  try {
    const text = globalThis[storage].getItem(PREFIX + key);
    return text === null ? fallback : JSON.parse(text);
  } catch {
    return fallback;
  }
}

function write(storage, key, value) {
  try {
    if (value === undefined) globalThis[storage].removeItem(PREFIX + key);
    else globalThis[storage].setItem(PREFIX + key, JSON.stringify(value));
  } catch {
    // full or forbidden: it will not be remembered
  }
}

// Maps by channel. The sign before the id keeps an id such as 7 or __proto__ an ordinary key, and
// the keys in the order in which they came, so that the oldest can be forgotten.
const keyOf = (channelId) => `#${channelId}`;

function put(map, channelId, value) {
  const key = keyOf(channelId);
  const next = { ...map };
  delete next[key];
  if (value !== undefined) next[key] = value;
  const keys = Object.keys(next);
  for (const old of keys.slice(0, Math.max(0, keys.length - POSITIONS_MAX))) delete next[old];
  return next;
}

// Asked for every channel at every message, so not parsed each time; another tab's writing is news.
let readPositions = null;
globalThis.addEventListener('storage', () => { readPositions = null; });

export const memory = {
  get name() { return read('localStorage', 'name', ''); },

  set name(name) { write('localStorage', 'name', name); },

  // Stored bare, for theme.js.
  set theme(theme) {
    try {
      localStorage.setItem(`${PREFIX}theme`, theme);
    } catch {
      // it will not be remembered
    }
  },

  // Tells own messages from others': the ids of this browser's messages begin with it.
  get browserId() {
    let id = read('localStorage', 'browserId', '');
    if (!/^[0-9a-f]{12}$/.test(id)) {
      const bytes = crypto.getRandomValues(new Uint8Array(6));
      id = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
      write('localStorage', 'browserId', id);
    }
    return id;
  },

  // The tab's own first: what it has not yet sent was written for that one, whatever another tab has
  // found since.
  get clusterId() { return read('sessionStorage', 'clusterId', null) ?? read('localStorage', 'clusterId', ''); },

  // Sequences mean nothing in another cluster.
  set clusterId(clusterId) {
    const previous = this.clusterId;
    write('sessionStorage', 'clusterId', clusterId);
    write('localStorage', 'clusterId', clusterId);
    if (previous && previous !== clusterId) this.forgetPlaces();
  },

  // For the page after the reload: the cluster is another one.
  get hasClusterChanged() { return read('sessionStorage', 'clusterChanged', false); },

  set hasClusterChanged(hasChanged) { write('sessionStorage', 'clusterChanged', hasChanged || undefined); },

  forgetPlaces() {
    readPositions = null;
    for (const key of ['read', 'places', 'channel']) {
      write('localStorage', key, undefined);
      write('sessionStorage', key, undefined);
    }
  },

  get isFirstVisit() { return read('localStorage', 'read', null) === null; },

  // The last sequence read; undefined in a channel that was never opened.
  readIn(channelId) {
    readPositions ??= read('localStorage', 'read', {});
    return readPositions[keyOf(channelId)];
  },

  // Another tab may have read further.
  setRead(channelId, sequence) {
    const positions = read('localStorage', 'read', {});
    if ((positions[keyOf(channelId)] ?? -1) >= sequence) return;
    readPositions = put(positions, channelId, sequence);
    write('localStorage', 'read', readPositions);
  },

  get channel() { return read('sessionStorage', 'channel', null) ?? read('localStorage', 'channel', ''); },

  set channel(channelId) {
    write('sessionStorage', 'channel', channelId);
    write('localStorage', 'channel', channelId);
  },

  // {sequence, offset}: the first message shown and where; undefined at the end of the channel.
  placeIn(channelId) {
    const places = read('sessionStorage', 'places', null) ?? read('localStorage', 'places', {});
    return places[keyOf(channelId)];
  },

  setPlaceIn(channelId, place) {
    for (const storage of ['sessionStorage', 'localStorage']) {
      write(storage, 'places', put(read(storage, 'places', {}), channelId, place));
    }
  },

  draftIn(channelId) { return read('sessionStorage', 'drafts', {})[keyOf(channelId)] ?? ''; },

  setDraftIn(channelId, text) {
    write('sessionStorage', 'drafts', put(read('sessionStorage', 'drafts', {}), channelId, text || undefined));
  },

  get outbox() { return read('sessionStorage', 'outbox', []); },

  set outbox(entries) { write('sessionStorage', 'outbox', entries.length > 0 ? entries : undefined); },
};
