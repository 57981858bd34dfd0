// Reads the Prometheus text format 0.0.4, strictly: what it does not know is an error.
import assert from 'node:assert/strict';

const LABEL = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(,|$)/;

function parseLabels(text) {
  const labels = {};
  let rest = text ?? '';
  while (rest !== '') {
    const match = LABEL.exec(rest);
    assert.ok(match, `labels: ${text}`);
    assert.ok(!(match[1] in labels), `label twice: ${text}`);
    labels[match[1]] = match[2];
    rest = rest.slice(match[0].length);
  }
  return labels;
}

const number = (text) => {
  const value = Number(text.replace('+Inf', 'Infinity'));
  assert.ok(!Number.isNaN(value), text);
  return value;
};

// Maps each family's name to { type, help, samples: [{ name, labels, value }] }.
export function parseMetrics(text) {
  assert.ok(text.endsWith('\n'), 'the last line ends');
  const families = new Map();
  const seen = new Set();
  let family;
  for (const line of text.trimEnd().split('\n')) {
    const help = /^# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) (\S.*)$/.exec(line);
    const type = /^# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge|histogram)$/.exec(line);
    const sample = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (help) {
      assert.ok(!families.has(help[1]), `${help[1]} is there twice`);
      family = { name: help[1], help: help[2], samples: [] };
      families.set(help[1], family);
    } else if (type) {
      assert.equal(type[1], family.name, 'TYPE follows its HELP');
      family.type = type[2];
    } else {
      assert.ok(sample, `not a line of the format: ${line}`);
      const [, name, labels, value] = sample;
      const suffixes = family.type === 'histogram' ? ['_bucket', '_sum', '_count'] : [''];
      assert.ok(suffixes.some((suffix) => name === family.name + suffix), `${name} stands under ${family.name}`);
      assert.ok(!seen.has(`${name}{${labels}}`), `the series is there twice: ${line}`);
      seen.add(`${name}{${labels}}`);
      family.samples.push({ name, labels: parseLabels(labels), value: number(value) });
    }
  }
  return families;
}

// What a node says of a series without labels.
export async function metric(node, name) {
  const text = await (await fetch(`http://${node.http}/metrics`)).text();
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)[1]);
}

// A function that tells by how much a node's counter has grown since.
export async function counter(node, name) {
  const before = await metric(node, name);
  return async () => await metric(node, name) - before;
}

// The value of a series; undefined when it is not there.
export function valueOf(families, name, labels = {}) {
  const wanted = JSON.stringify(labels);
  return families.get(name)?.samples.find((sample) => JSON.stringify(sample.labels) === wanted)?.value;
}
