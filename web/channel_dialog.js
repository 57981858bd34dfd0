// The dialog that creates a channel. Its id follows the name until the user enters another one.
import { byId, setText } from './dom.js';
import { acquit, isFilled } from './fields.js';
import { ID_BYTES_MAX, explain, slug } from './format.js';

const CREATE_MS = 20000;

export class ChannelDialog {
  #client;
  #onCreated;
  #form = byId('channel-form');
  #name = byId('channel-name');
  #id = byId('channel-id');
  #error = byId('channel-error');
  #isIdOwn = false; // the user has entered one

  constructor({ client, onCreated }) {
    this.#client = client;
    this.#onCreated = onCreated;
    this.#name.addEventListener('input', () => {
      if (!this.#isIdOwn) this.#id.value = slug(this.#name.value);
    });
    this.#id.addEventListener('input', () => { this.#isIdOwn = this.#id.value !== ''; });
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#create();
    });
  }

  open() {
    this.#form.reset();
    acquit(this.#form);
    this.#error.hidden = true;
    this.#isIdOwn = false;
    byId('channel-dialog').showModal();
  }

  async #create() {
    const button = byId('channel-submit');
    if (button.disabled || !isFilled(this.#name) || !isFilled(this.#id, ID_BYTES_MAX)) return;
    const params = { channelId: this.#id.value.trim(), name: this.#name.value.trim() };
    button.disabled = true;
    this.#error.hidden = true;
    try {
      const { channelId, name } = await this.#client.call('CreateChannel', params, { retry: true, timeoutMs: CREATE_MS });
      byId('channel-dialog').close();
      this.#onCreated({ channelId, name });
    } catch (problem) {
      setText(this.#error, `It was not created: ${explain(problem)}.`);
      this.#error.hidden = false;
    }
    button.disabled = false;
  }
}
