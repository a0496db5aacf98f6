"""Quantiles of durations within 1%, in sketches that add up: merging two equals one sketch of the
values of both.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from math import ceil, log
from typing import Final, Self

from metrics_service.measure.sums import MAX_SUM
from protos.tracking.v1 import tracking_pb2

RELATIVE_ERROR: Final = 0.01
GAMMA: Final = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)

_PER_LOG: Final = 1 / math.log(GAMMA)
# The bucket of all values that are not above 0, below every other bucket.
_ZERO: Final = -(1 << 20)
# Doubles reach from bucket -37,254 to 35,488.
_MAX_BUCKET: Final = 38_000
# q * count may exceed the exact integer rank by a rounding error.
_RANK_SLACK: Final = 1e-9


# The same value is added to a slot of each ring, one after another.
@lru_cache(maxsize=1024)
def _bucket_number(value: float) -> int:
    if not value < math.inf:
        raise ValueError(f"{value} has no bucket")
    return math.ceil(math.log(value) * _PER_LOG) if value > 0 else _ZERO


@lru_cache(maxsize=16)
def _numbers_up_to(bounds: tuple[float, ...]) -> list[int]:
    """Return the last bucket that lies up to each bound."""
    return [math.floor(math.log(bound) * _PER_LOG) for bound in bounds]


def _representative(number: int) -> float:
    """Return the value of a bucket that is at most 1% from each value in it."""
    if number == _ZERO:
        return 0.0
    return float(2 * GAMMA**number / (GAMMA + 1))


def _limited(total: float) -> float:
    return total if -MAX_SUM <= total <= MAX_SUM else math.copysign(MAX_SUM, total)


class Sketch:
    """Counts of values in buckets (GAMMA**(i-1), GAMMA**i], beside exact count, sum, min and max.

    Values have any one unit and are finite; those not above 0 share a bucket. With integers the
    sum is exact in any order; one that reaches MAX_SUM stays there until no value is left. The
    mapping is DDSketch's (Masson, Rim, Lee, VLDB 2019). Memory is bounded by the range of the
    values: 1 us to 50 days takes at most 1,500 buckets.
    """

    __slots__ = ("_buckets", "_max", "_min", "count", "sum")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self._min: float = math.inf
        self._max: float = -math.inf
        self.count: int = 0
        self.sum: float = 0

    @property
    def min(self) -> float | None:
        """The smallest value; None without values."""
        return self._min if self.count else None

    @property
    def max(self) -> float | None:
        """The greatest value; None without values."""
        return self._max if self.count else None

    @property
    def mean(self) -> float | None:
        """The exact mean; None without values."""
        return self.sum / self.count if self.count else None

    @property
    def variance(self) -> float | None:
        """The variance of a sample, within 2% where the values differ by more than 1%; None with
        fewer than two values.
        """
        if self.count < 2:
            return None
        mean = self.sum / self.count
        squares = sum(
            count * (_representative(number) - mean) ** 2 for number, count in self._buckets.items()
        )
        return squares / (self.count - 1)

    def add(self, value: float, count: int = 1) -> None:
        """Add `value`, `count` times. Raises ValueError for NaN and infinity."""
        number = _bucket_number(value)
        buckets = self._buckets
        buckets[number] = buckets.get(number, 0) + count
        self.count += count
        total = self.sum + value * count
        self.sum = total if -MAX_SUM <= total <= MAX_SUM else _limited(total)
        if value < self._min:
            self._min = value
        if value > self._max:
            self._max = value

    def add_many(self, values: Sequence[float]) -> None:
        """Add each of `values`; the same as add() one by one, several times as fast."""
        if len(values) < 2:
            for value in values:
                self.add(value)
            return
        try:
            numbers = [ceil(log(value) * _PER_LOG) for value in values]
        except (ValueError, OverflowError):
            # At least one is not above 0 or not finite.
            numbers = [_bucket_number(value) for value in values]
        counted = Counter(numbers)
        buckets = self._buckets
        if buckets:
            have = buckets.get
            for number, count in counted.items():
                buckets[number] = have(number, 0) + count
        else:
            self._buckets = dict(counted)
        self.count += len(values)
        self.sum = _limited(self.sum + sum(values))
        self._min = min(self._min, min(values))
        self._max = max(self._max, max(values))

    def remove(self, value: float) -> None:
        """Remove one `value` that was added before.

        If it was the smallest or greatest, `min` or `max` is then taken from the remaining buckets,
        within 1%.
        """
        number = _bucket_number(value)
        buckets = self._buckets
        left = buckets[number] - 1
        if left:
            buckets[number] = left
        else:
            del buckets[number]
        self.count -= 1
        if abs(self.sum) < MAX_SUM:
            self.sum -= value
        if not buckets:
            self.sum = 0
            self._min, self._max = math.inf, -math.inf
            return
        if value <= self._min or (not left and number < min(buckets)):
            self._min = min(_representative(min(buckets)), self._max)
        if value >= self._max or (not left and number > max(buckets)):
            self._max = max(_representative(max(buckets)), self._min)

    def merge(self, other: Sketch, level: int = 0) -> None:
        """Add all values of `other`, which is not changed, as coarse as of this level."""
        if not other.count:
            return
        theirs = other._coarse(level) if level else other._buckets
        if len(theirs) > len(self._buckets):
            self._buckets, theirs = theirs.copy(), self._buckets
        if theirs:
            buckets = self._buckets
            have = buckets.get
            for number, count in theirs.items():
                buckets[number] = have(number, 0) + count
        self.count += other.count
        total = self.sum + other.sum
        self.sum = total if -MAX_SUM <= total <= MAX_SUM else _limited(total)
        if other._min < self._min:
            self._min = other._min
        if other._max > self._max:
            self._max = other._max

    def less(self, other: Sketch) -> Sketch:
        """Return the values without those of `other`, all of which were added here too. `min` and
        `max` are those of the remaining buckets, within 1%.
        """
        left = Sketch()
        left._buckets = self._buckets.copy()
        for number, count in other._buckets.items():
            left._buckets[number] = left._buckets.get(number, 0) - count
        left._buckets = {number: count for number, count in left._buckets.items() if count > 0}
        left.count = sum(left._buckets.values())
        if left.count:
            left.sum = self.sum - other.sum
            left._min = max(_representative(min(left._buckets)), self._min)
            left._max = min(_representative(max(left._buckets)), self._max)
        return left

    @property
    def buckets(self) -> int:
        """How many buckets hold a value; the memory of the sketch grows with it."""
        return len(self._buckets)

    def coarsen(self, level: int) -> None:
        """Move the values of each 2**level neighbouring buckets to the middle one, from which
        `level` 1 is within 2%, 2 within 4%, 3 within 8% and so on. Values that are added later are
        not moved; to coarsen level by level, or the parts of a sum, gives the same.
        """
        self._buckets = self._coarse(level)

    def _coarse(self, level: int) -> dict[int, int]:
        coarse: dict[int, int] = {}
        middle = 1 << level >> 1
        for number, count in self._buckets.items():
            if number != _ZERO:
                number = -(-number >> level << level) - middle
            coarse[number] = coarse.get(number, 0) + count
        return coarse

    def quantile(self, q: float) -> float | None:
        """Return the value of rank ceil(q * count), within 1%; None without values.

        Raises ValueError for `q` outside of 0 to 1.
        """
        values = self.quantiles((q,))
        return values[0] if values else None

    def quantiles(self, qs: Sequence[float]) -> list[float]:
        """Return `quantile` of each of `qs`, which ascend; an empty list without values."""
        if any(not 0 <= q <= 1 for q in qs):
            raise ValueError("a quantile is between 0 and 1")
        if not self.count:
            return []
        numbers = sorted(self._buckets)
        seen = list(accumulate(map(self._buckets.__getitem__, numbers)))
        ranks = (max(1, math.ceil(q * self.count - _RANK_SLACK)) for q in qs)
        found = (_representative(numbers[bisect_left(seen, rank)]) for rank in ranks)
        return [min(max(value, self._min), self._max) for value in found]

    def up_to(self, bounds: tuple[float, ...]) -> list[int]:
        """Return how many values are surely not above each bound, which are above 0 and ascend, and
        last how many there are. A value less than 2% below a bound may count in the next.
        """
        numbers = _numbers_up_to(bounds)
        counts = [0] * (len(bounds) + 1)
        for number, count in self._buckets.items():
            counts[bisect_left(numbers, number)] += count
        return list(accumulate(counts))

    def to_proto(self) -> tracking_pb2.Sketch:
        """Convert to a message; the same values give the same bytes."""
        message = tracking_pb2.Sketch()
        if not self.count:
            return message
        numbers = sorted(self._buckets)
        if numbers[0] == _ZERO:
            message.zero_count = self._buckets[numbers.pop(0)]
        message.index_delta.extend(
            number - before for before, number in zip([0, *numbers], numbers, strict=False)
        )
        message.count.extend([self._buckets[number] for number in numbers])
        message.sum, message.min, message.max = self.sum, self._min, self._max
        return message

    @classmethod
    def from_proto(cls, message: tracking_pb2.Sketch) -> Self:
        """Read a message. Raises ValueError for one that no values give."""
        if not all(map(math.isfinite, (message.sum, message.min, message.max))):
            raise ValueError("a sketch that is not finite")
        if min(message.index_delta[1:], default=1) <= 0:
            raise ValueError("a sketch whose buckets do not ascend")
        numbers = list(accumulate(message.index_delta))
        if numbers and (numbers[0] < -_MAX_BUCKET or numbers[-1] > _MAX_BUCKET):
            raise ValueError("a sketch with a bucket that no value has")
        sketch = cls()
        sketch._buckets = dict(zip(numbers, message.count, strict=True))
        if message.zero_count:
            sketch._buckets[_ZERO] = message.zero_count
        sketch.count = sum(sketch._buckets.values())
        if sketch.count > MAX_SUM:
            raise ValueError("a sketch of more values than can be counted")
        if sketch.count:
            sketch.sum = _limited(message.sum)
            sketch._min, sketch._max = message.min, message.max
        return sketch

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sketch):
            return NotImplemented
        return self.to_proto() == other.to_proto()

    __hash__ = None  # type: ignore[assignment]  # Mutable, compared by its values.
