/** Alerts, one alert with its history, and one session's journey. */

import { ask, asOf, live } from './data.js';
import { h } from './dom.js';
import { clock, count, day, figure, NONE, percent, plural, span } from './format.js';
import { ago, cut, facts, link, nothing, section, skeleton, status, table, when } from './parts.js';

const word = (text, prefix) => text.replace(prefix, '').replace('_', ' ').toLowerCase();
export const severity = (alert) => word(alert.severity, 'ALERT_SEVERITY_');
const stateOf = (alert) => word(alert.state, 'ALERT_STATE_');
const ENDED = ['resolved', 'inactive', 'no data'];
const TONES = { critical: 'bad', warning: 'warn', info: 'none' };
const toneOf = (alert) =>
  ['firing', 'recovering'].includes(stateOf(alert))
    ? TONES[severity(alert)]
    : stateOf(alert) === 'resolved'
      ? 'good'
      : 'wait';

/** The alerts that are on: firing, recovering, pending. */
export const active = () => (live.alerts?.alerts ?? []).filter((each) => !ENDED.includes(stateOf(each)));
/** All that are kept, those that ended too, or null. */
export const everyAlert = () =>
  ask('alerts', 'ListAlerts', { include_resolved: 'true', page_size: 100 }, 30_000).data?.alerts;
export const firing = () => active().filter((each) => stateOf(each) !== 'pending');

const samples = (alert) => (alert.ratio ? `n ${count(alert.ratio.denominator)}` : '');
const labels = (alert) =>
  Object.entries(alert.labels)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ');

export function alerts() {
  const on = active();
  const rest = everyAlert()?.filter((each) => ENDED.includes(stateOf(each))) ?? [];
  const failing = (live.alerts?.targets ?? []).filter((each) => each.last_error || each.dropped);
  return section(
    'alerts',
    'Alerts',
    {
      note: live.alerts?.targets.length > 0 && `notified: ${live.alerts.targets.map((each) => each.name).join(', ')}`,
    },
    !live.alerts
      ? skeleton(3)
      : [
          on.length ? h('ul', { class: 'alerts' }, on.map(line)) : nothing(status('good', 'No alert is on.')),
          failing.map((each) =>
            h(
              'p',
              { class: 'problem', key: each.name },
              status(
                'warn',
                `${each.name}: ${plural(each.failed, 'try', 'tries')} failed, ${count(each.dropped)} given up. `,
              ),
              each.last_error,
            ),
          ),
          rest.length > 0 &&
            h(
              'details',
              { key: 'rest' },
              h('summary', {}, `${plural(rest.length, 'alert')} ended or without data`),
              h('ul', { class: 'alerts' }, rest.map(line)),
            ),
        ],
  );
}

const line = (alert) =>
  h(
    'li',
    { key: alert.id },
    h(
      'p',
      {},
      status(toneOf(alert), severity(alert)),
      link(['alerts', alert.id], alert.rule),
      h(
        'span',
        { class: 'quiet' },
        [labels(alert), stateOf(alert), ago(alert.fire_time ?? alert.start_time, asOf()), samples(alert)]
          .filter(Boolean)
          .join(' · '),
      ),
      alert.silenced_by && status('pause', 'silenced'),
      alert.inhibited_by && status('pause', `held by ${alert.inhibited_by}`),
    ),
    h('p', { class: 'why' }, alert.summary),
    alert.causes[0] && h('p', { class: 'why' }, `Why: ${alert.causes[0].text}`),
  );

export function alert(id, redraw) {
  const { data, error } = ask('alert', 'GetAlert', { id }, 5_000);
  if (!data) return section('detail', 'Alert', { wide: true, error }, error ? null : skeleton(5));
  return section(
    'detail',
    data.rule,
    { wide: true, note: labels(data), actions: status(toneOf(data), `${severity(data)}, ${stateOf(data)}`) },
    h('p', { class: 'words' }, data.summary),
    facts([
      ['value', figure(data.value, data.unit)],
      ['line', figure(data.threshold, data.unit)],
      data.ratio && ['bounds', `${percent(data.ratio.low)} – ${percent(data.ratio.high)}`, samples(data)],
      data.window_s && ['window', span(data.window_s)],
      ['began', when(data.start_time)],
      ['fired', when(data.fire_time)],
      ['resolved', when(data.resolve_time)],
      data.silenced_by && ['silenced by', cut(data.silenced_by)],
      data.inhibited_by && ['held back by', data.inhibited_by],
      data.end_reason && ['ended', data.end_reason],
    ]),
    h('h3', {}, 'What to do'),
    h('p', {}, data.action || NONE),
    h('h3', {}, 'Why'),
    data.causes.length
      ? h(
          'ol',
          {},
          data.causes.map((each) => h('li', {}, each.text)),
        )
      : nothing('Nothing stands out.'),
    h('h3', {}, 'Silence it'),
    h('pre', {}, `farehold silence add rule=${data.rule} --for 2h --comment "..."`),
    h('h3', {}, 'History'),
    table({
      id: 'history',
      redraw,
      caption: 'History',
      empty: 'No change is kept.',
      limit: 20,
      rows: data.history.map((each) => [each.number, each]).reverse(),
      columns: [
        { name: 'Time', cell: (each) => when(each.time) },
        { name: 'Change', cell: (each) => each.change.replace('_', ' ') },
        { name: 'Then', class: 'text', cell: (each) => each.summary },
      ],
    }),
  );
}

/** What one session did. */
export function journey(id, redraw) {
  const { data, error } = ask('journey', 'GetJourney', { session_id: id }, 30_000);
  const told = data?.session;
  return section(
    'detail',
    'Journey',
    { wide: true, error, note: id },
    !data
      ? error
        ? null
        : skeleton(5)
      : [
          told &&
            facts([
              ['outcome', word(told.outcome, 'SESSION_OUTCOME_')],
              ['furthest step', told.step || NONE],
              ['entered', when(told.entry_time)],
              [
                'took',
                told.entry_time ? span((Date.parse(told.last_time) - Date.parse(told.entry_time)) / 1000) : NONE,
              ],
              ['bookings', told.booking_ids.length ? cut(told.booking_ids.join(', '), 'code') : '0'],
            ]),
          table({
            id: 'events',
            redraw,
            caption: 'Events of the session',
            limit: 100,
            empty: 'It has no event.',
            rows: data.events.map((each, at) => [at, each]),
            columns: [
              {
                name: 'Event',
                cell: (each) =>
                  status(
                    ['error', 'payment_failed'].includes(each.name)
                      ? 'bad'
                      : ['abandon', 'expire', 'cancel'].includes(each.name)
                        ? 'warn'
                        : 'good',
                    each.name.replace('_', ' '),
                  ),
              },
              { name: 'Time', n: 1, cell: (each) => `${day(each.time)}, ${clock(each.time)}` },
              {
                name: 'After',
                n: 1,
                cell: (each) =>
                  each.since_previous_s == null
                    ? ''
                    : each.since_previous_s < 1
                      ? `${Math.round(each.since_previous_s * 1000)} ms`
                      : span(each.since_previous_s),
              },
              { name: 'Reason', cell: (each) => each.reason },
              { name: 'Package', hide: 1, cell: (each) => cut(each.package_id, 'code') },
              { name: 'Booking', hide: 1, cell: (each) => cut(each.booking_id, 'code') },
            ],
          }),
          data.further_events > 0 && nothing(`${plural(data.further_events, 'further event')} are not listed.`),
        ],
  );
}
