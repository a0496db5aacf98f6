"""The number of queries per RPC, by method, so that queries in loops become visible; bounded, and
RPCs of further methods are counted in one sum.
"""

from __future__ import annotations

from typing import Final, Self

from metrics_service.measure.sums import clamped
from metrics_service.state.series.rings import Rings
from metrics_service.state.truncate import MAX_NAME_BYTES
from protos.tracking.v1 import event_pb2

MAX_METHODS: Final = 200

# The group of methods that did not fit, or that have no name.
_OTHER: Final = ""


class RpcCell:
    """The RPCs that ended in one slot.

    methods: [RPCs, queries, most queries of one RPC] by full method. Sums stop at MAX_SUM.
    """

    __slots__ = ("methods",)

    def __init__(self) -> None:
        self.methods: dict[str, list[int]] = {}

    @property
    def other(self) -> int:
        """RPCs of methods that did not fit."""
        return self.methods.get(_OTHER, (0,))[0]

    def add(self, rpc: str, calls: int, queries: int, most: int) -> None:
        counts = self.methods.setdefault(rpc, [0, 0, 0])
        counts[0] = clamped(counts[0] + calls)
        counts[1] = clamped(counts[1] + queries)
        counts[2] = clamped(max(counts[2], most))

    def merge(self, other: Self) -> None:
        for rpc, (calls, queries, most) in other.methods.items():
            self.add(rpc, calls, queries, most)

    take = merge

    def ranked(self) -> list[tuple[str, int, int, int]]:
        """Return (method, RPCs, queries, most queries of one RPC), highest mean first."""
        named = [
            (rpc, calls, queries, most)
            for rpc, (calls, queries, most) in self.methods.items()
            if rpc != _OTHER
        ]
        return sorted(named, key=lambda row: (-row[2] / row[1], row[0]))

    def encode(self) -> bytes:
        """Serialize as event_pb2.RpcTally, with every RPC in `ok`."""
        return event_pb2.RpcTally(
            entries=[
                event_pb2.RpcTally.Entry(rpc=rpc, ok=calls, queries=queries, queries_max=most)
                for rpc, (calls, queries, most) in sorted(self.methods.items())
            ]
        ).SerializeToString()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        cell = cls()
        for entry in event_pb2.RpcTally.FromString(data).entries:
            cell.methods[entry.rpc] = [entry.ok, entry.queries, entry.queries_max]
        return cell


class RpcFold:
    """Queries of RPCs by time."""

    def __init__(self) -> None:
        self.rings = Rings("rpcs", RpcCell, RpcCell.decode)

    def tally(self, tally: event_pb2.RpcTally, time_us: int) -> None:
        """Count ended RPCs."""
        cells = self.rings.at(time_us)
        for entry in tally.entries:
            calls = entry.ok + entry.refused
            rpc = self._method(entry.rpc)
            if calls:
                for cell in cells:
                    cell.add(rpc, calls, entry.queries, entry.queries_max)

    def _method(self, rpc: str) -> str:
        """Return the group of a method: one that does not fit into the table of all times is OTHER
        in every slot, so that no window exceeds the bound either.
        """
        methods = self.rings.total.methods
        known = rpc in methods or len(methods) < MAX_METHODS
        return rpc if known and len(rpc.encode()) <= MAX_NAME_BYTES else _OTHER

    def evicted(self) -> dict[str, int]:
        """Return the RPCs whose method did not fit into the table of all times."""
        return {"rpcs": self.rings.total.other}
