// Searches channels by the beginning of their id in the cluster, because the page may not know all
// of them.
import { compareChannels } from './channels.js';
import { explain, slug } from './format.js';

const PAUSE_MS = 200; // pause after the last key
const FOUND_MAX = 100;

// Most ids are those that the page suggests, and users type as in the name.
function prefixesOf(text) {
  return [...new Set([text, text.toLowerCase(), slug(text)])].filter((prefix) => prefix !== '');
}

export class ChannelSearch {
  #channels;
  #onAnswer;
  #text = '';
  #timer = null;

  found = []; // channels, by name
  note = ''; // additional text
  isAsking = false;

  constructor({ channels, onAnswer }) {
    this.#channels = channels;
    this.#onAnswer = onAnswer;
  }

  // Results for another text are discarded.
  seek(text) {
    if (text === this.#text) return;
    this.#text = text;
    this.found = [];
    this.note = '';
    clearTimeout(this.#timer);
    this.isAsking = text !== '';
    if (this.isAsking) this.#timer = setTimeout(() => this.#ask(text), PAUSE_MS);
  }

  async #ask(text) {
    const found = new Map();
    let note = '';
    try {
      for (const prefix of prefixesOf(text)) {
        const { channels, hasMore } = await this.#channels.find(prefix, FOUND_MAX);
        if (this.#text !== text) return;
        for (const channel of channels) found.set(channel.channelId, channel);
        if (hasMore) note = `More than ${FOUND_MAX} ids begin so: write more of it.`;
      }
    } catch (error) {
      if (this.#text !== text) return;
      note = `The cluster was not asked: ${explain(error)}.`;
      setTimeout(() => this.#again(text), 2000);
    }
    this.found = [...found.values()].sort(compareChannels);
    this.note = note;
    this.isAsking = false;
    this.#onAnswer();
  }

  #again(text) {
    if (this.#text === text) this.#ask(text);
  }
}
