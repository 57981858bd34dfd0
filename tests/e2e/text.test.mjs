// What the page makes of texts: ids for names, links, and where it cuts.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { initials, slug } from '../../web/format.js';
import { piecesOf } from '../../web/links.js';
import { characters, cut } from '../../web/text.js';

const bytes = (text) => Buffer.byteLength(text);

test('an id is suggested as people would write the name, in every script', () => {
  const expected = {
    'Über uns & Co': 'uber-uns-co',
    'İstanbul Çağrı': 'istanbul-cagrı',
    'Đà Nẵng': 'đa-nang',
    'ﬁne ＷＩＤＥ': 'fine-wide',
    'Мой йогурт': 'мой-йогурт',
    'हिन्दी समाचार': 'हिन्दी-समाचार',
    'ภาษาไทย': 'ภาษาไทย'.normalize('NFKD').normalize('NFC'),
    '한국어 채널': '한국어-채널',
    'ガールズ': 'ガールズ',
    'עִבְרִית': 'עִבְרִית'.normalize('NFC'),
    'العَرَبِيَّة': 'العَرَبِيَّة'.normalize('NFC'),
    'நிர்வாகம்': 'நிர்வாகம்',
    'I ❤️ 🇫🇷 👩‍👩‍👧 cats': 'i-cats',
    '1️⃣ first': '1-first',
    '--  a  --': 'a',
    '🎉🎉': '',
    '\ud800x\udc00': 'x',
  };
  for (const [name, id] of Object.entries(expected)) {
    assert.equal(slug(name), id, name);
    assert.equal(slug(name), slug(name).normalize('NFC'), `${name}: not composed`);
  }
});

test('a suggested id is at most 256 bytes and never ends inside a character', () => {
  const names = [
    'a'.repeat(300), '漢'.repeat(200), '𠮷'.repeat(200), 'क्षि'.repeat(100), '각'.normalize('NFD').repeat(100),
    `x${'\u0331'.repeat(400)}`, 'ห้องประชุม'.repeat(30), 'நி'.repeat(120), 'ö-'.repeat(150),
  ];
  for (const name of names) {
    const id = slug(name);
    assert.ok(bytes(id) <= 256, `${bytes(id)} bytes of ${name}`);
    assert.ok(id.isWellFormed?.() ?? true);
    const whole = [...characters(slugOfAll(name))];
    const parts = [...characters(id)];
    assert.deepEqual(parts, whole.slice(0, parts.length), name);
    assert.doesNotMatch(id, /-$/);
  }
});

// The same name as the id has it, as far as these names go, but uncut.
const slugOfAll = (name) => name.normalize('NFKD').replace(/(\p{Script=Latin})[\u0300-\u036f]+/gu, '$1').normalize('NFC');

test('what is cut is cut between characters', () => {
  const family = '👩‍👩‍👧';
  assert.equal(cut(`ab${family}c`, { unitsMax: 6 }), 'ab');
  assert.equal(cut(`ab${family}c`, { charactersMax: 3 }), `ab${family}`);
  assert.equal(cut('né'.normalize('NFD'), { unitsMax: 2 }), 'n');
  assert.equal(cut('𠮷𠮷', { bytesMax: 7 }), '𠮷');
  assert.equal(cut('abc', {}), 'abc');
  assert.equal(initials(`${family} नि`), `${family}नि`);
});

const links = (text, options) => piecesOf(text, options).filter((piece) => typeof piece === 'object').map((piece) => piece.text);

test('an address ends where the sentence around it goes on', () => {
  const expected = {
    'see http://a.example/b.': ['http://a.example/b'],
    '(see https://a.example/b)': ['https://a.example/b'],
    'https://en.example/wiki/Raft_(algorithm)': ['https://en.example/wiki/Raft_(algorithm)'],
    '(https://en.example/wiki/Raft_(algorithm)).': ['https://en.example/wiki/Raft_(algorithm)'],
    'http://a.example/?q=1&r=[2]#x, http://b.example!': ['http://a.example/?q=1&r=[2]#x', 'http://b.example'],
    '<http://a.example/x> "http://b.example/y"': ['http://a.example/x', 'http://b.example/y'],
    'これhttps://例え.example/道。': ['https://例え.example/道'],
    'HTTPS://A.example/B': ['HTTPS://A.example/B'],
    'http://127.0.0.1:8080/#general': ['http://127.0.0.1:8080/#general'],
    'http://[::1]:8080/': ['http://[::1]:8080/'],
  };
  for (const [text, found] of Object.entries(expected)) assert.deepEqual(links(text), found, text);
});

test('what is no plain address of the web is no link', () => {
  for (const text of [
    'javascript:alert(1)', 'data:text/html,<script>', 'file:///etc/passwd', 'xhttp://a.example', 'http://', 'https:// a',
    'vbscript:http', 'http://bank.example@evil.example/', 'https://user:secret@evil.example', 'http://%zz/', 'http:///',
    'javascript://http', 'blob:http-x',
  ]) assert.deepEqual(links(text), [], text);
  // It ends before what is invisible or turns the direction of writing.
  assert.deepEqual(links('http://a.example/\u202egnp.exe'), ['http://a.example/']);
  assert.deepEqual(links('http://a.example/\u200bx'), ['http://a.example/']);
  assert.deepEqual(links('http://a.example/"onmouseover="x'), ['http://a.example/']);
});

test('all pieces together are the text, whatever is in it', () => {
  for (const text of ['', 'a', 'http://a.example', ' http://a.example. ', 'x http://u@b http://c.example) y', 'http://'.repeat(50)]) {
    assert.equal(piecesOf(text).map((piece) => piece.text ?? piece).join(''), text);
  }
});

test('an address that was cut is no link, and there are not too many links', () => {
  assert.deepEqual(links('http://a.example/x http://b.exam', { isCut: true }), ['http://a.example/x']);
  assert.equal(links('http://a.example/ '.repeat(3000)).length, 200);
  assert.deepEqual(links(`http://a.example/${'a'.repeat(3000)} http://b.example`), ['http://b.example']);
  for (const sign of [')', '.', '(', 'http://']) assert.ok(links(`http://a.example/${sign.repeat(30000)}`).length <= 1);
});
