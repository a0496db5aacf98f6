/**
 * What the service has told: the newest events of the stream, and answers of its RPCs. Both are
 * bounded: one value for each kind of event, one answer for each place of the page that asks.
 */

import { Hub } from './hub.js';
import { log, range, state, windowOf } from './state.js';

const AT_ONCE = 4;
const TIMEOUT_MS = 15_000;
const PATIENCE_MS = 1_500;
const STANDBY = ['ListAlerts', 'GetAlert'];
const HEARTBEAT_MS = 20_000;
const STALE_MS = 35_000;
export const LAG_S = 10;

/** The newest of each event; `at` is when something was heard last, `link` is open, lost or closed. */
export const live = { snapshot: null, health: null, alerts: null, status: null, link: '', at: 0, lost: 0 };
export const view = { paused: false, pausedAt: 0, changing: false };
const answers = new Map();
let asking = 0;
let turn = 0;
let redraw = () => {};
let port = null;

/** Begin to listen; `draw` is called after each change. */
export function connect(draw) {
  redraw = draw;
  if ('SharedWorker' in window) {
    port = new SharedWorker('/assets/hub.js', { type: 'module', name: 'farehold' }).port;
  } else {
    const channel = new MessageChannel();
    new Hub().join(channel.port1);
    port = channel.port2;
  }
  port.onmessage = ({ data }) => heard(data);
  port.start();
  tell();
  setInterval(tell, HEARTBEAT_MS);
  addEventListener('visibilitychange', tell);
  addEventListener('pagehide', () => port.postMessage({ bye: true }));
  addEventListener('pageshow', tell);
}

/** Say which window is looked at. */
export function tell() {
  port?.postMessage({ window: `${range()}s`, visible: watching() });
  if (watching()) redraw();
}

const watching = () => document.visibilityState === 'visible' && !view.paused;

function heard({ event, data, window, at }) {
  if (view.paused) return;
  if (event === 'link') {
    if (data === 'lost' && live.link !== 'lost') live.lost = at;
    live.link = data;
  } else {
    live.at = Math.max(live.at, at);
    live.link = 'open';
    if (event === 'snapshot') data.question = window;
    live[event] = data;
    log.now = asOf() / 1000;
  }
  if (watching()) redraw();
}

/**
 * How fresh the figures are: loading, paused, reconnecting, stale, standby, away (the log is), history
 * (time is that of its events), live.
 */
export function freshness() {
  if (view.paused) return 'paused';
  if (!live.at) return live.link === 'lost' ? 'reconnecting' : 'loading';
  if (Date.now() - live.at > STALE_MS) return 'stale';
  if (live.link === 'lost') return 'reconnecting';
  const told = live.status;
  if (told?.role === 'standby') return 'standby';
  if (told?.log === 'away') return 'away';
  if (told?.as_of && told.lag_s === null) return 'history';
  return told?.lag_s > LAG_S ? 'stale' : 'live';
}

/** Up to when the log is folded, in milliseconds. */
export function asOf() {
  const told = [live.snapshot?.as_of, live.status?.as_of].filter(Boolean).map(Date.parse);
  return told.length ? Math.max(...told) : Date.now();
}

const revision = () => Math.max(live.snapshot?.revision ?? 0, live.status?.revision ?? 0);

/** How long ago the range ended, in seconds. */
export const endedAgo = () => (state.to === null ? 0 : Math.max(0, (asOf() - state.to) / 1000));

/** The snapshot of the chosen range: streamed, or asked for where the stream is of another window. */
export function snapshot() {
  const found = newest();
  if (found.data) shown = found.data;
  // While another range is read, that before stays in sight.
  view.changing = !found.data && !found.error && shown !== null;
  return view.changing ? { data: shown } : found;
}

let shown = null;

function newest() {
  if (state.to === null && live.snapshot?.question === `${range()}s`) return { data: live.snapshot };
  if (!live.status && state.to !== null) return { data: null };
  const asked = windowOf(range(), endedAgo());
  if (!asked)
    return {
      data: null,
      error: { description: 'Figures of windows are kept for 30 days; the trends go further back.' },
    };
  return ask('snapshot', 'GetMetrics', asked, state.to === null ? 2_000 : 30_000);
}

/**
 * The answer of an RPC for one place of the page: {data, error, loading, at}. It is asked for again
 * after `every` milliseconds if the state has changed; meanwhile the answer before is kept.
 */
export function ask(place, method, params, every = 10_000) {
  const url = `/api/rpc/${method}?${query(params)}`;
  let entry = answers.get(place);
  if (!entry) answers.set(place, (entry = { data: null, error: null, at: 0, url: '', revision: -1 }));
  entry.turn = turn;
  // A standby has alerts alone, and says what it is before anything is asked.
  if (live.status?.role === 'standby' && !STANDBY.includes(method))
    return { error: { description: 'A standby has no figures.', expected: true } };
  if (!live.status && performance.now() < PATIENCE_MS) return entry;
  const now = Date.now();
  const same = entry.url === url;
  const due = !same || (now - entry.at > every && entry.revision !== revision()) || now - entry.at > 60_000;
  if (due && !entry.loading && asking < AT_ONCE && (watching() || !entry.data)) fetchInto(entry, url);
  return entry;
}

function query(params) {
  const out = new URLSearchParams();
  for (const name in params) {
    for (const value of [params[name]].flat()) {
      if (value === null || value === '' || (name === 'ended' && !value)) continue;
      out.append(name, ['window', 'ended', 'step'].includes(name) && Number.isFinite(value) ? `${value}s` : value);
    }
  }
  return out;
}

async function fetchInto(entry, url) {
  asking += 1;
  entry.loading = true;
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    const body = await answer.json();
    if (answer.ok) Object.assign(entry, { data: body, error: null, revision: revision() });
    else entry.error = body;
    // Of another place or question the answer before says nothing.
    if (!answer.ok && entry.url !== url) entry.data = null;
  } catch {
    // The header says so; what was read stays.
    entry.error =
      entry.data && entry.url === url ? null : { reason: 'UNREACHABLE', description: 'The service does not answer.' };
  }
  Object.assign(entry, { url, at: Date.now(), loading: false });
  asking -= 1;
  redraw();
}

/** Forget the answers that the last drawing did not ask for. */
export function forget() {
  for (const [place, entry] of answers) if (entry.turn !== turn && !entry.loading) answers.delete(place);
  turn += 1;
}

/** Stop everything, or go on. */
export function pause(paused) {
  Object.assign(view, { paused, pausedAt: Date.now() });
  tell();
  redraw();
}
