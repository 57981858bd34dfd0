// What tests need from the machine beside our programs. `./do test` brings all of it and sets
// RAFTOGRAM_TEST_ALL, so that there a want is a failure; a bare `npm test` skips what it cannot run.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const runs = (...command) => spawnSync(command[0], command.slice(1)).status === 0;

// The options of a test or suite that needs something; `why` says what is missing.
export function needs(isThere, why) {
  if (isThere) return {};
  if (process.env.RAFTOGRAM_TEST_ALL) throw new Error(`${why}, and with RAFTOGRAM_TEST_ALL no test is skipped`);
  return { skip: why };
}

// What makes a command root's, for root and for users with sudo.
export const ROOT_RUNS = process.getuid() === 0 ? [] : ['sudo', '-n'];

function asRoot(...command) {
  const [program, ...rest] = [...ROOT_RUNS, ...command];
  return spawnSync(program, rest, { encoding: 'utf8' });
}

// A small disk of one's own.
export const mountDisk = (folder, bytes) =>
  asRoot('mount', '-t', 'tmpfs', '-o', `size=${bytes},uid=${process.getuid()},gid=${process.getgid()},mode=700`, 'raftogram-test', folder);
export const remountDisk = (folder, options) => asRoot('mount', '-o', `remount,${options}`, folder);
export const resizeDisk = (folder, bytes) => remountDisk(folder, `size=${bytes}`);
export const unmountDisk = (folder) => asRoot('umount', '-l', folder);

export const canMount = (() => {
  let can;
  return () => {
    if (can === undefined) {
      const folder = mkdtempSync(join(tmpdir(), 'raftogram-mount-'));
      can = mountDisk(folder, 1 << 20).status === 0 && unmountDisk(folder).status === 0;
      rmdirSync(folder);
    }
    return can;
  };
})();
