// Determines which tab sends the waiting messages of a channel. A tab takes the lease of the
// channel and renews it while it sends. Another tab takes it over after it was returned, or not
// renewed for LEASE_MS. This only saves work: two tabs that send one message at once use the same
// client message id, so it is stored once. (Web Locks would do, but over plain http they exist on
// localhost only.)

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

  // Returns whether this tab may send now. If not, ask again later.
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

  // Measured by the clock of this tab: a lease is stale after it was seen unchanged for so long.
  #isStale(channelId, value) {
    const seen = this.#seen.get(channelId);
    if (seen?.value !== value) {
      this.#seen.set(channelId, { value, sinceMs: performance.now() });
      return false;
    }
    return performance.now() - seen.sinceMs >= LEASE_MS;
  }

  // A lease that another tab took over while this one was suspended stays with that tab.
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
