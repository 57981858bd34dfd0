// Damage to the files of a node that does not run.
import { closeSync, existsSync, ftruncateSync, openSync, readSync, readdirSync, rmSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';

function edit(path, action) {
  const fd = openSync(path, 'r+');
  try {
    return action(fd, statSync(path).size);
  } finally {
    closeSync(fd);
  }
}

function flip(fd, at, bit) {
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, at);
  byte[0] ^= 1 << bit;
  writeSync(fd, byte, 0, 1, at);
}

const segments = (dataDir) => {
  const log = join(dataDir, 'log');
  return existsSync(log) ? readdirSync(log).filter((name) => name.startsWith('log-')).sort().map((name) => join(log, name)) : [];
};

// Where the written part of a segment ends: what follows is zeros, which nothing uses.
function writtenEnd(path) {
  return edit(path, (fd, size) => {
    const block = Buffer.alloc(64 * 1024);
    for (let at = size; at > 0;) {
      const part = Math.min(block.length, at);
      at -= part;
      readSync(fd, block, 0, part, at);
      for (let i = part - 1; i >= 0; i -= 1) if (block[i] !== 0) return at + i + 1;
    }
    return 0;
  });
}

const store = (dataDir) => join(dataDir, 'store', 'data.mdb');

// Each answers what it did, or null if there was nothing to hurt.
export const DAMAGES = {
  logBits(dataDir, random) {
    const all = segments(dataDir);
    if (all.length === 0) return null;
    const path = random.pick(all);
    const end = writtenEnd(path);
    if (end === 0) return null;
    const count = random.pick([1, 1, 2, 8]);
    const places = Array.from({ length: count }, () => random.below(end));
    edit(path, (fd) => places.forEach((at) => flip(fd, at, random.below(8))));
    return `${path} of ${end} bytes: bits at ${places.join(', ')}`;
  },

  // The newest record: torn or damaged must be told apart.
  logTailBits(dataDir, random) {
    const path = segments(dataDir).filter((name) => writtenEnd(name) > 0).at(-1);
    if (path === undefined) return null;
    const end = writtenEnd(path);
    const at = Math.max(0, end - 1 - random.below(600));
    edit(path, (fd) => flip(fd, at, random.below(8)));
    return `${path} of ${end} bytes: a bit at ${at}`;
  },

  logSectors(dataDir, random) {
    const all = segments(dataDir);
    if (all.length === 0) return null;
    const path = random.pick(all);
    const end = writtenEnd(path);
    if (end === 0) return null;
    const at = random.below(Math.ceil(end / 512)) * 512;
    edit(path, (fd) => writeSync(fd, Buffer.alloc(512, random.pick([0xff, 0x5a])), 0, 512, at));
    return `${path} of ${end} bytes: a sector overwritten at ${at}`;
  },

  logCut(dataDir, random) {
    const path = random.pick(segments(dataDir));
    if (path === undefined) return null;
    const size = random.below(Math.max(1, writtenEnd(path)));
    edit(path, (fd) => ftruncateSync(fd, size));
    return `${path} cut to ${size}`;
  },

  logSegmentGone(dataDir, random) {
    const path = random.pick(segments(dataDir));
    if (path === undefined) return null;
    rmSync(path);
    return `${path} removed`;
  },

  logGone(dataDir) {
    rmSync(join(dataDir, 'log'), { recursive: true, force: true });
    return 'log/ removed';
  },

  storeBits(dataDir, random) {
    if (!existsSync(store(dataDir))) return null;
    const count = random.pick([1, 4, 40]);
    return edit(store(dataDir), (fd, size) => {
      if (size === 0) return null;
      const places = Array.from({ length: count }, () => random.below(size));
      places.forEach((at) => flip(fd, at, random.below(8)));
      return `${store(dataDir)} of ${size} bytes: bits at ${places.join(', ')}`;
    });
  },

  storeMeta(dataDir, random) {
    if (!existsSync(store(dataDir))) return null;
    return edit(store(dataDir), (fd, size) => {
      const at = random.below(Math.min(size, 2 * 4096));
      flip(fd, at, random.below(8));
      return `${store(dataDir)}: a bit at ${at}, in its head`;
    });
  },

  storeCut(dataDir, random) {
    if (!existsSync(store(dataDir))) return null;
    return edit(store(dataDir), (fd, size) => {
      const left = random.below(size);
      ftruncateSync(fd, left);
      return `${store(dataDir)} cut from ${size} to ${left}`;
    });
  },

  storeGone(dataDir) {
    rmSync(join(dataDir, 'store'), { recursive: true, force: true });
    return 'store/ removed';
  },

  wipe(dataDir) {
    rmSync(dataDir, { recursive: true, force: true });
    return 'all removed';
  },
};
