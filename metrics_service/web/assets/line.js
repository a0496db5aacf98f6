/** What lines are drawn of: the points of a series, their path, and a small line without axes. */

import { h } from './dom.js';
import { figure } from './format.js';

/** The points of one series of an answer, their times as milliseconds. */
export function pointsOf(answer, metric, unit) {
  const series = answer?.series.find((each) => each.metric === metric && (unit === undefined || each.unit === unit));
  const points = (series?.points ?? []).map((point) => ({ ...point, time: Date.parse(point.time) }));
  // Of what is counted nothing is 0, once anything was counted; of rates and times it is unknown.
  const counted = series && !['1', 'ms'].includes(series.unit);
  const first = points.findIndex((point) => point.value !== null);
  return counted && first >= 0
    ? points.map((point, at) => (at > first ? { ...point, value: point.value ?? 0 } : point))
    : points;
}

/** The path of points; of `partial` ones only where the last is of a step that is not over. */
export function path(points, x, y, partial = false) {
  if (partial && !points.at(-1)?.partial) return '';
  let out = '';
  let open = false;
  for (const point of points) {
    if (point.value !== null) out += `${open ? 'L' : 'M'}${x(point).toFixed(1)} ${y(point.value).toFixed(1)}`;
    open = point.value !== null;
  }
  return out;
}

/** The points without neighbours, as strokes of no length: their round caps are dots. */
export const dots = (points, x, y) =>
  points
    .filter(
      (point, at) =>
        point.value !== null && (points[at - 1]?.value ?? null) === null && (points[at + 1]?.value ?? null) === null,
    )
    .map((point) => `M${x(point).toFixed(1)} ${y(point.value).toFixed(1)}h.01`)
    .join('');

/** A small line without axes; `good` is its good range and `bound` its line. */
export function spark(points, { good, bound, unit, label } = {}) {
  const known = points.filter((point) => point.value !== null);
  if (!known.length) return h('div', { class: 'spark' });
  const max = Math.max(...known.map((point) => point.value), good?.[0] ?? 0);
  const limit = bound !== undefined && bound <= max * 3 ? Math.max(max, bound) : max;
  const top = (limit || 1) * 1.1;
  const y = (value) => 28 - (Math.min(value, top) / top) * 26;
  const x = (point) => (points.indexOf(point) / Math.max(1, points.length - 1)) * 100;
  const last = known.at(-1);
  return h(
    'svg',
    {
      class: 'spark',
      role: 'img',
      'aria-label': `${label}: last ${figure(last.value, unit)}, at most ${figure(max, unit)}`,
      viewBox: '0 0 100 30',
      preserveAspectRatio: 'none',
    },
    good &&
      good[0] < top &&
      h('rect', { class: 'good', x: 0, width: 100, y: y(good[1]), height: Math.max(1, y(good[0]) - y(good[1])) }),
    bound <= top && h('line', { class: 'bound', x1: 0, x2: 100, y1: y(bound), y2: y(bound) }),
    h('path', {
      class: 'line one',
      d: path(
        points.filter((point) => !point.partial),
        x,
        y,
      ),
    }),
    h('path', { class: 'line one partial', d: path(points.slice(-2), x, y, true) }),
    h('path', { class: 'line one dots', d: dots(points, x, y) }),
  );
}
