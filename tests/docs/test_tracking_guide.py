"""docs/tracking.md names a test for each of its 21 scenarios, bounds as the code has them, and each
reason of a fork; docs/errors.md has the lines of the commands that mend one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from metrics_service.client.queries import normalise, statements
from metrics_service.client.queries.record import MAX_TEXT_BYTES
from metrics_service.client.telemetry import query_buffer
from tests.docs.test_failures_table import ROW, TEST, functions_of

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/tracking.md").read_text()
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


def sentences(path: str, functions: set[str]) -> set[str]:
    """The sentences that functions make, with "…" for what is filled in."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in functions:
            found |= set(_texts(node))
    return {text for text in found if re.match("the |batch |at sink", text)}


def _texts(node: ast.AST) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "…" for part in child.values
            )
        elif isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.value
        else:
            yield from _texts(child)


def named(text: str) -> set[str]:
    """What is in backticks, up to where a longer line is cut."""
    return set(re.findall(r"`([^`\n]+)`", text))


def test_every_reason_of_a_fork_or_fence_is_explained() -> None:
    reasons = sentences(
        "booking_service/delivery/fact_lane.py", {"_other_sink", "_fork_reason", "fenced"}
    ) | sentences("metrics_service/client/stream/lane_sender.py", {"_fork_reason"})
    assert len(reasons) == 11
    assert reasons - named(TEXT) == set()


def test_every_line_of_the_commands_is_explained() -> None:
    lines = sentences("booking_service/delivery/fork.py", {"succeed", "_plan", "_answered"})
    lines |= sentences("booking_service/cli/refill.py", {"_check"})
    explained = [each.partition(": …")[0] for each in named((ROOT / "docs/errors.md").read_text())]
    assert len(lines) == 6
    assert [line for line in lines if not any(line.startswith(each) for each in explained)] == []
