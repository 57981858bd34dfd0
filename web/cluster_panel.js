// The panel of the cluster: the status that each node reports, over a connection of its own to each
// node while the panel is open.
import { connect } from './raftogram.js';
import { byId, make, setText } from './dom.js';
import { duration, plural } from './format.js';

const POLL_MS = 1000;
const ANSWER_MS = 1500;

const COLUMNS = [
  ['Term', 'term'], ['Committed', 'commitIndex'], ['Applied', 'appliedIndex'], ['Log', 'lastIndex'],
  ['Snapshot', 'snapshotIndex'],
];

const CONTACT_NEVER = '18446744073709551615'; // for a member that the leader has never heard

function contactText(ms) {
  if (ms === CONTACT_NEVER) return 'never';
  return Number(ms) < 60000 ? `${ms} ms` : duration(Math.round(Number(ms) / 1000));
}

const number = (text) => (text === undefined ? '–' : Number(text).toLocaleString());

export class ClusterPanel {
  #client;
  #dialog = byId('cluster-dialog');
  #clients = new Map(); // nodeId -> client, for the nodes other than ours
  #timer = null;
  #round = 0;

  constructor({ client }) {
    this.#client = client;
    this.#dialog.addEventListener('close', () => this.#stop());
  }

  open() {
    this.#dialog.showModal();
    this.#round += 1;
    this.#poll(this.#round);
  }

  #stop() {
    this.#round += 1;
    clearTimeout(this.#timer);
    for (const client of this.#clients.values()) client.close();
    this.#clients.clear();
  }

  async #poll(round) {
    const { hello } = this.#client;
    const peers = hello?.peers ?? [];
    const answers = await Promise.all(peers.map(async (peer) => {
      try {
        return await this.#clientOf(peer).call('Status', {}, { timeoutMs: ANSWER_MS });
      } catch {
        return null;
      }
    }));
    if (round !== this.#round) return;
    this.#render(peers, answers);
    this.#timer = setTimeout(() => this.#poll(round), POLL_MS);
  }

  // Nodes serve plain http. A page that was loaded over https can ask only the node that it came
  // from.
  #clientOf({ nodeId, httpAddr }) {
    if (nodeId === this.#client.hello.nodeId) {
      this.#clients.get(nodeId)?.close();
      this.#clients.delete(nodeId);
      return this.#client;
    }
    if (!httpAddr || window.location.protocol === 'https:') throw new Error('no way to ask it');
    if (!this.#clients.has(nodeId)) {
      this.#clients.set(nodeId, connect(`ws://${httpAddr}/ws`, { followPeers: false, backoffMaxMs: 2000 }));
    }
    return this.#clients.get(nodeId);
  }

  #render(peers, answers) {
    const statuses = new Map(peers.map(({ nodeId }, i) => [nodeId, answers[i]]));
    const leader = answers.find((status) => status?.role?.toLowerCase() === 'leader' && status.hasQuorum);
    const contacts = new Map((leader?.members ?? []).map((member) => [member.nodeId, member]));
    const rows = [...statuses].map(([nodeId, status]) => this.#row(nodeId, status, leader, contacts.get(nodeId)));
    byId('cluster-nodes').replaceChildren(...rows);
    const reached = answers.filter(Boolean).length;
    const majority = Math.floor(peers.length / 2) + 1;
    setText(byId('cluster-summary'), leader
      ? `${leader.nodeId} leads in term ${leader.term}. ${reached} of ${plural(peers.length, 'node')} answer; ${majority} make a quorum.`
      : `No leader with a quorum. ${reached} of ${plural(peers.length, 'node')} answer; ${majority} are needed.`);
    const { hello } = this.#client;
    setText(byId('cluster-foot'), hello ? `Cluster ${hello.clusterId || 'not formed yet'} · raftogram ${hello.version}` : 'No node can be reached.');
  }

  #row(nodeId, status, leader, contact) {
    const role = status ? (status.role || 'unknown').toLowerCase() : 'unreachable';
    const isHere = nodeId === this.#client.hello?.nodeId && this.#client.state === 'open';
    const row = make('tr', { class: status ? '' : 'is-unreachable' },
      make('th', { scope: 'row' }, nodeId, ...(isHere ? [' ', make('span', { class: 'here' }, 'this page')] : [])),
      make('td', { 'data-label': 'Role' }, make('span', { class: `role role-${role.replace(/[^a-z]/g, '')}` }, role)));
    for (const [label, field] of COLUMNS) {
      const cell = make('td', { class: 'number', 'data-label': label }, status ? number(status[field]) : '–');
      const behind = field === 'appliedIndex' && status && leader ? Number(leader.commitIndex) - Number(status[field]) : 0;
      if (behind > 0) cell.append(make('span', { class: 'behind', title: 'behind the leader' }, ` −${behind.toLocaleString()}`));
      row.append(cell);
    }
    let heard = '–';
    if (leader && nodeId === leader.nodeId) heard = 'leads';
    else if (contact) heard = contactText(contact.lastContactMs);
    row.append(make('td', { class: 'number', 'data-label': 'Contact', title: 'since the leader last heard of it' }, heard));
    row.append(make('td', { class: 'number', 'data-label': 'Uptime' }, status ? duration(Number(status.uptimeSeconds)) : '–'));
    return row;
  }
}
