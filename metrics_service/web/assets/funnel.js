/** The funnel with its groups, and what is behind a step: trend, time to convert, who left. */

import { lines } from './chart.js';
import { ask, asOf, endedAgo, snapshot } from './data.js';
import { h } from './dom.js';
import { count, money, ms, NONE, percent, plural } from './format.js';
import { pointsOf } from './line.js';
import { LINES } from './now.js';
import { bar, choice, cut, facts, link, nothing, section, skeleton, status, table, when } from './parts.js';
import { chartOf, GROUPS, range, state, windowOf } from './state.js';

const NAMES = { view: 'View', start: 'Start', complete: 'Complete', confirm: 'Confirm' };
const STEPS = Object.keys(NAMES);
const METRICS = { start: 'view_to_start', complete: 'start_to_complete', confirm: 'complete_to_confirm' };
const BY = { '': 'none', type: 'type', location: 'location', vendor: 'vendor', package: 'package' };

export function funnel(go, redraw) {
  const { data: all, error } = snapshot();
  if (!all) return section('funnel', 'Funnel', { error }, error ? null : skeleton(5));
  const { steps, entered, converted, abandoned, open, matured, ...told } = all.funnel;
  return section(
    'funnel',
    'Funnel',
    {
      note: 'sessions by their furthest step',
      actions: choice('Split by', BY, state.by, (by) => go({ by })),
    },
    entered
      ? [
          h(
            'div',
            { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Steps of the funnel' },
            h(
              'table',
              { class: 'funnel' },
              h('caption', { class: 'unseen' }, 'Steps of the funnel, live and matured'),
              h(
                'thead',
                {},
                h(
                  'tr',
                  {},
                  ['Step', 'Sessions', 'Of all', 'From the step before', 'Live', 'Matured', 'Lost', 'Median'].map(
                    (name, at) =>
                      h(
                        'th',
                        {
                          scope: 'col',
                          class: [at > 1 && at !== 3 && 'n', (at === 3 || at === 7) && 'hide']
                            .filter(Boolean)
                            .join(' '),
                        },
                        name,
                      ),
                  ),
                ),
              ),
              h(
                'tbody',
                {},
                steps.map((step, at) => row(step, at, matured?.from_previous[at - 1], entered, go)),
              ),
            ),
          ),
          h(
            'p',
            { class: 'words' },
            `${plural(entered, 'session')} entered: `,
            h('b', {}, count(converted)),
            ' converted, ',
            h('b', {}, count(abandoned)),
            ' abandoned, ',
            h('b', {}, count(open)),
            ' still open. ',
            `Of ${plural(told.bookings_started, 'booking')} started, ${count(told.bookings_confirmed)} confirmed, ${count(told.bookings_abandoned)} abandoned, ${count(told.bookings_expired)} expired, ${count(told.bookings_cancelled)} cancelled.`,
          ),
        ]
      : nothing(`No session entered in this time.`),
    state.by && groups(go, redraw),
    state.step && behind(state.step, steps, go, redraw),
  );
}

function row(step, at, matured, entered, go) {
  const live = step.from_previous;
  const line = LINES[METRICS[step.name]];
  const pressed = state.step === step.name;
  return h(
    'tr',
    { key: step.name },
    h(
      'th',
      { scope: 'row' },
      at
        ? h(
            'button',
            {
              type: 'button',
              class: 'step',
              'aria-expanded': String(pressed),
              onclick: () => go({ step: pressed ? '' : step.name }),
            },
            NAMES[step.name],
          )
        : NAMES[step.name],
    ),
    h('td', {}, h('span', { class: 'barred' }, bar(step.actors / entered), h('b', {}, count(step.actors)))),
    h('td', { class: 'n' }, percent(step.actors / entered)),
    h('td', { class: 'hide' }, live && gauge(live, matured, line)),
    h('td', { class: 'n' }, live ? percent(live.value) : ''),
    h('td', { class: 'n' }, !live ? '' : matured?.value != null ? judged(matured, line) : NONE),
    h('td', { class: 'n' }, at ? count(step.dropped) : ''),
    h('td', { class: 'n hide' }, at ? ms(step.time_from_previous?.p50_ms) : ''),
  );
}

const judged = ({ value, low, high }, { bound, good }) =>
  status(high < bound ? 'bad' : value < good[0] && low < good[0] && high < good[0] ? 'warn' : 'good', percent(value));

/** The live rate (ring) and the matured one (dot) on a scale of 0 to 100% with good range and line. */
const gauge = (live, matured, { bound, good }) =>
  h(
    'svg',
    {
      class: 'gauge',
      viewBox: '0 0 200 16',
      role: 'img',
      'aria-label': `Live ${percent(live.value)}, matured ${percent(matured?.value)}; good ${percent(good[0], 0)} to ${percent(good[1], 0)}, line ${percent(bound, 0)}`,
    },
    h('line', { class: 'grid', x1: 0, x2: 200, y1: 8, y2: 8 }),
    h('rect', { class: 'good', x: good[0] * 200, width: (good[1] - good[0]) * 200, y: 2, height: 12 }),
    h('line', { class: 'bound', x1: bound * 200, x2: bound * 200, y1: 1, y2: 15 }),
    matured?.value != null && [
      h('line', { class: 'line one', x1: matured.low * 200, x2: matured.high * 200, y1: 8, y2: 8 }),
      h('circle', { class: 'dot', cx: matured.value * 200, cy: 8, r: 3.5 }),
    ],
    live.value != null && h('circle', { class: 'ring', cx: live.value * 200, cy: 8, r: 4.5 }),
  );

function groups(go, redraw) {
  const asked = windowOf(range(), endedAgo(), 60);
  const { data, error } = asked ? ask('groups', 'GetFunnel', { ...asked, by: `DIMENSION_${GROUPS[state.by]}` }) : {};
  if (!data || data.by !== `DIMENSION_${GROUPS[state.by]}`) return error ? nothing(error.description) : skeleton(4);
  const rows = [...data.groups, data.other_groups && { ...data.other_groups, key: 'other' }].filter(
    (each) => each?.actors[0] || each?.package_views,
  );
  return table({
    id: 'groups',
    redraw,
    caption: `Funnel by ${state.by}`,
    limit: 8,
    empty: `Nothing is known by ${state.by} in this time.`,
    rows: rows.map((each) => [each.key, each]),
    columns: [
      { name: `By ${state.by}`, cell: (each) => cut(each.key || 'not named') },
      { name: 'Views', n: 1, cell: (each) => count(each.actors[0]) },
      ...['Start', 'Complete', 'Confirm'].map((name, at) => ({
        name,
        n: 1,
        hide: at < 2,
        cell: (each) => percent(each.from_previous[at]?.value),
      })),
      { name: 'Overall', n: 1, cell: (each) => percent(each.overall?.value) },
      { name: 'Matured', n: 1, hide: 1, cell: (each) => percent(each.matured?.overall?.value) },
      {
        name: 'Net',
        n: 1,
        cell: (each) =>
          each.revenue.map((one) => money(one.net_minor, one.currency, one.exponent, true)).join(' · ') || NONE,
      },
    ],
  });
}

function behind(name, steps, go, redraw) {
  const before = STEPS[STEPS.indexOf(name) - 1];
  const metric = METRICS[name];
  const asked = chartOf(range(), endedAgo());
  const { data } = ask('step-series', 'GetSeries', { metrics: [metric, `${metric}_matured`], ...asked }, 30_000);
  const left = ask(
    'left',
    'ListSessions',
    { ...windowOf(range(), endedAgo()), step: before, furthest: 'true', page_size: 50 },
    30_000,
  );
  const [from, to] = spanOf(asked);
  const times = steps.find((step) => step.name === name).time_from_previous;
  return h(
    'div',
    { class: 'behind', key: 'behind' },
    h(
      'h3',
      {},
      `${NAMES[before]} to ${NAMES[name]}`,
      h('button', { type: 'button', class: 'close', onclick: () => go({ step: '' }) }, 'Close'),
    ),
    lines({
      id: `step-${name}`,
      title: 'Rate over time',
      unit: '1',
      from,
      to,
      step: asked.step * 1000,
      ...LINES[metric],
      lines: [
        { name: 'live', tone: 'one', points: pointsOf(data, metric) },
        { name: 'matured', tone: 'two', points: pointsOf(data, `${metric}_matured`) },
      ],
    }),
    h('h4', {}, 'Time from the step before'),
    times?.count
      ? facts([
          ['median', ms(times.p50_ms)],
          ['p90', ms(times.p90_ms)],
          ['p95', ms(times.p95_ms)],
          ['p99', ms(times.p99_ms)],
          ['longest', ms(times.max_ms)],
          ['n', count(times.count)],
        ])
      : nothing('None came so far.'),
    h('h4', {}, `Sessions that left before ${NAMES[name]}`, left.data && ` (${count(left.data.total)})`),
    left.error ? nothing(left.error.description) : !left.data ? skeleton(3) : sessions(left.data.sessions, redraw),
  );
}

/** A list of sessions that leads to their journeys. */
export const sessions = (found, redraw) =>
  table({
    id: 'sessions',
    redraw,
    caption: 'Sessions',
    limit: 8,
    empty: 'None in this time. Sessions are listed once they are stored, within 30 s.',
    rows: found.map((each) => [`${each.session_id} ${each.entry_time}`, each]),
    columns: [
      { name: 'Session', cell: (each) => link(['journeys', each.session_id], cut(each.session_id)) },
      { name: 'Entered', n: 1, cell: (each) => when(each.entry_time) },
      { name: 'Furthest', cell: (each) => NAMES[each.step] ?? NONE },
      { name: 'Outcome', hide: 1, cell: (each) => each.outcome.replace('SESSION_OUTCOME_', '').toLowerCase() },
      { name: 'Events', n: 1, cell: (each) => count(each.events) },
    ],
  });

/** Begin and end of a chart, in milliseconds. */
export function spanOf({ window, ended, step }) {
  const end = (Math.floor(asOf() / 1000 / step) + 1) * step - ended;
  return [(end - window) * 1000, end * 1000];
}
