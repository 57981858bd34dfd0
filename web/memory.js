// What this browser remembers between visits: name, theme, which messages have been read, where in
// a channel one was, what was begun to be written. The last two belong to the tab first
// (sessionStorage), so that two tabs can be in two places, and places to the next new tab second.
// Everything is bounded. What a full or forbidden storage does not take is remembered as long as
// the page is open. What waits to be sent has a store of its own, outbox_store.js.

const PREFIX = 'raftogram.';
const POSITIONS_MAX = 2000; // channels whose read position is kept
const BASELINES_MAX = 5000; // channels that were never opened
const OWN_MAX = 100; // messages of a channel

const unstored = new Map(); // storage/key -> value

function read(storage, key, fallback) {
  const place = `${storage}/${key}`;
  if (unstored.has(place)) return unstored.get(place) ?? fallback;
  try {
    const text = globalThis[storage].getItem(PREFIX + key);
    return text === null ? fallback : JSON.parse(text);
  } catch {
    return fallback;
  }
}

// Returns whether it is kept after the page is closed.
function write(storage, key, value) {
  const place = `${storage}/${key}`;
  try {
    if (value === undefined) globalThis[storage].removeItem(PREFIX + key);
    else globalThis[storage].setItem(PREFIX + key, JSON.stringify(value));
    unstored.delete(place);
    return true;
  } catch {
    unstored.set(place, value);
    return value === undefined;
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
const parsed = new Map(); // key -> map by channel
const loosely = new Map(); // channelId -> baseline, of those beyond BASELINES_MAX

function mapOf(key) {
  if (!parsed.has(key)) parsed.set(key, read('localStorage', key, {}));
  return parsed.get(key);
}

function writeMap(key, map) {
  parsed.set(key, map);
  write('localStorage', key, map);
}

// Another tab may have written meanwhile, before its event comes.
function freshMap(key) {
  parsed.delete(key);
  return mapOf(key);
}

globalThis.addEventListener('storage', ({ key }) => {
  parsed.clear();
  if (key?.startsWith(PREFIX)) unstored.delete(`localStorage/${key.slice(PREFIX.length)}`);
});

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

  // Distinguishes own messages from others: the ids of messages of this browser begin with it.
  get browserId() {
    let id = read('localStorage', 'browserId', '');
    if (!/^[0-9a-f]{12}$/.test(id)) {
      const bytes = crypto.getRandomValues(new Uint8Array(6));
      id = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
      write('localStorage', 'browserId', id);
    }
    return id;
  },

  isOwn(message) { return message.clientMessageId?.startsWith(`${this.browserId}-`) ?? false; },

  // The tab's own first: where it was is of that one, whatever another tab has found since.
  get clusterId() { return read('sessionStorage', 'clusterId', null) ?? read('localStorage', 'clusterId', ''); },

  // Sequences are meaningless in another cluster.
  set clusterId(clusterId) {
    const previous = this.clusterId;
    write('sessionStorage', 'clusterId', clusterId);
    write('localStorage', 'clusterId', clusterId);
    if (previous && previous !== clusterId) this.forgetPlaces();
  },

  // Clears what depends on the cluster; the page then reloads for another cluster.
  get hasClusterChanged() { return read('sessionStorage', 'clusterChanged', false); },

  set hasClusterChanged(hasChanged) { write('sessionStorage', 'clusterChanged', hasChanged || undefined); },

  forgetPlaces() {
    parsed.clear();
    loosely.clear();
    for (const key of ['read', 'baselines', 'own', 'places', 'channel']) {
      write('localStorage', key, undefined);
      write('sessionStorage', key, undefined);
    }
  },

  // The last sequence read; in a channel that was never opened the last one that was there when it
  // was first listed; undefined in one that is not known at all.
  readIn(channelId) {
    const key = keyOf(channelId);
    return mapOf('read')[key] ?? mapOf('baselines')[key] ?? loosely.get(channelId);
  },

  // Another tab may have read further. The baseline goes: it must not stand in for a position that
  // is forgotten one day.
  setRead(channelId, sequence) {
    const positions = freshMap('read');
    if ((positions[keyOf(channelId)] ?? -1) >= sequence) return;
    writeMap('read', put(positions, channelId, sequence));
    loosely.delete(channelId);
    if (mapOf('baselines')[keyOf(channelId)] === undefined) return;
    const { [keyOf(channelId)]: gone, ...baselines } = freshMap('baselines');
    writeMap('baselines', baselines);
  },

  // What is there already when a channel is first listed does not count as unread, and is no reason
  // to forget what was read elsewhere. rows: [{channelId, sequence}]
  addBaselines(rows) {
    const news = rows.filter(({ channelId }) => this.readIn(channelId) === undefined);
    if (news.length === 0) return;
    const baselines = { ...freshMap('baselines') };
    let room = BASELINES_MAX - Object.keys(baselines).length;
    for (const { channelId, sequence } of news) {
      if (room > 0) baselines[keyOf(channelId)] = sequence;
      else loosely.set(channelId, sequence);
      room -= 1;
    }
    writeMap('baselines', baselines);
  },

  // Own messages are never unread.
  addOwn(channelId, sequences) {
    const own = freshMap('own');
    const known = own[keyOf(channelId)] ?? [];
    const before = this.readIn(channelId) ?? -1;
    const all = [...new Set([...known, ...sequences])].sort((a, b) => a - b);
    let readUpTo = before;
    while (before >= 0 && all.includes(readUpTo + 1)) readUpTo += 1;
    const left = all.filter((sequence) => sequence > readUpTo).slice(-OWN_MAX);
    if (readUpTo > before) this.setRead(channelId, readUpTo);
    if (left.length === known.length && left.every((sequence, i) => sequence === known[i])) return;
    writeMap('own', put(own, channelId, left.length > 0 ? left : undefined));
  },

  unreadIn(channelId, lastSequence) {
    const readUpTo = this.readIn(channelId);
    if (readUpTo === undefined || readUpTo >= lastSequence) return 0;
    const own = (mapOf('own')[keyOf(channelId)] ?? [])
      .filter((sequence) => sequence > readUpTo && sequence <= lastSequence);
    return lastSequence - readUpTo - own.length;
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

  draftIn(channelId) { return read('sessionStorage', `draft.${channelId}`, ''); },

  // A key for each, as they may be long and change with every stroke. Whether it outlives the page.
  setDraftIn(channelId, text) { return write('sessionStorage', `draft.${channelId}`, text || undefined); },

  // Returns whether there are drafts that are lost with the page.
  get hasUnstoredDrafts() {
    return [...unstored].some(([place, value]) => value !== undefined && place.startsWith('sessionStorage/draft.'));
  },
};
