// The disk that can be cut off loses what was not synced, and nothing else.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { BUILD } from '../../integration/lib/paths.mjs';
import { Random } from '../random.mjs';
import { CONTROL_BYTES, FAULTY_DISK, setControl } from './faulty_disk.mjs';
import { clear, readNames, readNotes, undoContents, undoNames } from './powercut.mjs';


describe('the faulty disk', () => {
  let dir;
  let data;
  let journal;
  let control;
  before(() => { dir = mkdtempSync(join(tmpdir(), 'raftogram-disk-')); });
  after(() => rmSync(dir, { recursive: true, force: true }));
  beforeEach(() => {
    [data, journal, control] = ['data', 'journal', 'control'].map((name) => join(dir, name));
    rmSync(data, { recursive: true, force: true });
    mkdirSync(data);
    clear(journal);
    writeFileSync(control, Buffer.alloc(CONTROL_BYTES));
  });

  const script = (...steps) => spawnSync(join(BUILD, 'raftogram-disk-script'), [data, ...steps], {
    encoding: 'utf8',
    env: {
      LD_PRELOAD: FAULTY_DISK, RAFTOGRAM_CHAOS_DIR: data,
      RAFTOGRAM_CHAOS_CONTROL: control, RAFTOGRAM_CHAOS_JOURNAL: journal,
    },
  });
  const done = (...steps) => {
    const { status, stderr } = script(...steps);
    assert.equal(status, 0, stderr);
  };
  const text = (name) => readFileSync(join(data, name), 'latin1');
  // Contents first, then names, as cutPower() does.
  const cut = (mode, seed = 'seed') => {
    const random = new Random(seed);
    for (const name of readdirSync(journal).filter((file) => file.endsWith('.undo'))) {
      const inode = name.slice(0, -'.undo'.length);
      const find = (where) => readdirSync(where, { withFileTypes: true }).flatMap((entry) => {
        const path = join(where, entry.name);
        if (entry.isDirectory()) return find(path);
        return String(statSync(path).ino) === inode ? [path] : [];
      });
      const [path] = [...find(data), ...find(join(journal, 'saved'))];
      if (path === undefined) continue;
      const fd = openSync(path, 'r+');
      undoContents(fd, readNotes(join(journal, name)), mode, random);
      closeSync(fd);
    }
    undoNames(readNames(join(journal, 'names')), mode, random);
    clear(journal);
  };

  test('what was synced stays, what was not is lost', () => {
    done('create=f', 'write=0:a:2000', 'sync', 'syncdir=.', 'write=500:b:1000', 'write=1900:c:300');
    cut('all');
    assert.equal(text('f'), 'a'.repeat(2000));
  });

  test('the notes outlive the process: a restart makes nothing durable', () => {
    done('create=f', 'write=0:a:2000', 'sync', 'syncdir=.');
    done('open=f', 'write=0:b:600');
    done('open=f');
    cut('all');
    assert.equal(text('f'), 'a'.repeat(2000));
    done('open=f', 'write=0:b:600');
    done('open=f', 'sync');
    cut('all');
    assert.equal(text('f'), 'b'.repeat(600) + 'a'.repeat(1400));
  });

  test('each sector is old or new, and over many cuts each mixture comes', () => {
    const found = new Set();
    for (let i = 0; i < 60; i += 1) {
      done(...(i === 0 ? ['create=f'] : ['open=f']), 'write=0:a:1536', 'sync', 'syncdir=.', 'write=0:b:1536');
      cut('some', i);
      const sectors = text('f').match(/.{512}/g);
      sectors.forEach((sector) => assert.match(sector, /^(a{512}|b{512})$/));
      found.add(sectors.map((sector) => sector[0]).join(''));
    }
    assert.equal(found.size, 8, [...found].join(' '));
  });

  test('in order of writing, a later write never survives an earlier one', () => {
    for (let i = 0; i < 20; i += 1) {
      rmSync(join(data, 'f'), { force: true });
      done('create=f', 'write=0:-:2048', 'sync', 'syncdir=.', 'write=0:a:512', 'write=512:b:512', 'write=1024:c:512', 'write=1536:d:512');
      cut('order', i);
      assert.match(text('f').replace(/(.)\1{511}/g, '$1'), /^(----|a---|ab--|abc-|abcd)$/);
    }
  });

  test('an O_DSYNC write is durable where it wrote, and only there', () => {
    done('create=f', 'write=0:a:4096', 'sync', 'syncdir=.', 'write=1024:b:512', 'dsync=f', 'write=0:c:512');
    cut('all');
    assert.equal(text('f'), 'c'.repeat(512) + 'a'.repeat(3584));
  });

  test('a file is cut and grown back', () => {
    done('create=f', 'write=0:a:3000', 'sync', 'syncdir=.', 'truncate=100');
    cut('all');
    assert.equal(text('f'), 'a'.repeat(3000));
    done('open=f', 'write=3000:b:3000');
    cut('all');
    assert.equal(text('f'), 'a'.repeat(3000));
  });

  test('a name is durable when its directory was synced', () => {
    done('create=kept', 'write=0:a:10', 'sync', 'syncdir=.', 'create=lost', 'write=0:b:10', 'sync', 'mkdir=d');
    cut('all');
    assert.ok(existsSync(join(data, 'kept')));
    assert.ok(!existsSync(join(data, 'lost')));
    assert.ok(!existsSync(join(data, 'd')));
  });

  test('a rename or removal without a sync of the directory is taken back', () => {
    done('create=old', 'write=0:a:10', 'sync', 'create=new', 'write=0:b:10', 'sync', 'create=gone', 'write=0:c:10', 'sync', 'syncdir=.',
      'rename=new:old', 'unlink=gone');
    assert.equal(text('old'), 'b'.repeat(10));
    cut('all');
    assert.equal(text('old'), 'a'.repeat(10));
    assert.equal(text('new'), 'b'.repeat(10));
    assert.equal(text('gone'), 'c'.repeat(10));
    done('rename=new:old', 'unlink=gone', 'syncdir=.');
    cut('all');
    assert.equal(text('old'), 'b'.repeat(10));
    assert.ok(!existsSync(join(data, 'gone')));
    assert.deepEqual(readdirSync(join(journal, 'saved')), []);
  });

  test('it fails on command', () => {
    const set = (values) => {
      writeFileSync(control, Buffer.alloc(CONTROL_BYTES));
      setControl(control, values);
    };
    done('create=f', 'write=0:a:1000', 'sync', 'syncdir=.');
    set({ syncEio: 1 });
    assert.match(script('open=f', 'sync').stderr, /^sync: Input\/output error/);
    set({ noSpace: 1 });
    assert.match(script('open=f', 'write=900:b:200').stderr, /^write: No space left/);
    assert.match(script('create=g').stderr, /^create: No space left/);
    done('open=f', 'write=0:b:1000');
    set({ writeEio: 1 });
    assert.match(script('open=f', 'write=0:b:10').stderr, /^write: Input\/output error/);
    set({ syncDelayUs: 200000 });
    const begin = Date.now();
    done('open=f', 'sync');
    assert.ok(Date.now() - begin >= 200);
  });
});
