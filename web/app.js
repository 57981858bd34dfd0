// The page: puts the parts together. raftogram.js talks to the cluster, channels.js has the list,
// timeline.js the open channel, outbox.js what is being sent, cluster_panel.js the nodes, memory.js
// what the browser remembers.
import { connect } from './raftogram.js';
import { Channels } from './channels.js';
import { ClusterPanel } from './cluster_panel.js';
import { byId, make, setText } from './dom.js';
import { byteCount, explain, initials, plural, slug, tintOf } from './format.js';
import { memory } from './memory.js';
import { Outbox } from './outbox.js';
import { Timeline } from './timeline.js';

const ID_BYTES_MAX = 256;
const BANNER_AFTER_MS = 1500; // an outage shorter than this is no news
const CREATE_MS = 20000;

const client = connect(window.location, { clusterId: memory.clusterId });
const encoder = new TextEncoder();
const isTouch = window.matchMedia('(pointer: coarse)');
const isNarrow = window.matchMedia('(max-width: 760px)');
const composer = byId('composer-text');
let afterNaming = null; // what to do once there is a name

const timeline = new Timeline({
  client,
  memory,
  onRead: (channelId, sequence) => {
    memory.setRead(channelId, sequence);
    channels.saw(channelId, sequence);
  },
  onDelivered: (messages) => {
    channels.saw(timeline.channelId, Number(messages.at(-1).sequence));
    outbox.delivered(messages);
  },
  onEnded: () => channelsChanged(),
});
const outbox = new Outbox({
  client,
  memory,
  isShown: (channelId, sequence) => timeline.channelId === channelId && sequence <= timeline.latest,
});
const channels = new Channels({ client, memory, onChange: () => channelsChanged() });
const panel = new ClusterPanel({ client });

// ---- which channel ------------------------------------------------------------------------------

function channelInAddress() {
  try {
    return decodeURIComponent(window.location.hash.slice(1));
  } catch {
    return '';
  }
}

// The address names the channel, so that the browser's back button and links work.
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
  outbox.show(channelId || null);
  composer.value = channelId ? memory.draftIn(channelId) : '';
  composerChanged();
  if (channelId && !isTouch.matches) composer.focus();
}

function goTo(channelId, { replace = false } = {}) {
  const address = `#${encodeURIComponent(channelId)}`;
  if (replace) window.history.replaceState(null, '', address);
  else window.history.pushState(null, '', address);
  showChannel();
}

// Without a channel in the address: where one was last, or the first there is. A phone shows the
// list instead.
function chooseChannel() {
  if (channelInAddress() !== '' || isNarrow.matches || !channels.isLoaded) return;
  const last = memory.channel;
  const first = channels.get(last) ? last : channels.ids[0];
  if (first !== undefined) goTo(first, { replace: true });
}

function channelsChanged() {
  chooseChannel();
  // Somebody has created it meanwhile.
  if (timeline.isMissing && channels.get(timeline.channelId)) timeline.retry();
  const { channelId } = timeline;
  const isOpen = channelId !== null;
  const channel = isOpen ? channels.get(channelId) : null;
  const name = isOpen ? channels.nameOf(channelId) : '';
  setText(byId('channel-title'), isOpen ? `# ${name}` : '');
  const count = Math.max(timeline.latest, channel?.lastSequence ?? 0);
  const idNote = name !== channelId ? `${channelId} · ` : '';
  const isThere = isOpen && !timeline.isMissing;
  setText(byId('channel-subtitle'), isThere ? `${idNote}${plural(count, 'message')}` : '');
  composer.placeholder = isThere ? `Message #${name}` : '';
  if (composer.disabled !== timeline.isMissing) allowWriting(!timeline.isMissing);
  byId('composer').hidden = !isOpen;
  byId('timeline').hidden = !isOpen;
  byId('conversation-head').hidden = !isOpen;
  setText(byId('skip-link'), isOpen ? 'Skip to the message box' : 'Skip to the channels');
  showWelcome(isOpen);
  const unread = channels.unreadTotal;
  document.title = `${unread > 0 ? `(${unread > 99 ? '99+' : unread}) ` : ''}${isOpen ? `#${name} · ` : ''}raftogram`;
}

function allowWriting(isAllowed) {
  if (!isAllowed && document.activeElement === composer) byId('timeline').focus();
  composer.disabled = !isAllowed;
  composerChanged();
}

function showWelcome(isOpen) {
  const isEmpty = channels.ids.length === 0;
  byId('welcome').hidden = isOpen;
  byId('welcome-button').hidden = !channels.isLoaded;
  setText(byId('welcome-title'),
    !channels.isLoaded ? 'Looking for the cluster…' : isEmpty ? 'No channel yet' : 'Choose a channel');
  setText(byId('welcome-text'), !channels.isLoaded ? 'The channels appear as soon as a node with a quorum answers.'
    : isEmpty ? 'Create the first one; everybody on the cluster sees it.' : 'Or create a new one.');
}

// ---- the state of the cluster -------------------------------------------------------------------

let outageTimer = null;
let isOutageLong = false;

function describe() {
  const { hello, leader, state } = client;
  if (state !== 'open') {
    return { level: 'bad', line: hello ? 'Reconnecting…' : 'Connecting…', detail: 'no node answers',
      banner: 'The connection is lost. What you write is kept and sent when it is back.' };
  }
  const via = `through ${hello.nodeId}`;
  if (!leader?.hasQuorum) {
    return { level: 'wait', line: 'No quorum', detail: leader?.leaderId ? via : `no leader · ${via}`,
      banner: 'The cluster has no quorum: messages wait until a majority of the nodes is back.' };
  }
  const who = leader.leaderId === hello.nodeId ? 'this node' : via;
  return { level: 'good', line: `${leader.leaderId} leads`, detail: `quorum · ${who}`, banner: '' };
}

function clusterChanged() {
  const { level, line, detail, banner } = describe();
  for (const id of ['cluster-dot', 'cluster-chip-dot']) byId(id).dataset.level = level;
  for (const id of ['cluster-line', 'cluster-chip-line']) setText(byId(id), line);
  setText(byId('cluster-detail'), detail);
  if (level === 'good') {
    clearTimeout(outageTimer);
    outageTimer = null;
    isOutageLong = false;
  } else {
    outageTimer ??= setTimeout(() => {
      isOutageLong = true;
      clusterChanged();
    }, BANNER_AFTER_MS);
  }
  byId('banner').hidden = !isOutageLong;
  if (isOutageLong) setText(byId('banner-text'), banner);
  byId('banner-button').hidden = client.state === 'open';
}

client.on('state', clusterChanged);
client.on('leader', clusterChanged);
client.on('hello', (hello) => {
  if (hello.clusterId) memory.clusterId = hello.clusterId;
  composerChanged();
});
client.on('clusterChanged', () => {
  outbox.failWaiting({ reason: 'CLUSTER_CHANGED' });
  memory.forgetPlaces();
  memory.hasClusterChanged = true;
  window.location.reload();
});

// Where the messages are that the other cluster never got: the list may not have those channels.
function showClusterNews() {
  if (!memory.hasClusterChanged) return;
  memory.hasClusterChanged = false;
  const links = [...outbox.failed].flatMap(([channelId, count], i) => [
    i === 0 ? '' : ', ', `${plural(count, 'message')} in `,
    make('a', { href: `#${encodeURIComponent(channelId)}` }, `#${channelId}`),
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

function composerChanged() {
  composer.style.height = 'auto';
  composer.style.height = `${composer.scrollHeight}px`;
  const bytes = encoder.encode(composer.value).length;
  const bytesMax = Number(client.hello?.maxPayloadBytes) || 65536;
  const isLong = bytes > bytesMax;
  const count = byId('composer-count');
  count.hidden = bytes < bytesMax * 0.8;
  count.classList.toggle('is-over', isLong);
  if (!count.hidden) setText(count, `${byteCount(bytes)} of ${byteCount(bytesMax)}`);
  byId('send-button').disabled = isLong || composer.disabled || composer.value.trim() === '';
}

function submit() {
  const text = composer.value.replace(/\s+$/u, '');
  if (byId('send-button').disabled || text === '' || outbox.isFull) return;
  if (!memory.name) {
    askName(submit);
    return;
  }
  outbox.add({ channelId: timeline.channelId, authorId: memory.name, text });
  composer.value = '';
  memory.setDraftIn(timeline.channelId, '');
  composerChanged();
  timeline.toEnd();
  composer.focus();
}

composer.addEventListener('input', () => {
  composerChanged();
  memory.setDraftIn(timeline.channelId, composer.value);
});
composer.addEventListener('keydown', (event) => {
  // On a touch screen Enter begins a new line, as everywhere there; the button sends.
  const isSend = event.key === 'Enter' && !event.shiftKey && !event.isComposing && !isTouch.matches;
  if (!isSend) return;
  event.preventDefault();
  submit();
});
byId('composer').addEventListener('submit', (event) => {
  event.preventDefault();
  submit();
});

// ---- fields -----------------------------------------------------------------------------------

// Whether a field says anything: `required` takes spaces for an answer, and `maxlength` counts no
// bytes. If not, the browser tells why beside it.
function isFilled(field, bytesMax = Infinity) {
  const text = field.value.trim();
  let problem = '';
  if (text === '') problem = 'Spaces alone will not do.';
  else if (encoder.encode(text).length > bytesMax) problem = `At most ${bytesMax} bytes, please: this is too long.`;
  field.setCustomValidity(problem);
  return field.reportValidity();
}

// What is typed or filled in next is judged anew: a field may change another one of its form.
function acquit(form) {
  for (const field of form.querySelectorAll('input')) field.setCustomValidity('');
}

for (const form of document.querySelectorAll('dialog form')) {
  form.addEventListener('input', () => acquit(form));
}

// ---- the name -----------------------------------------------------------------------------------

function nameChanged() {
  const { name } = memory;
  setText(byId('my-name'), name || 'Choose a name');
  setText(byId('my-avatar'), name ? initials(name) : '?');
  byId('my-avatar').className = `avatar tint-${tintOf(name)}`;
  setText(byId('my-name-before'), name ? 'Your name: ' : '');
  setText(byId('my-name-after'), name ? ' (change it)' : '');
}

function askName(then = null) {
  afterNaming = then;
  acquit(byId('name-form'));
  byId('name-text').value = memory.name;
  byId('name-dialog').showModal();
  byId('name-text').select();
}

byId('name-button').addEventListener('click', () => askName());
byId('name-form').addEventListener('submit', (event) => {
  // With the field's maxlength it is also short enough for an author id.
  if (!isFilled(byId('name-text'))) {
    event.preventDefault();
    return;
  }
  memory.name = byId('name-text').value.trim();
  nameChanged();
});
byId('name-dialog').addEventListener('close', () => {
  const then = afterNaming;
  afterNaming = null;
  if (memory.name && then) then();
});

// ---- a new channel ------------------------------------------------------------------------------

let isIdOwn = false; // the person wrote an id, so the name no longer decides it

function askChannel() {
  byId('channel-form').reset();
  acquit(byId('channel-form'));
  byId('channel-error').hidden = true;
  isIdOwn = false;
  byId('channel-dialog').showModal();
}

byId('new-channel-button').addEventListener('click', askChannel);
byId('welcome-button').addEventListener('click', askChannel);
byId('channel-name').addEventListener('input', () => {
  if (!isIdOwn) byId('channel-id').value = slug(byId('channel-name').value);
});
byId('channel-id').addEventListener('input', () => { isIdOwn = byId('channel-id').value !== ''; });
byId('channel-form').addEventListener('submit', async (event) => {
  event.preventDefault();
  const submitButton = byId('channel-submit');
  if (submitButton.disabled) return;
  if (!isFilled(byId('channel-name')) || !isFilled(byId('channel-id'), ID_BYTES_MAX)) return;
  const error = byId('channel-error');
  const params = { channelId: byId('channel-id').value.trim(), name: byId('channel-name').value.trim() };
  submitButton.disabled = true;
  error.hidden = true;
  try {
    const { channelId, name } = await client.call('CreateChannel', params, { retry: true, timeoutMs: CREATE_MS });
    channels.add({ channelId, name });
    byId('channel-dialog').close();
    goTo(channelId);
  } catch (problem) {
    setText(error, `It was not created: ${explain(problem)}.`);
    error.hidden = false;
  }
  submitButton.disabled = false;
});

// ---- the rest -----------------------------------------------------------------------------------

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
  const isOpen = timeline.channelId !== null;
  if (!isOpen) byId('channels').focus();
  else (composer.disabled ? byId('timeline') : composer).focus();
});

byId('back-button').addEventListener('click', (event) => {
  event.preventDefault();
  goTo('');
});
window.addEventListener('popstate', showChannel);
window.addEventListener('hashchange', showChannel);
isNarrow.addEventListener('change', channelsChanged);

nameChanged();
themeChanged();
clusterChanged();
showClusterNews();
showChannel();
channelsChanged();
