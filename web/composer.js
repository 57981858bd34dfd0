// The input for messages. Text that is not sent is the draft of its channel.
import { isOfInputMethod } from './composition.js';
import { byId, setText } from './dom.js';
import { byteCount } from './format.js';

const BYTES_MAX = 65536; // until a node has reported its limit
const isTouch = window.matchMedia('(pointer: coarse)');
const encoder = new TextEncoder();

export class Composer {
  #client;
  #memory;
  #onSend; // (channelId, text) => whether it was accepted
  #onDraft;
  #field = byId('composer-text');
  #button = byId('send-button');
  #count = byId('composer-count');
  #channelId = null;
  #isFull = false;

  constructor({ client, memory, onSend, onDraft }) {
    this.#client = client;
    this.#memory = memory;
    this.#onSend = onSend;
    this.#onDraft = onDraft;
    this.#field.addEventListener('input', () => {
      this.#changed();
      this.#keepDraft(this.#field.value);
    });
    this.#field.addEventListener('keydown', (event) => {
      // On a touch screen Enter inserts a line break, as users expect there; the button sends.
      const isSend = event.key === 'Enter' && !event.shiftKey && !isOfInputMethod(event) && !isTouch.matches;
      if (!isSend) return;
      event.preventDefault();
      this.submit();
    });
    byId('composer').addEventListener('submit', (event) => {
      event.preventDefault();
      this.submit();
    });
    client.on('hello', () => this.#changed());
  }

  get isAllowed() { return !this.#field.disabled; }

  show(channelId) {
    this.#channelId = channelId;
    this.#field.value = channelId === null ? '' : this.#memory.draftIn(channelId);
    this.#changed();
    if (channelId !== null && !isTouch.matches) this.#field.focus();
  }

  focus() { (this.isAllowed ? this.#field : byId('timeline')).focus(); }

  // Sets whether the input is enabled, and for which channel.
  allow({ isAllowed, name }) {
    this.#field.placeholder = isAllowed ? `Message #${name}` : '';
    if (this.isAllowed === isAllowed) return;
    if (!isAllowed && document.activeElement === this.#field) byId('timeline').focus();
    this.#field.disabled = !isAllowed;
    this.#changed();
  }

  // A full outbox accepts no more messages.
  set isFull(isFull) {
    if (this.#isFull === isFull) return;
    this.#isFull = isFull;
    this.#changed();
  }

  submit() {
    const text = this.#field.value.replace(/\s+$/u, '');
    if (this.#button.disabled || text === '' || !this.#onSend(this.#channelId, text)) return;
    this.#field.value = '';
    this.#keepDraft('');
    this.#changed();
    this.#field.focus();
  }

  #keepDraft(text) {
    this.#memory.setDraftIn(this.#channelId, text);
    this.#onDraft();
  }

  #changed() {
    this.#field.style.height = 'auto';
    this.#field.style.height = `${this.#field.scrollHeight}px`;
    const bytes = encoder.encode(this.#field.value).length;
    const bytesMax = Number(this.#client.hello?.maxPayloadBytes) || BYTES_MAX;
    const isLong = bytes > bytesMax;
    this.#count.hidden = bytes < bytesMax * 0.8;
    this.#count.classList.toggle('is-over', isLong);
    if (!this.#count.hidden) setText(this.#count, `${byteCount(bytes)} of ${byteCount(bytesMax)}`);
    this.#button.disabled = isLong || this.#isFull || !this.isAllowed || this.#field.value.trim() === '';
  }
}
