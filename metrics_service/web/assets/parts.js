/** The parts that the sections are made of. */

import { h } from './dom.js';
import { NONE, plural, since, span } from './format.js';
import { address, state } from './state.js';

const SHAPES = {
  good: 'M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zM4.5 8.2 7 10.700l4.500-5',
  warn: 'M8 1.500 15 14H1zM8 6v4M8 11.800v.4',
  bad: 'M5 1h6l4 4v6l-4 4H5l-4-4V5zM5.500 5.500l5 5M10.500 5.500l-5 5',
  none: 'M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zM5 8h6',
  wait: 'M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zM8 4.500V8l2.500 2',
  pause: 'M5.500 3v10M10.500 3v10',
};

/** A sign of good, warn, bad, none, wait or pause; the word beside it says the same. */
export const icon = (kind) =>
  h('svg', { class: 'icon', viewBox: '0 0 16 16', 'aria-hidden': 'true' }, h('path', { d: SHAPES[kind] }));

/** A status: icon, word and colour. */
export const status = (kind, ...words) => h('span', { class: `status ${kind}` }, icon(kind), h('span', {}, words));

/** A link within the page. */
export const link = (path, words, props) => h('a', { href: address({}, path), ...props }, words);

/** One of the eleven sections. */
export function section(id, title, { note, actions, wide, error } = {}, ...body) {
  return h(
    'section',
    { id, key: id, class: wide ? 'wide' : null, 'aria-labelledby': `${id}-h` },
    h('div', { class: 'top' }, h('h2', { id: `${id}-h` }, title), note && h('p', { class: 'note' }, note), actions),
    error && problem(error),
    error ? body.filter((node) => node?.props?.class !== 'skeleton') : body,
  );
}

/** Why an answer is not there. */
export const problem = (error) =>
  error.expected
    ? nothing(error.description)
    : h(
        'p',
        { class: 'problem' },
        status('warn', 'Not read: '),
        ` ${error.description || error.error || error.reason}`,
      );

export const nothing = (...why) => h('p', { class: 'nothing' }, why);
export const skeleton = (lines = 3) =>
  h(
    'div',
    { class: 'skeleton', 'aria-hidden': 'true' },
    Array.from({ length: lines }, () => h('i')),
  );

/** A choice as a row of buttons: `choices` is {value: words}. */
export function choice(label, choices, value, pick) {
  return h(
    'div',
    { class: 'choice', role: 'group', 'aria-label': label },
    Object.entries(choices).map(([each, words]) =>
      h('button', { type: 'button', 'aria-pressed': String(each === value), onclick: () => pick(each) }, words),
    ),
  );
}

export const cut = (text, extra) => h('span', { class: `cut ${extra ?? ''}`, title: text }, text || NONE);
export const when = (time) => h('time', { datetime: time, title: time }, time ? since(time, Date.now()) : NONE);
export const ago = (time, now) => (time ? `${span(Math.max(0, (now - Date.parse(time)) / 1000))} ago` : NONE);

/** Words and figures beside each other: [[word, figure], ...]. */
export const facts = (pairs) =>
  h(
    'dl',
    { class: 'facts' },
    pairs
      .filter(Boolean)
      .map(([word, value, more]) => h('div', {}, h('dt', {}, word), h('dd', {}, value, more && h('small', {}, more)))),
  );

const orders = new Map();
const opened = new Set();

/**
 * A table of rows [[key, row]]. columns: [{name, cell(row), n, hide}], `n` for numbers, `hide` for
 * what a narrow screen leaves out. While it is hovered, focused or selected its order stays, and new
 * rows wait behind a button.
 */
export function table({ id, caption, columns, rows, limit = 12, empty, redraw = () => {} }) {
  if (!rows.length) return nothing(empty);
  const found = new Map(rows);
  const before = orders.get(id);
  let keys = [...found.keys()];
  let fresh = 0;
  if (before && held(id)) {
    const stay = before.filter((key) => found.has(key));
    fresh = keys.length - stay.length;
    keys = stay;
  }
  orders.set(id, keys);
  const all = opened.has(id);
  const act = (change) => () => {
    change();
    redraw();
  };
  return h(
    'div',
    { class: 'table', id },
    h(
      'div',
      { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption },
      h(
        'table',
        {},
        h('caption', { class: 'unseen' }, caption),
        h(
          'thead',
          {},
          h(
            'tr',
            {},
            columns.map((column) => h('th', { scope: 'col', class: kind(column) }, column.name)),
          ),
        ),
        h(
          'tbody',
          {},
          (all ? keys : keys.slice(0, limit)).map((key) =>
            h(
              'tr',
              { key },
              columns.map((column, at) =>
                at
                  ? h('td', { class: kind(column) }, column.cell(found.get(key)))
                  : h('th', { scope: 'row', class: kind(column) }, column.cell(found.get(key))),
              ),
            ),
          ),
        ),
      ),
    ),
    (fresh > 0 || keys.length > limit) &&
      h(
        'p',
        { class: 'more' },
        fresh > 0 && h('button', { type: 'button', onclick: act(() => orders.delete(id)) }, `${fresh} new, show`),
        keys.length > limit &&
          h(
            'button',
            { type: 'button', onclick: act(() => opened[all ? 'delete' : 'add'](id)) },
            all ? 'Show fewer' : `Show all ${plural(keys.length, 'row')}`,
          ),
      ),
  );
}

const kind = (column) => [column.n && 'n', column.hide && 'hide', column.class].filter(Boolean).join(' ') || null;

function held(id) {
  const box = document.getElementById(id);
  if (!box) return false;
  const marked = getSelection();
  return box.matches(':hover, :focus-within') || (!marked.isCollapsed && box.contains(marked.anchorNode));
}

/** A share as a bar, from 0 to 1. */
export const bar = (share, tone = 'one') =>
  h(
    'svg',
    { class: `bar ${tone}`, viewBox: '0 0 100 8', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    h('rect', { class: 'back', width: 100, height: 8 }),
    h('rect', { class: 'fill', width: Math.max(0, Math.min(1, share || 0)) * 100, height: 8 }),
  );

/** The path of the page that is shown, or '' for the overview. */
export const place = () => state.path[0] ?? '';
