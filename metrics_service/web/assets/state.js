/**
 * What the reader has chosen. The address holds all of it, so that a reload, the back button and a
 * sent link show the same.
 */

export const RANGES = { '15m': 900, '1h': 3_600, '6h': 21_600, '24h': 86_400, '7d': 604_800, '30d': 2_592_000 };
export const SPANS = { '90d': 7_776_000, '1y': 31_536_000, '2y': 63_072_000 };
export const COMPARISONS = { off: 'No comparison', previous: 'Previous period', week: 'Last week' };
export const GROUPS = { type: 'PACKAGE_TYPE', location: 'LOCATION', vendor: 'VENDOR', package: 'PACKAGE' };
export const ORDERS = { total: 'TOTAL_TIME', p95: 'P95', calls: 'COUNT', failed: 'FAILURES' };
const CHOICES = {
  range: RANGES,
  vs: COMPARISONS,
  tz: { local: 1, utc: 1 },
  by: { '': 1, ...GROUPS },
  step: { '': 1, start: 1, complete: 1, confirm: 1 },
  order: ORDERS,
  group: { operation: 1, fingerprint: 1 },
  span: { '': 1, ...SPANS },
};
const DEFAULTS = {
  range: '1h',
  vs: 'off',
  tz: 'local',
  by: '',
  step: '',
  order: 'total',
  group: 'operation',
  span: '',
};

/** `to`: the end of the range in milliseconds, or null for now. `path`: such as ['alerts', 'ID']. */
export const state = { ...DEFAULTS, to: null, path: [] };

/** Take the state from the address. What is not a choice is left out. */
export function read(url = location) {
  const given = new URLSearchParams(url.search);
  for (const name in DEFAULTS) {
    const value = given.get(name);
    state[name] = value !== null && Object.hasOwn(CHOICES[name], value) ? value : DEFAULTS[name];
  }
  const to = Date.parse(given.get('to') ?? '');
  state.to = Number.isNaN(to) ? null : to;
  state.path = url.pathname.split('/').filter(Boolean).map(unescaped);
}

function unescaped(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The address of the state with some changes. */
export function address(changes = {}, path = null, hash = '') {
  const all = { ...state, ...changes };
  const query = new URLSearchParams();
  for (const name in DEFAULTS) if (all[name] !== DEFAULTS[name]) query.set(name, all[name]);
  if (all.to !== null) query.set('to', new Date(all.to).toISOString());
  const text = query.toString();
  return `/${(path ?? state.path).map(encodeURIComponent).join('/')}${text ? `?${text}` : ''}${hash}`;
}

/** The length of the range in seconds. */
export const range = () => RANGES[state.range];

const kept = (total, finest = 10) => Math.max(finest, total <= 3_600 ? 10 : total <= 86_400 ? 60 : 3_600);

/** Up to when the log is folded, in seconds. */
export const log = { now: Date.now() / 1000 };

/** How many seconds before now the step ends that has `ended` seconds ago in it: a permalink stays where it is. */
function stepsBack(ended, step) {
  if (!ended) return 0;
  const end = Math.ceil((log.now - ended) / step - 1e-6);
  return Math.max(0, Math.floor(log.now / step) + 1 - end) * step;
}

/**
 * The window and how long ago it ended, in whole steps of what is kept so far back, both in seconds.
 * Null where nothing is: beyond 30 days.
 */
export function windowOf(seconds, ended = 0, step = kept(seconds + ended)) {
  const window = Math.ceil(seconds / step) * step;
  const back = stepsBack(ended, step);
  if (window + back > RANGES['30d']) return null;
  return kept(window + back, step) > step ? windowOf(seconds, ended, kept(window + back)) : { window, ended: back };
}

// So far back there are hours, and days beyond.
const HOURS_KEPT = 400 * 86_400;
const STEPS = {
  900: 10,
  3600: 60,
  21600: 300,
  86400: 900,
  604800: 7_200,
  2592000: 21_600,
  7776000: 86_400,
  31536000: 604_800,
  63072000: 604_800,
};

/** Window, end and step of a chart, in seconds; `finest` is the least step. */
export function chartOf(seconds, ended = 0, finest = 10) {
  const longest = seconds + ended > HOURS_KEPT ? 86_400 : finest;
  const step = Math.max(longest, STEPS[seconds], kept(seconds + ended));
  const window = Math.ceil(seconds / step) * step;
  return { window, ended: stepsBack(ended, step), step };
}
