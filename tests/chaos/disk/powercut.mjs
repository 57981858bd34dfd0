// What a disk looks like after the power failed: a random part of what was not synced is undone.
// Reads the notes of faulty_disk.c; the process must be dead.
import {
  closeSync, existsSync, fstatSync, ftruncateSync, linkSync, lstatSync, mkdirSync, openSync, readFileSync, readdirSync,
  renameSync, rmSync, statSync, writeSync, writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';

const SECTOR = 512;
const HEAD = 40;
const MAGIC = 0x4f444e55;
const KIND = { write: 0, size: 1, barrier: 2 };

export const readNotes = (path) => {
  const bytes = readFileSync(path);
  const notes = [];
  for (let at = 0; at + HEAD <= bytes.length;) {
    if (bytes.readUInt32LE(at) !== MAGIC) throw new Error(`${path}: no note at ${at}`);
    const number = (offset) => Number(bytes.readBigUInt64LE(at + offset));
    const note = { kind: bytes.readUInt32LE(at + 4), offset: number(8), size: number(16), fileSize: number(32) };
    const oldSize = number(24);
    // The process was killed while it noted; it did not come to the write itself.
    if (at + HEAD + oldSize > bytes.length) break;
    note.old = bytes.subarray(at + HEAD, at + HEAD + oldSize);
    notes.push(note);
    at += HEAD + oldSize;
  }
  return notes;
};

// How many of the versions of one sector since the last sync are undone.
const depthOf = {
  all: (random, versions) => versions,
  none: () => 0,
  some: (random, versions) => random.between(0, versions),
};

// Notes are undone from the last to the first; `mode` is all, none, some (each sector by itself) or
// order (all writes behind a random one).
export function undoContents(fd, notes, mode, random) {
  const kept = mode === 'order' ? random.between(0, notes.length) : 0;
  const sectors = new Map(); // sector -> { left: notes still to undo }
  const count = new Map();
  const span = (note) => [Math.floor(note.offset / SECTOR), Math.floor((note.offset + note.size - 1) / SECTOR)];
  notes.forEach((note) => {
    if (note.kind !== KIND.write) return;
    const [first, last] = span(note);
    for (let s = first; s <= last; s += 1) count.set(s, (count.get(s) ?? 0) + 1);
  });
  const leftOf = (sector) => {
    if (!sectors.has(sector)) {
      const versions = count.get(sector);
      sectors.set(sector, mode === 'order' ? versions : depthOf[mode](random, versions));
    }
    return sectors.get(sector);
  };
  let size = fstatSync(fd).size;
  let undone = 0;
  for (let i = notes.length - 1; i >= kept; i -= 1) {
    const note = notes[i];
    if (note.kind === KIND.barrier) {
      const [first, last] = span(note);
      for (let s = first; s <= last; s += 1) sectors.set(s, 0);
      // What is durable has its place in the file.
      size = Math.max(size, 0);
      notes.slice(0, i).forEach((older) => { older.sizeFloor = Math.max(older.sizeFloor ?? 0, note.offset + note.size); });
      continue;
    }
    const sizeBefore = Math.max(note.fileSize, note.sizeFloor ?? 0);
    if (note.kind === KIND.size) {
      if (mode === 'none' || (mode === 'some' && random.chance(0.5))) continue;
      if (note.old.length > 0) {
        writeSync(fd, note.old, 0, note.old.length, note.offset);
        size = fstatSync(fd).size;
      } else if (size > sizeBefore) {
        ftruncateSync(fd, sizeBefore);
        size = sizeBefore;
      }
      undone += 1;
      continue;
    }
    const [first, last] = span(note);
    let isWhole = true;
    for (let s = first; s <= last; s += 1) {
      const left = leftOf(s);
      if (left === 0) {
        isWhole = false;
        continue;
      }
      sectors.set(s, left - 1);
      undone += 1;
      const begin = Math.max(s * SECTOR, note.offset);
      const end = Math.min((s + 1) * SECTOR, note.offset + note.size, size);
      if (begin >= end) continue;
      const part = Buffer.alloc(end - begin);
      // What lay behind the old end of the file is zeros.
      note.old.subarray(begin - note.offset, end - note.offset).copy(part);
      writeSync(fd, part, 0, part.length, begin);
    }
    // The size is its own piece of metadata: with all data lost, it may still be the new one.
    if (size > sizeBefore && isWhole && (mode !== 'some' || random.chance(0.5))) {
      ftruncateSync(fd, sizeBefore);
      size = sizeBefore;
    }
  }
  return undone;
}

// ---- names

const below = (path, directory) => path === directory || path.startsWith(`${directory}/`);

export function readNames(path) {
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, 'utf8').split('\n');
  lines.pop(); // '' or a line that was not finished
  return lines.map((line) => {
    const [what, first, second, saved] = line.split('\t');
    return { what, path: first, second, saved };
  });
}

// Which changes no sync has made durable. A sync of a directory covers the changes of its names,
// and that it is there itself.
export function volatileNames(names) {
  const open = [];
  for (const item of names) {
    if (item.what !== 'synced') {
      open.push({ ...item, home: dirname(item.what === 'rename' ? item.second : item.path), from: dirname(item.path) });
      continue;
    }
    for (let i = open.length - 1; i >= 0; i -= 1) {
      const change = open[i];
      const made = change.what === 'rename' ? change.second : change.path;
      const makesIt = change.what !== 'unlink' && below(item.path, made);
      if (change.home === item.path || change.from === item.path || makesIt) open.splice(i, 1);
    }
  }
  return open;
}

const exists = (path) => {
  try {
    return lstatSync(path);
  } catch {
    return null;
  }
};

const undoName = {
  create: ({ path }) => rmSync(path, { force: true }),
  mkdir: ({ path }) => rmSync(path, { force: true, recursive: true }),
  unlink: ({ path, saved }) => { if (!exists(path) && exists(dirname(path)) && exists(saved)) linkSync(saved, path); },
  rename: ({ path, second, saved }) => {
    if (!exists(path) && exists(second) && exists(dirname(path))) renameSync(second, path);
    if (saved !== '' && !exists(second) && exists(saved) && exists(dirname(second))) linkSync(saved, second);
  },
};

export function undoNames(names, mode, random) {
  const open = volatileNames(names);
  const homes = new Map();
  open.forEach((change) => homes.set(change.home, [...(homes.get(change.home) ?? []), change]));
  const lost = new Set();
  // Each directory forgets the last of its changes.
  for (const changes of homes.values()) {
    const kept = mode === 'all' ? 0 : mode === 'none' ? changes.length : random.between(0, changes.length);
    changes.slice(kept).forEach((change) => lost.add(change));
  }
  for (const change of open.reverse()) if (lost.has(change)) undoName[change.what](change);
  return lost.size;
}

// ---- the whole

function inodes(directory, found = new Map()) {
  if (!existsSync(directory)) return found;
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) inodes(path, found);
    else if (entry.isFile()) found.set(String(statSync(path, { bigint: true }).ino), path);
  }
  return found;
}

// Makes `dataDir` what a disk holds after a power cut. Answers how much was lost.
export function cutPower({ dataDir, journal, random }) {
  const mode = random.weighted([[4, 'some'], [3, 'all'], [2, 'order'], [1, 'none']]);
  const found = inodes(join(journal, 'saved'), inodes(dataDir));
  let sectors = 0;
  for (const name of readdirSync(journal).filter((file) => file.endsWith('.undo'))) {
    const path = join(journal, name);
    const target = found.get(name.slice(0, -'.undo'.length));
    if (target !== undefined && statSync(path).size > 0) {
      const fd = openSync(target, 'r+');
      sectors += undoContents(fd, readNotes(path), mode, random);
      closeSync(fd);
    }
  }
  const names = undoNames(readNames(join(journal, 'names')), mode, random);
  clear(journal);
  return { mode, sectors, names };
}

// All that is there now is durable.
export function clear(journal) {
  rmSync(journal, { recursive: true, force: true });
  mkdirSync(join(journal, 'saved'), { recursive: true });
  writeFileSync(join(journal, 'names'), '');
}
