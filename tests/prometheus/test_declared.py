"""Dashboards and rules name only metrics and labels of docs/metrics.md, and what is recorded."""

from __future__ import annotations

import re
from pathlib import Path

from tests.prometheus.dashboards import FILES, dashboard, expressions

ROOT = Path(__file__).resolve().parents[2]
RULES = (ROOT / "deploy/prometheus/rules.yml").read_text()
ROW = re.compile(r"^\| `(\w+)`\*? \| (\w+) \| (.*?) \| .+ \|$", re.MULTILINE)
USED = re.compile(r"(?<![\w:])((?:farehold|grpc_server|process|python_gc)_\w+)(?:\{([^}]*)\})?")
RECORDED = re.compile(r"\bjob_[a-z]+:[\w:]+")
LABEL = re.compile(r"(\w+)\s*(?:=~|!=|!~|=)\s*\"")
# Those of the scrape.
OF_THE_SCRAPE = {"job", "instance"}


def declared() -> dict[str, set[str]]:
    """The names that samples have, with their labels."""
    found: dict[str, set[str]] = {}
    for name, kind, labels in ROW.findall((ROOT / "docs/metrics.md").read_text()):
        own = {label.strip("` ") for label in labels.split(",")} - {""}
        if kind == "histogram":
            found |= {f"{name}_{part}": own for part in ("sum", "count")}
            found[f"{name}_bucket"] = own | {"le"}
        else:
            found[name] = own
    return found


def texts() -> dict[str, str]:
    """Whatever selects metrics: rules, expressions and the queries of variables."""
    found = {"rules.yml": "\n".join(re.findall(r"expr: (.+(?:\n {10,}.+)*)", RULES))}
    for path in FILES:
        found |= dict(expressions(path))
        for variable in dashboard(path)["templating"]["list"]:
            found[f"{path.stem}: ${variable['name']}"] = variable.get("definition", "")
    return found


def test_every_metric_and_label_is_declared() -> None:
    known = declared()
    assert len(known) > 60
    used = [(where, found) for where, text in texts().items() for found in USED.finditer(text)]
    assert len(used) > 90
    for where, found in used:
        assert found[1] in known, where
        labels = set(LABEL.findall(found[2] or ""))
        assert labels <= known[found[1]] | OF_THE_SCRAPE, (where, found[0])


def test_every_recorded_series_is_recorded_and_used() -> None:
    recorded = set(re.findall(r"- record: (\S+)", RULES))
    assert {name for text in texts().values() for name in RECORDED.findall(text)} == recorded
