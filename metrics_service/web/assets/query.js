/** One operation, statement or slow query, and what their lists share with them. */

import { lines } from './chart.js';
import { ask } from './data.js';
import { h } from './dom.js';
import { clock, count, decimal, ms, NONE, percent } from './format.js';
import { bar, cut, facts, link, nothing, section, skeleton, table, when } from './parts.js';
import { log, range, windowOf } from './state.js';

/** A slow query is named by its statement and when it began. */
export const idOf = ({ query }) => `${query.fingerprint || query.operation}-${Date.parse(query.start_time)}`;
export const waits = (look) =>
  look?.wait_event_type ? `${look.wait_event_type}: ${look.wait_event}` : look ? 'runs' : NONE;
export const held = (blocker) =>
  `${blocker.application_name || 'session'} ${blocker.pid || ''}, ${blocker.state}, transaction ${ms(blocker.transaction_ms)}`;

/**
 * The statistics of so many parts of a time, oldest first: [{time, of(name)}], `time` being the begin.
 * The last one is not over where the time ends now.
 */
export function parted(place, seconds, ended, group_by, number = 8) {
  const least = seconds + ended <= 3_600 ? 60 : seconds + ended <= 86_400 ? 300 : 3_600;
  const size = Math.max(60, Math.floor(seconds / number / least) * least || least);
  const end = (Math.floor(log.now / 60) + 1) * 60 - ended;
  return Array.from({ length: number }, (_, at) => {
    const asked = windowOf(size, ended + at * size);
    const answer = asked && ask(`${place}-${at}`, 'GetQueryStats', { ...asked, limit: 200, group_by }, 60_000);
    return {
      time: (end - (at + 1) * size) * 1000,
      size,
      partial: !at && !ended,
      of: (name) =>
        answer?.data?.groups.find((each) => (group_by === 'FINGERPRINT' ? each.fingerprint : each.operation) === name),
    };
  }).reverse();
}

/** The points of one operation or statement in them. */
export const partsOf = (parts, name, read) =>
  parts.map(({ time, partial, of }) => ({ time, partial, value: of(name) ? (read(of(name)) ?? null) : null }));

/** One operation or statement: its figures, their trend, and its newest runs. */
export function query(name, redraw) {
  const byPrint = /^[0-9a-f]{16}$/.test(name);
  const group_by = byPrint ? 'FINGERPRINT' : 'OPERATION';
  const span = byPrint ? 3_540 : Math.min(range(), 43_200);
  const parts = parted('query', span, 0, group_by, 12);
  const whole = ask('query', 'GetQueryStats', { ...windowOf(span), limit: 500, group_by }, 10_000);
  const found = whole.data?.groups.find((each) => (byPrint ? each.fingerprint : each.operation) === name);
  const operation = found?.operation || (byPrint ? '' : name);
  const recent = ask('recent', 'ListRecentQueries', { limit: 200, operation }, 5_000).data?.queries.filter(
    (each) => !byPrint || each.fingerprint === name,
  );
  const [{ time: from, size }] = parts;
  const axis = { from, to: from + size * parts.length * 1000, step: size * 1000 };
  const points = (read) => partsOf(parts, name, read);
  return section(
    'detail',
    operation || `Statement ${name}`,
    { wide: true, error: whole.error },
    !whole.data
      ? skeleton(6)
      : !found
        ? nothing('Nothing of it ran in this time.')
        : [
            found.text && h('pre', {}, found.text),
            facts([
              ['calls', count(found.total)],
              ['p50', ms(found.execute.p50_ms)],
              ['p95', ms(found.execute.p95_ms)],
              ['p99', ms(found.execute.p99_ms)],
              ['longest', ms(found.execute.max_ms)],
              ['failed', count(found.failed)],
              ['over 0.5 s', count(found.slow_warning + found.slow_critical)],
              ['rows a call', decimal(found.rows / found.total)],
              ['share of time', percent(found.total_time_ms / whole.data.total.total_time_ms)],
            ]),
            h(
              'div',
              { class: 'charts' },
              lines({
                id: 'query-time',
                title: 'Time',
                unit: 'ms',
                ...axis,
                lines: [
                  { name: 'p95', tone: 'one', points: points((each) => each.execute.p95_ms) },
                  { name: 'p99', tone: 'two', points: points((each) => each.execute.p99_ms) },
                ],
              }),
              lines({
                id: 'query-calls',
                title: 'Calls',
                unit: 'count',
                ...axis,
                lines: [{ name: 'calls', tone: 'one', points: points((each) => each.total) }],
              }),
            ),
          ],
    h('h3', {}, 'Newest runs'),
    !recent
      ? skeleton(3)
      : table({
          id: 'recent',
          redraw,
          caption: 'Newest runs',
          empty: 'None of the newest queries is one of it.',
          rows: recent.map((each, at) => [`${each.start_time} ${each.instance} ${at}`, each]),
          columns: [
            { name: 'Began', cell: (each) => clock(each.start_time) },
            { name: 'Took', n: 1, cell: (each) => ms(each.execute_ms) },
            { name: 'Pool wait', n: 1, hide: 1, cell: (each) => ms(each.pool_wait_ms) },
            { name: 'Rows', n: 1, cell: (each) => count(each.rows) },
            { name: 'Outcome', cell: (each) => [each.outcome, each.sqlstate].filter(Boolean).join(' ') },
            { name: 'Trace', hide: 1, cell: (each) => cut(each.trace_id, 'code') },
          ],
        }),
  );
}

/** One slow query: where its time went, what it waited for, who held that, and its plan. */
export function slowQuery(id) {
  const { data, error } = ask('slow-one', 'ListSlowQueries', { limit: 500 }, 5_000);
  const found = data?.queries.find((each) => idOf(each) === id);
  if (!found)
    return section(
      'detail',
      'Slow query',
      { wide: true, error },
      !data ? skeleton(5) : nothing('It is not kept any more: the slowest 200 are.'),
    );
  const { query: ran, look, plan, running } = found;
  const split = [
    ['pool', ran.pool_wait_ms],
    ['connect', ran.connect_ms],
    ['execute', ran.execute_ms],
    ['cancel', ran.cancel_wait_ms],
  ];
  const total = split.reduce((sum, [, value]) => sum + value, 0);
  return section(
    'detail',
    ran.operation || 'Slow query',
    { wide: true, note: running ? 'it runs' : ran.outcome },
    h('pre', {}, ran.text || 'A named query: its text is the file of that name in storage/sql.'),
    h('h3', {}, 'Where the time went'),
    facts(split.map(([name, value]) => [name, [ms(value), bar(value / total)]])),
    facts([
      ['began', when(ran.start_time)],
      ['rows', count(ran.rows)],
      ['process', cut(ran.instance)],
      ran.sqlstate && ['SQLSTATE', ran.sqlstate],
      ['trace', cut(ran.trace_id, 'code')],
      ran.fingerprint && ['statement', link(['queries', ran.fingerprint], ran.fingerprint)],
      ran.operation && ['operation', link(['queries', ran.operation], ran.operation)],
    ]),
    h('h3', {}, 'What it waited for'),
    look
      ? [
          h('p', {}, `After ${ms(look.running_ms)}, as process ${look.pid}: ${waits(look)}.`),
          look.blockers.length > 0 &&
            table({
              id: 'blockers',
              caption: 'Who held the lock',
              rows: look.blockers.map((each, at) => [at, each]),
              columns: [
                { name: 'Held by', cell: (each) => `${each.application_name || 'session'} ${each.pid || ''}` },
                { name: 'State', cell: (each) => each.state },
                { name: 'Transaction', n: 1, cell: (each) => ms(each.transaction_ms) },
                { name: 'Waits for', hide: 1, cell: (each) => each.wait_event || NONE },
                { name: 'Statement', cell: (each) => cut(each.query, 'code') },
              ],
            }),
        ]
      : nothing('It was not observed while it ran.'),
    h('h3', {}, 'Generic plan'),
    plan ? h('pre', {}, plan) : nothing('None is known.'),
  );
}
