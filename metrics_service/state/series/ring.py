"""The slots of one resolution, and cached sums of many slots: no read adds up again slots that have
not changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Generic, Protocol, Self, TypeVar

# Slots of a block, and blocks of the next larger one.
_BLOCK_PARTS: Final = 4


class Cell(Protocol):
    """The figures of a slot; cells add up."""

    def merge(self, other: Self) -> None:
        """Add the figures of `other`, which is not changed."""

    def encode(self) -> bytes:
        """Serialize; the same figures give the same bytes."""


C = TypeVar("C", bound=Cell)


class Ring(Generic[C]):
    """`slots` slots of `step_us` each, sparse: open ones as cells, closed ones as bytes.

    A block is the sum of a power of _BLOCK_PARTS slots, none of them open. It is kept as bytes from
    its first read until one of its slots is written to or leaves the ring.
    """

    def __init__(
        self,
        name: str,
        step_us: int,
        slots: int,
        new: Callable[[], C],
        decode: Callable[[bytes], C],
    ) -> None:
        self.name = name
        self._step_us = step_us
        self._slots = slots
        self.closed: dict[int, bytes] = {}
        self._new = new
        self._decode = decode
        self._open: dict[int, C] = {}
        self._touched: set[int] = set()
        # By (how many slots, the first of them divided by that).
        self._blocks: dict[tuple[int, int], bytes] = {}

    def cell(self, time_us: int, now_us: int) -> C | None:
        """Return the cell of a time, to write to; None outside of the ring."""
        slot = time_us // self._step_us
        if abs(slot - now_us // self._step_us) >= self._slots:
            return None
        self._touched.add(slot)
        cell = self._open.get(slot)
        if cell is None:
            data = self.closed.pop(slot, None)
            cell = self._open[slot] = self._new() if data is None else self._decode(data)
            size = _BLOCK_PARTS
            while size <= self._slots:
                self._blocks.pop((size, slot // size), None)
                size *= _BLOCK_PARTS
        return cell

    def advance(self, now_us: int) -> None:
        """Drop slots that left the ring, and close those not touched since the last call."""
        oldest = now_us // self._step_us - self._slots + 1
        for slot in [slot for slot in self._open if slot < oldest]:
            del self._open[slot]
        for slot in [slot for slot in self.closed if slot < oldest]:
            del self.closed[slot]
        for size, number in [block for block in self._blocks if block[0] * block[1] < oldest]:
            del self._blocks[size, number]
        for slot in [slot for slot in self._open if slot not in self._touched]:
            self.closed[slot] = self._open.pop(slot).encode()
        self._touched.clear()

    def forget_after(self, now_us: int) -> None:
        """Drop slots after that of now: what was counted there was dated by a wrong clock."""
        now = now_us // self._step_us
        for slots in (self._open, self.closed):
            for slot in [slot for slot in slots if slot > now]:
                del slots[slot]
        for size, number in [block for block in self._blocks if (block[1] + 1) * block[0] > now]:
            del self._blocks[size, number]

    def parts(self, low_us: int, high_us: int) -> Iterator[C | bytes]:
        """Yield what adds up to the slots of [low_us, high_us): open ones, closed ones and the
        largest blocks that fit.
        """
        slot, end = low_us // self._step_us, high_us // self._step_us
        while slot < end:
            size = 1
            while not slot % (size * _BLOCK_PARTS) and slot + size * _BLOCK_PARTS <= end:
                size *= _BLOCK_PARTS
            yield from self._parts(size, slot // size)
            slot += size

    def prepare(self, now_us: int) -> Iterator[None]:
        """Compute the missing blocks before now, small ones first."""
        now = now_us // self._step_us
        size = _BLOCK_PARTS
        while size <= self._slots:
            for number in range(-((self._slots - 1 - now) // size), now // size):
                if (size, number) not in self._blocks and not self._is_open(size, number):
                    self._block(size, number)
                    yield
            size *= _BLOCK_PARTS

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

    def dump(self) -> Iterator[tuple[int, bytes]]:
        """Yield (slot, bytes), in order."""
        for slot in sorted(self._open.keys() | self.closed.keys()):
            cell = self._open.get(slot)
            yield slot, self.closed[slot] if cell is None else cell.encode()


def merged(parts: Iterable[bytes], new: Callable[[], C], decode: Callable[[bytes], C]) -> C:
    """Return the sum of encoded cells."""
    cells = map(decode, parts)
    found = next(cells, None) or new()
    for cell in cells:
        found.merge(cell)
    return found
