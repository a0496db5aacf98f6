"""What timing a query costs: microseconds that each side adds to a query, beside plain asyncpg.

Every side runs the same query on one connection of its own; rounds take turns, side after side, and
the medians over the rounds are compared. Process time does not see the server or the wait for it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg

from metrics_service.client.emitter import Emitter
from metrics_service.client.health import HealthWindow
from metrics_service.client.record import NamedQuery
from metrics_service.client.tracked import Tracker, connect
from servicekit import binaries
from servicekit.devstack import PostgresServer

ROUNDS = 5
QUERIES = 4000
WARM_UP = 500
TEXT = "SELECT $1::int"
NAMED = NamedQuery(TEXT, model="bench", operation="one")
TARGET_US = 8.0


class Nothing:
    """A sink that does nothing: the cost of making the records alone."""

    def record_query(self, *_: object) -> None:
        """Take it and forget it."""


async def run_round(connection: Any, query: str, queries: int) -> tuple[float, float]:
    """Wall and process microseconds a query."""
    fetchval = connection.fetchval
    wall_s, process_s = time.perf_counter(), time.process_time()
    for n in range(queries):
        await fetchval(query, n)
    process_s = time.process_time() - process_s
    wall_s = time.perf_counter() - wall_s
    return wall_s / queries * 1e6, process_s / queries * 1e6


async def measure(dsn: str) -> dict[str, dict[str, float]]:
    """The medians of each side and what it adds to the first."""
    emitter = Emitter("bench")
    sides: dict[str, tuple[Callable[[], Awaitable[Any]], str]] = {
        "asyncpg alone": (lambda: asyncpg.connect(dsn), TEXT),
        "named query": (lambda: connect(dsn, tracker=Tracker([Nothing()])), NAMED),
        "statement text": (lambda: connect(dsn, tracker=Tracker([Nothing()])), TEXT),
        "named, emitted and judged": (
            lambda: connect(dsn, tracker=Tracker([emitter, HealthWindow()])),
            NAMED,
        ),
    }
    connections = {name: await make() for name, (make, _) in sides.items()}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    try:
        for name, (_, query) in sides.items():
            await run_round(connections[name], query, WARM_UP)
        for _ in range(ROUNDS):
            for name, (_, query) in sides.items():
                taken[name].append(await run_round(connections[name], query, QUERIES))
    finally:
        for connection in connections.values():
            await connection.close()
    walls = {name: median(wall for wall, _ in rounds) for name, rounds in taken.items()}
    processes = {name: median(process for _, process in rounds) for name, rounds in taken.items()}
    plain = next(iter(sides))
    return {
        name: {
            "wall_us": walls[name],
            "process_us": processes[name],
            "added_wall_us": walls[name] - walls[plain],
            "added_process_us": processes[name] - processes[plain],
        }
        for name in sides
    }


def main() -> int:
    """Print the table; `--json FILE` writes it too. 1 when timing a query misses its target."""
    base = Path(tempfile.mkdtemp(prefix="farehold-bench-"))
    base.chmod(0o711)
    server = PostgresServer(base / "data", durable=False)
    try:
        server.start()
        result = asyncio.run(measure(server.create_database("bench")))
    finally:
        server.stop()
        binaries.remove_home(base / "data")
        base.rmdir()
    print(f"{ROUNDS} rounds of {QUERIES} queries a side, medians, us a query: {TEXT}")
    for name, figures in result.items():
        print(
            f"{name:28} process {figures['process_us']:7.1f} (+{figures['added_process_us']:5.1f})"
            f"   wall {figures['wall_us']:7.1f} (+{figures['added_wall_us']:5.1f})"
        )
    if "--json" in sys.argv:
        Path(sys.argv[sys.argv.index("--json") + 1]).write_text(json.dumps(result, indent=2))
    added_us = result["named query"]["added_process_us"]
    print(f"timing a query: {added_us:.1f} us, target {TARGET_US:.0f} us")
    return 0 if added_us <= TARGET_US else 1


if __name__ == "__main__":
    sys.exit(main())
