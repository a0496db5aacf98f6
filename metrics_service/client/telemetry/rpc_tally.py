"""Counts the RPCs of a process by method until their event is sent."""

from __future__ import annotations

from typing import Final

from protos.tracking.v1 import event_pb2

MAX_METHODS: Final = 256
"""The most RPC methods that are counted separately."""


class RpcTally:
    """Counts by method: RPCs that ended OK or refused, their queries, and the most of one RPC."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, bool], list[int]] = {}

    def __bool__(self) -> bool:
        """Whether anything is counted."""
        return bool(self._counts)

    def add(self, rpc: str, *, write: bool, ok: bool, queries: int) -> bool:
        """Count one RPC; False if there are too many methods."""
        counts = self._counts.get((rpc, write))
        if counts is None:
            if len(self._counts) >= MAX_METHODS:
                return False
            counts = self._counts[(rpc, write)] = [0, 0, 0, 0]
        counts[0 if ok else 1] += 1
        counts[2] += queries
        counts[3] = max(counts[3], queries)
        return True

    def take(self) -> event_pb2.RpcTally:
        """Return the counts as an event, and start again."""
        tally = event_pb2.RpcTally(
            entries=[
                event_pb2.RpcTally.Entry(
                    rpc=rpc,
                    write=write,
                    ok=ok,
                    refused=refused,
                    queries=queries,
                    queries_max=queries_max,
                )
                for (rpc, write), (ok, refused, queries, queries_max) in self._counts.items()
            ]
        )
        self._counts.clear()
        return tally
