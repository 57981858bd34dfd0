// Where things are.
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../../..');
export const BUILD = resolve(ROOT, process.env.RAFTOGRAM_BUILD ?? 'build');
export const DAEMON = join(BUILD, 'raftogram');
