"""Sketches add up: the sketch does not depend on the order or the parts of its values."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from metrics_service.measure.sketch import Sketch
from protos.tracking.v1 import tracking_pb2

values = st.lists(st.integers(0, 1 << 42), max_size=40)


def sketch_of(numbers: list[int]) -> Sketch:
    sketch = Sketch()
    sketch.add_many(numbers)
    return sketch


@given(values, values, values)
def test_merging_is_associative_and_commutative(
    first: list[int], second: list[int], third: list[int]
) -> None:
    whole = sketch_of([*first, *second, *third])
    for order in ((first, second, third), (third, first, second)):
        merged = Sketch()
        for part in order:
            merged.merge(sketch_of(part))
        assert merged == whole
    right = sketch_of(second)
    right.merge(sketch_of(third))
    left = sketch_of(first)
    left.merge(right)
    assert left == whole


@given(values.filter(bool), st.floats(0, 1))
def test_every_quantile_is_within_one_percent(numbers: list[int], q: float) -> None:
    found = sketch_of(numbers).quantile(q)
    exact = sorted(numbers)[max(1, math.ceil(q * len(numbers) - 1e-9)) - 1]
    assert found is not None
    assert abs(found - exact) <= 0.01 * exact + 1e-9


@given(values, values)
def test_removing_leaves_what_was_never_removed(kept: list[int], gone: list[int]) -> None:
    sketch = sketch_of([*kept, *gone])
    for number in gone:
        sketch.remove(number)
    whole = sketch_of(kept)
    assert (sketch.count, sketch.sum) == (whole.count, whole.sum)
    assert sketch.to_proto().index_delta == whole.to_proto().index_delta
    assert sketch.to_proto().count == whole.to_proto().count
    if kept:
        assert sketch.min is not None
        assert sketch.max is not None
        assert abs(sketch.min - min(kept)) <= 0.01 * min(kept) + 1e-9
        assert abs(sketch.max - max(kept)) <= 0.01 * max(kept) + 1e-9


@given(values)
def test_a_message_holds_all_of_it(numbers: list[int]) -> None:
    data = sketch_of(numbers).to_proto().SerializeToString()
    assert Sketch.from_proto(tracking_pb2.Sketch.FromString(data)) == sketch_of(numbers)
