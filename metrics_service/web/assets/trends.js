/** Four charts with one cursor; a click sets the range. */

import { everyAlert } from './alerts.js';
import { lines } from './chart.js';
import { asOf, live } from './data.js';
import { h } from './dom.js';
import { per, span } from './format.js';
import { spanOf } from './funnel.js';
import { pointsOf } from './line.js';
import { comparedAgo, LINES, series } from './now.js';
import { choice, section, skeleton } from './parts.js';
import { range, RANGES, SPANS, state } from './state.js';

const CHARTS = [
  {
    id: 'bookings',
    title: 'Bookings',
    unit: 'count',
    each: true,
    of: [
      ['confirmed', 'bookings_confirmed', 'one'],
      ['started', 'bookings_started', 'two'],
    ],
  },
  {
    id: 'latency',
    title: 'Query time',
    unit: 'ms',
    bound: LINES.query_p95.bound,
    of: [
      ['p95', 'query_p95', 'one'],
      ['p99', 'query_p99', 'two'],
    ],
  },
  {
    id: 'mistakes',
    title: 'Counted errors',
    unit: 'count',
    each: true,
    of: [
      ['booking', 'booking_errors', 'one'],
      ['payment', 'payment_failures', 'two'],
      ['availability', 'availability_errors', 'three'],
      ['internal', 'internal_errors', 'four'],
    ],
  },
  { id: 'pool', title: 'Wait for a connection', unit: 'ms', of: [['p95', 'pool_wait_p95', 'one']] },
];

export function trends(go, deployments) {
  const seconds = SPANS[state.span] ?? range();
  const longer = seconds !== range();
  const { answer, ...asked } = longer ? series('long', 0, seconds) : series();
  const ago = longer ? null : comparedAgo();
  const before = ago === null ? null : series('series-before', ago).answer.data;
  const [from, to] = spanOf(asked);
  const shift = ago === null ? 0 : Math.round(ago / asked.step) * asked.step * 1000;
  const pool = (live.health?.instances ?? []).filter((each) => each.watched && !each.gone);
  const sum = (name) => pool.reduce((total, each) => total + each[name], 0);
  const marks = [
    ...(deployments ?? []).map((each) => ({
      time: Date.parse(each.time),
      name: `Deployment of ${each.version}`,
      kind: 'deployed',
    })),
    ...(everyAlert() ?? [])
      .filter((each) => each.fire_time)
      .map((each) => ({ time: Date.parse(each.fire_time), name: `Alert ${each.rule}`, kind: 'fired' })),
  ];
  return section(
    'trends',
    'Trends',
    {
      wide: true,
      error: answer.error,
      note: `one point for each ${per(asked.step)}${ago === null ? '' : '; dashed: the compared period'}`,
      actions: choice(
        'Span of the trends',
        { '': 'range', '90d': '90 d', '1y': '1 y', '2y': '2 y' },
        state.span,
        (value) => go({ span: value }),
      ),
    },
    !answer.data
      ? skeleton(6)
      : h(
          'div',
          { class: 'charts' },
          CHARTS.map(({ of, each, ...chart }) =>
            lines({
              ...chart,
              from,
              to,
              step: asked.step * 1000,
              marks,
              title: each
                ? `${chart.title} per ${per(asked.step)}`
                : chart.id === 'pool' && pool.length
                  ? `${chart.title}; now ${sum('pool_size') - sum('pool_idle')} of ${sum('pool_max')} in use, ${sum('pool_waiting')} waiting`
                  : chart.title,
              lines: of.map(([name, metric, tone]) => ({ name, tone, points: pointsOf(answer.data, metric) })),
              before: before
                ? of.slice(0, 1).map(([name, metric]) => ({
                    name,
                    points: pointsOf(before, metric).map((point) => ({ ...point, time: point.time + shift })),
                  }))
                : [],
              pick: (time) => zoom(go, time, seconds),
            }),
          ),
        ),
  );
}

/** Take the next shorter range around a time. */
function zoom(go, time, seconds) {
  const shorter = Object.keys(RANGES)
    .filter((name) => RANGES[name] < seconds)
    .at(-1);
  if (shorter) go({ range: shorter, span: '', to: Math.min(asOf(), time + RANGES[shorter] * 500) });
}
