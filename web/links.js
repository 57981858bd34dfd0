// Turns addresses in a text into links. Only http and https, and only if the text of the link is
// its address. Nodes are created one by one; nothing is parsed as markup.
import { make } from './dom.js';

const LINKS_MAX = 200; // links in one message; further addresses stay text
const LENGTH_MAX = 2048;

// An address ends at white space, quotes, angle brackets, and at characters that are invisible or
// change the direction of writing: a misleading address is no link.
const ADDRESS = /\bhttps?:\/\/[^\s<>"'`“”„«»\p{C}]+/giu;
const AFTER = new Set('.,;:!?…*_~|、。，；：！？·'); // ends the sentence, not the address
const PAIRS = new Map([[')', '('], [']', '['], ['}', '{'], ['）', '（'], ['」', '「'], ['』', '『'], ['】', '【']]);

// Removes what belongs to the sentence: "(see http://a/b)." ends at b; http://a/b_(c) keeps its
// parenthesis.
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

// A name before an @ can disguise an address.
function targetOf(address) {
  try {
    const url = new URL(address);
    const isPlain = ['http:', 'https:'].includes(url.protocol) && url.hostname !== '' && url.username === '' && url.password === '';
    return isPlain ? url.href : null;
  } catch {
    return null;
  }
}

// Returns the pieces of a text: strings, and {text, href}. `isCut`: the text continues, so an
// address at its end is incomplete.
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

// Such a link sends no referrer, and gives the other site no access to the page.
export function linkedNodes(text, options) {
  return piecesOf(text, options).map((piece) => (typeof piece === 'string' ? piece
    : make('a', { href: piece.href, target: '_blank', rel: 'noopener noreferrer' }, piece.text)));
}
