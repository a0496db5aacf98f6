/** Slow and blocked queries, and the statements by their share of the time. */

import { ask, endedAgo, snapshot } from './data.js';
import { h } from './dom.js';
import { count, decimal, ms, percent, plural } from './format.js';
import { spark } from './line.js';
import { bar, choice, cut, link, section, skeleton, status, table, when } from './parts.js';
import { held, idOf, parted, partsOf, waits } from './query.js';
import { ORDERS, range, state, windowOf } from './state.js';

export function slow(redraw) {
  const { data, error } = ask('slow', 'ListSlowQueries', { limit: 50 }, 5_000);
  const running = data?.queries.filter((each) => each.running).length;
  return section(
    'slow',
    'Slow and blocked now',
    {
      error,
      wide: true,
      note: data && (running ? '' : 'none runs for longer than 500 ms; the slowest so far'),
      actions: running ? status('warn', `${running} running`) : null,
    },
    !data
      ? skeleton(3)
      : table({
          id: 'slow-queries',
          redraw,
          caption: 'Slow queries',
          limit: 6,
          empty: 'No query has taken longer than 500 ms.',
          rows: data.queries.map((each) => [idOf(each), each]),
          columns: [
            { name: 'Query', cell: (each) => link(['slow', idOf(each)], cut(each.query.operation || each.query.text)) },
            {
              name: 'Took',
              n: 1,
              cell: (each) =>
                each.running
                  ? status('warn', `${ms(each.query.execute_ms)}, runs`)
                  : status(each.query.execute_ms > 1000 ? 'bad' : 'warn', ms(each.query.execute_ms)),
            },
            { name: 'Began', n: 1, cell: (each) => when(each.query.start_time) },
            { name: 'Waited for', cell: (each) => waits(each.look) },
            { name: 'Held by', hide: 1, cell: (each) => cut(each.look?.blockers.map(held).join('; ')) },
            { name: 'Outcome', hide: 1, cell: (each) => (each.running ? 'running' : each.query.outcome) },
          ],
        }),
  );
}

const statsOf = (place, params, every) =>
  ask(place, 'GetQueryStats', { ...params, group_by: state.group.toUpperCase(), order_by: ORDERS[state.order] }, every);

let near = false;

export function queries(go, redraw) {
  // By fingerprint one hour is kept.
  const asked = state.group === 'operation' ? windowOf(range(), endedAgo()) : windowOf(Math.min(range(), 3600), 0, 10);
  const { data, error } = asked ? statsOf('queries', { ...asked, limit: 100 }, 10_000) : {};
  const rpcs = snapshot().data?.performance.rpcs ?? [];
  const total = data?.total.total_time_ms;
  // Eight more answers, once the section comes near.
  near ||= document.getElementById('queries')?.getBoundingClientRect().top < innerHeight * 1.5;
  const parts =
    near && asked
      ? parted('parts', asked.window, state.group === 'operation' ? endedAgo() : 0, state.group.toUpperCase())
      : [];
  return section(
    'queries',
    'Queries',
    {
      error,
      wide: true,
      note:
        data &&
        `${plural(data.total.total, 'query', 'queries')}, ${count(data.total.failed)} failed${data.internal ? `; ${count(data.internal.total)} internal` : ''}${state.group === 'fingerprint' && range() > 3600 ? '; by statement the last hour is kept' : ''}`,
      actions: [
        choice('Group', { operation: 'by operation', fingerprint: 'by statement' }, state.group, (group) =>
          go({ group }),
        ),
        choice('Order', { total: 'total', p95: 'p95', calls: 'calls', failed: 'failed' }, state.order, (order) =>
          go({ order }),
        ),
      ],
    },
    !data
      ? skeleton(6)
      : h(
          'div',
          { class: 'pair' },
          table({
            id: 'statements',
            redraw,
            caption: 'Queries by share of total time',
            empty: 'No query ran in this time.',
            rows: data.groups.map((each) => [each.fingerprint || each.operation, each]),
            columns: [
              {
                name: 'Query',
                cell: (each) =>
                  link(['queries', each.fingerprint || each.operation], cut(each.operation || each.text, 'code')),
              },
              {
                name: 'Share of time',
                n: 1,
                cell: (each) =>
                  h('span', { class: 'barred' }, bar(each.total_time_ms / total), percent(each.total_time_ms / total)),
              },
              { name: 'Calls', n: 1, cell: (each) => count(each.total) },
              { name: 'p95', n: 1, cell: (each) => ms(each.execute.p95_ms) },
              { name: 'p99', n: 1, hide: 1, cell: (each) => ms(each.execute.p99_ms) },
              {
                name: 'p95 trend',
                hide: 1,
                cell: (each) =>
                  spark(
                    partsOf(parts, each.fingerprint || each.operation, (one) => one.execute.p95_ms),
                    { unit: 'ms', label: 'p95 over time' },
                  ),
              },
              {
                name: 'Failed',
                n: 1,
                hide: 1,
                cell: (each) => (each.failed ? status('bad', count(each.failed)) : '0'),
              },
              { name: 'Rows a call', n: 1, hide: 1, cell: (each) => decimal(each.rows / each.total) },
            ],
          }),
          table({
            id: 'rpcs',
            redraw,
            caption: 'Queries per RPC',
            empty: 'No RPC ran a query in this time.',
            rows: rpcs.map((each) => [each.rpc, each]),
            columns: [
              { name: 'Queries per RPC', cell: (each) => cut(each.rpc.split('/').at(-1)) },
              { name: 'Mean', n: 1, cell: (each) => decimal(each.mean) },
              { name: 'Most', n: 1, cell: (each) => count(each.max) },
              { name: 'Calls', n: 1, hide: 1, cell: (each) => count(each.calls) },
            ],
          }),
        ),
  );
}
