/** The values and times beside the axes of a chart. */

import { day, minute, moment, month } from './format.js';

/** Round values from 0 to beyond the largest. */
export function ticksOf(max, unit) {
  if (!(max > 0)) return unit === '1' ? [0, 1] : [0, 4];
  const rough = max / 3;
  const size = 10 ** Math.floor(Math.log10(rough));
  let step = [1, 2, 2.5, 5, 10].map((each) => each * size).find((each) => each >= rough);
  if (unit === 'count') step = Math.max(1, Math.ceil(step));
  const ticks = [0];
  while (ticks.at(-1) < max) ticks.push(ticks.length * step);
  return ticks;
}

const STEPS_MS = [
  60_000, 300_000, 600_000, 1_800_000, 3_600_000, 10_800_000, 21_600_000, 43_200_000, 86_400_000, 172_800_000,
  604_800_000, 1_209_600_000, 2_592_000_000, 7_776_000_000,
];

/** Round times with their words, in the reader's time zone: [[time, words], ...]. */
export function timeTicks(from, to, width) {
  const least = (to - from) / Math.max(2, Math.floor(width / 90));
  const step = STEPS_MS.find((each) => each >= least) ?? STEPS_MS.at(-1);
  const label = step < 86_400_000 ? (to - from > 86_400_000 ? moment : minute) : step < 2_592_000_000 ? day : month;
  const out = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
    if (at - from > step / 5 && to - at > step / 5) out.push([at, label(at)]);
  }
  return out;
}
