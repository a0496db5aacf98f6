"""How many queries the RPCs of each method ran, so that a query in a loop shows; bounded, with the
RPCs that found no place counted beside it.
"""

from __future__ import annotations

from typing import Self

from metrics_service.state.figures import clamp_int64
from metrics_service.state.series.rings import Rings
from protos.tracking.v1 import event_pb2

MAX_METHODS = 200
MAX_NAME_LENGTH = 200

# What methods without a place, or without a name, are counted by.
_OTHER = ""


class RpcCell:
    """The RPCs that ended in one slot.

    methods: [RPCs, queries, the most queries of one] by full method. Sums end at the most that an
    int64 holds.
    """

    __slots__ = ("methods",)

    def __init__(self) -> None:
        self.methods: dict[str, list[int]] = {}

    @property
    def other(self) -> int:
        """RPCs of methods that found no place."""
        return self.methods.get(_OTHER, (0,))[0]

    def add(self, rpc: str, calls: int, queries: int, most: int) -> None:
        """Count RPCs of one method."""
        counts = self.methods.setdefault(rpc, [0, 0, 0])
        counts[0] = clamp_int64(counts[0] + calls)
        counts[1] = clamp_int64(counts[1] + queries)
        counts[2] = clamp_int64(max(counts[2], most))

    def merge(self, other: Self) -> None:
        for rpc, (calls, queries, most) in other.methods.items():
            self.add(rpc, calls, queries, most)

    def ranked(self) -> list[tuple[str, int, int, int]]:
        """(method, RPCs, queries, the most queries of one), the most queries an RPC first."""
        named = [
            (rpc, calls, queries, most)
            for rpc, (calls, queries, most) in self.methods.items()
            if rpc != _OTHER
        ]
        return sorted(named, key=lambda row: (-row[2] / row[1], row[0]))

    def encode(self) -> bytes:
        """As event_pb2.RpcTally, with every RPC in `ok`."""
        return event_pb2.RpcTally(
            entries=[
                event_pb2.RpcTally.Entry(rpc=rpc, ok=calls, queries=queries, queries_max=most)
                for rpc, (calls, queries, most) in sorted(self.methods.items())
            ]
        ).SerializeToString()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """What encode() gave."""
        cell = cls()
        for entry in event_pb2.RpcTally.FromString(data).entries:
            cell.methods[entry.rpc] = [entry.ok, entry.queries, entry.queries_max]
        return cell


class RpcFold:
    """Queries of RPCs by time."""

    def __init__(self) -> None:
        self.rings = Rings("rpcs", RpcCell, RpcCell.decode)

    def tally(self, tally: event_pb2.RpcTally, time_us: int) -> None:
        """Count the RPCs that ended."""
        cells = self.rings.at(time_us)
        for entry in tally.entries:
            calls = entry.ok + entry.refused
            rpc = self._method(entry.rpc)
            if calls:
                for cell in cells:
                    cell.add(rpc, calls, entry.queries, entry.queries_max)

    def _method(self, rpc: str) -> str:
        """The name to count by: a method without a place among all times has none in any slot, so
        that no window holds more methods than that either.
        """
        methods = self.rings.total.methods
        known = rpc in methods or len(methods) < MAX_METHODS
        return rpc if known and len(rpc) <= MAX_NAME_LENGTH else _OTHER

    def evicted(self) -> dict[str, int]:
        """RPCs whose method found no place in the table of all times."""
        return {"rpcs": self.rings.total.other}
