"""docs/operations.md, "What grows": a line for each table of both databases, and no other."""

from __future__ import annotations

import re
from typing import Final

import pytest

from servicekit.postgres import PostgresServer
from tests.docs.snippets import ROOT

ROW: Final = re.compile(r"^\| (booking|metrics) \| `(\w+)` \| .* \| (.*) \| .* \|$", re.MULTILINE)
SETTING: Final = re.compile(r"\b(?:BOOKING|METRICS)_[A-Z_]+\b")
TABLES: Final = """
SELECT relname FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
ORDER BY relname
"""


def section() -> str:
    text = (ROOT / "docs/operations.md").read_text()
    return text[text.index("## What grows") : text.index("## Backup")]


def documented(service: str) -> list[str]:
    return sorted(table for found, table, _ in ROW.findall(section()) if found == service)


@pytest.mark.parametrize("service", ["booking", "metrics"])
def test_each_table_has_a_line(
    service: str, postgres: PostgresServer, booking_template: str, metrics_template: str
) -> None:
    template = booking_template if service == "booking" else metrics_template
    assert documented(service) == postgres.psql(template, TABLES).split()


def test_each_line_says_what_bounds_it() -> None:
    assert all(bound.strip() for _, _, bound in ROW.findall(section()))


def test_each_setting_exists() -> None:
    settings = (ROOT / "docs/settings.md").read_text()
    named = set(SETTING.findall(section()))
    assert len(named) >= 8
    assert {name for name in named if f"`{name}`" not in settings} == set()
