"""A sink that keeps its records, for tests to check."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from metrics_service.client.queries.record import Outcome, QueryDefinition, QueryRecord
from servicekit.pauses import PauseDetector


@dataclass(slots=True)
class Kept:
    """A record beside its definition."""

    record: QueryRecord
    definition: QueryDefinition

    @property
    def label(self) -> str:
        return self.definition.label

    @property
    def outcome(self) -> Outcome:
        return self.record.outcome


class Recording:
    """Keeps every record, in order."""

    def __init__(self) -> None:
        self.all: list[Kept] = []

    def record_query(self, record: QueryRecord, definition: QueryDefinition) -> None:
        self.all.append(Kept(record, definition))

    @property
    def user(self) -> list[Kept]:
        """What counts as a user's query."""
        return [kept for kept in self.all if not kept.record.internal]

    def labelled(self, label: str) -> list[Kept]:
        return [kept for kept in self.all if kept.label == label]

    def clear(self) -> None:
        self.all.clear()


class Clock:
    """Time that a test sets, in seconds."""

    def __init__(self, s: float = 1000.0) -> None:
        self.s = s

    def monotonic_ns(self) -> int:
        return round(self.s * 1e9)

    def now_us(self) -> int:
        return round(self.s * 1e6)


def never_paused() -> PauseDetector:
    """A detector that finds no pause: on a busy machine, the test's process has some."""
    return PauseDetector(lambda: 0)


async def wait_until_waiting(dsn: str, pid: int) -> None:
    """Until the backend is in the middle of a query that waits for a lock or sleeps; at most ten
    seconds.
    """
    observer = await asyncpg.connect(dsn)
    try:
        for _ in range(1000):
            waits = await observer.fetchval(
                "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $1 AND state = 'active'",
                pid,
            )
            # Not for the disk, say: that is over soon.
            if waits in ("Lock", "Timeout"):
                return
            await observer.execute("SELECT pg_sleep(0.01)")
        raise AssertionError(f"backend {pid} never waited in a query")
    finally:
        await observer.close()
