"""docs/alerts.md is what the shipped rules give, and names each with what to do."""

from __future__ import annotations

from pathlib import Path

from metrics_service.alerts.rules.load import check, load, shipped
from metrics_service.alerts.rules.metrics import METRICS
from metrics_service.alerts.rules.page import page as written

PAGE = Path(__file__).resolve().parents[4] / "docs/alerts.md"


def test_the_committed_page_is_current() -> None:
    assert PAGE.read_text() == written(), "run make docs"


def test_every_rule_metric_and_contradiction_is_on_it() -> None:
    page = PAGE.read_text()
    text = " ".join(page.split())
    for rule in load(None):
        assert f"### {rule.name}\n" in page
        assert rule.reason in text
        assert f"Do: {rule.action}" in text
    assert all(f"| `{name}` |" in text for name in METRICS)
    assert all(finding.message in text for finding in check(shipped()).findings)
