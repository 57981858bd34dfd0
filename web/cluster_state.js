// The state of the cluster that the page shows. While the client tries one node after the other,
// its own state changes every second. So a state is shown only after it has lasted for a while:
// 'good', 'quorum' (nodes answer, but have no quorum) or 'lost' (no node answers).

const OUTAGE_AFTER_MS = 1500; // a shorter outage is not shown
const GOOD_AFTER_MS = 1000; // nor is a node that promises too much
const LOST_AFTER_MS = 30000; // longer than a round of the nodes, of which some may not even refuse

export class ClusterState {
  #client;
  #onChange;
  #shown = 'starting';
  #timer = null;
  #awaited = ''; // the state that the timer is for
  #noQuorumAtMs = -Infinity; // when a node last reported no quorum
  #good = null; // last text of a good state

  constructor({ client, onChange }) {
    this.#client = client;
    this.#onChange = onChange;
    for (const event of ['state', 'leader']) client.on(event, () => this.#update());
  }

  get shown() { return this.#shown; }

  get isOutage() { return this.#shown === 'quorum' || this.#shown === 'lost'; }

  // Returns {level, line, detail} to show.
  get description() {
    const { hello, leader } = this.#client;
    if (this.#shown === 'starting') return { level: 'wait', line: 'Connecting…', detail: '' };
    if (this.#shown === 'lost') {
      return { level: 'bad', line: hello ? 'Reconnecting…' : 'Connecting…', detail: 'no node answers' };
    }
    if (this.#shown === 'quorum') return { level: 'wait', line: 'No quorum', detail: 'asking one node after the other' };
    if (this.#now() === 'good' || !this.#good) {
      const who = leader.leaderId === hello.nodeId ? 'this node' : `through ${hello.nodeId}`;
      this.#good = { level: 'good', line: `${leader.leaderId} leads`, detail: `quorum · ${who}` };
    }
    return this.#good;
  }

  #now() {
    if (this.#client.state === 'open' && this.#client.leader?.hasQuorum) return 'good';
    if (this.#client.state === 'open' && this.#client.leader) this.#noQuorumAtMs = performance.now();
    return performance.now() - this.#noQuorumAtMs < LOST_AFTER_MS ? 'quorum' : 'lost';
  }

  #update() {
    const now = this.#now();
    if (now === this.#shown) this.#await('', 0);
    else if (now === 'good' && this.#shown === 'starting') this.#show(now);
    else if (now === 'good') this.#await('good', GOOD_AFTER_MS);
    else if (this.isOutage) this.#show(now);
    else this.#await('outage', OUTAGE_AFTER_MS);
    // Without another event, the silence also becomes a loss.
    if (this.#shown === 'quorum' && now === 'quorum' && this.#client.state !== 'open') {
      this.#await('lost', LOST_AFTER_MS - (performance.now() - this.#noQuorumAtMs) + 1);
    }
    this.#onChange();
  }

  #await(awaited, pauseMs) {
    if (this.#awaited === awaited) return;
    clearTimeout(this.#timer);
    this.#awaited = awaited;
    if (awaited === '') return;
    this.#timer = setTimeout(() => {
      this.#show(this.#now());
      this.#update();
    }, pauseMs);
  }

  #show(state) {
    clearTimeout(this.#timer);
    this.#awaited = '';
    this.#shown = state;
  }
}
