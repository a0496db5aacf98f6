"""The sketch: within 1% of the exact quantile, the same as DDSketch's, and additive."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from ddsketch import DDSketch

from metrics_service.measure.sketch import GAMMA, Sketch
from protos.tracking.v1 import tracking_pb2

QUANTILES = (0.0, 0.01, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0)
# Values are whole microseconds.
DISTRIBUTIONS: dict[str, Callable[[random.Random], float]] = {
    "lognormal": lambda dice: dice.lognormvariate(7, 1.5),
    "exponential": lambda dice: dice.expovariate(1 / 40_000),
    "uniform": lambda dice: dice.uniform(1, 2_000_000),
    "pareto": lambda dice: 100 * dice.paretovariate(0.9),
    "two peaks": lambda dice: dice.gauss(*dice.choice(((900, 50), (1_200_000, 9_000)))),
    "constant": lambda _: 1234,
    "few values": lambda dice: dice.choice((1, 2, 3, 500_000)),
}


def sample(name: str, count: int = 5_000) -> list[int]:
    dice = random.Random(name)
    return [max(1, int(DISTRIBUTIONS[name](dice))) for _ in range(count)]


def sketch_of(values: list[int]) -> Sketch:
    sketch = Sketch()
    sketch.add_many(values)
    return sketch


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_quantiles_are_within_one_percent_of_the_exact_ones(name: str) -> None:
    values = sample(name)
    sketch = sketch_of(values)
    ordered = sorted(values)
    for q in QUANTILES:
        exact = ordered[max(1, math.ceil(round(q * len(values), 6))) - 1]
        assert sketch.quantile(q) == pytest.approx(exact, rel=0.01 + 1e-9)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_quantiles_agree_with_the_ddsketch_package(name: str) -> None:
    values = sample(name)
    reference = DDSketch(relative_accuracy=0.01)
    for value in values:
        reference.add(value)
    sketch = sketch_of(values)
    count = len(values)
    for q in QUANTILES:
        # It takes the rank q * (n - 1), counted from 0.
        rank = max(1, math.ceil(round(q * count, 6)))
        same_rank = (rank - 1) / (count - 1)
        # Both name a bucket's middle; ours stays within the smallest and greatest value.
        middle = reference.get_quantile_value(same_rank)
        assert middle is not None
        expected = min(max(middle, min(values)), max(values))
        assert sketch.quantile(q) == pytest.approx(expected, rel=1e-9)


def test_count_sum_min_max_and_mean_are_exact() -> None:
    values = sample("lognormal")
    sketch = sketch_of(values)
    assert (sketch.count, sketch.sum) == (len(values), sum(values))
    assert (sketch.min, sketch.max) == (min(values), max(values))
    assert sketch.mean == sum(values) / len(values)


def test_adding_one_by_one_equals_adding_many() -> None:
    values = [*sample("two peaks", 500), 0, 0]
    single = Sketch()
    for value in values:
        single.add(value)
    assert single == sketch_of(values)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_merged_parts_equal_the_whole(name: str) -> None:
    values = sample(name)
    merged = sketch_of(values[:1_000])
    merged.merge(sketch_of(values[1_000:]))
    merged.merge(Sketch())
    assert merged == sketch_of(values)


def test_merging_does_not_change_the_other() -> None:
    first, second = sketch_of([1, 2]), sketch_of([3])
    first.merge(second)
    first.add(3)
    assert second == sketch_of([3])


def test_removing_an_added_value_restores_the_sketch() -> None:
    values = sample("exponential", 300)
    sketch = sketch_of([*values, 777])
    sketch.remove(777)
    assert sketch == sketch_of(values)


def test_min_and_max_stay_within_one_percent_when_the_extremes_are_removed() -> None:
    sketch = sketch_of([10, 1_000, 1_003, 90_000])
    sketch.remove(10)
    sketch.remove(90_000)
    assert sketch.min == pytest.approx(1_000, rel=0.01)
    assert sketch.max == pytest.approx(1_003, rel=0.01)


def test_removing_the_last_value_leaves_an_empty_sketch() -> None:
    sketch = sketch_of([5])
    sketch.remove(5)
    assert sketch == Sketch()
    assert (sketch.min, sketch.max, sketch.mean, sketch.quantile(0.5)) == (None,) * 4


def test_a_sketch_without_values_has_no_quantile() -> None:
    assert Sketch().quantile(0.99) is None
    assert Sketch().quantiles((0.5, 0.9)) == []


def test_zero_is_a_value() -> None:
    sketch = sketch_of([0, 0, 0, 100])
    assert sketch.quantile(0.5) == 0
    assert sketch.quantile(1.0) == 100
    assert (sketch.count, sketch.min) == (4, 0)


def test_rank_is_not_pushed_up_by_rounding() -> None:
    # 0.55 * 100 is 55.00000000000001 in floating point.
    sketch = sketch_of([1] * 55 + [1_000] * 45)
    assert sketch.quantile(0.55) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_without_a_bucket_is_refused(value: float) -> None:
    sketch = Sketch()
    with pytest.raises(ValueError, match="no bucket"):
        sketch.add(value)
    assert sketch.count == 0


@pytest.mark.parametrize("q", [-0.01, 1.01])
def test_a_quantile_outside_of_0_to_1_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        sketch_of([1]).quantile(q)


@pytest.mark.parametrize("values", [[], [0], [1], [0, 1, 7, 900_000_000], [2, 2, 2]])
def test_a_message_holds_the_whole_sketch(values: list[int]) -> None:
    message = sketch_of(values).to_proto()
    again = Sketch.from_proto(tracking_pb2.Sketch.FromString(message.SerializeToString()))
    assert again == sketch_of(values)
    assert (again.count, again.sum, again.min) == (
        len(values),
        sum(values),
        min(values, default=None),
    )


def test_a_message_with_columns_of_different_length_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Sketch.from_proto(tracking_pb2.Sketch(index_delta=[1, 2], count=[1]))


def test_each_bucket_ends_at_a_power_of_gamma() -> None:
    assert sketch_of([1]).to_proto().index_delta == [0]
    assert sketch_of([2]).to_proto().index_delta == [math.ceil(math.log(2) / math.log(GAMMA))]
