"""What a dashboard declares, in TOML: rows of panels, each with its expressions. These name no job,
which is added to whatever selects a metric.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

Json: TypeAlias = dict[str, Any]
Kind: TypeAlias = Literal["stat", "timeseries", "table", "bargauge"]

JOB: Final = 'job=~"$job"'
# A metric or a series that rules.yml records, and what selects of it.
METRIC: Final = re.compile(
    r"\b((?:farehold|grpc_server|process|python_gc|job_[a-z]+:)[\w:]+)(?:\{([^}]*)\})?"
)


@dataclass(frozen=True, slots=True)
class Query:
    """legend: Grafana's template of a series' name, such as "{{operation}}". exemplars: whether
    they are drawn.
    """

    expr: str
    legend: str = "__auto"
    exemplars: bool = False

    @property
    def selected(self) -> str:
        """The expression as Grafana sends it."""
        return METRIC.sub(_with_job, self.expr)


@dataclass(frozen=True, slots=True)
class Panel:
    """unit: of Grafana, such as "s" or "percentunit". width, height: in cells of the grid. steps:
    (from which value, colour), the first for all below too; lines: whether they are drawn. names:
    (text, colour) of a value. colours: of series, by name; by_name: the name is shown, not the
    value. hidden: columns of a table.
    """

    kind: Kind
    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    width: int
    height: int = 8
    steps: Sequence[tuple[float, str]] = ()
    lines: bool = False
    stacked: bool = False
    decimals: int | None = None
    maximum: float | None = None
    names: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    colours: Mapping[str, str] = field(default_factory=dict)
    by_name: bool = False
    hidden: Sequence[str] = ("Time", "Value")


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and the panels below it."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """by_operation: whether operations of queries can be chosen, as `$operation`."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    by_operation: bool = False


def read(path: Path) -> Dashboard:
    """Read the declaration of a dashboard."""
    declared = tomllib.loads(path.read_text())
    rows = [
        Row(row["title"], [_read_panel(panel) for panel in row["panels"]])
        for row in declared.pop("rows")
    ]
    return Dashboard(rows=rows, **declared)


def _read_panel(declared: Json) -> Panel:
    queries = [Query(**query) for query in declared.pop("queries")]
    return Panel(queries=queries, **declared)


def _with_job(found: re.Match[str]) -> str:
    name, labels = found.groups()
    return f"{name}{{{JOB}{',' if labels else ''}{labels or ''}}}"
