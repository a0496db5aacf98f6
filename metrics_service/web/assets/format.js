/** Writes numbers, times and money by the reader's locale. "–" stands for what is not known. */

import { state } from './state.js';

export const NONE = '–';
const made = new Map();

function intl(kind, options) {
  const key = kind.name + JSON.stringify(options);
  if (!made.has(key)) made.set(key, new kind(undefined, options));
  return made.get(key);
}

const number = (value, options) => intl(Intl.NumberFormat, options).format(value);
const time = (value, options) =>
  intl(Intl.DateTimeFormat, {
    ...options,
    hourCycle: 'h23',
    timeZone: state.tz === 'utc' ? 'UTC' : undefined,
  }).format(new Date(value));

export const count = (value) => (value == null ? NONE : number(value, {}));
export const compact = (value) => number(value, { notation: 'compact', maximumFractionDigits: 1 });
export const decimal = (value, digits = 1) =>
  value == null ? NONE : number(value, { maximumFractionDigits: digits, minimumFractionDigits: digits });

/** A fraction of 1 as a percentage. */
export function percent(value, digits = 1) {
  if (value == null) return NONE;
  return number(value, { style: 'percent', maximumFractionDigits: digits, minimumFractionDigits: digits });
}

/** A change as a percentage with its sign. */
export const change = (value) =>
  number(value, { style: 'percent', maximumFractionDigits: 1, signDisplay: 'exceptZero' });

/** Milliseconds, in the unit that fits. */
export function ms(value) {
  if (value == null) return NONE;
  if (value < 1000) return `${number(value, { maximumSignificantDigits: value < 10 ? 2 : 3 })} ms`;
  if (value < 60_000) return `${number(value / 1000, { maximumSignificantDigits: 3 })} s`;
  return span(value / 1000);
}

/** Seconds, in the one or two units that fit. */
export function span(seconds) {
  if (seconds == null) return NONE;
  const units = [
    ['d', 86_400],
    ['h', 3_600],
    ['min', 60],
    ['s', 1],
  ];
  let rest = Math.round(seconds);
  const at = units.findIndex(([, size]) => rest >= size);
  if (at < 0) return '0 s';
  const parts = [];
  for (const [unit, size] of units.slice(at, at + 2)) {
    if (rest >= size) parts.push(`${Math.floor(rest / size)} ${unit}`);
    rest %= size;
  }
  return parts.join(' ');
}

/** Minor units of a currency; `short` leaves out the lower digits of thousands and more. */
export function money(minor, currency, exponent, short = false) {
  if (minor == null) return NONE;
  const value = minor / 10 ** exponent;
  const shortened = short && Math.abs(value) >= 1000;
  return number(value, {
    style: 'currency',
    currency,
    ...(shortened ? { notation: 'compact', maximumFractionDigits: 1 } : { maximumFractionDigits: exponent }),
  });
}

export const bytes = (value) => `${number(value / 1000, { maximumFractionDigits: value < 1e5 ? 1 : 0 })} kB`;
export const clock = (value) => time(value, { hour: '2-digit', minute: '2-digit', second: '2-digit' });
export const minute = (value) => time(value, { hour: '2-digit', minute: '2-digit' });
export const day = (value) => time(value, { day: 'numeric', month: 'short' });
export const month = (value) => time(value, { month: 'short', year: '2-digit' });

/** A date and time; the year only where it is not this one. */
export function moment(value) {
  if (value == null) return NONE;
  const year = new Date(value).getFullYear() === new Date().getFullYear() ? {} : { year: 'numeric' };
  return time(value, { day: 'numeric', month: 'short', ...year, hour: '2-digit', minute: '2-digit' });
}

/** A time; the date only where it is not that of `now`. */
export const since = (value, now) =>
  day(value) === day(now) && now - Date.parse(value) < 86_400_000 ? minute(value) : moment(value);

/** Begin and end of a window. */
export function dates(from, to) {
  const same = day(from) === day(to) && to - from < 86_400_000;
  return `${moment(from)} – ${same ? minute(to) : moment(to)}`;
}

/** A figure of a series or an alert by its unit, as the API names it. */
export function figure(value, unit) {
  if (value == null) return NONE;
  if (unit === '1') return percent(value, Math.abs(value) < 0.1 ? 2 : 1);
  if (unit === 'ms') return ms(value);
  if (unit === 's') return span(value);
  if (/^[A-Z]{3}$/.test(unit)) return money(value, unit, digits(unit));
  return number(value, { maximumFractionDigits: 1 });
}

/** A figure beside an axis. */
export const axis = (value, unit) =>
  unit === '1' ? number(value, { style: 'percent', maximumFractionDigits: 2 }) : value ? figure(value, unit) : '0';

/** Digits after the point of a currency. */
export const digits = (currency) =>
  intl(Intl.NumberFormat, { style: 'currency', currency }).resolvedOptions().maximumFractionDigits;

/** "3 sessions", "1 session". */
export const plural = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;

/** "minute", "5 min": what the figures of a step are for. */
export const per = (seconds) =>
  ({ 60: 'minute', 3600: 'hour', 86400: 'day', 604800: 'week' })[seconds] ?? span(seconds);
