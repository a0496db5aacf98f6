"""Refusals and failures by reason, and how many of them count as errors; all tables are bounded,
and what does not fit is counted.
"""

from __future__ import annotations

import sys
from bisect import bisect_right, insort
from collections.abc import Iterator
from typing import ClassVar, Final, NamedTuple, Self

from metrics_service.measure.sums import clamped
from metrics_service.state.samples import Samples
from metrics_service.state.series.rings import MINUTE_US, Rings
from metrics_service.state.truncate import MAX_NAME_BYTES, truncate
from protos.metrics.v1 import checkpoint_pb2
from protos.tracking.v1 import event_pb2

MAX_GROUPS: Final = 200
MAX_MERGED_GROUPS: Final = 10 * MAX_GROUPS
"""Of a sum of slots, each with groups of its own."""
RECENT_US: Final = 5 * MINUTE_US
PEAK_US: Final = MINUTE_US
"""How long ago the end of five minutes may be that count as a peak: errors arrive late."""
MAX_PEAK_ENDS: Final = 100
MAX_RECENT: Final = 100_000
# The times that a peak may need.
_KEPT_US: Final = RECENT_US + PEAK_US
# Reasons that a front end reports as errors but that are the service's normal work.
EXPECTED_REASONS: Final = frozenset({"SOLD_OUT", "ALREADY_HELD"})

_TABLE: Final = "errors"
_TIMES: Final = "errors.times"
_SAMPLES: Final = "errors.samples"
_KINDS: Final = frozenset({"booking", "payment", "availability", "caller", "internal"})
_CODES: Final = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)


class ErrorKey(NamedTuple):
    """The group of an error; `kind` is "booking", "payment", "availability", "caller" or
    "internal".
    """

    reason: str
    kind: str
    counts_as_error: bool
    code: str
    rpc: str


# Facts that are errors.
PAYMENT_FAILED: Final = ErrorKey("PAYMENT_FAILED", "payment", True, "", "")
BOOKING_FAILED: Final = ErrorKey("BOOKING_FAILED", "booking", True, "", "")


class ErrorCell:
    """The errors of one slot.

    groups: [count, first_us, last_us] by key; other: errors that did not fit there. kinds: counted
    errors by kind. write_rpcs: ended RPCs that change something, the denominator.
    """

    __slots__ = ("groups", "kinds", "other", "write_rpcs")
    max_groups: ClassVar = MAX_GROUPS

    def __init__(self) -> None:
        self.groups: dict[ErrorKey, list[int]] = {}
        self.other = 0
        self.kinds: dict[str, int] = {}
        self.write_rpcs = 0

    def add(self, key: ErrorKey, time_us: int) -> None:
        if key.counts_as_error:
            self.kinds[key.kind] = self.kinds.get(key.kind, 0) + 1
        seen = self.groups.get(key)
        if seen is not None:
            seen[0] += 1
            seen[1] = min(seen[1], time_us)
            seen[2] = max(seen[2], time_us)
        elif len(self.groups) < self.max_groups:
            self.groups[key] = [1, time_us, time_us]
        else:
            self.other += 1

    def merge(self, other: Self) -> None:
        self._add(other, MAX_MERGED_GROUPS)

    def take(self, late: Self) -> None:
        self._add(late, self.max_groups)

    def _add(self, other: Self, most: int) -> None:
        self.other += other.other
        self.write_rpcs = clamped(self.write_rpcs + other.write_rpcs)
        for kind, count in other.kinds.items():
            self.kinds[kind] = self.kinds.get(kind, 0) + count
        for key, theirs in other.groups.items():
            mine = self.groups.get(key)
            if mine is None and len(self.groups) >= most:
                self.other += theirs[0]
            elif mine is None:
                self.groups[key] = list(theirs)
            else:
                mine[0] += theirs[0]
                mine[1] = min(mine[1], theirs[1])
                mine[2] = max(mine[2], theirs[2])

    def encode(self) -> bytes:
        """Serialize as checkpoint_pb2.ErrorCell."""
        return checkpoint_pb2.ErrorCell(
            groups=[
                checkpoint_pb2.ErrorGroup(
                    reason=key.reason,
                    kind=key.kind,
                    counts_as_error=key.counts_as_error,
                    code=key.code,
                    rpc=key.rpc,
                    count=count,
                    first_us=first_us,
                    last_us=last_us,
                )
                for key, (count, first_us, last_us) in sorted(self.groups.items())
            ],
            other=self.other,
            kinds=[
                checkpoint_pb2.ErrorKind(kind=kind, count=count)
                for kind, count in sorted(self.kinds.items())
            ],
            write_rpcs=self.write_rpcs,
        ).SerializeToString()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        message = checkpoint_pb2.ErrorCell.FromString(data)
        cell = cls()
        cell.groups = {
            ErrorKey(group.reason, group.kind, group.counts_as_error, group.code, group.rpc): [
                group.count,
                group.first_us,
                group.last_us,
            ]
            for group in message.groups
        }
        cell.other = message.other
        cell.kinds = {kind.kind: kind.count for kind in message.kinds}
        cell.write_rpcs = message.write_rpcs
        return cell


class LateErrorCell(ErrorCell):
    """Late errors of one slot, with every group: the bound is that of the slot."""

    __slots__ = ()
    max_groups = sys.maxsize


class ErrorFold:
    """Errors by time, and the times of the newest of them."""

    tables = (_TABLE,)

    def __init__(self, *, max_recent: int = MAX_RECENT) -> None:
        self.rings = Rings(_TABLE, ErrorCell, ErrorCell.decode, new_late=LateErrorCell)
        self.samples = Samples()
        self.evicted_times = 0
        self._times_us: list[int] = []
        self._max_recent = max_recent
        self._now_us = 0

    def add(self, key: ErrorKey, time_us: int, package: str = "") -> None:
        """Count an error, of a package if it has one."""
        self.samples.add(key, time_us, package)
        for cell in self.rings.at(time_us):
            cell.add(key, time_us)
        if key.counts_as_error and time_us > self._now_us - _KEPT_US:
            insort(self._times_us, time_us)
            if len(self._times_us) > self._max_recent:
                # Times ahead of now make room first: they must not displace those that count now.
                del self._times_us[-1 if self._times_us[-1] > self._now_us else 0]
                self.evicted_times += 1

    def tally(self, tally: event_pb2.RpcTally, time_us: int) -> None:
        """Count the ended RPCs that change something."""
        writes = sum(entry.ok + entry.refused for entry in tally.entries if entry.write)
        for cell in self.rings.at(time_us):
            cell.write_rpcs = clamped(cell.write_rpcs + writes)

    def advance(self, now_us: int) -> None:
        """Advance the clock; times that no peak needs are dropped. Where it goes back, times and
        samples after it are.
        """
        if now_us < self._now_us:
            del self._times_us[bisect_right(self._times_us, now_us) :]
            self.samples.forget_after(now_us)
        self._now_us = now_us
        self.rings.advance(now_us)
        if self._times_us and self._times_us[0] <= now_us - _KEPT_US:
            del self._times_us[: bisect_right(self._times_us, now_us - _KEPT_US)]

    def last_five_minutes(self, now_us: int) -> int:
        """Return the counted errors of (now - 5 min, now]; one that is exactly 300 s old is out."""
        return bisect_right(self._times_us, now_us) - bisect_right(
            self._times_us, now_us - RECENT_US
        )

    def peak_of_five_minutes(self, now_us: int) -> int:
        """Return the greatest number of counted errors of five minutes that ended with one of the
        newest errors of the last minute. So the 11th error in 299.999 s is found, whenever within
        that minute this is asked, and however late it arrived.
        """
        end = bisect_right(self._times_us, now_us)
        first = max(bisect_right(self._times_us, now_us - PEAK_US), end - MAX_PEAK_ENDS)
        ends_us = self._times_us[first:end]
        return max(map(self.last_five_minutes, ends_us), default=self.last_five_minutes(now_us))

    def evicted(self) -> dict[str, int]:
        """Return the errors that did not fit into the groups, and into the newest times, and the
        groups that have lost their samples.
        """
        return {
            "errors": self.rings.total.other,
            "error_times": self.evicted_times,
            "error_samples": self.samples.evicted,
        }

    def dump(self) -> Iterator[tuple[str, int, bytes]]:
        """Yield rows of a checkpoint, without counters of what was evicted."""
        yield from self.rings.dump()
        yield _TIMES, 0, checkpoint_pb2.ErrorTimes(time_us=self._times_us).SerializeToString()
        yield _SAMPLES, 0, self.samples.encode()

    def load(self, section: str, bucket: int, data: bytes) -> None:
        """Take back one row of dump()."""
        if section == _TIMES:
            self._times_us = list(checkpoint_pb2.ErrorTimes.FromString(data).time_us)
        elif section == _SAMPLES:
            self.samples.restore(data)
        else:
            self.rings.load(section, bucket, data)


def refusal_key(refused: event_pb2.RpcRefused) -> ErrorKey:
    """Return the group of an RPC that was refused or failed."""
    code = refused.code
    return ErrorKey(
        truncate(refused.reason, MAX_NAME_BYTES),
        refused.kind if refused.kind in _KINDS else "internal",
        refused.counts_as_error,
        _CODES[code] if 0 <= code < len(_CODES) else str(code),
        truncate(refused.rpc, MAX_NAME_BYTES),
    )


def front_end_key(step: event_pb2.FlowStep) -> ErrorKey:
    """Return the group of an error that a front end reported."""
    reason = truncate(step.reason, MAX_NAME_BYTES) or "UNKNOWN"
    kind = step.kind if step.kind in _KINDS else "booking"
    return ErrorKey(reason, kind, reason not in EXPECTED_REASONS, "", "")
