/** Charts as SVG: lines over time with axes, units, marks and one cursor for all, and sparklines. */

import { h } from './dom.js';
import { axis, day, figure, minute, moment, month } from './format.js';

const LEFT = 52;
const RIGHT = 10;
const TOP = 10;
const BOTTOM = 22;
const HEIGHT = 172;
const widths = new Map();
/** The time under the pointer, of all charts. */
const cursor = { time: null };
let redraw = () => {};
const sizes = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) if (contentRect.width) widths.set(target.id, Math.round(contentRect.width));
  redraw();
});

/** Follow the width of each plot that is drawn, and call `draw` when one or the cursor changes. */
export function follow(draw) {
  redraw = draw;
  for (const plot of document.querySelectorAll('.plot:not([data-seen])')) {
    plot.dataset.seen = '';
    sizes.observe(plot);
  }
}

/**
 * A chart of lines [{name, points, tone}], `before` like it of the compared period, and marks
 * [{time, name, kind}]. `from`, `to` and `step` are milliseconds; pick(time) is told of a click.
 */
export function lines({ id, title, unit, lines: all, before: past = [], marks = [], from, to, step, pick, good, bound }) {
  const width = widths.get(id) ?? 480;
  // An answer may be a step older than the time that is shown.
  const [lines, before] = [all, past].map((each) => each.map((line) => ({ ...line, points: line.points.filter((point) => point.time >= from && point.time < to) })));
  const values = [...lines, ...before].flatMap((line) => line.points.map((point) => point.value ?? 0));
  const ticks = ticksOf(Math.max(...values, bound && Math.max(...values) > bound / 3 ? bound : 0), unit);
  const top = ticks.at(-1);
  const x = (time) => LEFT + ((time - from) / (to - from)) * (width - LEFT - RIGHT);
  const y = (value) => TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM);
  const seen = marks.filter((mark) => mark.time >= from && mark.time <= to);
  const timeAt = (event) => {
    const share = (event.offsetX - LEFT) / (width - LEFT - RIGHT);
    const steps = Math.round((share * (to - from)) / step - 0.5);
    return from + Math.min(Math.max(steps, 0), Math.round((to - from) / step) - 1) * step;
  };
  const move = (time) => {
    cursor.time = time;
    redraw();
  };
  const keys = (event) => {
    const by = { ArrowLeft: -step, ArrowRight: step }[event.key];
    if (by) move(Math.min(Math.max((cursor.time ?? to - step) + by, from), to - step));
    else if (event.key === 'Enter' && cursor.time !== null && pick) pick(cursor.time + step / 2);
    else return;
    event.preventDefault();
  };
  const shown = cursor.time !== null && cursor.time >= from && cursor.time < to ? cursor.time : null;
  const middle = (point) => x(point.time + step / 2);
  return h('figure', { class: 'chart', key: id },
    h('figcaption', {},
      h('h3', {}, title),
      h('span', { class: 'at' }, shown === null ? '' : moment(shown)),
      h('span', { class: 'legend' }, lines.map((line) =>
        h('span', { class: `key ${line.tone}` }, line.name, ' ', h('b', {}, figure(valueAt(line, shown), unit))))),
    ),
    h('div', { class: 'plot', id },
      h('svg', {
        role: 'img', tabindex: 0, 'aria-label': sentence(title, lines, unit), width, height: HEIGHT,
        class: pick && 'zoom', onkeydown: keys, onblur: () => move(null),
        onpointermove: (event) => move(timeAt(event)), onpointerleave: () => move(null),
        onclick: pick && ((event) => pick(timeAt(event) + step / 2)),
      },
      good && good[1] <= top && h('rect', { class: 'good', x: LEFT, width: width - LEFT - RIGHT, y: y(good[1]), height: y(good[0]) - y(good[1]) }),
      ticks.map((tick) => h('g', {},
        h('line', { class: 'grid', x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick) }),
        h('text', { class: 'tick', x: LEFT - 8, y: y(tick) + 4, 'text-anchor': 'end' }, axis(tick, unit)))),
      timeTicks(from, to, width).map(([time, label]) =>
        h('text', { class: 'tick', x: x(time), y: HEIGHT - 5, 'text-anchor': 'middle' }, label)),
      bound && bound <= top && h('line', { class: 'bound', x1: LEFT, x2: width - RIGHT, y1: y(bound), y2: y(bound) }),
      seen.map((mark) =>
        h('g', { class: `mark ${mark.kind}` },
          h('title', {}, `${mark.name}, ${moment(mark.time)}`),
          seen.length < 8 && h('line', { x1: x(mark.time), x2: x(mark.time), y1: TOP, y2: HEIGHT - BOTTOM }),
          h('path', { d: `M${x(mark.time) - 4} ${TOP - 8}h8l-4 7z` }))),
      before.map((line) => h('path', { class: 'line before', d: path(line.points, middle, y) })),
      [...lines].reverse().map((line) => [
        h('path', { class: `line ${line.tone}`, d: path(line.points.filter((point) => !point.partial), middle, y) }),
        h('path', { class: `line partial ${line.tone}`, d: path(line.points.slice(-2), middle, y, true) }),
        h('path', { class: `line dots ${line.tone}`, d: dots(line.points, middle, y) }),
      ]),
      shown !== null && h('line', { class: 'cursor', x1: x(shown + step / 2), x2: x(shown + step / 2), y1: TOP, y2: HEIGHT - BOTTOM }),
      !values.some(Boolean) && h('text', { class: 'tick', x: width / 2, y: HEIGHT / 2, 'text-anchor': 'middle' }, empty(lines)))),
    table(title, lines, unit),
  );
}

const empty = (lines) => (lines.some((line) => line.points.some((point) => point.value !== null)) ? 'none' : 'no data in this time');

function valueAt(line, time) {
  if (time !== null) return line.points.find((point) => point.time === time)?.value;
  return line.points.findLast((point) => point.value !== null && !point.partial)?.value;
}

function path(points, x, y, partial = false) {
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
const dots = (points, x, y) => points.filter((point, at) => point.value !== null && (points[at - 1]?.value ?? null) === null && (points[at + 1]?.value ?? null) === null)
  .map((point) => `M${x(point).toFixed(1)} ${y(point.value).toFixed(1)}h.01`).join('');

function ticksOf(max, unit) {
  if (!(max > 0)) return unit === '1' ? [0, 1] : [0, 4];
  const rough = max / 3;
  const size = 10 ** Math.floor(Math.log10(rough));
  let step = [1, 2, 2.5, 5, 10].map((each) => each * size).find((each) => each >= rough);
  if (unit === 'count') step = Math.max(1, Math.ceil(step));
  const ticks = [0];
  while (ticks.at(-1) < max) ticks.push(ticks.length * step);
  return ticks;
}

const STEPS_MS = [60_000, 300_000, 600_000, 1_800_000, 3_600_000, 10_800_000, 21_600_000, 43_200_000, 86_400_000,
  172_800_000, 604_800_000, 1_209_600_000, 2_592_000_000, 7_776_000_000];

function timeTicks(from, to, width) {
  const least = (to - from) / Math.max(2, Math.floor(width / 90));
  const step = STEPS_MS.find((each) => each >= least) ?? STEPS_MS.at(-1);
  const label = step < 86_400_000 ? (to - from > 86_400_000 ? moment : minute) : step < 2_592_000_000 ? day : month;
  const out = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
    if (at - from > step / 5 && to - at > step / 5) out.push([at, label(at)]);
  }
  return out;
}

function sentence(title, lines, unit) {
  const told = lines.map(({ name, points }) => {
    const values = points.map((point) => point.value).filter((value) => value !== null);
    if (!values.length) return `${name}: no data`;
    return `${name} from ${figure(Math.min(...values), unit)} to ${figure(Math.max(...values), unit)}, last ${figure(values.at(-1), unit)}`;
  });
  return `${title}. ${told.join('; ')}.`;
}

const opened = new Set();

/** The same as a table, whose rows are there while it is open. */
function table(title, lines, unit) {
  const toggle = ({ target }) => {
    opened[target.open ? 'add' : 'delete'](title);
    redraw();
  };
  const rows = opened.has(title) ? (lines[0]?.points ?? []) : [];
  return h('details', { class: 'data', ontoggle: toggle },
    h('summary', {}, 'Table', h('span', { class: 'unseen' }, ` of ${title}`)),
    h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': `${title}, table` },
      h('table', {},
        h('caption', { class: 'unseen' }, title),
        h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'Begin'), lines.map((line) => h('th', { scope: 'col', class: 'n' }, line.name)))),
        h('tbody', {}, rows.map((point, at) => h('tr', {},
          h('th', { scope: 'row' }, moment(point.time), point.partial && ' (not over)'),
          lines.map((line) => h('td', { class: 'n' }, figure(line.points[at]?.value ?? null, unit)))))))),
  );
}

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
  return h('svg', { class: 'spark', role: 'img', 'aria-label': `${label}: last ${figure(last.value, unit)}, at most ${figure(max, unit)}`, viewBox: '0 0 100 30', preserveAspectRatio: 'none' },
    good && good[0] < top && h('rect', { class: 'good', x: 0, width: 100, y: y(good[1]), height: Math.max(1, y(good[0]) - y(good[1])) }),
    bound <= top && h('line', { class: 'bound', x1: 0, x2: 100, y1: y(bound), y2: y(bound) }),
    h('path', { class: 'line one', d: path(points.filter((point) => !point.partial), x, y) }),
    h('path', { class: 'line one partial', d: path(points.slice(-2), x, y, true) }),
    h('path', { class: 'line one dots', d: dots(points, x, y) }));
}

/** The points of one series of an answer, their times as milliseconds. */
export function pointsOf(answer, metric, unit) {
  const series = answer?.series.find((each) => each.metric === metric && (unit === undefined || each.unit === unit));
  const points = (series?.points ?? []).map((point) => ({ ...point, time: Date.parse(point.time) }));
  // Of what is counted nothing is 0, once anything was counted; of rates and times it is unknown.
  const counted = series && !['1', 'ms'].includes(series.unit);
  const first = points.findIndex((point) => point.value !== null);
  return counted && first >= 0 ? points.map((point, at) => (at > first ? { ...point, value: point.value ?? 0 } : point)) : points;
}

