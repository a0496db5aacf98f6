/** Starts the page: draws what the address says, and again when that or the figures change. */

import { alert, alerts, journey } from './alerts.js';
import { follow } from './chart.js';
import { asOf, connect, forget, freshness, snapshot, tell, view } from './data.js';
import { h, plain, render } from './dom.js';
import { funnel } from './funnel.js';
import { announce, head, nav, toast, verdict } from './head.js';
import { now } from './now.js';
import { business, errors, reason } from './outcome.js';
import { section } from './parts.js';
import { queries, slow } from './queries.js';
import { query, slowQuery } from './query.js';
import { deployed, deployments, health, quality } from './service.js';
import { address, read, state } from './state.js';
import { trends } from './trends.js';

const at = (id) => document.getElementById(id);
const DETAILS = {
  alerts: ['Alerts', (id) => alert(id, draw)],
  slow: ['Slow and blocked', (id) => slowQuery(id)],
  queries: ['Queries', (id) => query(id, draw)],
  errors: ['Errors', (id) => reason(id, draw)],
  deployments: ['Deployments', (id) => deployments(id, draw)],
  journeys: ['Funnel', (id) => journey(id, draw)],
};
let asked = false;
// The section that the address names is kept in sight while those above it are filled.
let goal = location.hash.slice(1);

/** Draw within the next frame, once however often it is asked. A hidden page has no frames. */
function draw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    paint();
  });
}

function paint() {
  const [kind, id] = state.path;
  const detail = DETAILS[kind] && id !== undefined;
  render(at('head'), head(go, copy));
  render(at('main'), detail ? details(kind, id) : overview());
  document.body.className = `${freshness()} ${view.changing ? 'changing' : ''}`;
  const all = snapshot().data;
  render(at('nav'), [nav(all?.errors.last_5_minutes, all?.performance.queries.slow_critical)]);
  document.title = `${detail ? `${plain(id)} · ` : ''}${verdict()[1]} · Farehold`;
  announce(at('said'));
  follow(draw);
  forget();
  if (goal) at(goal)?.scrollIntoView({ behavior: 'instant' });
  if (!at('main').querySelector('.skeleton')) goal = '';
}

const OVERVIEW = {
  now,
  funnel: () => funnel(go, draw),
  alerts,
  trends: () => trends(go, deployed().data?.deployments),
  slow: () => slow(draw),
  queries: () => queries(go, draw),
  errors: () => errors(draw),
  business: () => business(draw),
  health: () => health(draw),
  quality,
  deployments: () => deployments(undefined, draw),
};
const overview = () => Object.entries(OVERVIEW).map(([id, show]) => safely(id, show));

/** A section that fails must not take the others with it. */
function safely(id, show) {
  try {
    return show();
  } catch (error) {
    console.error(id, error);
    return section(id, id, {
      error: { description: 'The page has a fault here; the console of the browser names it.' },
    });
  }
}

function details(kind, id) {
  const [name, show] = DETAILS[kind];
  const back = kind === 'journeys' ? 'funnel' : kind;
  return [
    h('p', { class: 'crumbs', key: 'crumbs' }, h('a', { href: address({}, [], `#${back}`) }, `← ${name}`)),
    safely('detail', () => show(id)),
  ];
}

/** Change the state, and the address with it. */
function go(changes, path = null) {
  history.pushState(null, '', address(changes, path, changes.step === undefined ? location.hash : '#funnel'));
  read();
  tell();
  draw();
}

/** Follow links of the page without loading it again. */
function onClick(event) {
  const found = event.target.closest('a[href^="/"]');
  if (!found || event.button || event.ctrlKey || event.metaKey || event.shiftKey || found.pathname.startsWith('/api'))
    return;
  event.preventDefault();
  const left = state.path.length;
  history.pushState(null, '', found.getAttribute('href'));
  read();
  tell();
  paint();
  const target = found.hash && at(found.hash.slice(1));
  if (target) target.scrollIntoView();
  else if (left !== state.path.length || state.path.length) scrollTo(0, 0);
  if (state.path.length) at('main').focus({ preventScroll: true });
}

/** The link with absolute times; the relative one is offered. */
async function copy() {
  const fixed = location.origin + address({ to: state.to ?? asOf() }, null, location.hash);
  const relative = location.origin + address({}, null, location.hash);
  const offer = async (text, words, other) => {
    const done = await navigator.clipboard?.writeText(text).then(
      () => true,
      () => false,
    );
    toast(at('toast'), text, done ? `${words} copied.` : `${words}, to copy:`, other);
  };
  const again = state.to === null ? ['Keep it relative', () => offer(relative, 'Link to the newest figures')] : null;
  await offer(fixed, 'Link to these times', again);
}

function onKey(event) {
  if (event.key !== 'Escape') return;
  if (at('toast').firstChild) render(at('toast'), []);
  else if (state.step) go({ step: '' });
  else if (state.path.length) go({}, []);
}

read();
addEventListener('popstate', () => {
  read();
  tell();
  draw();
});
for (const event of ['wheel', 'pointerdown', 'keydown']) addEventListener(event, () => (goal = ''), { passive: true });
addEventListener('click', onClick);
addEventListener('keydown', onKey);
connect(draw);
// Ages go on while nothing is heard.
setInterval(draw, 1_000);
paint();
