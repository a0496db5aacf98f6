"""Messages of sketches: one that no values give is refused, and its bucket never computed."""

from __future__ import annotations

import math
from typing import Any

import pytest

from metrics_service.measure.sketch import Sketch
from metrics_service.measure.sums import MAX_SUM
from protos.tracking.v1 import tracking_pb2

GOOD: dict[str, Any] = {"index_delta": [1, 2], "count": [1, 1], "sum": 3, "min": 1, "max": 2}


@pytest.mark.parametrize(
    "wrong",
    [
        *({field: value} for field in ("sum", "min", "max") for value in (math.nan, math.inf)),
        {"sum": -math.inf},
        {"count": [1]},
        {"index_delta": [1, 0]},
        {"index_delta": [5, -1]},
        {"index_delta": [1, (1 << 31) - 1]},
        {"index_delta": [-(1 << 31), 1]},
        {"count": [1, (1 << 64) - 1]},
        {"zero_count": MAX_SUM},
    ],
    ids=str,
)
def test_a_message_that_no_values_give_is_refused(wrong: dict[str, Any]) -> None:
    Sketch.from_proto(tracking_pb2.Sketch(**GOOD))
    with pytest.raises(ValueError, match=r"sketch|argument"):
        Sketch.from_proto(tracking_pb2.Sketch(**{**GOOD, **wrong}))


def test_a_sum_stays_at_its_bound_until_no_value_is_left() -> None:
    sketch = Sketch()
    for value in (MAX_SUM, 5):
        sketch.add(value)
    assert sketch.sum == MAX_SUM
    sketch.remove(MAX_SUM)
    assert sketch.sum == MAX_SUM
    assert Sketch.from_proto(sketch.to_proto()).sum == MAX_SUM
    sketch.remove(5)
    assert (sketch.count, sketch.sum) == (0, 0)
