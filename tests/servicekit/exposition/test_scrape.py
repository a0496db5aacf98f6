"""GET /metrics: which format a reader gets, and that many readers share one answer."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from servicekit.exposition.declare import Family, Metric, once
from servicekit.exposition.exposition import Exposition, Part
from servicekit.exposition.scrape import MAX_AGE_S, PATH, Scrape, accepts_openmetrics
from servicekit.exposition.writer import END, OPENMETRICS, TEXT

DEPTH = Metric("shop_depth", "gauge", "Depth.")
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


class Shop:
    """An endpoint whose metric is how often it was collected."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.collected = 0
        scrape = Scrape(Exposition([Part("shop", self._families)]), lambda: self.now_s)
        app = Starlette(routes=[Route(PATH, scrape.__call__)])
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://shop"
        )

    def _families(self) -> Iterator[Family]:
        self.collected += 1
        yield once(DEPTH, self.collected)

    async def get(self, accept: str = "*/*", encoding: str = "identity") -> httpx.Response:
        headers = {"Accept": accept, "Accept-Encoding": encoding}
        return await self.client.get(PATH, headers=headers)


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("text/html, */*;q=0.8", False),
        (PROMETHEUS_2, True),
        (PROMETHEUS_3, True),
        ("application/openmetrics-text", True),
        ('application/openmetrics-text; version="1.0.0"', True),
        ("application/openmetrics-text; version=2.0.0", False),
        ("application/openmetrics-text; version=2.0.0, text/plain", False),
        ("application/openmetrics-text;q=0.1, text/plain;q=0.2", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=none, text/plain;q=0.2", False),
        (";;,=;q==,", False),
    ],
)
async def test_the_format_is_the_one_that_is_liked_best(accept: str, openmetrics: bool) -> None:
    assert accepts_openmetrics(accept) is openmetrics
    answer = await Shop().get(accept)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == (OPENMETRICS if openmetrics else TEXT)
    assert answer.text.endswith(END) is openmetrics
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("encoding", "zipped"),
    [("gzip", True), ("br, gzip;q=0.5", True), ("identity", False), ("gzip;q=0", False)],
)
async def test_it_is_zipped_for_those_that_take_it(encoding: str, zipped: bool) -> None:
    shop = Shop()
    async with shop.client.stream(
        "GET", PATH, headers={"Accept": "*/*", "Accept-Encoding": encoding}
    ) as answer:
        raw = b"".join([part async for part in answer.aiter_raw()])
    assert ("content-encoding" in answer.headers) is zipped
    assert (gzip.decompress(raw) if zipped else raw).startswith(b"# HELP shop_depth")


async def test_readers_at_the_same_time_share_one_answer_of_each_form() -> None:
    shop = Shop()
    await asyncio.gather(*(shop.get(encoding="gzip") for _ in range(50)))
    assert shop.collected == 1
    shop.now_s += MAX_AGE_S / 2
    assert "shop_depth 1\n" in (await shop.get(encoding="gzip")).text
    shop.now_s += MAX_AGE_S
    assert "shop_depth 2\n" in (await shop.get(encoding="gzip")).text


async def test_a_reader_that_leaves_takes_the_answer_from_nobody() -> None:
    shop = Shop()
    leaving = asyncio.create_task(shop.get(encoding="gzip"))
    staying = asyncio.create_task(shop.get(encoding="gzip"))
    await asyncio.sleep(0)
    leaving.cancel()
    assert "shop_depth" in (await staying).text


async def test_nothing_but_get_is_answered() -> None:
    answer = await Shop().client.post(PATH)
    assert answer.status_code == 405
