"""Figures by time, in slots that add up: a window is the sum of its slots, and what a slot holds
is bounded by the ring it lies in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, Protocol, Self, TypeVar

from google.protobuf.duration_pb2 import Duration

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US

_FOUND_CELLS = 4096


class Resolution(NamedTuple):
    """A ring: `slots` slots of `step_us` each, named for checkpoints."""

    name: str
    step_us: int
    slots: int

    @property
    def span_us(self) -> int:
        """The longest window it can answer."""
        return self.step_us * self.slots


RESOLUTIONS = (
    Resolution("10s", 10 * SECOND_US, 360),
    Resolution("1m", MINUTE_US, 1440),
    Resolution("1h", HOUR_US, 720),
)


class WindowError(ValueError):
    """No ring keeps this window."""


class Cell(Protocol):
    """What a slot holds: figures that add up."""

    def merge(self, other: Self) -> None:
        """Add the figures of `other`, which stays as it is."""

    def encode(self) -> bytes:
        """The same figures give the same bytes."""


C = TypeVar("C", bound=Cell)


class Rings(Generic[C]):
    """Cells by time in several resolutions, finest first, and, if endless, one cell of all times.

    A figure is written to its slot of each ring, so that a later correction reaches every ring
    that still holds the slot. A slot that nothing has touched for one step of the finest ring is
    kept encoded, a tenth of the size; dump() then gives the same bytes object each time. A ring
    takes slots up to its own length ahead of now, since facts carry their own clock's time; a
    window never shows them before they are due.
    """

    def __init__(
        self,
        new: Callable[[], C],
        decode: Callable[[bytes], C],
        resolutions: tuple[Resolution, ...] = RESOLUTIONS,
        *,
        endless: bool = True,
    ) -> None:
        self.total = new()
        self._endless = endless
        self.resolutions = resolutions
        self._new = new
        self._decode = decode
        self._rings = [_Ring(resolution, new, decode) for resolution in resolutions]
        self._step_us = resolutions[0].step_us
        self._now_us = 0
        self._found: dict[int, tuple[C, ...]] = {}

    def at(self, time_us: int) -> tuple[C, ...]:
        """The cells to write a figure of `time_us` to; that of all times is the last of them."""
        slot = time_us // self._step_us
        cells = self._found.get(slot)
        if cells is None:
            if len(self._found) >= _FOUND_CELLS:
                self._found.clear()
            held = [ring.cell(time_us, self._now_us) for ring in self._rings]
            if self._endless:
                held.append(self.total)
            cells = self._found[slot] = tuple(cell for cell in held if cell is not None)
        return cells

    def advance(self, now_us: int) -> None:
        """Let time pass: slots that have left their ring are dropped."""
        before_us, self._now_us = self._now_us, now_us
        if before_us // self._step_us == now_us // self._step_us:
            return
        self._found.clear()
        for ring in self._rings:
            ring.advance(now_us)

    def window(self, window_us: int | None, ended_us: int = 0) -> C:
        """The sum of the window that ended so long ago, ending now for 0; all times for None. Not
        to be changed.

        A window of n steps is the slot that now lies in and the n - 1 before it; ended_us is whole
        steps too. WindowError where no ring keeps it.
        """
        if window_us is None:
            return self.total
        level = ring_of(window_us + ended_us, self.resolutions)
        step_us = self.resolutions[level].step_us
        high_us = (self._now_us // step_us + 1) * step_us - ended_us
        merged = self._new()
        for cell in self._cover(level, high_us - window_us, high_us):
            merged.merge(cell)
        return merged

    def dump(self) -> Iterator[tuple[str, int, bytes]]:
        """Rows (resolution, slot, bytes), and ("total", 0, bytes) if endless."""
        if self._endless:
            yield "total", 0, self.total.encode()
        for ring in self._rings:
            for slot, data in ring.dump():
                yield ring.name, slot, data

    def load(self, name: str, slot: int, data: bytes) -> None:
        """Take back one row of dump(). KeyError for a name that is not kept."""
        if name == "total":
            self.total = self._decode(data)
            return
        {ring.name: ring for ring in self._rings}[name].closed[slot] = data

    def _cover(self, level: int, low_us: int, high_us: int) -> Iterator[C]:
        """Cells of [low_us, high_us), of coarser rings where whole slots of them fit."""
        if level + 1 < len(self._rings):
            step_us = self.resolutions[level + 1].step_us
            inner_low_us = -(-low_us // step_us) * step_us
            inner_high_us = high_us // step_us * step_us
            if inner_low_us < inner_high_us:
                yield from self._rings[level].cells(low_us, inner_low_us)
                yield from self._cover(level + 1, inner_low_us, inner_high_us)
                yield from self._rings[level].cells(inner_high_us, high_us)
                return
        yield from self._rings[level].cells(low_us, high_us)


def ring_of(window_us: int, resolutions: tuple[Resolution, ...] = RESOLUTIONS) -> int:
    """Index of the finest ring that keeps a window; WindowError where none does."""
    for level, resolution in enumerate(resolutions):
        if 0 < window_us <= resolution.span_us and window_us % resolution.step_us == 0:
            return level
    kept = ", ".join(
        f"multiples of {resolution.step_us // SECOND_US} s"
        f" up to {resolution.span_us // SECOND_US} s"
        for resolution in resolutions
    )
    raise WindowError(f"a window of {window_us / SECOND_US:g} s is not kept; kept are {kept}")


def duration_us(duration: Duration) -> int:
    """A window of a request; WindowError for one finer than a microsecond."""
    if duration.nanos % 1000:
        raise WindowError("a window is a whole number of seconds")
    return duration.seconds * SECOND_US + duration.nanos // 1000


class _Ring(Generic[C]):
    """The slots of one resolution, sparse: open ones as cells, closed ones as bytes."""

    def __init__(
        self, resolution: Resolution, new: Callable[[], C], decode: Callable[[bytes], C]
    ) -> None:
        self.name, self._step_us, self._slots = resolution
        self.closed: dict[int, bytes] = {}
        self._new = new
        self._decode = decode
        self._open: dict[int, C] = {}
        self._touched: set[int] = set()

    def cell(self, time_us: int, now_us: int) -> C | None:
        """The cell of a time, to be written to; None where the ring does not hold it."""
        slot = time_us // self._step_us
        if abs(slot - now_us // self._step_us) >= self._slots:
            return None
        self._touched.add(slot)
        cell = self._open.get(slot)
        if cell is None:
            data = self.closed.pop(slot, None)
            cell = self._open[slot] = self._new() if data is None else self._decode(data)
        return cell

    def advance(self, now_us: int) -> None:
        oldest = now_us // self._step_us - self._slots + 1
        for slot in [slot for slot in self._open if slot < oldest]:
            del self._open[slot]
        for slot in [slot for slot in self.closed if slot < oldest]:
            del self.closed[slot]
        for slot in [slot for slot in self._open if slot not in self._touched]:
            self.closed[slot] = self._open.pop(slot).encode()
        self._touched.clear()

    def cells(self, low_us: int, high_us: int) -> Iterator[C]:
        for slot in range(low_us // self._step_us, high_us // self._step_us):
            cell = self._open.get(slot)
            if cell is not None:
                yield cell
            elif (data := self.closed.get(slot)) is not None:
                yield self._decode(data)

    def dump(self) -> Iterator[tuple[int, bytes]]:
        for slot in sorted(self._open.keys() | self.closed.keys()):
            cell = self._open.get(slot)
            yield slot, self.closed[slot] if cell is None else cell.encode()
