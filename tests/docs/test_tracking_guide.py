"""docs/tracking.md names a test for each of its 21 scenarios, and bounds as the code has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from metrics_service.client.queries import normalise, statements
from metrics_service.client.queries.record import MAX_TEXT_BYTES
from metrics_service.client.telemetry import query_buffer
from tests.docs.test_failures_table import ROW, TEST, functions_of

TEXT = (Path(__file__).resolve().parents[2] / "docs/tracking.md").read_text()
ROWS = [(int(number), tests) for number, _, tests in ROW.findall(TEXT)]


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
        f"a text is at most {MAX_TEXT_BYTES:,} bytes",
        f"above {normalise.MAX_PARSED_CHARS // 1024} kB only the first "
        f"{normalise.MAX_OVERLONG_CHARS:,} characters",
        f"| fingerprints | {statements.Fingerprints()._limit};",
        f"| texts remembered | {statements.StatementTable()._max_texts:,}, and "
        f"{statements.StatementTable()._max_chars // 1_000_000} million characters",
        f"| timings that wait to be sent | {query_buffer.MAX_TIMINGS:,};",
    ],
)
def test_the_bounds_are_those_of_the_code(stated: str) -> None:
    assert stated in " ".join(TEXT.split())
