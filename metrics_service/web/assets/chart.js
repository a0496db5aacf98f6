/**
 * A chart of lines as SVG, with axes, units and marks, and one cursor for all charts; below it the
 * same as a table.
 */

import { h } from './dom.js';
import { axis, figure, moment } from './format.js';
import { dots, path } from './line.js';
import { ticksOf, timeTicks } from './ticks.js';

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
  for (const { target, contentRect } of entries)
    if (contentRect.width) widths.set(target.id, Math.round(contentRect.width));
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
 * [{time, name, kind}]. `from`, `to` and `step` are milliseconds; pick(time) is told of a click; `good`
 * is the good range and `bound` the line of a rule.
 */
export function lines(chart) {
  const { id, title, unit, from, to, step } = chart;
  // An answer may be a step older than the time that is shown.
  const [lines, before] = [chart.lines, chart.before ?? []].map((each) =>
    each.map((line) => ({ ...line, points: line.points.filter(({ time }) => time >= from && time < to) })),
  );
  const drawn = { ...chart, lines, before, ...scaleOf(chart, [...lines, ...before]) };
  const shown = cursor.time !== null && cursor.time >= from && cursor.time < to ? cursor.time : null;
  return h(
    'figure',
    { class: 'chart', key: id },
    h(
      'figcaption',
      {},
      h('h3', {}, title),
      h('span', { class: 'at' }, shown === null ? '' : moment(shown)),
      legend(lines, shown, unit),
    ),
    h(
      'div',
      { class: 'plot', id },
      h(
        'svg',
        { role: 'img', tabindex: 0, 'aria-label': sentence(title, lines, unit), ...listeners(drawn) },
        axes(drawn),
        marksOf(drawn),
        before.map((line) => h('path', { class: 'line before', d: path(line.points, drawn.middle, drawn.y) })),
        // The first line lies on top of the others.
        [...lines].reverse().map((line) => strokes(line, drawn)),
        shown !== null && upright('cursor', drawn.x(shown + step / 2)),
        drawn.blank &&
          h('text', { class: 'tick', x: drawn.width / 2, y: HEIGHT / 2, 'text-anchor': 'middle' }, empty(lines)),
      ),
    ),
    table(title, lines, unit),
  );
}

/** Where times and values lie, in pixels. */
function scaleOf({ id, unit, from, to, step, bound }, lines) {
  const width = widths.get(id) ?? 480;
  const values = lines.flatMap((line) => line.points.map((point) => point.value ?? 0));
  const most = Math.max(0, ...values);
  // A line far above all values would press them flat.
  const ticks = ticksOf(bound && most > bound / 3 ? Math.max(most, bound) : most, unit);
  const top = ticks.at(-1);
  const x = (time) => LEFT + ((time - from) / (to - from)) * (width - LEFT - RIGHT);
  const y = (value) => TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM);
  return { width, ticks, top, x, y, middle: (point) => x(point.time + step / 2), blank: !values.some(Boolean) };
}

/** Size and handlers: the pointer and the arrow keys move the cursor, a click or Enter picks its time. */
function listeners({ width, from, to, step, pick }) {
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
  return {
    width,
    height: HEIGHT,
    class: pick && 'zoom',
    onkeydown: keys,
    onblur: () => move(null),
    onpointermove: (event) => move(timeAt(event)),
    onpointerleave: () => move(null),
    onclick: pick && ((event) => pick(timeAt(event) + step / 2)),
  };
}

const level = (kind, y, width) => h('line', { class: kind, x1: LEFT, x2: width - RIGHT, y1: y, y2: y });
const upright = (kind, x) => h('line', { class: kind, x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM });

function axes({ good, bound, ticks, top, unit, from, to, width, x, y }) {
  return [
    good &&
      good[1] <= top &&
      h('rect', {
        class: 'good',
        x: LEFT,
        width: width - LEFT - RIGHT,
        y: y(good[1]),
        height: y(good[0]) - y(good[1]),
      }),
    ticks.map((tick) =>
      h(
        'g',
        {},
        level('grid', y(tick), width),
        h('text', { class: 'tick', x: LEFT - 8, y: y(tick) + 4, 'text-anchor': 'end' }, axis(tick, unit)),
      ),
    ),
    timeTicks(from, to, width).map(([time, words]) =>
      h('text', { class: 'tick', x: x(time), y: HEIGHT - 5, 'text-anchor': 'middle' }, words),
    ),
    bound && bound <= top && level('bound', y(bound), width),
  ];
}

/** Deployments and alerts; the lines of many would hide the figures. */
function marksOf({ marks = [], from, to, x }) {
  const seen = marks.filter((mark) => mark.time >= from && mark.time <= to);
  return seen.map((mark) =>
    h(
      'g',
      { class: `mark ${mark.kind}` },
      h('title', {}, `${mark.name}, ${moment(mark.time)}`),
      seen.length < 8 && upright(null, x(mark.time)),
      h('path', { d: `M${x(mark.time) - 4} ${TOP - 8}h8l-4 7z` }),
    ),
  );
}

function strokes({ points, tone }, { middle, y }) {
  const whole = points.filter((point) => !point.partial);
  return [
    h('path', { class: `line ${tone}`, d: path(whole, middle, y) }),
    h('path', { class: `line partial ${tone}`, d: path(points.slice(-2), middle, y, true) }),
    h('path', { class: `line dots ${tone}`, d: dots(points, middle, y) }),
  ];
}

const legend = (lines, shown, unit) =>
  h(
    'span',
    { class: 'legend' },
    lines.map((line) =>
      h('span', { class: `key ${line.tone}` }, line.name, ' ', h('b', {}, figure(valueAt(line, shown), unit))),
    ),
  );

const empty = (lines) =>
  lines.some((line) => line.points.some((point) => point.value !== null)) ? 'none' : 'no data in this time';

function valueAt(line, time) {
  if (time !== null) return line.points.find((point) => point.time === time)?.value;
  return line.points.findLast((point) => point.value !== null && !point.partial)?.value;
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
  return h(
    'details',
    { class: 'data', ontoggle: toggle },
    h('summary', {}, 'Table', h('span', { class: 'unseen' }, ` of ${title}`)),
    h(
      'div',
      { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': `${title}, table` },
      h(
        'table',
        {},
        h('caption', { class: 'unseen' }, title),
        h(
          'thead',
          {},
          h(
            'tr',
            {},
            h('th', { scope: 'col' }, 'Begin'),
            lines.map((line) => h('th', { scope: 'col', class: 'n' }, line.name)),
          ),
        ),
        h(
          'tbody',
          {},
          rows.map((point, at) =>
            h(
              'tr',
              {},
              h('th', { scope: 'row' }, moment(point.time), point.partial && ' (not over)'),
              lines.map((line) => h('td', { class: 'n' }, figure(line.points[at]?.value ?? null, unit))),
            ),
          ),
        ),
      ),
    ),
  );
}
