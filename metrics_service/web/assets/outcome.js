/** Errors by reason, money by currency, and packages. */

import { lines } from './chart.js';
import { ask, endedAgo, snapshot } from './data.js';
import { h } from './dom.js';
import { count, money, NONE, percent } from './format.js';
import { spanOf } from './funnel.js';
import { pointsOf } from './line.js';
import { series } from './now.js';
import { bar, cut, facts, link, nothing, section, skeleton, status, table, when } from './parts.js';
import { range, windowOf } from './state.js';

export function errors(redraw) {
  const { data: all, error } = snapshot();
  const found = all?.errors;
  const rate = found?.error_rate;
  return section(
    'errors',
    'Errors',
    {
      error,
      note:
        found &&
        (rate.denominator
          ? `${count(rate.numerator)} of ${count(rate.denominator)} writes failed, ${percent(rate.value, 2)}`
          : 'no write in this time'),
    },
    !found
      ? error
        ? null
        : skeleton(4)
      : table({
          id: 'reasons',
          redraw,
          caption: 'Errors by reason',
          limit: 8,
          empty: 'No request was refused in this time.',
          rows: found.breakdown.map((each) => [`${each.reason} ${each.code} ${each.rpc}`, each]),
          columns: [
            { name: 'Reason', cell: (each) => link(['errors', each.reason], cut(each.reason)) },
            { name: 'Kind', hide: 1, cell: (each) => each.kind },
            { name: 'Counts', cell: (each) => (each.counts_as_error ? status('bad', 'error') : 'no') },
            { name: 'RPC', hide: 1, cell: (each) => cut(each.rpc.split('/').at(-1) || 'front end') },
            { name: 'Number', n: 1, cell: (each) => count(each.count) },
            { name: 'Last', n: 1, cell: (each) => when(each.last_seen) },
          ],
        }),
  );
}

/** One reason: where it occurs, for which packages, and its newest occurrences. */
export function reason(name, redraw) {
  const asked = windowOf(range(), endedAgo(), 60);
  const { data, error } = asked ? ask('reason', 'GetErrorBreakdown', asked, 10_000) : {};
  const { answer, ...chart } = series();
  const found = data?.breakdown.filter((each) => each.reason === name) ?? [];
  const [from, to] = spanOf(chart);
  const sum = found.reduce((total, each) => total + each.count, 0);
  const metric =
    { payment: 'payment_failures', availability: 'availability_errors', internal: 'internal_errors' }[found[0]?.kind] ??
    'booking_errors';
  return section(
    'detail',
    name,
    { wide: true, error, note: found[0]?.kind },
    !data
      ? skeleton(5)
      : !found.length
        ? nothing('It did not occur in this time.')
        : [
            facts([
              ['number', count(sum)],
              ['counts as error', found[0].counts_as_error ? 'yes' : 'no'],
              ['first seen', when(found.map((each) => each.first_seen).sort()[0])],
              [
                'last seen',
                when(
                  found
                    .map((each) => each.last_seen)
                    .sort()
                    .at(-1),
                ),
              ],
            ]),
            found[0].counts_as_error &&
              lines({
                id: 'reason-trend',
                title: `All ${found[0].kind} errors`,
                unit: 'count',
                from,
                to,
                step: chart.step * 1000,
                lines: [{ name: 'counted', tone: 'one', points: pointsOf(answer.data, metric) }],
              }),
            table({
              id: 'reason-rpcs',
              redraw,
              caption: 'By RPC',
              rows: found.map((each) => [`${each.code} ${each.rpc}`, each]),
              columns: [
                { name: 'RPC', cell: (each) => cut(each.rpc || 'front end') },
                { name: 'Code', cell: (each) => each.code || NONE },
                { name: 'Number', n: 1, cell: (each) => count(each.count) },
              ],
            }),
            h('h3', {}, 'Newest occurrences'),
            table({
              id: 'samples',
              redraw,
              caption: 'Newest occurrences',
              empty: 'None is kept.',
              rows: found.flatMap((each) => each.samples).map((each, at) => [at, each]),
              columns: [
                { name: 'Time', cell: (each) => when(each.time) },
                { name: 'Package', cell: (each) => cut(each.package_id, 'code') },
              ],
            }),
            h('h3', {}, 'Packages with errors of any reason'),
            table({
              id: 'reason-packages',
              redraw,
              caption: 'Packages',
              limit: 6,
              empty: 'None of a known package.',
              rows: data.packages.map((each) => [each.package_id, each]),
              columns: [
                { name: 'Package', cell: (each) => cut(each.package_id, 'code') },
                { name: 'Errors', n: 1, cell: (each) => count(each.count) },
                { name: 'Of its writes', n: 1, cell: (each) => percent(each.error_rate?.value) },
              ],
            }),
          ],
  );
}

export function business(redraw) {
  const { data: all, error } = snapshot();
  if (!all) return section('business', 'Business', { error }, error ? null : skeleton(4));
  const { revenue, packages, other_packages: others, confirmed } = all.business;
  return section(
    'business',
    'Business',
    { note: 'of the bookings confirmed in this time' },
    table({
      id: 'currencies',
      redraw,
      caption: 'Money by currency',
      limit: 8,
      empty: 'No booking was confirmed in this time.',
      rows: revenue.map((each) => [each.currency, each]),
      columns: [
        { name: 'Currency', cell: (each) => each.currency },
        ...['gross', 'refunded', 'net', 'average'].map((name) => ({
          name: name[0].toUpperCase() + name.slice(1),
          n: 1,
          hide: name === 'refunded',
          cell: (each) => money(each[`${name}_minor`], each.currency, each.exponent),
        })),
        { name: 'n', n: 1, cell: (each) => count(each.confirmed) },
      ],
    }),
    packages.length > 0 &&
      table({
        id: 'packages',
        redraw,
        caption: 'Bookings by package',
        limit: 5,
        rows: [
          ...packages.map((each) => [each.package_id, each]),
          ...(others ? [['other', { package_id: 'other', confirmed: others, cancelled: null }]] : []),
        ],
        columns: [
          { name: 'Package', cell: (each) => cut(each.package_id, 'code') },
          {
            name: 'Confirmed',
            n: 1,
            cell: (each) => h('span', { class: 'barred' }, bar(each.confirmed / confirmed), count(each.confirmed)),
          },
          { name: 'Cancelled', n: 1, cell: (each) => count(each.cancelled) },
        ],
      }),
  );
}
