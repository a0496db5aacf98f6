/** The service itself: health with its criteria, producers, quality of the data, deployments. */

import { ask, asOf, live, snapshot } from './data.js';
import { h } from './dom.js';
import { bytes, count, decimal, figure, ms, NONE, percent, span } from './format.js';
import { cut, link, nothing, section, skeleton, status, table, when } from './parts.js';

export const VERDICTS = {
  HEALTHY: ['good', 'Healthy'],
  DEGRADED: ['warn', 'Degraded'],
  UNHEALTHY: ['bad', 'Unhealthy'],
  STALE: ['bad', 'No heartbeats'],
  STARTING: ['wait', 'Starting'],
  STATUS_UNSPECIFIED: ['none', 'No reports yet'],
};

export function health(redraw) {
  const told = live.health;
  if (!told) return section('health', 'Health and producers', { wide: true }, skeleton(4));
  const { figures } = told;
  const held = new Set(told.reasons.map((each) => each.criterion));
  const at = (name, value, limit, show) => [
    value == null ? NONE : show(value),
    value == null ? 'none' : held.has(name) ? 'bad' : value > limit ? 'warn' : 'good',
  ];
  const criteria = figures
    ? [
        ['p95', ...at('p95_ms', figures.p95_ms, 999.9, ms), '< 1 s'],
        ['p99', ...at('p99_ms', figures.p99_ms, 1999.9, ms), '< 2 s'],
        ['failed', ...at('failed', figures.failed, 9, count), '< 10'],
        ['over 500 ms', ...at('slow', figures.slow, 20, count), '≤ 20'],
      ]
    : [];
  return section(
    'health',
    'Health and producers',
    {
      wide: true,
      note: figures && `the last ${span(told.window_s)}, n ${count(figures.samples)}`,
      actions: status(...(VERDICTS[told.status] ?? ['none', told.status])),
    },
    told.reasons.length > 0 &&
      h(
        'ul',
        { class: 'alerts' },
        told.reasons.map((each, key) =>
          h(
            'li',
            { key },
            h(
              'p',
              {},
              status('bad', each.criterion),
              h(
                'span',
                { class: 'quiet' },
                [
                  each.instance,
                  (each.value || each.threshold) && `${decimal(each.value, 0)} against ${decimal(each.threshold, 0)}`,
                  each.samples && `n ${count(each.samples)}`,
                ]
                  .filter(Boolean)
                  .join(' · '),
              ),
            ),
            h('p', { class: 'why' }, each.message),
          ),
        ),
      ),
    h(
      'dl',
      { class: 'facts' },
      criteria.map(([name, value, tone, limit]) =>
        h('div', {}, h('dt', {}, name), h('dd', {}, status(tone, value), h('small', {}, limit))),
      ),
      told.log &&
        h(
          'div',
          {},
          h('dt', {}, 'event log'),
          h(
            'dd',
            {},
            status(
              told.log.writable ? 'good' : told.log.role === 'STANDBY' ? 'none' : 'bad',
              told.log.writable ? 'writable' : told.log.message || 'away',
            ),
            h('small', {}, `${count(told.log.lag)} behind`),
          ),
        ),
    ),
    table({
      id: 'instances',
      redraw,
      caption: 'Processes that report',
      empty: 'No process has reported yet.',
      rows: told.instances.map((each) => [each.instance, each]),
      columns: [
        { name: 'Process', cell: (each) => cut(each.instance) },
        { name: 'Service', hide: 1, cell: (each) => [each.service, each.watched ? '' : ' (not watched)'] },
        {
          name: 'Status',
          cell: (each) =>
            each.gone ? status('none', 'gone') : status(...(VERDICTS[each.status] ?? ['none', each.status])),
        },
        { name: 'Heartbeat', n: 1, cell: (each) => `${decimal(each.heartbeat_age_s)} s ago` },
        {
          name: 'Probe',
          cell: (each) => (each.probe === 'reachable' ? ms(each.probe_latency_ms) : status('bad', each.probe || NONE)),
        },
        { name: 'Pool in use', n: 1, cell: (each) => `${each.pool_size - each.pool_idle} of ${each.pool_max}` },
        { name: 'Waiting', n: 1, hide: 1, cell: (each) => count(each.pool_waiting) },
        { name: 'Facts pending', n: 1, hide: 1, cell: (each) => count(each.facts_pending) },
        {
          name: 'Cost a query',
          n: 1,
          hide: 1,
          cell: (each) => (each.monitor?.overhead_us == null ? NONE : `${decimal(each.monitor.overhead_us)} µs`),
        },
        { name: 'Held', n: 1, hide: 1, cell: (each) => (each.monitor ? bytes(each.monitor.bytes_held) : NONE) },
      ],
    }),
  );
}

export function quality() {
  const told = (live.snapshot ?? snapshot().data)?.quality;
  if (!told) return section('quality', 'Data quality', { error: snapshot().error }, skeleton(4));
  const rows = [
    ['late', told.late, 'came after their session had moved on'],
    ['duplicate', told.duplicates, 'had been counted before'],
    ['skewed', told.skewed, 'had an impossible time'],
    ['unmatched', told.unmatched_steps, 'steps without the one before'],
    ['dropped', told.dropped_events + told.dropped_timings, 'telemetry that did not fit'],
    ['evicted', Object.values(told.evicted).reduce((a, b) => a + b, 0), 'entries beyond the bound of a table'],
    ['quarantined', told.quarantined_events, 'events that could not be applied'],
    ['unclean ends', told.unclean_ends, 'processes, each at most 1 s of telemetry'],
    ['facts lacking', told.facts_lacking, 'since a lane was begun anew'],
  ];
  return section(
    'quality',
    'Data quality',
    { note: `of ${count(told.events)} events and ${count(told.query_timings)} query timings since the log began` },
    h(
      'dl',
      { class: 'facts' },
      rows.map(([name, value, what]) =>
        h(
          'div',
          {},
          h('dt', {}, name),
          h('dd', {}, h('span', { class: value ? 'some' : '' }, count(value)), h('small', {}, what)),
        ),
      ),
    ),
  );
}

/** The marked deployments, newest first. */
export const deployed = () => ask('deployments', 'ListDeployments', {}, 60_000);

const ITEMS = {
  query_p95: 'Query p95',
  query_p99: 'Query p99',
  slow_queries: 'Slow queries an hour',
  error_rate: 'Error rate',
  conversion: 'Conversion, matured',
  critical_alerts: 'Critical alerts',
};
const RESULTS = {
  PASS: ['good', 'pass'],
  FAIL: ['bad', 'fail'],
  TOO_LITTLE_DATA: ['none', 'too little data'],
  RUNNING: ['wait', 'running'],
};
const result = (verdict) => status(...(RESULTS[verdict] ?? ['none', 'not judged']));

export function deployments(id, redraw) {
  const listed = deployed();
  const all = listed.data?.deployments;
  const detail = Boolean(id);
  const some = detail || all?.length > 0;
  const { data, error } = some ? ask('report', 'GetDeploymentReport', { id: id ?? '' }, 30_000) : {};
  const hours = data && Math.min(72, Math.max(0, (asOf() - Date.parse(data.deployment.time)) / 3_600_000));
  return section(
    detail ? 'detail' : 'deployments',
    'Deployment watch',
    {
      wide: detail,
      error: error ?? listed.error,
      note: data && `${data.deployment.version}, ${decimal(hours)} of 72 h`,
      actions: data && result(data.verdict),
    },
    !all
      ? skeleton(4)
      : !some
        ? nothing('No deployment was marked. Mark one: ', h('code', {}, 'farehold deploy mark --version 1.2.3'))
        : !data
          ? skeleton(5)
          : [
              table({
                id: 'items',
                redraw,
                caption: 'The first 72 hours',
                rows: data.items.map((each) => [each.name, each]),
                columns: [
                  { name: 'Item', cell: (each) => ITEMS[each.name] ?? each.name },
                  { name: 'Verdict', cell: (each) => result(each.verdict) },
                  {
                    name: 'Observed',
                    n: 1,
                    cell: (each) => h('span', { title: each.summary }, figure(each.observed, each.unit)),
                  },
                  { name: 'Target', n: 1, cell: (each) => each.target },
                  { name: 'n', n: 1, hide: 1, cell: (each) => count(each.samples) },
                  detail && {
                    name: 'Worst hour',
                    n: 1,
                    hide: 1,
                    cell: (each) => [
                      figure(each.worst, each.unit),
                      each.worst_hour ? [', ', when(each.worst_hour)] : '',
                    ],
                  },
                  detail && { name: 'Before', n: 1, hide: 1, cell: (each) => figure(each.before, each.unit) },
                  detail && {
                    name: 'Bounds',
                    n: 1,
                    hide: 1,
                    cell: (each) => (each.low == null ? NONE : `${percent(each.low, 2)} – ${percent(each.high, 2)}`),
                  },
                  detail && { name: 'In words', class: 'text', cell: (each) => each.summary },
                ].filter(Boolean),
              }),
              all.length > (detail ? 0 : 1) &&
                h(
                  'p',
                  { class: 'words' },
                  'Deployments: ',
                  all.slice(0, 8).map((each, at) => [
                    at ? ', ' : '',
                    link(['deployments', each.id], each.version, {
                      title: each.time,
                      'aria-current': each.id === id ? 'true' : null,
                    }),
                  ]),
                ),
              !detail && h('p', {}, link(['deployments', data.deployment.id], 'The whole report')),
            ],
  );
}
