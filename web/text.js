// Text as people see it: characters are grapheme clusters, and nothing cuts inside one.

const segmenter = Intl.Segmenter ? new Intl.Segmenter(undefined, { granularity: 'grapheme' }) : null;
const encoder = new TextEncoder();

// The characters of a text, one by one. Without a Segmenter marks stay with what they stand on.
export function* characters(text) {
  if (segmenter) for (const { segment } of segmenter.segment(text)) yield segment;
  else yield* text.match(/\P{M}\p{M}*|\p{M}+/gu) ?? [];
}

export function firstCharacter(text) { return characters(text).next().value ?? ''; }

// The beginning of a text, in whole characters: at most so many, of so many UTF-16 units and so many
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
