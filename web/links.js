// The addresses in a text, as links. Only http and https, and only what is shown as it is: the text of
// a link is its address. Nodes are made one by one; nothing is parsed as markup.
import { make } from './dom.js';

const LINKS_MAX = 200; // of one message; what follows stays text
const LENGTH_MAX = 2048;

// Up to white space, quotes and angle brackets, and to what is invisible or turns the direction of
// writing: an address that looks like another one is no link.
const ADDRESS = /\bhttps?:\/\/[^\s<>"'`“”„«»\p{C}]+/giu;
const AFTER = new Set('.,;:!?…*_~|、。，；：！？·'); // ends the sentence, not the address
const PAIRS = new Map([[')', '('], [']', '['], ['}', '{'], ['）', '（'], ['」', '「'], ['』', '『'], ['】', '【']]);

// Without what belongs to the sentence: "(see http://a/b)." ends at b, http://a/b_(c) keeps its own.
function trimmed(address) {
  const counts = new Map();
  for (const sign of address) counts.set(sign, (counts.get(sign) ?? 0) + 1);
  let end = address.length;
  for (; end > 0; end -= 1) {
    const last = address[end - 1];
    const isUnpaired = PAIRS.has(last) && counts.get(last) > (counts.get(PAIRS.get(last)) ?? 0);
    if (!isUnpaired && !AFTER.has(last)) break;
    counts.set(last, counts.get(last) - 1);
  }
  return address.slice(0, end);
}

// Names before an @ are how addresses pretend to be others.
function targetOf(address) {
  try {
    const url = new URL(address);
    const isPlain = ['http:', 'https:'].includes(url.protocol) && url.hostname !== '' && url.username === '' && url.password === '';
    return isPlain ? url.href : null;
  } catch {
    return null;
  }
}

// Pieces of a text: strings, and {text, href}. `isCut`: the text goes on, so an address at its end is
// not whole.
export function piecesOf(text, { isCut = false } = {}) {
  const pieces = [];
  let end = 0;
  let count = 0;
  for (const match of text.matchAll(ADDRESS)) {
    if (count >= LINKS_MAX) break;
    if (isCut && match.index + match[0].length === text.length) break;
    if (match[0].length > LENGTH_MAX) continue;
    const address = trimmed(match[0]);
    const href = targetOf(address);
    if (!href) continue;
    if (match.index > end) pieces.push(text.slice(end, match.index));
    pieces.push({ text: address, href });
    end = match.index + address.length;
    count += 1;
  }
  if (end < text.length) pieces.push(text.slice(end));
  return pieces;
}

// Such a link tells the other site nothing, and the other site gets no hold on the page.
export function linkedNodes(text, options) {
  return piecesOf(text, options).map((piece) => (typeof piece === 'string' ? piece
    : make('a', { href: piece.href, target: '_blank', rel: 'noopener noreferrer' }, piece.text)));
}
