"""docs/failures.md names a test that exists for each failure."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| (\d+) \| (.+?) \| (.+) \|$", re.MULTILINE)
TEST = re.compile(r"`([^`]+)::([^`]+)`")


def rows() -> list[tuple[int, str]]:
    text = (ROOT / "docs/failures.md").read_text()
    return [(int(number), tests) for number, _, tests in ROW.findall(text)]


@cache
def functions_of(path: str) -> frozenset[str]:
    """The test functions of a file."""
    file = ROOT / path
    body = ast.parse(file.read_text()).body if file.exists() else []
    functions = [node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


def test_every_failure_has_a_row() -> None:
    assert [number for number, _ in rows()] == list(range(1, len(rows()) + 1))
    assert len(rows()) >= 31


@pytest.mark.parametrize(("number", "tests"), rows())
def test_every_test_of_a_row_exists(number: int, tests: str) -> None:
    named = TEST.findall(tests)
    assert named
    missing = [f"{path}::{name}" for path, name in named if name not in functions_of(path)]
    assert missing == []


def test_a_test_that_is_not_there_is_noticed() -> None:
    assert "test_nothing" not in functions_of("tests/docs/test_failures_table.py")
    assert functions_of("tests/docs/test_not_there.py") == frozenset()
