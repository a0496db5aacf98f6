"""docs/metrics.md lists every metric as it is declared."""

from __future__ import annotations

from pathlib import Path

import pytest

from booking_service.monitoring import metrics
from metrics_service.web.scrape import declarations
from servicekit.exposition.declare import Metric
from servicekit.exposition.page import page

ROOT = Path(__file__).resolve().parents[2]
SERVICES = {"metrics_service": declarations.METRICS, "booking_service": metrics.METRICS}


def test_the_committed_page_is_current() -> None:
    assert (ROOT / "docs/metrics.md").read_text() == page(SERVICES), "run make docs"


@pytest.mark.parametrize("metrics", SERVICES.values(), ids=SERVICES)
def test_each_is_declared_once_and_explained(metrics: tuple[Metric, ...]) -> None:
    assert len({metric.name for metric in metrics}) == len(metrics)
    assert [metric.name for metric in metrics if not metric.help.endswith(".")] == []
    # Of Prometheus's own words: units are whole, and there is no _created.
    assert [each.name for each in metrics if each.name.endswith(("_ms", "_us", "_created"))] == []


def test_all_that_a_module_declares_is_listed() -> None:
    for module in (declarations, metrics):
        declared = {each for each in vars(module).values() if isinstance(each, Metric)}
        assert declared <= set(module.METRICS)
