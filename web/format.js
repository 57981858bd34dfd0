// Formats values for the page.
import { cut, firstCharacter } from './text.js';

const pad = (number) => String(number).padStart(2, '0');
const fullDate = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });
const thisYear = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const anyYear = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'long', year: 'numeric' });

export const TINTS = 8;
export const ID_BYTES_MAX = 256;
const SLUG_CHARACTERS_MAX = 60;

export function clockTime(date) {
  return `${pad(date.getHours())}:${pad(date.getMinutes())}`;
}

export function fullTime(date) {
  return fullDate.format(date);
}

// Returns a number that is the same for all times of one local day.
export function dayNumber(date) {
  return date.getFullYear() * 10000 + date.getMonth() * 100 + date.getDate();
}

export function dayName(date, now = new Date()) {
  const yesterday = new Date(now.getFullYear(), now.getMonth(), now.getDate() - 1);
  if (dayNumber(date) === dayNumber(now)) return 'Today';
  if (dayNumber(date) === dayNumber(yesterday)) return 'Yesterday';
  return (date.getFullYear() === now.getFullYear() ? thisYear : anyYear).format(date);
}

// Returns the same colour for the same name on every screen.
export function tintOf(name) {
  let hash = 0;
  for (const char of name) hash = (Math.imul(hash, 31) + char.codePointAt(0)) | 0;
  return Math.abs(hash) % TINTS;
}

export function initials(name) {
  const words = name.trim().split(/[\s._-]+/u).filter(Boolean);
  const first = firstCharacter(words[0] ?? '?');
  const second = words.length > 1 ? firstCharacter(words.at(-1)) : '';
  return (first + second).toLocaleUpperCase();
}

export function byteCount(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  if (bytes < 1024 * 1024) return `${(bytes / 1024).toFixed(bytes < 10240 ? 1 : 0)} KiB`;
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}

export function plural(count, one, many = `${one}s`) {
  return `${count.toLocaleString()} ${count === 1 ? one : many}`;
}

export function duration(seconds) {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds / 60) % 60} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor(seconds / 3600) % 24} h`;
}

// Suggests an id for a name: letters, numbers and the marks that belong to them. Latin letters lose
// their accents; other scripts keep them: й is not и, and ा is half of a word.
export function slug(name) {
  const letters = name.normalize('NFKD')
    .replace(/[\p{Variation_Selector}\p{Me}\u00ad\u200b-\u200d\u2060\ufeff]/gu, '')
    .replace(/(\p{Script=Latin})[\u0300-\u036f]+/gu, '$1')
    .toLowerCase().normalize('NFC');
  const id = letters.replace(/[^\p{L}\p{N}\p{M}]+/gu, '-').replace(/(^|-)\p{M}+/gu, '$1');
  const whole = id.replace(/-{2,}/g, '-').replace(/^-/, '');
  return cut(whole, { charactersMax: SLUG_CHARACTERS_MAX, bytesMax: ID_BYTES_MAX }).replace(/-$/, '');
}

// Describes an error for the author of the message.
export function explain(error) {
  switch (error.reason) {
    case 'NOT_CONNECTED': return 'no node could be reached';
    case 'TIMEOUT': case 'CONNECTION_LOST': case 'COMMIT_UNKNOWN':
      return 'no answer came, so it may or may not be stored';
    case 'NO_QUORUM': return 'the cluster has no quorum';
    case 'CHANNEL_NOT_FOUND': return 'there is no such channel';
    case 'PAYLOAD_TOO_LARGE': case 'FRAME_TOO_LARGE': return 'it is too long';
    case 'OVERLOADED': case 'QUEUE_FULL': return 'the cluster is overloaded';
    case 'DISK_FULL': return 'the disk of the cluster is full';
    case 'CORRUPT': return 'what the disk has of it is damaged';
    case 'CLUSTER_CHANGED': return 'the cluster is another one now';
    default: return error.message || 'it failed';
  }
}
