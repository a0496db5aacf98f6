"""The cost of a sample in a sketch: microseconds in Sketch.add_many, in batches of 500 as they
arrive.

The distributions take turns, so that all find the same content in the cache of bucket numbers: the
values of all. The `ddsketch` package adds the same samples one by one.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from itertools import islice
from statistics import median
from typing import Final

from ddsketch import DDSketch

from metrics_service.measure.sketch import RELATIVE_ERROR, Sketch
from tests.bench import report

TARGET_US: Final = 0.3
BATCH: Final = 500
BATCHES: Final = 400
ROUNDS: Final = 5

# In microseconds, like query timings.
DISTRIBUTIONS: dict[str, Callable[[random.Random], float]] = {
    "lognormal, median 1.1 ms": lambda dice: dice.lognormvariate(7, 0.8),
    "uniform to 50 ms": lambda dice: dice.uniform(1, 50_000),
    "bimodal, 1 ms and 100 ms": lambda dice: dice.gauss(*dice.choice(((1e3, 90), (1e5, 9e3)))),
    "constant": lambda _: 1_234,
    "heavy tail (Pareto 1.1)": lambda dice: 200 * dice.paretovariate(1.1),
}


def samples(name: str, batches: int) -> list[list[int]]:
    """Batches of whole microseconds, the same in each run."""
    dice = random.Random(name)
    draw = DISTRIBUTIONS[name]
    values = iter(lambda: max(1, int(draw(dice))), None)
    return [list(islice(values, BATCH)) for _ in range(batches)]


def measure(batches: int) -> dict[str, dict[str, float]]:
    """Medians over the rounds, in process microseconds per sample."""
    ours: dict[str, list[float]] = {name: [] for name in DISTRIBUTIONS}
    package: dict[str, list[float]] = {name: [] for name in DISTRIBUTIONS}
    drawn = {name: samples(name, batches) for name in DISTRIBUTIONS}
    # The first round fills the cache.
    for number in range(ROUNDS + 1):
        for name, columns in drawn.items():
            ours_us = _us(Sketch().add_many, columns)
            package_us = _us(_one_by_one(DDSketch(RELATIVE_ERROR)), columns[: batches // 10])
            if number:
                ours[name].append(ours_us)
                package[name].append(package_us)
    return {
        name: {"add_many_us": median(ours[name]), "ddsketch_us": median(package[name])}
        for name in DISTRIBUTIONS
    }


def _one_by_one(sketch: DDSketch) -> Callable[[list[int]], None]:
    def add(values: list[int]) -> None:
        for value in values:
            sketch.add(value)

    return add


def _us(add: Callable[[list[int]], None], columns: list[list[int]]) -> float:
    began = time.process_time()
    for values in columns:
        add(values)
    return (time.process_time() - began) / (len(columns) * BATCH) * 1e6


def main() -> int:
    """Print the table and whether the target holds for every distribution."""
    parser = report.options(__doc__ or "")
    parser.add_argument("--batches", type=int, default=BATCHES)
    asked = parser.parse_args()
    figures = measure(asked.batches)
    print(f"{ROUNDS} rounds of {asked.batches} batches of {BATCH}, medians, process us a sample:\n")
    rows = [
        (name, *(f"{cost:.3f}" for cost in each.values()), _held(each))
        for name, each in figures.items()
    ]
    print(report.table(("distribution", "add_many", "ddsketch package", "<= 0.3 us"), rows))
    report.write_json(asked.json, {"sketch": figures})
    return 0


def _held(figures: dict[str, float]) -> str:
    return report.verdict(figures["add_many_us"] <= TARGET_US)


if __name__ == "__main__":
    sys.exit(main())
