"""Reads the dashboards of deploy/grafana as Grafana does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
FILES: Final = sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
# What Grafana puts in place of its variables, where all jobs and operations are chosen.
VARIABLES: Final = {"job": ".+", "operation": ".+", "__rate_interval": "1m"}
VARIABLE: Final = re.compile(r"\$\{?(\w+)\}?")


def dashboard(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def panels(path: Path) -> list[dict[str, Any]]:
    """All but the headings."""
    return [panel for panel in dashboard(path)["panels"] if panel["type"] != "row"]


def expressions(path: Path) -> Iterator[tuple[str, str]]:
    """(where it stands, expression) of every panel and annotation, variables and all."""
    for panel in panels(path):
        for target in panel["targets"]:
            yield f"{path.stem}: {panel['title']} {target['refId']}", target["expr"]
    for annotation in dashboard(path)["annotations"]["list"]:
        yield f"{path.stem}: {annotation['name']}", annotation["expr"]


def replaced(expression: str) -> str:
    """The expression as Prometheus gets it."""
    return VARIABLE.sub(lambda found: VARIABLES[found[1]], expression)
