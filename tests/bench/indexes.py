"""The gains of the fifteen indexes, on one database without and with all of them: each query that
one of them serves, and the operations for which gains were reported.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from booking_service.cli import indexes
from booking_service.storage.connection import OwnConnection
from booking_service.storage.database import Database
from servicekit.devstack import PostgresServer
from servicekit.migrations import MIGRATIONS, migrate
from tests.bench import index_operations, report
from tests.bench.index_cases import (
    CASES,
    PLANS,
    Case,
    Samples,
    draw,
    explained,
    timed,
    timed_without,
)
from tests.bench.index_operations import (
    CHECK,
    EXPECTED_MS,
    MIX,
    OUR_P95_MS,
    QUERY_P95_MS,
    REPORTED,
    REPORTED_OF_MIX,
    summary,
)

ROWS: Final = 1_000_000
RUNS: Final = 200
ROUNDS: Final = 200
CASE_SECONDS: Final = 4.0
DEFAULT_SECONDS: Final = 2.0
ALONE_SECONDS: Final = 2.0
ROUNDS_SECONDS: Final = 90.0

SEED: Final = report.ROOT / "tests/booking/plans/catalogue_seed.sql"
SERVER: Final = {"shared_buffers": "1GB", "max_wal_size": "8GB"}
# The planner setting that the service changes; all its others are the server's defaults.
DEFAULT_PLANNER: Final = {"enable_seqscan": "on"}

Figures = dict[str, Any]


def seed(server: PostgresServer, rows: int) -> str:
    """Return the URL of a full, migrated database without the fifteen indexes."""
    server.create_database("bench")
    dsn = server.dsn("bench")
    migrate(dsn, MIGRATIONS / "booking")
    asyncio.run(indexes.take_down(Database(dsn)))
    report.progress(f"{rows:,} bookings and what belongs to them")
    size = f"SET seed.bookings = {rows}; SET seed.booked_ahead = on;\n"
    server.psql("bench", size + SEED.read_text())
    server.psql("bench", "VACUUM (ANALYZE)")
    return dsn


async def measure(dsn: str, data: Samples, rows: int, rounds: int, *, having: bool) -> Figures:
    """Measure every case and every operation with the present indexes: all or none."""
    database = Database(dsn)
    service = await database.connect("bench")
    default = await database.connect("bench", settings=DEFAULT_PLANNER)
    cases: Figures = {}
    try:
        for case in CASES:
            report.progress(f"  {case.name}")
            cases[case.name] = {
                **await _measured(service, case, data, CASE_SECONDS),
                "default": await _measured(default, case, data, DEFAULT_SECONDS),
            }
            if having:
                alone = await timed_without(service, case, data, runs=RUNS, seconds=ALONE_SECONDS)
                cases[case.name]["without_it"] = alone._asdict()
    finally:
        await service.close()
        await default.close()
    report.progress("  operations")
    taken = await index_operations.measure(
        dsn, data, rows // 100, rounds=rounds, seconds=ROUNDS_SECONDS
    )
    mixed = [value for name in MIX for value in taken[name]]
    taken_of = {name: summary(values) for name, values in [*taken.items(), ("mix", mixed)]}
    return {"cases": cases, "operations": taken_of}


async def _measured(
    connection: OwnConnection, case: Case, data: Samples, seconds: float
) -> Figures:
    plans = await explained(connection, case, data)
    taken = await timed(connection, case, data, runs=RUNS, seconds=seconds)
    return {**plans._asdict(), **taken._asdict()}


async def _samples(dsn: str) -> Samples:
    connection = await Database(dsn).connect("bench", settings={"statement_timeout": "0"})
    try:
        return await draw(connection)
    finally:
        await connection.close()


def run(rows: int, rounds: int) -> Figures:
    """Measure without, then with the fifteen, on one database."""
    with report.throwaway_server(durable=True, settings=SERVER) as server:
        dsn = seed(server, rows)
        data = asyncio.run(_samples(dsn))
        report.progress("without the fifteen")
        without = asyncio.run(measure(dsn, data, rows, rounds, having=False))
        report.progress("building the fifteen")
        began_s = time.perf_counter()
        asyncio.run(indexes.put_up(Database(dsn)))
        built_s = time.perf_counter() - began_s
        server.psql("bench", "VACUUM (ANALYZE)")
        states = asyncio.run(indexes.states(Database(dsn)))
        if not all(state.valid for state in states):
            raise SystemExit("an index was not built")
        report.progress("with the fifteen")
        having = asyncio.run(measure(dsn, data, rows, rounds, having=True))
        version = server.psql("bench", "SELECT version()").split(" on ")[0]
    return {
        "rows": rows,
        "server": version,
        "built_s": built_s,
        "size_bytes": {state.name: state.size_bytes for state in states},
        "without": without,
        "with": having,
    }


def gain(before: float, after: float) -> float:
    """The reduction in per cent."""
    return 100 * (1 - after / before)


def print_cases(figures: Figures) -> None:
    """Print a table of latencies, one of plans, and one of the default planner settings."""
    without, having = figures["without"]["cases"], figures["with"]["cases"]
    sides = [(case, without[case.name], having[case.name]) for case in CASES]
    print(
        "\nEach index, milliseconds: without all fifteen, without this one alone, with all; the"
        " service's settings (enable_seqscan=off). A reported gain of a query counts as the index's"
        " only where a plan uses it:\n"
    )
    columns = ("samples", "median without", "without it", "with", "p95 without", "with", "gain")
    print(report.table(("index", "query", "reported", "", *columns), _latencies(sides), texts=4))
    print(f"\nPlans of the first of {PLANS} parameters, used by so many, median of buffers:\n")
    plans = [line for side in sides for line in _plans(*side, figures["size_bytes"])]
    print(report.table(("index", "", "plan", "used", "buffers", "MiB"), plans, texts=3))
    print("\nThe server's default, enable_seqscan=on, beside the service's, medians in ms:\n")
    settings = ("default: without", "with", "service: without", "with")
    print(report.table(("index", "default's plan", *settings), _defaults(sides), texts=2))


def _latencies(sides: list[tuple[Case, Figures, Figures]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for case, before, after in sides:
        fell = gain(before["median_ms"], after["median_ms"])
        reported, held = "-", "-"
        if case.reported:
            least, most = case.reported
            reported = f"{least}-{most}%"
            held = report.verdict(fell >= least and after["uses"] > 0)
        name = (case.name, f"{case.query}, {case.what}", reported, held)
        samples = f"{before['samples']}, {after['samples']}"
        medians = (_ms(side["median_ms"]) for side in (before, after["without_it"], after))
        p95s = (_ms(side["p95_ms"]) for side in (before, after))
        rows.append((*name, samples, *medians, *p95s, f"{fell:.0f}%"))
    return rows


def _plans(
    case: Case, before: Figures, after: Figures, sizes: Mapping[str, int]
) -> list[tuple[str, ...]]:
    mebibytes = f"{sizes[case.name] / 2**20:.1f}"
    return [
        (case.name, "without", before["plan"], "", f"{before['buffers']:,}", ""),
        ("", "with", after["plan"], f"{after['uses']}", f"{after['buffers']:,}", mebibytes),
    ]


def _defaults(sides: list[tuple[Case, Figures, Figures]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for case, before, after in sides:
        theirs = after["default"]["plan"]
        by_default = (_ms(side["default"]["median_ms"]) for side in (before, after))
        by_service = (_ms(side["median_ms"]) for side in (before, after))
        plan = "the same" if theirs == after["plan"] else theirs
        rows.append((case.name, plan, *by_default, *by_service))
    return rows


def print_operations(figures: Figures) -> None:
    """Print the operations, and every claim about them."""
    without, having = figures["without"]["operations"], figures["with"]["operations"]
    rows = []
    for name, after in having.items():
        for label, each in (("without", without[name]), ("with", after)):
            figures_ms = [_ms(each[what]) for what in ("average", "p50", "p95", "p99")]
            rows.append((name, label, f"{each['samples']:.0f}", *figures_ms))
    print("\nOperations, one client, milliseconds:\n")
    header = ("operation", "indexes", "samples", "average", "p50", "p95", "p99")
    print(report.table(header, rows, texts=2))
    print("\nWhat was reported, expected and aimed at:\n")
    print(report.table(("claim", "of", "measured", ""), list(_claims(without, having)), texts=4))


def _claims(
    without: Mapping[str, Mapping[str, float]], having: Mapping[str, Mapping[str, float]]
) -> list[tuple[str, str, str, str]]:
    claims: list[tuple[str, str, str, str]] = []

    def falls(what: str, name: str, reported: int) -> None:
        fell = gain(without[name][what], having[name][what])
        held = report.verdict(fell >= reported)
        claims.append((f"{what} falls by {reported}%", name, f"{fell:.0f}%", held))

    def below(what: str, name: str, limit_ms: float) -> None:
        value = having[name][what]
        held = report.verdict(value < limit_ms)
        claims.append((f"{what} below {limit_ms} ms", name, f"{_ms(value)} ms", held))

    for name, reported in REPORTED.items():
        falls("average", name, reported)
    for what, reported in REPORTED_OF_MIX.items():
        falls(what, "mix", reported)
    for name, limit_ms in EXPECTED_MS.items():
        below("average", name, limit_ms)
    below("p95", "mix", QUERY_P95_MS)
    for name in (*MIX, CHECK):
        below("p95", name, OUR_P95_MS)
    return claims


def _ms(value: float) -> str:
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}"


def main() -> int:
    """Measure and print; progress goes to stderr."""
    parser = report.options(__doc__ or "")
    parser.add_argument("--rows", type=int, default=ROWS, help="bookings")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of all operations")
    asked = parser.parse_args()
    began_s = time.perf_counter()
    figures = run(asked.rows, asked.rounds)
    took_s = time.perf_counter() - began_s
    print(
        f"{asked.rows:,} bookings, {figures['server']}, shared_buffers {SERVER['shared_buffers']},"
        f" all in memory, fsync on; the fifteen built in {figures['built_s']:.0f} s;"
        f" {took_s:.0f} s in all."
    )
    print_cases(figures)
    print_operations(figures)
    report.write_json(asked.json, {"indexes": figures})
    return 0


if __name__ == "__main__":
    sys.exit(main())
