/** The header, which is always in sight, the list of sections, and what is said of the connection. */

import { active, firing, severity } from './alerts.js';
import { asOf, freshness, LAG_S, live, pause, view } from './data.js';
import { h, render } from './dom.js';
import { clock, count, dates, decimal, moment, plural, since, span } from './format.js';
import { compared, empty } from './now.js';
import { choice, icon, status } from './parts.js';
import { address, COMPARISONS, range, RANGES, state } from './state.js';
import { VERDICTS } from './service.js';

export const SECTIONS = {
  now: 'Now',
  funnel: 'Funnel',
  alerts: 'Alerts',
  trends: 'Trends',
  slow: 'Slow and blocked',
  queries: 'Queries',
  errors: 'Errors',
  business: 'Business',
  health: 'Health',
  quality: 'Data quality',
  deployments: 'Deployments',
};

const chip = (kind, words, props, more) =>
  h(
    'span',
    { class: `chip ${kind}`, ...props },
    icon(kind),
    h('b', {}, words),
    more && h('span', { class: 'quiet' }, more),
  );

/** [kind, word, since] of the database; nothing is good that is not known to be so now. */
export function verdict() {
  const told = live.health;
  if (!told) return ['wait', 'Loading'];
  const [kind, word] = VERDICTS[told.status] ?? ['none', told.status];
  if (['stale', 'reconnecting'].includes(freshness())) return ['none', 'Not known', `was ${word.toLowerCase()}`];
  return [
    kind,
    word,
    told.since && !['STARTING', 'STATUS_UNSPECIFIED'].includes(told.status)
      ? `since ${since(told.since, Date.now())}`
      : '',
  ];
}

function alertsChip() {
  if (!live.alerts) return chip('wait', 'Alerts', {});
  const on = firing().filter((each) => !each.silenced_by && !each.inhibited_by);
  const parts = ['critical', 'warning', 'info']
    .map((name) => [name, on.filter((each) => severity(each) === name).length])
    .filter(([, number]) => number);
  const silenced = active().filter((each) => each.silenced_by).length;
  const pending = active().length - firing().length;
  const more = [silenced && `${silenced} silenced`, pending && `${pending} pending`].filter(Boolean).join(', ');
  const worst = parts[0]?.[0];
  const calm = ['stale', 'reconnecting'].includes(freshness()) ? 'none' : 'good';
  return h(
    'a',
    { href: address({}, [], '#alerts'), class: 'bare' },
    chip(
      !worst ? calm : worst === 'critical' ? 'bad' : 'warn',
      parts.map(([name, number]) => `${number} ${name}`).join(', ') || 'No alerts',
      {},
      more,
    ),
  );
}

const freshly = {
  loading: () => chip('wait', 'Loading'),
  live: () => chip('good', 'Live', {}, `${decimal(live.status?.lag_s ?? 0)} s behind`),
  history: () => chip('none', 'History', {}, `up to ${moment(asOf())}`),
  standby: () => chip('none', 'Standby'),
  away: () => chip('warn', 'Log away', {}, `figures of ${moment(asOf())}`),
  paused: () => chip('pause', 'Paused', {}, `at ${clock(view.pausedAt)}`),
  reconnecting: () => chip('warn', 'Reconnecting', {}, `figures of ${clock(live.at || Date.now())}`),
  stale: () => chip('warn', 'Stale', {}, `figures of ${moment(asOf())}`),
};

export function head(go, copy) {
  const pair = state.vs === 'off' ? null : compared();
  const end = state.to ?? asOf();
  const told = live.status;
  const begin = told?.data_since ? Date.parse(told.data_since) : null;
  return [
    h(
      'div',
      { class: 'bar-1' },
      h('h1', {}, h('a', { href: address({ to: null, step: '' }, []) }, 'Farehold')),
      told && h('span', { class: 'quiet about' }, [told.environment, told.version].filter(Boolean).join(' · ')),
      h(
        'div',
        { class: 'chips' },
        chip(...((kind, word, more) => [kind, word, { title: 'The database' }, more])(...verdict())),
        alertsChip(),
        freshly[freshness()](),
      ),
    ),
    h(
      'div',
      { class: 'bar-2' },
      choice('Range', Object.fromEntries(Object.keys(RANGES).map((name) => [name, name])), state.range, (name) =>
        go({ range: name }),
      ),
      h('label', { class: 'unseen', for: 'vs' }, 'Compare with'),
      h(
        'select',
        { id: 'vs', value: state.vs, onchange: (event) => go({ vs: event.target.value }) },
        Object.entries(COMPARISONS).map(([value, words]) => h('option', { value }, words)),
      ),
      h(
        'span',
        { class: 'dates quiet' },
        dates(end - range() * 1000, end),
        pair?.dates && [h('span', { class: 'against' }, ' against '), pair.dates],
        begin > end - range() * 1000 && h('b', { class: 'since' }, ` data since ${moment(begin)}`),
      ),
      state.to !== null &&
        h('button', { type: 'button', class: 'main', onclick: () => go({ to: null }) }, 'Back to now'),
      h(
        'span',
        { class: 'right' },
        choice('Time zone', { local: 'Local', utc: 'UTC' }, state.tz, (tz) => go({ tz })),
        h(
          'button',
          { type: 'button', 'aria-pressed': String(view.paused), onclick: () => pause(!view.paused) },
          view.paused ? 'Resume' : 'Pause',
        ),
        h('button', { type: 'button', onclick: copy }, 'Copy link'),
      ),
    ),
    banner(),
  ];
}

/** What the reader must know before any figure. */
function banner() {
  const told = live.status;
  const at = freshness();
  const say = (kind, ...words) => h('p', { class: `banner ${kind}`, role: 'status' }, status(kind, ...words));
  if (at === 'stale') {
    const age = Math.max(told?.lag_s ?? 0, (Date.now() - live.at) / 1000);
    return say(
      'warn',
      `The figures are ${span(age)} old. `,
      live.link === 'lost'
        ? 'The service does not answer; the page goes on trying.'
        : told?.lag_s > LAG_S
          ? 'The service is behind its log.'
          : 'Nothing was heard of the service since.',
    );
  }
  if (at === 'reconnecting' && !live.at) return say('warn', 'The service does not answer. The page goes on trying.');
  if (at === 'standby')
    return say('none', 'This process is a standby: another one writes the log and has the figures.');
  if (at === 'away')
    return say(
      'bad',
      `The database of the event log is away: figures stand still since ${moment(asOf())}. Bookings go on, and are counted once it is back.`,
    );
  if (empty())
    return say(
      'none',
      'Nothing has been counted yet. ',
      h('code', {}, 'make replay'),
      ' sends 9,999 real bookings through a running pair.',
    );
  return null;
}

export function nav(errors, slow) {
  const numbers = { alerts: firing().length, slow, errors };
  return h(
    'ul',
    {},
    Object.entries(SECTIONS).map(([id, words]) =>
      h(
        'li',
        {},
        h(
          'a',
          { href: address({}, [], `#${id}`) },
          words,
          numbers[id] ? h('span', { class: 'badge' }, count(numbers[id])) : null,
        ),
      ),
    ),
  );
}

let saidAt = 0;
let said = '';

/** Tell a screen reader of a new verdict or new alerts, at most once in 10 s. */
export function announce(element) {
  if (!live.health || !live.alerts) return;
  const text = `Database ${verdict()[1]}. ${plural(firing().length, 'alert')} firing.`;
  if (text === said || Date.now() - saidAt < 10_000) return;
  const first = !said;
  said = text;
  saidAt = Date.now();
  if (!first) render(element, [text]);
}

/** A short notice that goes away by itself, with the link and another one. */
export function toast(element, link_, words, other) {
  const close = () => render(element, []);
  render(element, [
    h(
      'div',
      { class: 'toast' },
      h('p', {}, words),
      h('input', { readonly: true, 'aria-label': 'Link', value: link_, onfocus: (event) => event.target.select() }),
      other && h('button', { type: 'button', onclick: other[1] }, other[0]),
      h('button', { type: 'button', onclick: close }, 'Close'),
    ),
  ]);
  clearTimeout(toast.timer);
  toast.timer = setTimeout(close, 12_000);
}
