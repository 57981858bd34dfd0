// One message as an element of the list: who, when, what, and for own messages how far it got.
import { payloadBytes } from './raftogram.js';
import { icon, make } from './dom.js';
import { byteCount, clockTime, dayName, dayNumber, fullTime, initials, tintOf } from './format.js';

const GROUP_MS = 5 * 60 * 1000; // messages of one author within it stand together
const TEXT_MAX = 4000; // characters shown of a long message until one asks for all

function textOf(message) {
  if (typeof message.text === 'string') return message.text;
  if (!message.payload) return '';
  return null;
}

function contentOf(message) {
  const text = textOf(message);
  const content = make('div', { class: 'text' });
  if (text === null) {
    content.classList.add('is-note');
    content.textContent = `Not text: ${byteCount(payloadBytes(message).length)} of data`;
  } else if (text === '') {
    content.classList.add('is-note');
    content.textContent = 'An empty message';
  } else if (text.length <= TEXT_MAX) {
    content.textContent = text;
  } else {
    content.textContent = `${text.slice(0, TEXT_MAX)}…`;
    const more = make('button', { type: 'button', class: 'text-button' },
      `Show all of it (${byteCount(new TextEncoder().encode(text).length)})`);
    more.addEventListener('click', () => { content.textContent = text; });
    content.append(make('br'), more);
  }
  return content;
}

export function messageElement(message, { isOwn }) {
  const author = message.authorId || 'Somebody';
  const date = new Date(Number(message.timestampUnixMs));
  const time = make('time', { datetime: date.toISOString(), title: fullTime(date) }, clockTime(date));
  const element = make('li', { class: isOwn ? 'message is-own' : 'message' },
    make('div', { class: `avatar tint-${tintOf(author)}`, 'aria-hidden': 'true' }, initials(author)),
    make('div', { class: 'message-body' },
      make('div', { class: 'message-head' }, make('span', { class: 'author' }, author), time),
      contentOf(message)));
  if (message.sequence) element.dataset.sequence = message.sequence;
  if (isOwn) {
    const state = make('span',
      { class: 'message-state', title: `Sent: on disk on a majority of the nodes, as number ${message.sequence}` },
      icon('check', 'Sent'));
    element.append(state);
  }
  return element;
}

// Whether a message stands under the name of the one before, and whether a day begins with it.
export function arrange(element, message, previous, isUnreadStart) {
  const date = new Date(Number(message.timestampUnixMs));
  const previousDate = previous ? new Date(Number(previous.timestampUnixMs)) : null;
  const isNewDay = !previousDate || dayNumber(date) !== dayNumber(previousDate);
  const isContinued = !isNewDay && !isUnreadStart && previous.authorId === message.authorId &&
    date - previousDate < GROUP_MS;
  element.classList.toggle('is-continued', isContinued);
  for (const divider of element.querySelectorAll(':scope > .divider')) divider.remove();
  const dividers = [];
  if (isNewDay) dividers.push(make('div', { class: 'divider day' }, make('span', {}, dayName(date))));
  if (isUnreadStart) dividers.push(make('div', { class: 'divider unread' }, make('span', {}, 'New')));
  element.prepend(...dividers);
}

// An entry of the outbox: {authorId, text, state, note, createdMs}.
export function outboxElement(entry, { onRetry, onDiscard }) {
  const element = messageElement(
    { authorId: entry.authorId, text: entry.text, timestampUnixMs: entry.createdMs }, { isOwn: false });
  element.classList.add('is-own', `is-${entry.state}`);
  element.dataset.clientMessageId = entry.clientMessageId;
  const status = make('div', { class: 'message-status' });
  if (entry.state === 'failed') {
    const retry = make('button', { type: 'button', class: 'text-button' }, 'Retry');
    const discard = make('button', { type: 'button', class: 'text-button' }, 'Discard');
    retry.addEventListener('click', () => onRetry(entry));
    discard.addEventListener('click', () => onDiscard(entry));
    status.setAttribute('role', 'alert');
    status.append(icon('alert'), make('span', {}, `${entry.note}.`), retry, discard);
  } else {
    const isSent = entry.state === 'sent';
    status.append(icon(isSent ? 'check' : 'clock'), make('span', {}, isSent ? 'Sent' : entry.note));
  }
  element.querySelector('.message-body').append(status);
  return element;
}
