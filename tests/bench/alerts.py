"""How often the shipped rules fire while all true rates are in the middle of their good ranges, and
how soon they fire at half their lines, or at twice those that are not to be exceeded.

Run with `python -m tests.bench.alerts`; the same seed gives the same figures.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from itertools import repeat
from statistics import median
from typing import Final

from tests.bench.alert_weeks import MINUTES_A_WEEK, Rates, alarms, delay, halved, stopped

AN_HOUR: Final = (10, 30, 100)
MAX_A_WEEK: Final = 0.5
WEEKS_AT_ONCE: Final = 5


def main(arguments: Sequence[str]) -> int:
    """Print one line for each rate; 1 if there are more false alarms than allowed."""
    parser = argparse.ArgumentParser(prog="make simulate-alerts", description=__doc__)
    parser.add_argument("--weeks", type=int, default=30, help="for each number of sessions an hour")
    parser.add_argument("--runs", type=int, default=12, help="for each delay")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    parts = range(max(1, options.weeks // WEEKS_AT_ONCE))
    worst = 0.0
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for an_hour in AN_HOUR:
            seeds = [options.seed * 1000 + part for part in parts]
            made = pool.map(alarms, repeat(WEEKS_AT_ONCE), repeat(an_hour), seeds)
            told = [each for part in made for each in part]
            a_week = len(told) / (WEEKS_AT_ONCE * len(parts))
            worst = max(worst, a_week)
            print(f"{an_hour:>4} sessions an hour: {a_week:.2f} false alarms a week", flush=True)
            for each in told[:5]:
                print(f"       {each}")
        for words, worse in (("half the line", halved()), ("nothing", stopped())):
            print(f"minutes until it fires at {words}, median and longest:")
            for rule, rates in worse.items():
                cells = [_delays(pool, rates, rule, an_hour, options) for an_hour in AN_HOUR]
                print(f"  {rule:<20}{'   '.join(cells)}", flush=True)
    return 0 if worst <= MAX_A_WEEK else 1


def _delays(
    pool: Executor, rates: Rates, rule: str, an_hour: float, options: argparse.Namespace
) -> str:
    seeds = [options.seed * 1000 + run for run in range(options.runs)]
    calls = (repeat(rates), repeat(rule), repeat(an_hour), seeds, repeat(MINUTES_A_WEEK))
    found = list(pool.map(delay, *calls))
    times = sorted(MINUTES_A_WEEK if each is None else each for each in found)
    return f"{an_hour:>4}/h {median(times):>5.0f} {times[-1]:>5}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
