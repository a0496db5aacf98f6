"""Figures by time, in slots that add up: a window is the sum of its slots, and each ring bounds how
many slots it keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Generic

from metrics_service.state.series.kind import K, Kind, merged
from metrics_service.state.series.past import Past
from metrics_service.state.series.ring import C, Ring
from metrics_service.state.series.windows import (
    DAY_US,
    HOUR_US,
    MINUTE_US,
    RESOLUTIONS,
    SECOND_US,
    Resolution,
    Window,
    WindowError,
    duration_us,
    ring_of,
    span_of,
)

# With the windows that rings keep.
__all__ = [
    "DAY_US",
    "HOUR_US",
    "MINUTE_US",
    "RESOLUTIONS",
    "SECOND_US",
    "Resolution",
    "Rings",
    "Window",
    "WindowError",
    "duration_us",
    "ring_of",
    "span_of",
]

_MAX_FOUND_CELLS: Final = 4096
_MAX_SUMS: Final = 16


class Rings(Generic[C]):
    """Cells by time in several resolutions, finest first, and, if endless, one cell of all times.

    A figure is written to its slot of each ring, so that a later correction reaches every ring
    that still holds the slot. A slot that is not touched for one step of the finest ring is kept
    encoded, at a tenth of the size; dump() then returns the same bytes object each time. A ring
    accepts slots up to its own length ahead of now, since facts carry the time of their own clock;
    windows do not include them before that time.

    Sums of slots are kept in blocks, so that the cost of a read grows with the logarithm of the
    slots in its window. prepare() computes missing blocks in advance, else the first read does.
    Blocks are not part of a checkpoint.

    Figures of closed slots are kept apart until prepare() adds them (see Ring); `late_figures` is
    at least their number. Reads and dump() include them. `new_late` makes the cells for them, which
    keep what the bounds of a slot may have to cut.
    """

    def __init__(
        self,
        table: str,
        new: Callable[[], C],
        decode: Callable[[bytes], C],
        resolutions: tuple[Resolution, ...] = RESOLUTIONS,
        *,
        new_late: Callable[[], C] | None = None,
        endless: bool = True,
    ) -> None:
        self.tables = (table,)
        self.total = new()
        self._endless = endless
        self.resolutions = resolutions
        self._new = new
        self._new_late = new_late or new
        self._decode = decode
        self._rings = [Ring(*resolution, new, decode, self._new_late) for resolution in resolutions]
        self.whole = Kind(new, decode)
        self.hours = self._rings[-1]
        self._step_us = resolutions[0].step_us
        self._now_us = 0
        self._found: dict[int, tuple[tuple[C, ...], bool]] = {}
        self.late_figures = 0
        keeps_a_month = resolutions[-1] == RESOLUTIONS[-1]
        self.past = Past(self._new_late, self._found) if keeps_a_month else None
        # By window, least recently used first.
        self._sums: dict[tuple[Any, ...], tuple[list[bytes], Any]] = {}

    def at(self, time_us: int, figures: int = 1) -> tuple[C, ...]:
        """Return the cells to write figures of `time_us` to; that of all times is the last."""
        slot = time_us // self._step_us
        found = self._found.get(slot)
        if found is None:
            if len(self._found) >= _MAX_FOUND_CELLS:
                self._found.clear()
            held = [ring.cell(time_us, self._now_us) for ring in self._rings]
            cells = [each[0] for each in held if each is not None]
            if self.past is not None and (correction := self.past.at(time_us)) is not None:
                cells.append(correction)
            if self._endless:
                cells.append(self.total)
            late = any(each is not None and each[1] for each in held)
            found = self._found[slot] = tuple(cells), late
        if found[1]:
            self.late_figures += figures
        return found[0]

    def advance(self, now_us: int) -> None:
        """Advance the clock; slots that have left their ring are dropped. Where it goes back, those
        after it are.
        """
        before_us, self._now_us = self._now_us, now_us
        if before_us // self._step_us == now_us // self._step_us:
            return
        self._found.clear()
        if self.past is not None:
            self.past.advance(now_us, self._rings[-1])
        for ring in self._rings:
            ring.advance(now_us)
            if now_us < before_us:
                ring.forget_after(now_us)

    def window(self, window_us: int | None, ended_us: int = 0, before_us: int | None = None) -> C:
        """Return the sum of the window that ended `ended_us` ago, or of its slots that ended by
        `before_us`; all times for None. Callers must not change it.

        A window of n steps consists of the slot of now and the n - 1 slots before it; ended_us is a
        whole number of steps too. Raises WindowError for a window that no ring keeps.
        """
        if window_us is None:
            return self.total
        return self._added(self.whole, *self._spans(window_us, ended_us, before_us))

    def counts(
        self, kind: Kind[K], window_us: int, ended_us: int = 0, before_us: int | None = None
    ) -> K:
        """Return the figures of a window that are of a kind: a part of each cell, which costs less
        than window().
        """
        return self._added(kind, *self._spans(window_us, ended_us, before_us))

    def bounds(
        self, window_us: int, ended_us: int = 0, before_us: int | None = None
    ) -> tuple[int, int]:
        """Return begin and end of the slots that window() adds up; equal where there are none."""
        low_us, high_us = span_of(self._now_us, window_us, ended_us, self.resolutions)
        if before_us is not None:
            step_us = self.resolutions[ring_of(window_us, ended_us, self.resolutions)].step_us
            high_us = max(low_us, min(high_us, before_us // step_us * step_us))
        return low_us, high_us

    def since(self, kind: Kind[K], time_us: int) -> K:
        """Return figures since a time of the last hour, those ahead of now included."""
        _, step_us, slots = self.resolutions[0]
        low_us, now_us = time_us // step_us * step_us, self._now_us // step_us * step_us
        spans = [(self._rings[0], low_us, now_us + slots * step_us)]
        return self._added(kind, (0, 0, True), spans)

    def _spans(
        self, window_us: int, ended_us: int, before_us: int | None
    ) -> tuple[tuple[int, int, bool], list[tuple[Ring[C], int, int]]]:
        """Return what names a window, and its parts."""
        level = ring_of(window_us, ended_us, self.resolutions)
        bounds = self.bounds(window_us, ended_us, before_us)
        return (window_us, ended_us, before_us is not None), list(self._cover(level, *bounds))

    def _added(
        self, kind: Kind[K], name: tuple[int, int, bool], cover: list[tuple[Ring[C], int, int]]
    ) -> K:
        """Return the sum of spans; that of their closed slots is kept by this name."""
        parts = [part for ring, *span in cover for part in ring.parts(*span)]
        closed = self._sum(kind, name, [each for each in parts if isinstance(each, bytes)])
        opened = [each for each in parts if not isinstance(each, bytes)]
        late = [cell for ring, *span in cover for cell in ring.late(*span)]
        if kind is not self.whole:
            opened += late
        elif late:
            # Added up first, which is cheaper than to add each to what is large.
            opened.append(self._new_late())
            for cell in late:
                opened[-1].merge(cell)
        if not opened:
            return closed
        found = kind.new()
        found.merge(closed)
        for cell in opened:
            found.merge(cell)
        return found

    def make(self, window_us: int, ended_us: int = 0) -> Iterator[None]:
        """Compute what is missing for a read of a window, one block per step."""
        level = ring_of(window_us, ended_us, self.resolutions)
        for ring, *span in self._cover(level, *self.bounds(window_us, ended_us)):
            yield from ring.make(*span)

    def prepare(self) -> Iterator[None]:
        """Add late figures to their slots, and compute the blocks of windows up to now, one per
        step; figures may be written and read between two steps.
        """
        late = self.late_figures
        for ring in self._rings:
            ring.rotate()
            self._found.clear()
            yield from ring.prepare(self._now_us)
        self.late_figures = max(0, self.late_figures - late)

    def slots(self, step_us: int, low_us: int, high_us: int) -> dict[int, bytes]:
        """Return the slots of the ring with this step that begin in [low_us, high_us), encoded."""
        (ring,) = (ring for ring in self._rings if ring.step_us == step_us)
        low, high = -(-low_us // step_us), -(-high_us // step_us)
        return {slot * step_us: data for slot, data in ring.dump(low, high)}

    def dump(self) -> Iterator[tuple[str, int, bytes]]:
        """Yield rows (section, slot, bytes) of a checkpoint; a section is "table.resolution", or
        "table.total" if endless.
        """
        (table,) = self.tables
        if self._endless:
            yield f"{table}.total", 0, self.total.encode()
        for ring in self._rings:
            for slot, data in ring.dump():
                yield f"{table}.{ring.name}", slot, data

    def load(self, section: str, slot: int, data: bytes) -> None:
        """Take back one row of dump(). KeyError for a section that is not kept."""
        (table,) = self.tables
        if section == f"{table}.total":
            self.total = self._decode(data)
            return
        {f"{table}.{ring.name}": ring for ring in self._rings}[section].closed[slot] = data

    def _sum(self, kind: Kind[K], name: tuple[int, int, bool], closed: list[bytes]) -> K:
        """Return the sum of closed slots and blocks. The last sum of each window is kept: two
        reads in succession mostly need the same one.
        """
        known, found = self._sums.pop((kind, *name), (None, None))
        if found is None or known != closed:
            found = merged(closed, kind.new, kind.decode)
        self._sums[kind, *name] = closed, found
        if len(self._sums) > _MAX_SUMS:
            del self._sums[next(iter(self._sums))]
        return found

    def _cover(self, level: int, low_us: int, high_us: int) -> Iterator[tuple[Ring[C], int, int]]:
        """Yield (ring, low_us, high_us) of the parts of a span, which are those of coarser rings
        where their whole slots fit.
        """
        if level + 1 < len(self._rings):
            step_us = self.resolutions[level + 1].step_us
            inner_low_us = -(-low_us // step_us) * step_us
            inner_high_us = high_us // step_us * step_us
            if inner_low_us < inner_high_us:
                yield self._rings[level], low_us, inner_low_us
                yield from self._cover(level + 1, inner_low_us, inner_high_us)
                yield self._rings[level], inner_high_us, high_us
                return
        yield self._rings[level], low_us, high_us
