"""The cost of timing a query: microseconds that each side adds to a query, compared with plain
asyncpg.

Every side runs the same query on its connection in its process; the sides take turns, block by
block. The cost of a side in a round is the median over the blocks of its difference to the block of
the plain side in the same turn, and then the median over the rounds, so that neither a noisy block
nor a noisy round affects it. The verdict uses the processor time of the client, including its
background threads: a round trip varies by more than the measured cost.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, ExitStack
from statistics import median
from typing import Any, Final, NamedTuple

from servicekit import binaries
from tests.bench import report, tracking_sides
from tests.bench.tracking_sides import PER_TRANSACTION, TEXT, Subject

ROUNDS: Final = 5
BLOCKS: Final = 20
QUERIES: Final = 200
TARGET_US: Final = 8.0
OF_OPENTELEMETRY: Final = 1 / 5
OF_SENTRY: Final = 1 / 10

Rounds = list[list[float]]
"""The blocks of each round, in order."""

PLAIN: Final = "asyncpg"
PLAIN_POOL: Final = "asyncpg pool"
OURS: Final = "ours, named query"
OPENTELEMETRY: Final = "OpenTelemetry"
SENTRY: Final = "Sentry"


class Side(NamedTuple):
    """The set-up of a side, and the side that it is compared with."""

    make: Callable[[str], AbstractAsyncContextManager[Subject]]
    beside: str


SIDES: Final = {
    PLAIN: Side(tracking_sides.plain, PLAIN),
    OURS: Side(tracking_sides.named, PLAIN),
    "ours, statement text": Side(tracking_sides.text, PLAIN),
    "ours, record alone": Side(tracking_sides.record_alone, PLAIN),
    OPENTELEMETRY: Side(tracking_sides.opentelemetry, PLAIN),
    SENTRY: Side(tracking_sides.sentry, PLAIN),
    PLAIN_POOL: Side(tracking_sides.plain_pool, PLAIN_POOL),
    "ours, pool": Side(tracking_sides.pool, PLAIN_POOL),
}


class Child:
    """The process of one side."""

    def __init__(self, name: str, dsn: str, stack: ExitStack) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.tracking", "side", name, dsn],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=binaries.end_with_parent,
        )
        stack.callback(self._process.wait)
        stack.enter_context(self._process.stdin)  # type: ignore[arg-type] # a pipe, see above
        self.about: str = self._answer()["about"]

    def run(self, queries: int) -> tuple[float, float]:
        """Return the processor and wall seconds of that many queries."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{queries}\n")
        self._process.stdin.flush()
        answer = self._answer()
        return answer["process_s"], answer["wall_s"]

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a side ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


async def serve(name: str, dsn: str) -> None:
    """Run as many queries as each line of the input requests, and print their times."""
    async with SIDES[name].make(dsn) as subject:
        print(json.dumps({"about": subject.about}), flush=True)
        for line in sys.stdin:
            process_s, wall_s = time.process_time(), time.perf_counter()
            await _run(subject, int(line))
            subject.settle()
            process_s, wall_s = time.process_time() - process_s, time.perf_counter() - wall_s
            print(json.dumps({"process_s": process_s, "wall_s": wall_s}), flush=True)


async def _run(subject: Subject, queries: int) -> None:
    fetchval, query = subject.fetchval, subject.query
    for first in range(0, queries, PER_TRANSACTION):
        with subject.surroundings():
            for number in range(first, first + PER_TRANSACTION):
                await fetchval(query, number)


def measure(children: dict[str, Child], rounds: int) -> dict[str, dict[str, float]]:
    """Microseconds per query of each side: the medians over the rounds of those over the blocks."""
    for child in children.values():
        child.run(5 * QUERIES)
    process: dict[str, Rounds] = {name: [] for name in children}
    wall: dict[str, Rounds] = {name: [] for name in children}
    for number in range(rounds):
        report.progress(f"round {number + 1} of {rounds}")
        for rounds_of in (*process.values(), *wall.values()):
            rounds_of.append([])
        for _ in range(BLOCKS):
            for name, child in children.items():
                process_s, wall_s = child.run(QUERIES)
                process[name][-1].append(process_s / QUERIES * 1e6)
                wall[name][-1].append(wall_s / QUERIES * 1e6)
    return {
        name: {
            "process_us": median(map(median, process[name])),
            "added_process_us": _added(process[name], process[SIDES[name].beside]),
            "wall_us": median(map(median, wall[name])),
            "added_wall_us": _added(wall[name], wall[SIDES[name].beside]),
        }
        for name in children
    }


def _added(side: Rounds, beside: Rounds) -> float:
    return median(
        median(mine - its for mine, its in zip(mine_of, its_of, strict=True))
        for mine_of, its_of in zip(side, beside, strict=True)
    )


def main() -> int:
    """Print the table, the set-up of the sides, and which targets hold."""
    parser = report.options(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    with report.throwaway_server(durable=False) as server, ExitStack() as stack:
        dsn = server.create_database("bench")
        children = {name: Child(name, dsn, stack) for name in SIDES}
        figures = measure(children, asked.rounds)
    print(
        f"{asked.rounds} rounds, {BLOCKS} blocks of {QUERIES} queries each, the sides in turn;"
        f" `{TEXT}` over 127.0.0.1; us a query, medians over the rounds of the medians over the"
        " blocks; added: of the differences to plain asyncpg's block of the same turn:\n"
    )
    header = ("side", "process", "added", "wall", "added")
    print(report.table(header, [(name, *_cells(each)) for name, each in figures.items()]))
    print()
    for name, child in children.items():
        print(f"- {name}: {child.about}")
    claims = _claims({name: each["added_process_us"] for name, each in figures.items()})
    print("\nBy added process time:\n")
    print(report.table(("target", "measured", ""), claims, texts=3))
    report.write_json(asked.json, {"tracking": figures})
    return 0


def _cells(figures: dict[str, float]) -> list[str]:
    return [f"{value:.1f}" for value in figures.values()]


def _claims(added_us: dict[str, float]) -> list[tuple[str, str, str]]:
    ours = added_us[OURS]
    of_opentelemetry, of_sentry = ours / added_us[OPENTELEMETRY], ours / added_us[SENTRY]
    return [
        ("timing a query adds <= 8 us", f"{ours:.1f} us", report.verdict(ours <= TARGET_US)),
        (
            "<= 1/5 of OpenTelemetry",
            f"1/{1 / of_opentelemetry:.1f}",
            report.verdict(of_opentelemetry <= OF_OPENTELEMETRY),
        ),
        ("<= 1/10 of Sentry", f"1/{1 / of_sentry:.1f}", report.verdict(of_sentry <= OF_SENTRY)),
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["side"]:
        asyncio.run(serve(sys.argv[2], sys.argv[3]))
    else:
        sys.exit(main())
