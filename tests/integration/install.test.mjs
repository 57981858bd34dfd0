// What `cmake --install` puts below a prefix is whole, and names itself by its installed paths.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { BUILD, ROOT } from './lib/cluster.mjs';

const run = (command, ...args) => spawnSync(command, args, { encoding: 'utf8' });

describe('an installation', () => {
  let prefix;

  before(() => {
    prefix = mkdtempSync(join(tmpdir(), 'raftogram-install-'));
    const { status, stderr } = run('cmake', '--install', BUILD, '--prefix', prefix);
    assert.equal(status, 0, stderr);
  });
  after(() => rmSync(prefix, { recursive: true, force: true }));

  const read = (path) => readFileSync(join(prefix, path), 'utf8');

  test('has programs of one version', () => {
    const { stdout } = run(join(prefix, 'bin/raftogram'), '-version');
    assert.match(stdout, /^raftogram \d+\.\d+\.\d+\n$/);
    assert.equal(run(join(prefix, 'bin/raftogramctl'), 'help').status, 0);
    assert.match(read('share/man/man1/raftogram.1'), new RegExp(stdout.trim().replaceAll('.', '\\.')));
  });

  test('has a unit that starts the installed daemon', () => {
    const unit = read('lib/systemd/system/raftogram.service');
    assert.match(unit, new RegExp(`^ExecStart=${prefix}/bin/raftogram -config `, 'm'));
    assert.doesNotMatch(unit, /\/usr\/local/);
  });

  test('has example configurations that are right', () => {
    for (const name of ['config.yaml.dist', 'three-hosts/node1.yaml', 'three-hosts/node2.yaml', 'three-hosts/node3.yaml']) {
      const { status, stderr } = run(join(prefix, 'bin/raftogram'), '-config',
        join(prefix, 'share/doc/raftogram/examples', name), '-check-config');
      assert.equal(status, 0, stderr);
    }
  });

  test('has man pages without a fault, for every key of the configuration', () => {
    const page = read('share/man/man5/raftogram.yaml.5');
    let section;
    for (const line of readFileSync(join(ROOT, 'conf/config.yaml.dist'), 'utf8').split('\n')) {
      const [, indent, name] = /^( {0,2})([a-z_]+):/.exec(line) ?? [];
      if (indent === '') section = name;
      if (indent?.length === 2) assert.match(page, new RegExp(`^\\\\fB${section}\\.${name}\\\\fR`, 'm'), `${section}.${name}`);
    }
    for (const name of ['man1/raftogram.1', 'man1/raftogramctl.1', 'man5/raftogram.yaml.5']) {
      const path = join(prefix, 'share/man', name);
      assert.ok(existsSync(path), name);
      assert.doesNotMatch(readFileSync(path, 'utf8'), /@\w+@/, name);
      const groff = run('groff', '-man', '-ww', '-Tascii', '-z', path);
      assert.equal(groff.error ?? groff.stderr, '', name);
    }
  });

  test('has a man page of raftogramctl with each verb and flag of its help', () => {
    const help = run(join(prefix, 'bin/raftogramctl'), 'help').stdout;
    const { stdout } = run('groff', '-man', '-Tascii', '-P', '-cbou', '-rLL=200n', join(prefix, 'share/man/man1/raftogramctl.1'));
    const page = stdout.split('\n').map((line) => line.trim());
    const section = (name) => page.slice(page.indexOf(name) + 1, page.findIndex((line, i) => i > page.indexOf(name) && /^[A-Z ]+$/.test(line)));
    const verbs = [...help.matchAll(/^  ([a-z][^\n]*?)(?: {2,}.*)?$/gm)].map((match) => match[1].trim()).filter((line) => !line.startsWith('raftogramctl'));
    assert.ok(verbs.length > 12);
    for (const verb of verbs) assert.ok(section('VERBS').some((line) => line === verb || line.startsWith(`${verb}  `)), verb);
    const flags = [...help.matchAll(/^  (-\S*(?:, -\S+)?(?: \S+)?) {2,}/gm)].map((match) => match[1]);
    assert.ok(flags.length > 5);
    for (const flag of flags) assert.ok(section('FLAGS').some((line) => line === flag || line.startsWith(`${flag}  `)), flag);
  });

  test('has the completions of raftogramctl for bash, zsh and fish', () => {
    for (const [shell, path] of [['bash', 'bash-completion/completions/raftogramctl'],
      ['zsh', 'zsh/site-functions/_raftogramctl'], ['fish', 'fish/vendor_completions.d/raftogramctl.fish']]) {
      assert.equal(read(join('share', path)), run(join(prefix, 'bin/raftogramctl'), 'completion', shell).stdout);
      // -n: read it, do not run it. A shell that is not here cannot object.
      const { error, stderr } = run(shell, '-n', join(prefix, 'share', path));
      if (error === undefined) assert.equal(stderr, '', shell);
      else assert.notEqual(shell, 'bash');
    }
  });
});
