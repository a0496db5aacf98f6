/** Slow and blocked queries, the statements by their share of time, and each of them alone. */

import { lines, spark } from './chart.js';
import { ask, endedAgo, snapshot } from './data.js';
import { h } from './dom.js';
import { clock, count, decimal, ms, NONE, percent, plural } from './format.js';
import { bar, choice, cut, facts, link, nothing, section, skeleton, status, table, when } from './parts.js';
import { log, ORDERS, range, state, windowOf } from './state.js';

/** A slow query is named by its statement and when it began. */
const idOf = ({ query }) => `${query.fingerprint || query.operation}-${Date.parse(query.start_time)}`;
const waits = (look) => (look?.wait_event_type ? `${look.wait_event_type}: ${look.wait_event}` : look ? 'runs' : NONE);
const held = (blocker) => `${blocker.application_name || 'session'} ${blocker.pid || ''}, ${blocker.state}, transaction ${ms(blocker.transaction_ms)}`;

export function slow(redraw) {
  const { data, error } = ask('slow', 'ListSlowQueries', { limit: 50 }, 5_000);
  const running = data?.queries.filter((each) => each.running).length;
  return section('slow', 'Slow and blocked now', {
    error, wide: true, note: data && (running ? '' : 'none runs for longer than 500 ms; the slowest so far'),
    actions: running ? status('warn', `${running} running`) : null,
  }, !data ? skeleton(3) : table({
    id: 'slow-queries', redraw, caption: 'Slow queries', limit: 6, empty: 'No query has taken longer than 500 ms.',
    rows: data.queries.map((each) => [idOf(each), each]),
    columns: [
      { name: 'Query', cell: (each) => link(['slow', idOf(each)], cut(each.query.operation || each.query.text)) },
      { name: 'Took', n: 1, cell: (each) => (each.running ? status('warn', `${ms(each.query.execute_ms)}, runs`) : status(each.query.execute_ms > 1000 ? 'bad' : 'warn', ms(each.query.execute_ms))) },
      { name: 'Began', n: 1, cell: (each) => when(each.query.start_time) },
      { name: 'Waited for', cell: (each) => waits(each.look) },
      { name: 'Held by', hide: 1, cell: (each) => cut(each.look?.blockers.map(held).join('; ')) },
      { name: 'Outcome', hide: 1, cell: (each) => (each.running ? 'running' : each.query.outcome) },
    ],
  }));
}

const statsOf = (place, params, every) => ask(place, 'GetQueryStats', { ...params, group_by: state.group.toUpperCase(), order_by: ORDERS[state.order] }, every);

const BUCKETS = 8;
let near = false;

/**
 * The statistics of so many parts of a time, oldest first: [{time, of(name)}], `time` being the begin.
 * The last one is not over where the time ends now.
 */
function parted(place, seconds, ended, group_by, number = BUCKETS) {
  const least = seconds + ended <= 3_600 ? 60 : seconds + ended <= 86_400 ? 300 : 3_600;
  const size = Math.max(60, Math.floor(seconds / number / least) * least || least);
  const end = (Math.floor(log.now / 60) + 1) * 60 - ended;
  return Array.from({ length: number }, (_, at) => {
    const asked = windowOf(size, ended + at * size);
    const answer = asked && ask(`${place}-${at}`, 'GetQueryStats', { ...asked, limit: 200, group_by }, 60_000);
    return {
      time: (end - (at + 1) * size) * 1000, size, partial: !at && !ended,
      of: (name) => answer?.data?.groups.find((each) => (group_by === 'FINGERPRINT' ? each.fingerprint : each.operation) === name),
    };
  }).reverse();
}

const pointsOf = (parts, name, read) => parts.map(({ time, partial, of }) => ({ time, partial, value: of(name) ? read(of(name)) ?? null : null }));

export function queries(go, redraw) {
  // By fingerprint one hour is kept.
  const asked = state.group === 'operation' ? windowOf(range(), endedAgo()) : windowOf(Math.min(range(), 3600), 0, 10);
  const { data, error } = asked ? statsOf('queries', { ...asked, limit: 100 }, 10_000) : {};
  const rpcs = snapshot().data?.performance.rpcs ?? [];
  const total = data?.total.total_time_ms;
  // Eight more answers, once the section comes near.
  near ||= document.getElementById('queries')?.getBoundingClientRect().top < innerHeight * 1.5;
  const parts = near && asked ? parted('parts', asked.window, state.group === 'operation' ? endedAgo() : 0, state.group.toUpperCase()) : [];
  return section('queries', 'Queries', {
    error, wide: true,
    note: data && `${plural(data.total.total, 'query', 'queries')}, ${count(data.total.failed)} failed${data.internal ? `; ${count(data.internal.total)} internal` : ''}${state.group === 'fingerprint' && range() > 3600 ? '; by statement the last hour is kept' : ''}`,
    actions: [choice('Group', { operation: 'by operation', fingerprint: 'by statement' }, state.group, (group) => go({ group })),
      choice('Order', { total: 'total', p95: 'p95', calls: 'calls', failed: 'failed' }, state.order, (order) => go({ order }))],
  }, !data ? skeleton(6) : h('div', { class: 'pair' },
    table({
      id: 'statements', redraw, caption: 'Queries by share of total time', empty: 'No query ran in this time.',
      rows: data.groups.map((each) => [each.fingerprint || each.operation, each]),
      columns: [
        { name: 'Query', cell: (each) => link(['queries', each.fingerprint || each.operation], cut(each.operation || each.text, 'code')) },
        { name: 'Share of time', n: 1, cell: (each) => h('span', { class: 'barred' }, bar(each.total_time_ms / total), percent(each.total_time_ms / total)) },
        { name: 'Calls', n: 1, cell: (each) => count(each.total) },
        { name: 'p95', n: 1, cell: (each) => ms(each.execute.p95_ms) },
        { name: 'p99', n: 1, hide: 1, cell: (each) => ms(each.execute.p99_ms) },
        { name: 'p95 trend', hide: 1, cell: (each) => spark(pointsOf(parts, each.fingerprint || each.operation, (one) => one.execute.p95_ms), { unit: 'ms', label: 'p95 over time' }) },
        { name: 'Failed', n: 1, hide: 1, cell: (each) => (each.failed ? status('bad', count(each.failed)) : '0') },
        { name: 'Rows a call', n: 1, hide: 1, cell: (each) => decimal(each.rows / each.total) },
      ],
    }),
    table({
      id: 'rpcs', redraw, caption: 'Queries per RPC', empty: 'No RPC ran a query in this time.',
      rows: rpcs.map((each) => [each.rpc, each]),
      columns: [
        { name: 'Queries per RPC', cell: (each) => cut(each.rpc.split('/').at(-1)) },
        { name: 'Mean', n: 1, cell: (each) => decimal(each.mean) },
        { name: 'Most', n: 1, cell: (each) => count(each.max) },
        { name: 'Calls', n: 1, hide: 1, cell: (each) => count(each.calls) },
      ],
    })));
}

/** One operation or statement: its figures, their trend, and its newest runs. */
export function query(name, redraw) {
  const byPrint = /^[0-9a-f]{16}$/.test(name);
  const group_by = byPrint ? 'FINGERPRINT' : 'OPERATION';
  const span = byPrint ? 3_540 : Math.min(range(), 43_200);
  const parts = parted('query', span, 0, group_by, 12);
  const whole = ask('query', 'GetQueryStats', { ...windowOf(span), limit: 500, group_by }, 10_000);
  const found = whole.data?.groups.find((each) => (byPrint ? each.fingerprint : each.operation) === name);
  const operation = found?.operation || (byPrint ? '' : name);
  const recent = ask('recent', 'ListRecentQueries', { limit: 200, operation }, 5_000).data?.queries.filter((each) => !byPrint || each.fingerprint === name);
  const [{ time: from, size }] = parts;
  const axis = { from, to: from + size * parts.length * 1000, step: size * 1000 };
  const points = (read) => pointsOf(parts, name, read);
  return section('detail', operation || `Statement ${name}`, { wide: true, error: whole.error },
    !whole.data ? skeleton(6) : !found ? nothing('Nothing of it ran in this time.') : [
      found.text && h('pre', {}, found.text),
      facts([
        ['calls', count(found.total)], ['p50', ms(found.execute.p50_ms)], ['p95', ms(found.execute.p95_ms)], ['p99', ms(found.execute.p99_ms)],
        ['longest', ms(found.execute.max_ms)], ['failed', count(found.failed)], ['over 0.5 s', count(found.slow_warning + found.slow_critical)],
        ['rows a call', decimal(found.rows / found.total)], ['share of time', percent(found.total_time_ms / whole.data.total.total_time_ms)],
      ]),
      h('div', { class: 'charts' },
        lines({ id: 'query-time', title: 'Time', unit: 'ms', ...axis, lines: [{ name: 'p95', tone: 'one', points: points((each) => each.execute.p95_ms) }, { name: 'p99', tone: 'two', points: points((each) => each.execute.p99_ms) }] }),
        lines({ id: 'query-calls', title: 'Calls', unit: 'count', ...axis, lines: [{ name: 'calls', tone: 'one', points: points((each) => each.total) }] }))],
    h('h3', {}, 'Newest runs'),
    !recent ? skeleton(3) : table({
      id: 'recent', redraw, caption: 'Newest runs', empty: 'None of the newest queries is one of it.',
      rows: recent.map((each, at) => [`${each.start_time} ${each.instance} ${at}`, each]),
      columns: [
        { name: 'Began', cell: (each) => clock(each.start_time) },
        { name: 'Took', n: 1, cell: (each) => ms(each.execute_ms) },
        { name: 'Pool wait', n: 1, hide: 1, cell: (each) => ms(each.pool_wait_ms) },
        { name: 'Rows', n: 1, cell: (each) => count(each.rows) },
        { name: 'Outcome', cell: (each) => [each.outcome, each.sqlstate].filter(Boolean).join(' ') },
        { name: 'Trace', hide: 1, cell: (each) => cut(each.trace_id, 'code') },
      ],
    }));
}

/** One slow query: where its time went, what it waited for, who held that, and its plan. */
export function slowQuery(id) {
  const { data, error } = ask('slow-one', 'ListSlowQueries', { limit: 500 }, 5_000);
  const found = data?.queries.find((each) => idOf(each) === id);
  if (!found) return section('detail', 'Slow query', { wide: true, error }, !data ? skeleton(5) : nothing('It is not kept any more: the slowest 200 are.'));
  const { query: ran, look, plan, running } = found;
  const split = [['pool', ran.pool_wait_ms], ['connect', ran.connect_ms], ['execute', ran.execute_ms], ['cancel', ran.cancel_wait_ms]];
  const total = split.reduce((sum, [, value]) => sum + value, 0);
  return section('detail', ran.operation || 'Slow query', { wide: true, note: running ? 'it runs' : ran.outcome },
    h('pre', {}, ran.text || 'A named query: its text is the file of that name in storage/sql.'),
    h('h3', {}, 'Where the time went'),
    facts(split.map(([name, value]) => [name, [ms(value), bar(value / total)]])),
    facts([['began', when(ran.start_time)], ['rows', count(ran.rows)], ['process', cut(ran.instance)], ran.sqlstate && ['SQLSTATE', ran.sqlstate],
      ['trace', cut(ran.trace_id, 'code')], ran.fingerprint && ['statement', link(['queries', ran.fingerprint], ran.fingerprint)], ran.operation && ['operation', link(['queries', ran.operation], ran.operation)]]),
    h('h3', {}, 'What it waited for'),
    look ? [h('p', {}, `After ${ms(look.running_ms)}, as process ${look.pid}: ${waits(look)}.`),
      look.blockers.length > 0 && table({
        id: 'blockers', caption: 'Who held the lock', rows: look.blockers.map((each, at) => [at, each]), columns: [
          { name: 'Held by', cell: (each) => `${each.application_name || 'session'} ${each.pid || ''}` },
          { name: 'State', cell: (each) => each.state },
          { name: 'Transaction', n: 1, cell: (each) => ms(each.transaction_ms) },
          { name: 'Waits for', hide: 1, cell: (each) => each.wait_event || NONE },
          { name: 'Statement', cell: (each) => cut(each.query, 'code') },
        ] })] : nothing('It was not observed while it ran.'),
    h('h3', {}, 'Generic plan'), plan ? h('pre', {}, plan) : nothing('None is known.'));
}
