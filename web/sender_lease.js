// Which tab sends the messages that wait in a channel. A tab takes the channel's lease and renews it
// while it sends; another takes it over when it was given back, or not renewed for LEASE_MS. This
// saves work and no more: two tabs that send one message at once send it with one client message id,
// so it is stored once. (Web Locks would do, but plain http has them on localhost only.)

const PREFIX = 'raftogram.sender.';
const RENEW_MS = 1500;
const LEASE_MS = 6000;

export class SenderLease {
  #tab = Array.from(crypto.getRandomValues(new Uint8Array(6)), (byte) => byte.toString(16)).join('-');
  #beat = 0;
  #held = new Set(); // channel ids
  #seen = new Map(); // channelId -> {value, sinceMs}: another tab's lease, and since when it is that
  #timer = null;

  constructor() {
    window.addEventListener('pagehide', () => {
      for (const channelId of this.#held) this.release(channelId);
    });
  }

  // Whether this tab may send now. If not, ask again later.
  take(channelId) {
    const value = this.#read(channelId);
    const isFree = value === null || value.startsWith(`${this.#tab} `);
    if (!isFree && !this.#isStale(channelId, value)) return false;
    this.#seen.delete(channelId);
    this.#held.add(channelId);
    this.#write(channelId);
    this.#timer ??= setInterval(() => this.#renew(), RENEW_MS);
    return true;
  }

  release(channelId) {
    if (!this.#held.delete(channelId)) return;
    if (this.#read(channelId)?.startsWith(`${this.#tab} `)) this.#write(channelId, null);
    if (this.#held.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = null;
  }

  // By this tab's own clock: a lease is stale when it was seen unchanged for so long.
  #isStale(channelId, value) {
    const seen = this.#seen.get(channelId);
    if (seen?.value !== value) {
      this.#seen.set(channelId, { value, sinceMs: performance.now() });
      return false;
    }
    return performance.now() - seen.sinceMs >= LEASE_MS;
  }

  // One that another tab took over, as this one slept, stays with that tab.
  #renew() {
    for (const channelId of this.#held) {
      if (this.#read(channelId)?.startsWith(`${this.#tab} `) ?? true) this.#write(channelId);
    }
  }

  #read(channelId) {
    try {
      return localStorage.getItem(PREFIX + channelId);
    } catch {
      return null; // forbidden: no other tab has these messages
    }
  }

  #write(channelId, value = `${this.#tab} ${this.#beat += 1}`) {
    try {
      if (value === null) localStorage.removeItem(PREFIX + channelId);
      else localStorage.setItem(PREFIX + channelId, value);
    } catch {
      // full: two tabs may send at once
    }
  }
}
