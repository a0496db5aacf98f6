"""docs/tracking.md names a test for each of the twenty-one scenarios, and its example runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from metrics_service.client import Instrumentation
from metrics_service.client.queries import normalise, statements
from metrics_service.client.queries.record import TEXT_MAX_BYTES
from metrics_service.client.telemetry import query_buffer
from protos.metrics.v1 import metrics_pb2
from tests.docs.test_failures_table import ROW, TEST, functions_of
from tests.metrics.running_service import running

TEXT = (Path(__file__).resolve().parents[2] / "docs/tracking.md").read_text()
ROWS = [(int(number), tests) for number, _, tests in ROW.findall(TEXT)]
EXAMPLE = re.compile(r"^```python\n(.+?)^```$", re.MULTILINE | re.DOTALL)


def test_every_scenario_has_a_row() -> None:
    assert [number for number, _ in ROWS] == list(range(1, 22))


@pytest.mark.parametrize(("number", "tests"), ROWS)
def test_every_test_of_a_scenario_exists(number: int, tests: str) -> None:
    named = TEST.findall(tests)
    assert named
    assert [f"{path}::{name}" for path, name in named if name not in functions_of(path)] == []


@pytest.mark.parametrize(
    "stated",
    [
        f"a text is at most {TEXT_MAX_BYTES:,} bytes",
        f"above {normalise.PARSED_MAX_CHARS // 1024} kB only the first "
        f"{normalise.OVERLONG_MAX_CHARS:,} characters",
        f"| fingerprints | {statements.Fingerprints()._limit};",
        f"| texts remembered | {statements.StatementTable()._max_texts:,}, and "
        f"{statements.StatementTable()._max_chars // 1_000_000} million characters",
        f"| timings that wait to be sent | {query_buffer.TIMINGS_MAX:,};",
    ],
)
def test_the_bounds_are_those_of_the_code(stated: str) -> None:
    assert stated in " ".join(TEXT.split())


async def test_the_example_runs_and_what_it_ran_is_told(
    empty_dsn: str, metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (example,) = EXAMPLE.findall(TEXT)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(example, "docs/tracking.md", "exec"), names)
    connection = await asyncpg.connect(empty_dsn)
    await connection.execute(
        "CREATE TABLE hotels (name text, is_open boolean);"
        "CREATE TABLE openings (time timestamptz DEFAULT now())"
    )
    await connection.close()
    async with running(metrics_dsn) as service:
        monkeypatch.setenv("DATABASE_URL", empty_dsn)
        monkeypatch.setenv("METRICS_TARGET", service.target)
        # Two seconds are for those who want to end.
        monkeypatch.setattr(Instrumentation.close, "__defaults__", (30.0,))
        assert await names["main"]() == 1
        answer = await service.metrics.GetQueryStats(metrics_pb2.GetQueryStatsRequest())
    counts = {stats.operation: stats.total for stats in answer.groups}
    assert counts == {"sql.insert": 1, "hotels.open": 1, "hotels.count": 1}
