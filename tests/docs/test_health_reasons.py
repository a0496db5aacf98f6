"""docs/health.md has a row for each reason that the source gives, with the alert that it raises."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from metrics_service.alerts.engine.signals import measure_signals
from metrics_service.alerts.model import Verdict
from metrics_service.alerts.rules.load import load
from metrics_service.alerts.rules.metrics import HEALTH_ISSUES
from protos.metrics.v1.health_pb2 import DatabaseHealth, HealthReason

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| `(\w+)` \| (.+?) \| .+? \| (\w*) ?\| .+ \| .+ \|$", re.MULTILINE)
CRITERION = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")


def criteria_of(source: str) -> Iterator[str]:
    """Every name that is given to Reason, or to a function that makes one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).lower().endswith("reason"):
            for argument in node.args:
                for part in ast.walk(argument):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield part.value


def given() -> set[str]:
    """The criteria in the source; one in a variable is found where the variable, or the table it is
    taken from, is assigned.
    """
    found: set[str] = set()
    for folder in ("metrics_service/health", "metrics_service/client/health"):
        for path in (ROOT / folder).glob("*.py"):
            source = path.read_text()
            found.update(criteria_of(source))
            for node in ast.walk(ast.parse(source)):
                if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
                    continue
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if re.search("criteri", ast.unparse(target), re.IGNORECASE):
                    found.update(
                        part.value
                        for part in ast.walk(node.value)
                        if isinstance(part, ast.Constant) and isinstance(part.value, str)
                    )
    return {name for name in found if CRITERION.fullmatch(name)}


def rows() -> dict[str, tuple[str, str]]:
    text = (ROOT / "docs/health.md").read_text()
    return {name: (verdict, alert) for name, verdict, alert in ROW.findall(text)}


def test_every_reason_has_a_row_and_no_other() -> None:
    assert sorted(rows()) == sorted(given())


def test_a_reason_without_a_row_is_noticed() -> None:
    source = 'r = Reason("new" if x else "other", 0, 1, 1, (), f"{a} words here")'
    assert {name for name in criteria_of(source) if CRITERION.fullmatch(name)} == {"new", "other"}


def test_each_that_can_turn_the_verdict_unhealthy_raises_the_alert_of_its_row() -> None:
    issues = {*HEALTH_ISSUES, "database_unhealthy"}
    rules = [rule for rule in load(None) if rule.metric in issues]
    for name, (verdict, alert) in rows().items():
        health = DatabaseHealth(
            status=DatabaseHealth.UNHEALTHY, reasons=[HealthReason(criterion=name)]
        )
        raised = {
            rule.name
            for rule in rules
            for sample in measure_signals(rule, health).samples
            if sample.verdict is Verdict.BAD
        }
        assert bool(alert) == ("UNHEALTHY" in verdict)
        assert raised == ({alert} if alert else set())


def test_the_contract_names_each() -> None:
    contract = (ROOT / "protos/metrics/v1/health.proto").read_text()
    assert [name for name in rows() if f'"{name}"' not in contract] == []
