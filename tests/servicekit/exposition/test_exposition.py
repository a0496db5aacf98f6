"""Parts of what is served: one that fails takes nothing from the others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from servicekit.exposition.declare import Family, Metric, once
from servicekit.exposition.exposition import Exposition, Part
from servicekit.exposition.writer import END

DEPTH = Metric("shop_depth", "gauge", "Depth.")
WIDTH = Metric("shop_width", "gauge", "Width.")


def broken() -> Iterator[Family]:
    yield once(DEPTH, 1)
    raise OSError("a secret")


def test_a_part_that_fails_is_missing_counted_and_logged_once_and_the_rest_is_whole() -> None:
    failures: list[Exception] = []
    exposition = Exposition(
        [
            Part("deep", broken, on_failure=failures.append),
            Part("wide", lambda: [once(WIDTH, 2)]),
        ]
    )
    with capture_logs() as lines:
        exposition.write(openmetrics=False)
        text = exposition.write(openmetrics=False)
    assert "shop_depth" not in text
    assert "shop_width 2\n" in text
    assert 'farehold_collector_failures_total{part="deep"} 2\n' in text
    assert 'farehold_collector_failures_total{part="wide"} 0\n' in text
    assert [line["event"] for line in lines] == ["metrics_collection_failed"]
    assert len(failures) == 2
    assert "secret" not in text


def test_a_part_is_collected_once_a_revision() -> None:
    revision, collected = 1, 0

    def collect() -> list[Family]:
        nonlocal collected
        collected += 1
        return [once(DEPTH, collected)]

    exposition = Exposition([Part("deep", collect, revision=lambda: revision)])
    texts = [exposition.write(openmetrics=openmetrics) for openmetrics in (False, True, False)]
    assert collected == 1
    assert texts[0] == texts[2]
    assert texts[1].endswith(END)
    revision = 2
    assert "shop_depth 2\n" in exposition.write(openmetrics=True)


@pytest.mark.parametrize("openmetrics", [False, True])
def test_a_part_that_is_not_active_is_not_collected(openmetrics: bool) -> None:
    active = True
    parts = [
        Part("deep", lambda: [once(DEPTH, 1)], active=lambda: active, revision=lambda: 1),
        Part("wide", lambda: [once(WIDTH, 2)]),
    ]
    exposition = Exposition(parts)
    assert "shop_depth" in exposition.write(openmetrics=openmetrics)
    active = False
    text = exposition.write(openmetrics=openmetrics)
    assert "shop_depth" not in text
    assert "shop_width" in text
