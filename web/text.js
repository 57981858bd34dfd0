// Text as people see it: characters are grapheme clusters, and are never split.

const segmenter = Intl.Segmenter ? new Intl.Segmenter(undefined, { granularity: 'grapheme' }) : null;
const encoder = new TextEncoder();

// Returns the characters of a text. Without a Segmenter, marks stay with their base character.
export function* characters(text) {
  if (segmenter) for (const { segment } of segmenter.segment(text)) yield segment;
  else yield* text.match(/\P{M}\p{M}*|\p{M}+/gu) ?? [];
}

export function firstCharacter(text) { return characters(text).next().value ?? ''; }

// Returns the beginning of a text in whole characters, limited in characters, UTF-16 units and
// bytes of UTF-8.
export function cut(text, { charactersMax = Infinity, unitsMax = Infinity, bytesMax = Infinity }) {
  let end = 0;
  let count = 0;
  let bytes = 0;
  for (const character of characters(text)) {
    count += 1;
    bytes += encoder.encode(character).length;
    if (count > charactersMax || end + character.length > unitsMax || bytes > bytesMax) break;
    end += character.length;
  }
  return text.slice(0, end);
}
