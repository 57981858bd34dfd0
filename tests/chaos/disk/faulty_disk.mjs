// The preloaded faulty disk (faulty_disk.c), from outside: where it is and what it can be told.
import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { BUILD } from '../../integration/lib/paths.mjs';

export const FAULTY_DISK = join(BUILD, 'libraftogram_faulty_disk.so');

// enum control of faulty_disk.c: words of the file at RAFTOGRAM_CHAOS_CONTROL
const CONTROL = { syncEio: 0, noSpace: 1, syncDelayUs: 2, writeEio: 3, readEio: 4 };
export const CONTROL_BYTES = 4 * Object.keys(CONTROL).length;

// values: by the names of CONTROL; the others stay as they are.
export function setControl(path, values) {
  const fd = openSync(path, 'r+');
  for (const [name, value] of Object.entries(values)) {
    const word = Buffer.alloc(4);
    word.writeUInt32LE(value);
    writeSync(fd, word, 0, 4, CONTROL[name] * 4);
  }
  closeSync(fd);
}
