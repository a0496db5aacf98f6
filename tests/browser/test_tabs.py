"""Many tabs, and a tab that stays open for a day."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from playwright.async_api import CDPSession

from metrics_service.web import live as live_module
from tests.browser.shop import open_shop
from tests.browser.tabs import browsing

pytestmark = [pytest.mark.processes, pytest.mark.full, pytest.mark.timeout(180)]

# A browser opens six connections to a host.
TABS = 9
WARM, MORE = 60, 240
"""Events before what is measured, and in it."""


async def test_more_tabs_than_a_browser_has_connections_are_all_live(metrics_dsn: str) -> None:
    async with open_shop(metrics_dsn) as shop, browsing() as tabs:
        opened = [await tabs.open(shop.address) for _ in range(TABS)]
        for tab in opened:
            await tab.live()
        assert shop.service.server._site.live.readers == 1
        await shop.send(*shop.sale())
        for tab in opened:
            tile = tab.section("Now").get_by_role("link", name="Confirmed")
            await tile.get_by_text("7", exact=True).wait_for()
            assert tab.errors == []


class Size(NamedTuple):
    """What a tab holds: bytes, nodes and listeners."""

    heap: int
    nodes: int
    listeners: int


async def measure(session: CDPSession) -> Size:
    """Collect the garbage, and measure what is left."""
    await session.send("HeapProfiler.collectGarbage")
    heap = await session.send("Runtime.getHeapUsage")
    counters = await session.send("Memory.getDOMCounters")
    return Size(heap["usedSize"], counters["nodes"], counters["jsEventListeners"])


async def test_a_tab_does_not_grow(metrics_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "GAP_S", 0.02)
    monkeypatch.setattr(live_module, "LEAST_GAP_S", 0.01)
    monkeypatch.setattr(live_module, "HEALTH_S", 0.0)
    async with open_shop(metrics_dsn) as shop, browsing() as tabs:
        tab = await tabs.open(f"{shop.address}/?by=type&step=confirm")
        await tab.live()
        session = await tabs.context.new_cdp_session(tab.page)
        sizes = []
        for events in (WARM, MORE):
            for _ in range(events):
                await shop.send(*shop.sale())
            await tab.section("Now").get_by_text(str(shop.bookings - 2), exact=True).wait_for()
            sizes.append(await measure(session))
        before, after = sizes
        assert after.heap < before.heap * 1.25
        assert after.nodes < before.nodes * 1.1
        assert after.listeners < before.listeners * 1.1
        assert tab.errors == []
