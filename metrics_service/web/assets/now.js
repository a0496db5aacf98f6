/** The header's state of things and the six figures that are looked at first. */

import { ask, asOf, endedAgo, live, snapshot } from './data.js';
import { h } from './dom.js';
import { change, count, dates, decimal, money, ms, NONE, percent } from './format.js';
import { pointsOf, spark } from './line.js';
import { section, skeleton, status } from './parts.js';
import { chartOf, range, RANGES, state, windowOf } from './state.js';

/** The lines of the shipped rules and of the first 72 hours, in their units. */
export const LINES = {
  view_to_start: { bound: 0.15, good: [0.25, 0.35] },
  start_to_complete: { bound: 0.5, good: [0.7, 0.8] },
  complete_to_confirm: { bound: 0.75, good: [0.9, 0.95] },
  overall_conversion: { bound: 0.1, good: [0.2, 0.3] },
  error_rate: { bound: 0.01, good: [0, 0.005] },
  errors_in_5_minutes: { bound: 10 },
  query_p95: { bound: 300 },
  query_p99: { bound: 500 },
  slow_an_hour: { bound: 10 },
};
const METRICS = [
  'bookings_started',
  'bookings_confirmed',
  'revenue_net',
  'overall_conversion',
  'error_rate',
  'query_p95',
  'query_p99',
  'slow_queries',
  'booking_errors',
  'payment_failures',
  'availability_errors',
  'internal_errors',
  'pool_wait_p95',
];

/** The series of the range, for tiles and trends. */
export function series(place = 'series', ago = 0, seconds = range()) {
  const asked = chartOf(seconds, endedAgo() + ago);
  return {
    ...asked,
    answer: ask(place, 'GetSeries', { metrics: METRICS, ...asked }, Math.max(10_000, asked.step * 250)),
  };
}

/** How many seconds before it the compared period was, or null. */
export const comparedAgo = () => ({ off: null, previous: range(), week: RANGES['7d'] })[state.vs];

/** Two snapshots of whole steps, cut alike: the range and the compared one; null where it is not kept. */
export function compared() {
  const ago = comparedAgo();
  if (ago === null) return null;
  const [now, then] = [windowOf(range(), endedAgo() + 1), windowOf(range(), endedAgo() + ago)];
  if (!now || !then) return { why: 'figures of windows are kept for 30 days' };
  // Both in the coarser steps of what is farther back, and none with the step that is not over.
  const step = then.window + then.ended <= 3_600 ? 10 : then.window + then.ended <= 86_400 ? 60 : 3_600;
  const first = endedAgo() || step;
  const [a, b] = [windowOf(range(), first, step), windowOf(range(), first + ago, step)];
  if (!a || !b || a.window !== b.window) return { why: 'figures of windows are kept for 30 days' };
  const end = Math.floor(asOf() / 1000 / step) * step - b.ended + step;
  return {
    dates: dates((end - b.window) * 1000, end * 1000),
    now: ask('vs-now', 'GetMetrics', a, 15_000).data,
    then: ask('vs-then', 'GetMetrics', b, 15_000).data,
  };
}

/** How a figure differs from the compared period; `better` is 1 where more is better, -1 where less is. */
function difference(pair, of, better) {
  if (!pair?.now || !pair.then) return null;
  const [now, then] = [of(pair.now), of(pair.then)];
  if (now == null || then == null) return h('span', { class: 'delta', title: pair.dates }, `${NONE} before`);
  const by = then ? (now - then) / then : null;
  const tone = !by || Math.abs(by) < 0.02 || !better ? '' : by * better > 0 ? 'good' : 'bad';
  return h(
    'span',
    { class: `delta ${tone}`, title: `Against ${pair.dates}, both in whole steps` },
    by === null ? (now ? 'none before' : '±0%') : `${by > 0 ? '▲' : by < 0 ? '▼' : '='} ${change(by)}`,
  );
}

export const slowPerHour = (all) => {
  const { slow_warning, slow_critical } = all.performance.queries;
  return ((slow_warning + slow_critical) * 3600) / all.window_s;
};
const judged = (value, bound, samples, least) =>
  value == null ? null : samples < least ? ['none', 'few'] : value > bound ? ['bad', 'over'] : ['good', 'good'];

/** The rate of an all-or-some funnel that has matured, else the live one. */
export const conversion = (funnel) => funnel.matured?.overall ?? null;

export function now() {
  const { data: all, error } = snapshot();
  const options = { error, wide: true };
  if (!all)
    return section(
      'now',
      'Now',
      options,
      error
        ? null
        : h(
            'div',
            { class: 'tiles' },
            Array.from({ length: 6 }, (_, key) => h('div', { class: 'tile', key }, skeleton(3))),
          ),
    );
  const pair = compared();
  const { data } = series().answer;
  const line = (metric, key) => pointsOf(data, metric, key);
  const {
    funnel,
    business,
    errors,
    performance: { queries },
  } = all;
  const rate = conversion(funnel);
  const [revenue] = business.revenue;
  const before = live.status?.data_since && Date.parse(live.status.data_since) >= (state.to ?? Infinity);
  const blank = empty() ? 'nothing counted yet' : before ? 'before the first data' : '';
  const slow = slowPerHour(all);
  const { p95_ms: p95, p99_ms: p99, count: timed } = queries.execute;
  const tiles = [
    {
      name: 'Confirmed',
      to: 'trends',
      value: blank ? NONE : count(business.confirmed),
      more: blank || `${count(business.cancelled)} cancelled`,
      points: line('bookings_confirmed'),
      unit: 'count',
      diff: difference(pair, (each) => each.business.confirmed, 1),
    },
    {
      name: 'Net revenue',
      to: 'business',
      value: revenue ? money(revenue.net_minor, revenue.currency, revenue.exponent, true) : NONE,
      more:
        business.revenue.length > 1
          ? business.revenue
              .slice(1, 4)
              .map((each) => money(each.net_minor, each.currency, each.exponent, true))
              .join(' · ')
          : revenue
            ? `${money(revenue.refunded_minor, revenue.currency, revenue.exponent, true)} refunded`
            : 'none in this time',
      points: line('revenue_net', revenue?.currency),
      unit: 'count',
      diff: difference(
        pair,
        (each) => each.business.revenue.find((one) => one.currency === revenue?.currency)?.net_minor ?? 0,
        1,
      ),
    },
    {
      name: 'Conversion',
      to: 'funnel',
      value: rate?.denominator ? [percent(rate.value), h('small', {}, ' matured')] : NONE,
      line: LINES.overall_conversion,
      more: rate?.denominator
        ? `${percent(rate.low, 0)}–${percent(rate.high, 0)}, n ${count(rate.denominator)}`
        : funnel.entered
          ? `${percent(funnel.overall.value)} live`
          : 'no session in this time',
      points: line('overall_conversion'),
      unit: '1',
      diff: difference(pair, (each) => conversion(each.funnel)?.value, 0),
      state:
        rate?.value == null
          ? funnel.entered && ['wait', 'too early']
          : rate.denominator < 10
            ? ['none', 'few']
            : rate.high < 0.1
              ? ['bad', 'low']
              : rate.value < 0.2
                ? ['warn', 'below 20%']
                : ['good', 'good'],
    },
    {
      name: 'Error rate',
      to: 'errors',
      value: percent(errors.error_rate.value, 2),
      line: LINES.error_rate,
      more: state.to === null ? `${errors.last_5_minutes} of 10 in 5 min` : `n ${count(errors.error_rate.denominator)}`,
      points: line('error_rate'),
      unit: '1',
      diff: difference(pair, (each) => each.errors.error_rate.value, -1),
      state:
        errors.last_5_minutes > 10 && state.to === null
          ? ['bad', 'many now']
          : judged(errors.error_rate.low, 0.01, errors.error_rate.denominator, 100),
    },
    {
      name: 'Query p95, p99',
      to: 'queries',
      value: timed ? [ms(p95), h('small', {}, ' ', ms(p99))] : NONE,
      line: LINES.query_p95,
      more: `n ${count(timed)}`,
      points: line('query_p95'),
      unit: 'ms',
      diff: difference(pair, (each) => each.performance.queries.execute.p95_ms, -1),
      state:
        p95 == null
          ? null
          : p95 >= 300 || p99 >= 500
            ? ['bad', 'over']
            : timed < 100
              ? ['none', 'few']
              : ['good', 'good'],
    },
    {
      name: 'Slow queries / h',
      to: 'slow',
      value: timed ? decimal(slow, slow && slow < 10 ? 1 : 0) : NONE,
      more: !timed
        ? 'no query in this time'
        : `${count(queries.slow_warning)} > 0.5 s, ${count(queries.slow_critical)} > 1 s`,
      points: line('slow_queries'),
      unit: 'count',
      diff: difference(pair, slowPerHour, -1),
      state: timed ? judged(slow, 9.99, 1, 1) : null,
    },
  ];
  return section(
    'now',
    'Now',
    {
      ...options,
      note: pair?.why && `No comparison: ${pair.why}.`,
    },
    h('div', { class: 'tiles' }, tiles.map(tile)),
  );
}

const tile = ({ name, to, value, more, points, unit, line, diff, state: judged }) =>
  h(
    'a',
    { class: 'tile', key: name, href: `#${to}` },
    h('span', { class: 'name' }, name, judged && status(...judged)),
    h('strong', {}, value),
    h('span', { class: 'sub' }, h('span', {}, more), diff),
    spark(points, { ...line, unit, label: `${name} over time` }),
  );

/** Whether nothing at all was ever counted. */
export const empty = () => live.snapshot?.quality.events === 0 && live.snapshot.quality.query_timings === 0;
