// Numbers from a seed. Streams with different names are independent, so that what one part draws
// does not depend on how often another one was asked.
import { createHash } from 'node:crypto';

export class Random {
  constructor(seed) {
    const hash = createHash('sha256').update(String(seed)).digest();
    this.seed = String(seed);
    [this.a, this.b, this.c, this.d] = [0, 4, 8, 12].map((at) => hash.readInt32LE(at));
  }

  stream(name) { return new Random(`${this.seed}/${name}`); }

  // sfc32
  next() {
    const sum = (this.a + this.b + this.d) | 0;
    this.d = (this.d + 1) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = ((this.c << 21) | (this.c >>> 11)) + sum | 0;
    return (sum >>> 0) / 2 ** 32;
  }

  // 0 .. count - 1
  below(count) { return Math.floor(this.next() * count); }

  between(low, high) { return low + this.below(high - low + 1); }

  chance(probability) { return this.next() < probability; }

  pick(list) { return list[this.below(list.length)]; }

  // [[weight, value], ...]
  weighted(pairs) {
    let left = this.next() * pairs.reduce((sum, [weight]) => sum + weight, 0);
    for (const [weight, value] of pairs) {
      left -= weight;
      if (left < 0) return value;
    }
    return pairs.at(-1)[1];
  }

  shuffle(list) {
    const copy = [...list];
    for (let i = copy.length - 1; i > 0; i -= 1) {
      const j = this.below(i + 1);
      [copy[i], copy[j]] = [copy[j], copy[i]];
    }
    return copy;
  }
}
