// One message as an element of the list: author, time, text, and the state of own messages.
import { payloadBytes } from './raftogram.js';
import { icon, make } from './dom.js';
import { byteCount, clockTime, dayName, dayNumber, fullTime, initials, tintOf } from './format.js';
import { linkedNodes } from './links.js';
import { cut } from './text.js';

const GROUP_MS = 5 * 60 * 1000; // consecutive messages of one author within this time are grouped
const TEXT_MAX = 4000; // UTF-16 units shown of a long message until it is expanded

function textOf(message) {
  if (typeof message.text === 'string') return message.text;
  if (!message.payload) return '';
  return null;
}

function contentOf(message) {
  const text = textOf(message);
  const content = make('div', { class: 'text', dir: 'auto' });
  if (text === null) {
    content.classList.add('is-note');
    content.textContent = `Not text: ${byteCount(payloadBytes(message).length)} of data`;
  } else if (text === '') {
    content.classList.add('is-note');
    content.textContent = 'An empty message';
  } else if (text.length <= TEXT_MAX) {
    content.append(...linkedNodes(text));
  } else {
    content.append(...linkedNodes(cut(text, { unitsMax: TEXT_MAX }), { isCut: true }), '…');
    const more = make('button', { type: 'button', class: 'text-button' },
      `Show all of it (${byteCount(new TextEncoder().encode(text).length)})`);
    more.addEventListener('click', () => { content.replaceChildren(...linkedNodes(text)); });
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
      make('div', { class: 'message-head' }, make('span', { class: 'author', dir: 'auto' }, author), time),
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

// Returns whether a message is grouped with the previous one, and whether it begins a day.
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

// An entry of the outbox: {authorId, text, createdMs, clientMessageId}. How far it got follows by
// showStatus().
export function outboxElement(entry) {
  const element = messageElement(
    { authorId: entry.authorId, text: entry.text, timestampUnixMs: entry.createdMs }, { isOwn: false });
  element.classList.add('is-own');
  element.dataset.clientMessageId = entry.clientMessageId;
  element.querySelector('.message-body').append(make('div', { class: 'message-status' }));
  return element;
}

const ICONS = { sent: 'check', failed: 'alert', sending: 'clock' };

// `actions`: [[label, action]], the buttons.
export function showStatus(element, { state, note, actions }) {
  for (const other of Object.keys(ICONS)) element.classList.toggle(`is-${other}`, other === state);
  const status = element.querySelector('.message-status');
  if (state === 'failed') status.setAttribute('role', 'alert');
  else status.removeAttribute('role');
  const buttons = actions.map(([label, action]) => {
    const button = make('button', { type: 'button', class: 'text-button' }, label);
    button.addEventListener('click', action);
    return button;
  });
  status.replaceChildren(icon(ICONS[state]), make('span', {}, note), ...buttons);
}
