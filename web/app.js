// The page: connects its parts. raftogram.js talks to the cluster. channels.js keeps the channels,
// and channel_list.js shows them. timeline.js is the open channel, composer.js the input, outbox.js
// the messages being sent. cluster_state.js and cluster_panel.js show the cluster and its nodes.
// memory.js keeps what the browser remembers.
import { connect } from './raftogram.js';
import { ChannelDialog } from './channel_dialog.js';
import { ChannelList } from './channel_list.js';
import { Channels } from './channels.js';
import { ClusterPanel } from './cluster_panel.js';
import { ClusterState } from './cluster_state.js';
import { Composer } from './composer.js';
import { isOfInputMethod } from './composition.js';
import { byId, make, setText } from './dom.js';
import { plural } from './format.js';
import { memory } from './memory.js';
import { Outbox } from './outbox.js';
import { OutboxView } from './outbox_view.js';
import { Person } from './person.js';
import { Timeline } from './timeline.js';

const client = connect(window.location, { clusterId: memory.clusterId });
const isNarrow = window.matchMedia('(max-width: 760px)');
const clusterState = new ClusterState({ client, onChange: () => clusterChanged() });

const timeline = new Timeline({
  client,
  memory,
  onRead: (channelId, sequence) => {
    memory.setRead(channelId, sequence);
    channels.saw(channelId, sequence);
  },
  onDelivered: (messages) => {
    const own = messages.filter((message) => memory.isOwn(message));
    if (own.length > 0) memory.addOwn(timeline.channelId, own.map(({ sequence }) => Number(sequence)));
    outbox.delivered(own);
    if (messages.length > 0) channels.saw(timeline.channelId, Number(messages.at(-1).sequence));
  },
  onEnded: () => channelsChanged(),
});
const outbox = new Outbox({
  client,
  memory,
  isShown: (channelId, sequence) => timeline.channelId === channelId && sequence <= timeline.latest,
  onChange: () => outboxChanged(),
  onStored: (channelId) => channels.recount(channelId),
});
const outboxView = new OutboxView({ outbox, clusterState });
const channels = new Channels({
  client,
  memory,
  isSendingIn: (channelId) => outbox.isSendingIn(channelId),
  onChange: () => channelsChanged(),
});
const channelList = new ChannelList({ channels });
const channelDialog = new ChannelDialog({
  client,
  onCreated: (channel) => {
    channels.add(channel);
    goTo(channel.channelId);
  },
});
const person = new Person({ memory });
const composer = new Composer({ client, memory, onSend: send, onDraft: () => keepingChanged() });
const panel = new ClusterPanel({ client });

// ---- which channel ------------------------------------------------------------------------------

function channelInAddress() {
  try {
    return decodeURIComponent(window.location.hash.slice(1));
  } catch {
    return '';
  }
}

// The address names the channel, so that the back button and links of the browser work.
function showChannel() {
  const channelId = channelInAddress();
  byId('app').classList.toggle('has-channel', channelId !== '');
  if (channelId === (timeline.channelId ?? '')) {
    channelsChanged();
    return;
  }
  if (channelId === '') {
    timeline.close();
  } else {
    memory.channel = channelId;
    timeline.open(channelId, memory.readIn(channelId));
  }
  channels.select(channelId);
  channelList.select(channelId);
  outboxView.show(channelId || null);
  outbox.show(channelId || null);
  channelsChanged();
  composer.show(channelId || null);
}

function goTo(channelId, { replace = false } = {}) {
  const address = `#${encodeURIComponent(channelId)}`;
  if (replace) window.history.replaceState(null, '', address);
  else window.history.pushState(null, '', address);
  showChannel();
}

// Without a channel in the address, the last open channel is opened, or the first of the list. A
// phone shows the list instead.
function chooseChannel() {
  if (channelInAddress() !== '' || isNarrow.matches || !channels.isLoaded) return;
  const last = memory.channel;
  const first = channels.get(last) ? last : channels.sorted[0]?.channelId;
  if (first !== undefined) goTo(first, { replace: true });
}

function channelsChanged() {
  channelList.render();
  chooseChannel();
  // Another user has created it meanwhile.
  if (timeline.isMissing && channels.get(timeline.channelId)) timeline.retry();
  const { channelId } = timeline;
  const isOpen = channelId !== null;
  const channel = isOpen ? channels.get(channelId) : null;
  const name = isOpen ? channels.nameOf(channelId) : '';
  setText(byId('channel-sign'), isOpen ? '# ' : '');
  setText(byId('channel-title-name'), name);
  const count = Math.max(timeline.latest, channel?.lastSequence ?? 0);
  const idNote = name !== channelId ? `${channelId} · ` : '';
  const isThere = isOpen && !timeline.isMissing;
  setText(byId('channel-subtitle'), isThere ? `${idNote}${plural(count, 'message')}` : '');
  composer.allow({ isAllowed: !timeline.isMissing, name });
  byId('composer').hidden = !isOpen;
  byId('timeline').hidden = !isOpen;
  byId('conversation-head').hidden = !isOpen;
  setText(byId('skip-link'), isOpen ? 'Skip to the message box' : 'Skip to the channels');
  showWelcome(isOpen);
  const unread = channels.unreadTotal;
  document.title = `${unread > 0 ? `(${unread > 99 ? '99+' : unread}) ` : ''}${isOpen ? `#${name} · ` : ''}raftogram`;
}

function showWelcome(isOpen) {
  const isEmpty = channels.size === 0;
  byId('welcome').hidden = isOpen;
  byId('welcome-button').hidden = !channels.isLoaded;
  setText(byId('welcome-title'),
    !channels.isLoaded ? 'Looking for the cluster…' : isEmpty ? 'No channel yet' : 'Choose a channel');
  setText(byId('welcome-text'), !channels.isLoaded ? 'The channels appear as soon as a node with a quorum answers.'
    : isEmpty ? 'Create the first one; everybody on the cluster sees it.' : 'Or create a new one.');
}

// ---- the state of the cluster -------------------------------------------------------------------

const BANNERS = {
  quorum: 'The cluster has no quorum: messages wait until a majority of the nodes is back.',
  lost: 'The connection is lost. What you write is kept and sent when it is back.',
};

function clusterChanged() {
  const { level, line, detail } = clusterState.description;
  for (const id of ['cluster-dot', 'cluster-chip-dot']) byId(id).dataset.level = level;
  for (const id of ['cluster-line', 'cluster-chip-line']) setText(byId(id), line);
  setText(byId('cluster-detail'), detail);
  bannerChanged();
  outboxView.render();
}

function bannerChanged() {
  const text = BANNERS[clusterState.shown];
  const count = outbox.waitingCount;
  const waiting = count === 0 ? '' : ` ${plural(count, 'message waits', 'messages wait')}.`;
  byId('banner').hidden = !clusterState.isOutage;
  if (text) setText(byId('banner-text'), text + waiting);
  byId('banner-button').hidden = clusterState.shown !== 'lost';
}

client.on('hello', (hello) => { if (hello.clusterId) memory.clusterId = hello.clusterId; });
client.on('clusterChanged', ({ current }) => {
  outbox.failOthers(current);
  memory.forgetPlaces();
  memory.hasClusterChanged = true;
  window.location.reload();
});

// Shows where the messages are that the other cluster never received: the list may lack those
// channels.
function showClusterNews() {
  if (!memory.hasClusterChanged) return;
  memory.hasClusterChanged = false;
  const links = [...outbox.failed].flatMap(([channelId, count], i) => [
    i === 0 ? '' : ', ', `${plural(count, 'message')} in `,
    make('a', { href: `#${encodeURIComponent(channelId)}` }, '#', make('bdi', {}, channelId)),
  ]);
  if (links.length === 0) return;
  byId('news-text').replaceChildren(
    'The cluster is another one now. What waited to be sent was not sent: ', ...links, '.');
  byId('news').hidden = false;
}

byId('news-button').addEventListener('click', () => { byId('news').hidden = true; });
window.addEventListener('online', () => client.wake());
document.addEventListener('visibilitychange', () => { if (!document.hidden) client.wake(); });
byId('banner-button').addEventListener('click', () => client.wake());
for (const id of ['cluster-button', 'cluster-chip']) byId(id).addEventListener('click', () => panel.open());

// ---- writing ------------------------------------------------------------------------------------

// Returns whether the message was accepted. A message is sent under the name that is shown.
function send(channelId, text) {
  if (!person.name) {
    person.ask(() => composer.submit());
    return false;
  }
  if (!outbox.add({ channelId, authorId: person.name, text })) return false;
  timeline.toEnd();
  return true;
}

function outboxChanged() {
  outboxView.render();
  bannerChanged();
  composer.isFull = outbox.isFull;
  keepingChanged();
}

// Reports messages that exist only in this page, because the storage of the browser is full or
// forbidden. The browser then asks before it closes the page.
function keepingChanged() {
  const count = outbox.unstoredCount;
  const what = count > 0 ? plural(count, 'message waits', 'messages wait')
    : memory.hasUnstoredDrafts ? 'what you are writing is' : '';
  const notes = [];
  if (what) notes.push(`This browser's storage is full: ${what} in this tab only and would be lost with it. Keep it open.`);
  if (outbox.isFull) notes.push('More messages wait to be sent than can be kept: no other is taken until some are sent or discarded.');
  byId('keeping').hidden = notes.length === 0;
  setText(byId('keeping'), notes.join(' '));
  if (what) window.addEventListener('beforeunload', askBeforeLeaving);
  else window.removeEventListener('beforeunload', askBeforeLeaving);
}

function askBeforeLeaving(event) { event.preventDefault(); }

// ---- the rest -----------------------------------------------------------------------------------

for (const id of ['new-channel-button', 'welcome-button']) {
  byId(id).addEventListener('click', () => channelDialog.open());
}

const systemIsDark = window.matchMedia('(prefers-color-scheme: dark)');

function themeChanged() {
  const isDark = (document.documentElement.dataset.theme ?? (systemIsDark.matches ? 'dark' : 'light')) === 'dark';
  const label = isDark ? 'Change to the light theme' : 'Change to the dark theme';
  byId('theme-button').setAttribute('aria-label', label);
  byId('theme-button').title = label;
  return isDark;
}

byId('theme-button').addEventListener('click', () => {
  const theme = themeChanged() ? 'light' : 'dark';
  document.documentElement.dataset.theme = theme;
  memory.theme = theme;
  themeChanged();
});
systemIsDark.addEventListener('change', themeChanged);

for (const button of document.querySelectorAll('[data-closes]')) {
  button.addEventListener('click', () => byId(button.dataset.closes).close());
}
for (const dialog of document.querySelectorAll('dialog')) {
  dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close(); });
}

document.addEventListener('keydown', (event) => {
  if (isOfInputMethod(event)) return;
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (event.altKey && step && !document.querySelector('dialog[open]')) {
    const channelId = channels.neighbour(step);
    if (channelId !== null) goTo(channelId);
    event.preventDefault();
  } else if ((event.ctrlKey || event.metaKey) && event.key === 'k' && !byId('filter').hidden) {
    byId('filter-text').focus();
    event.preventDefault();
  }
});

// The address names the channel, so that a plain link to a part of the page would open another one.
byId('skip-link').addEventListener('click', (event) => {
  event.preventDefault();
  if (timeline.channelId === null) byId('channels').focus();
  else composer.focus();
});

byId('back-button').addEventListener('click', (event) => {
  event.preventDefault();
  goTo('');
});
window.addEventListener('popstate', showChannel);
window.addEventListener('hashchange', showChannel);
isNarrow.addEventListener('change', channelsChanged);

themeChanged();
clusterChanged();
showClusterNews();
showChannel();
channelsChanged();
