"""Parts of what is served: one that fails takes nothing from the others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from servicekit.exposition.declare import Family, Metric, once
from servicekit.exposition.exposition import Exposition, Part
from servicekit.exposition.writer import END

DEPTH = Metric("shop_depth", "gauge", "Depth.")
MANY = Metric("shop_many", "gauge", "Many.", ("n",))
WIDTH = Metric("shop_width", "gauge", "Width.")


def broken() -> Iterator[Family]:
    yield once(DEPTH, 1)
    raise OSError("a secret")


async def test_a_part_that_fails_is_missing_counted_and_logged_once_and_the_rest_is_whole() -> None:
    failures: list[Exception] = []
    exposition = Exposition(
        [
            Part("deep", broken, on_failure=failures.append),
            Part("wide", lambda: [once(WIDTH, 2)]),
        ]
    )
    with capture_logs() as lines:
        await exposition.write(openmetrics=False)
        text = await exposition.write(openmetrics=False)
    assert "shop_depth" not in text
    assert "shop_width 2\n" in text
    assert 'farehold_collector_failures_total{part="deep"} 2\n' in text
    assert 'farehold_collector_failures_total{part="wide"} 0\n' in text
    assert [line["event"] for line in lines] == ["metrics_collection_failed"]
    assert len(failures) == 2
    assert "secret" not in text


async def test_a_part_is_collected_once_a_revision() -> None:
    revision, collected = 1, 0

    def collect() -> list[Family]:
        nonlocal collected
        collected += 1
        return [once(DEPTH, collected)]

    exposition = Exposition([Part("deep", collect, revision=lambda: revision)])
    texts = [
        await exposition.write(openmetrics=openmetrics) for openmetrics in (False, True, False)
    ]
    assert collected == 1
    assert texts[0] == texts[2]
    assert texts[1].endswith(END)
    revision = 2
    assert "shop_depth 2\n" in await exposition.write(openmetrics=True)


@pytest.mark.parametrize("openmetrics", [False, True])
async def test_a_part_that_is_not_active_is_not_collected(openmetrics: bool) -> None:
    active = True
    parts = [
        Part("deep", lambda: [once(DEPTH, 1)], active=lambda: active, revision=lambda: 1),
        Part("wide", lambda: [once(WIDTH, 2)]),
    ]
    exposition = Exposition(parts)
    assert "shop_depth" in await exposition.write(openmetrics=openmetrics)
    active = False
    text = await exposition.write(openmetrics=openmetrics)
    assert "shop_depth" not in text
    assert "shop_width" in text


async def test_figures_of_a_part_are_of_one_moment_and_others_run_while_many_are_written() -> None:
    now = 0

    def collect() -> Iterator[Family]:
        for _ in range(3):
            yield Family(MANY, {(f"{now} {number}",): now for number in range(20_000)})

    async def others() -> None:
        nonlocal now
        while True:
            now += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    text = await Exposition([Part("many", collect)]).write(openmetrics=False)
    task.cancel()
    assert now > 1
    assert len({line.split()[-1] for line in text.splitlines() if "{n=" in line}) == 1
