// A client of whichever node leads. On a busy machine, or after a test that moved the leader, that is
// not the node that led when the tests began.
import { Client, grpc } from './messenger.mjs';

const { ABORTED, FAILED_PRECONDITION, UNAVAILABLE } = grpc.status;
const STUBS = ['messenger', 'cluster', 'kv', 'health'];
const DEADLINE_MS = 30000;

// An unknown outcome may be tried again only where a second time does nothing.
const isRepeatable = (request) => Boolean(request.clientMessageId || (request.channelId && !('payload' in request)));

export class LeadingClient extends Client {
  constructor(cluster, leader) {
    super(leader.grpc);
    super.close();
    this.nodes = cluster;
    this.leader = leader;
    for (const name of STUBS) this[name] = name;
    this.stubs = [];
  }

  // Many calls may fail at once; one of them looks for all.
  async follow(last) {
    if (this.leader !== last) return;
    this.moving ??= this.nodes.leader().finally(() => { this.moving = null; });
    this.leader = await this.moving;
  }

  async call(name, method, request, { deadline: callDeadline = DEADLINE_MS, ...others } = {}) {
    const deadline = Date.now() + DEADLINE_MS;
    const options = { deadline: callDeadline, ...others };
    for (;;) {
      const { leader } = this;
      const client = this.nodes.client(leader);
      try {
        const answer = await client.call(client[name], method, request, options);
        if (name !== 'kv' || answer.error !== 'not leader' || Date.now() > deadline) return answer;
      } catch (error) {
        const isRefused = error.code === UNAVAILABLE || (error.code === FAILED_PRECONDITION && /not leader/.test(error.details));
        const mayRepeat = isRefused || (error.code === ABORTED && isRepeatable(request));
        if (!mayRepeat || Date.now() > deadline) throw error;
      }
      await this.follow(leader);
    }
  }

  subscribe(request, options) { return this.nodes.client(this.leader).subscribe(request, options); }
}

// Runs what speaks of who leads, again if an election came between. `body` is given the leader, and
// may run more than once.
export async function whileOneLeads(cluster, body) {
  for (let attempt = 1; ; attempt += 1) {
    const leader = await cluster.leader();
    const { term } = await cluster.status(leader, { deadline: DEADLINE_MS });
    try {
      return await body(leader);
    } catch (error) {
      const now = await cluster.status(await cluster.leader(), { deadline: DEADLINE_MS });
      if (now.term === term || attempt === 5) throw error;
    }
  }
}
