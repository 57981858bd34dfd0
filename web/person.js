// The name of the user, and the dialog that asks for it. Messages are sent under the name that is
// shown. A change in another tab is shown at once.
import { byId, setText } from './dom.js';
import { acquit, isFilled } from './fields.js';
import { initials, tintOf } from './format.js';

export class Person {
  #memory;
  #name = '';
  #then = null; // called once there is a name

  constructor({ memory }) {
    this.#memory = memory;
    byId('name-button').addEventListener('click', () => this.ask());
    byId('name-form').addEventListener('submit', (event) => this.#submitted(event));
    byId('name-dialog').addEventListener('close', () => {
      const then = this.#then;
      this.#then = null;
      if (this.#name) then?.();
    });
    for (const event of ['storage', 'pageshow', 'focus']) window.addEventListener(event, () => this.#show());
    this.#show();
  }

  // The one that is shown.
  get name() { return this.#name; }

  ask(then = null) {
    this.#then = then;
    acquit(byId('name-form'));
    byId('name-text').value = this.#name;
    byId('name-dialog').showModal();
    byId('name-text').select();
  }

  #submitted(event) {
    // With the field's maxlength it is also short enough for an author id.
    if (!isFilled(byId('name-text'))) {
      event.preventDefault();
      return;
    }
    this.#memory.name = byId('name-text').value.trim();
    this.#show();
  }

  #show() {
    const { name } = this.#memory;
    this.#name = name;
    setText(byId('my-name'), name || 'Choose a name');
    setText(byId('my-avatar'), name ? initials(name) : '?');
    byId('my-avatar').className = `avatar tint-${tintOf(name)}`;
    setText(byId('my-name-before'), name ? 'Your name: ' : '');
    setText(byId('my-name-after'), name ? ' (change it)' : '');
  }
}
