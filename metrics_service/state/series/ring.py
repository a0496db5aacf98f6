"""The slots of one resolution, and cached sums of many slots: no read adds up again slots that have
not changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Generic, Protocol, Self, TypeVar

from metrics_service.state.series.kind import merged

# Slots of a block, and blocks of the next larger one.
_BLOCK_PARTS: Final = 4


class Cell(Protocol):
    """The figures of a slot; cells add up."""

    def merge(self, other: Self) -> None:
        """Add the figures of `other`, which is not changed."""

    def take(self, late: Self) -> None:
        """Add the figures of a late cell of the same slot, as if each had been counted here."""

    def encode(self) -> bytes:
        """Serialize; the same figures give the same bytes."""


C = TypeVar("C", bound=Cell)


class Ring(Generic[C]):
    """`slots` slots of `step_us` each, sparse: open ones as cells, closed ones as bytes.

    A block is the sum of a power of _BLOCK_PARTS slots, none of them open. It is kept as bytes from
    its first read until one of its slots is opened or leaves the ring.

    Only the slot of now and the one before it are opened. What is counted in another closed slot is
    late: it is kept in a late cell beside the slot, which reads add to the slots and blocks of a
    window. prepare() adds those that rotate() has set apart to their slots, and makes the blocks of
    these slots anew; the new bytes replace the old ones at once when all of them are there.
    """

    def __init__(
        self,
        name: str,
        step_us: int,
        slots: int,
        new: Callable[[], C],
        decode: Callable[[bytes], C],
        new_late: Callable[[], C],
    ) -> None:
        self.name = name
        self.step_us = step_us
        self._slots = slots
        self.closed: dict[int, bytes] = {}
        self._new = new
        self._decode = decode
        self._open: dict[int, C] = {}
        self._touched: set[int] = set()
        # By (how many slots, the first of them divided by that).
        self._blocks: dict[tuple[int, int], bytes] = {}
        self._oldest = 0
        # Late cells: those written to, those set apart, and the slots and blocks with the latter.
        self._new_late = new_late
        self._late: dict[int, C] = {}
        self._apart: dict[int, C] = {}
        self._remade: dict[tuple[int, int], bytes] = {}

    def cell(self, time_us: int, now_us: int) -> tuple[C, bool] | None:
        """Return the cell of a time, to write to until advance() or rotate(), and whether it is a
        late one; None outside of the ring.
        """
        slot, now = time_us // self.step_us, now_us // self.step_us
        if abs(slot - now) >= self._slots:
            return None
        cell = self._open.get(slot)
        if cell is None and not now - 1 <= slot <= now:
            late = self._late.get(slot)
            if late is None:
                late = self._late[slot] = self._new_late()
            return late, True
        self._touched.add(slot)
        return self._opened(slot) if cell is None else cell, False

    def advance(self, now_us: int) -> None:
        """Drop slots that left the ring, and close those not touched since the last call."""
        oldest = now_us // self.step_us - self._slots + 1
        self._oldest = oldest
        for slots in (self._open, self.closed, self._late, self._apart):
            for slot in [slot for slot in slots if slot < oldest]:
                del slots[slot]
        for size, number in [block for block in self._blocks if block[0] * block[1] < oldest]:
            del self._blocks[size, number]
        for slot in [slot for slot in self._open if slot not in self._touched]:
            self.closed[slot] = self._open.pop(slot).encode()
        self._touched.clear()

    def forget_after(self, now_us: int) -> None:
        """Drop slots after that of now: what was counted there was dated by a wrong clock."""
        now = now_us // self.step_us
        for slots in (self._open, self.closed, self._late, self._apart):
            for slot in [slot for slot in slots if slot > now]:
                del slots[slot]
        for blocks in (self._blocks, self._remade):
            for size, number in [block for block in blocks if (block[1] + 1) * block[0] > now]:
                del blocks[size, number]

    def parts(self, low_us: int, high_us: int) -> Iterator[C | bytes]:
        """Yield what adds up to the slots of [low_us, high_us) without late cells: open ones,
        closed ones and the largest blocks that fit.
        """
        for size, number in self._cover(low_us, high_us):
            yield from self._parts(size, number)

    def slot(self, time_us: int) -> C:
        """Return the slot of a time, empty where nothing is kept; callers must not change it."""
        slot = time_us // self.step_us
        return self._open.get(slot) or self._with_late(slot, (self._apart, self._late))

    @property
    def oldest_us(self) -> int | None:
        """The begin of the oldest slot that has figures."""
        slots = (*self._open, *self.closed, *self._apart, *self._late)
        return min(slots) * self.step_us if slots else None

    def make(self, low_us: int, high_us: int) -> Iterator[None]:
        """Compute the missing blocks among parts(), one per step."""
        for size, number in self._cover(low_us, high_us):
            yield from self._make(size, number)

    def late(self, low_us: int, high_us: int) -> Iterator[C]:
        """Yield the late cells of [low_us, high_us), in the order of their writing."""
        within = low_us // self.step_us, high_us // self.step_us
        yield from (cell for _, cell in self.late_cells(*within))

    def leaving(self, low: int, high: int) -> Iterator[tuple[int, bytes]]:
        """Yield (slot, bytes) of the slots of [low, high), without late cells."""
        yield from (each for each in self.closed.items() if low <= each[0] < high)
        yield from (
            (slot, cell.encode()) for slot, cell in self._open.items() if low <= slot < high
        )

    def late_cells(self, low: int, high: int) -> Iterator[tuple[int, C]]:
        """Yield (slot, late cell) of [low, high), in the order of their writing."""
        for cells in (self._apart, self._late):
            yield from ((slot, cell) for slot, cell in cells.items() if low <= slot < high)

    def rotate(self) -> None:
        """Set the late cells apart for prepare(), unless it is still to add others."""
        if not self._apart:
            self._apart, self._late = self._late, {}
            self._remade.clear()

    def prepare(self, now_us: int) -> Iterator[None]:
        """Add the late cells that are set apart to their slots, and compute the missing blocks
        before now, small ones first. It goes on where another call was left.
        """
        apart, now = self._apart, now_us // self.step_us
        for slot in [*apart]:
            if self._apart is apart and slot in apart:
                self._remake(1, slot)
                yield
        size = _BLOCK_PARTS
        while size <= self._slots:
            late = {slot // size for slot in apart}
            for number in range(-((self._slots - 1 - now) // size), now // size):
                if self._is_open(size, number):
                    continue
                if number in late and self._apart is apart:
                    self._remake(size, number)
                    yield
                elif (size, number) not in self._blocks:
                    self._block(size, number)
                    yield
            size *= _BLOCK_PARTS
        if self._apart is apart:
            self._replace()

    def _opened(self, slot: int) -> C:
        """Return the cell of a slot that was closed or empty, with what was late for it."""
        cell = self._open[slot] = self._with_late(slot, (self._apart, self._late))
        for slots in (self._apart, self._late):
            slots.pop(slot, None)
        self.closed.pop(slot, None)
        self._remade.pop((1, slot), None)
        for block in self._blocks_of(slot):
            self._blocks.pop(block, None)
            self._remade.pop(block, None)
        return cell

    def _blocks_of(self, slot: int) -> Iterator[tuple[int, int]]:
        size = _BLOCK_PARTS
        while size <= self._slots:
            yield size, slot // size
            size *= _BLOCK_PARTS

    def _with_late(self, slot: int, late: Iterable[dict[int, C]]) -> C:
        """Return the sum of a slot that is not open and of late cells."""
        data = self.closed.get(slot)
        cell = self._new() if data is None else self._decode(data)
        for cells in late:
            if slot in cells:
                cell.take(cells[slot])
        return cell

    def _remake(self, size: int, number: int) -> bytes:
        """Return a slot or a block with the late cells that are set apart."""
        data = self._remade.get((size, number))
        if data is not None:
            return data
        if self._apart.keys().isdisjoint(range(number * size, (number + 1) * size)):
            return self._block(size, number)
        if size == 1:
            data = self._with_late(number, (self._apart,)).encode()
        else:
            smaller = range(number * _BLOCK_PARTS, (number + 1) * _BLOCK_PARTS)
            parts = [part for each in smaller if (part := self._remake(size // _BLOCK_PARTS, each))]
            data = merged(parts, self._new, self._decode).encode() if parts else b""
        self._remade[size, number] = data
        return data

    def _replace(self) -> None:
        """Put what was made anew in the place of the slots and blocks without late cells."""
        for slot in self._apart:
            self.closed[slot] = self._remake(1, slot)
            for block in self._blocks_of(slot):
                self._blocks.pop(block, None)
        for (size, number), data in self._remade.items():
            if size > 1 and size * number >= self._oldest and not self._is_open(size, number):
                self._blocks[size, number] = data
        self._apart, self._remade = {}, {}

    def _cover(self, low_us: int, high_us: int) -> Iterator[tuple[int, int]]:
        """Yield the largest blocks, as (size, number), that cover [low_us, high_us)."""
        slot, end = low_us // self.step_us, high_us // self.step_us
        while slot < end:
            size = 1
            while not slot % (size * _BLOCK_PARTS) and slot + size * _BLOCK_PARTS <= end:
                size *= _BLOCK_PARTS
            yield size, slot // size
            slot += size

    def _make(self, size: int, number: int) -> Iterator[None]:
        if size == 1 or (size, number) in self._blocks:
            return
        for smaller in range(number * _BLOCK_PARTS, (number + 1) * _BLOCK_PARTS):
            yield from self._make(size // _BLOCK_PARTS, smaller)
        if not self._is_open(size, number):
            self._block(size, number)
            yield

    def _is_open(self, size: int, number: int) -> bool:
        return not self._open.keys().isdisjoint(range(number * size, (number + 1) * size))

    def _parts(self, size: int, number: int) -> Iterator[C | bytes]:
        """Yield one slot or one block, in parts if one of its slots is open; nothing if empty."""
        if size == 1:
            part = self._open.get(number) or self.closed.get(number)
            if part is not None:
                yield part
        elif not self._is_open(size, number):
            if data := self._block(size, number):
                yield data
        else:
            for smaller in range(number * _BLOCK_PARTS, (number + 1) * _BLOCK_PARTS):
                yield from self._parts(size // _BLOCK_PARTS, smaller)

    def _block(self, size: int, number: int) -> bytes:
        """Return one block, computed if it is missing; b"" for an empty one."""
        if size == 1:
            return self.closed.get(number, b"")
        data = self._blocks.get((size, number))
        if data is None:
            smaller = range(number * _BLOCK_PARTS, (number + 1) * _BLOCK_PARTS)
            parts = [part for each in smaller if (part := self._block(size // _BLOCK_PARTS, each))]
            data = b""
            if parts:
                data = merged(parts, self._new, self._decode).encode()
            self._blocks[size, number] = data
        return data

    def dump(self, low: int | None = None, high: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Yield (slot, bytes) in order, of the slots of [low, high) if they are given."""
        late = self._apart.keys() | self._late.keys()
        for slot in sorted(self._open.keys() | self.closed.keys() | late):
            if (low is not None and slot < low) or (high is not None and slot >= high):
                continue
            if slot in self._open:
                yield slot, self._open[slot].encode()
            elif slot in late:
                yield slot, self._with_late(slot, (self._apart, self._late)).encode()
            else:
                yield slot, self.closed[slot]
