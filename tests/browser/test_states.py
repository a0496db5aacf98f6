"""What the page says of itself: each state of the service and of the connection has its words."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Route, expect

from metrics_service.config import MetricsSettings
from metrics_service.server import MetricsServer
from metrics_service.web import live as live_module
from metrics_service.web.live import Live
from servicekit.binaries import free_port
from tests.browser.shop import open_shop
from tests.browser.tabs import Tab, browsing
from tests.metrics.running_service import running, until
from tests.metrics.service_process import process

pytestmark = [pytest.mark.processes, pytest.mark.full, pytest.mark.timeout(180)]

CONFIRMED = "6"
TILES = 6
NONE = "\u2013"


async def assert_confirmed(tab: Tab, number: str) -> None:
    """The first figure of the page."""
    tile = tab.section("Now").get_by_role("link", name="Confirmed")
    await expect(tile.locator("strong")).to_have_text(number)


async def assert_nothing_is_good(tab: Tab) -> None:
    """What is not known to be so now is not shown as good."""
    await expect(tab.head.locator(".chip.good", has_text="Healthy")).to_have_count(0)
    await expect(tab.head.locator(".chip.good", has_text="Live")).to_have_count(0)


async def test_before_the_first_event_there_is_no_figure(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    come = asyncio.Event()
    tick = Live._tick

    async def held(live: Live, now_s: float) -> None:
        await come.wait()
        await tick(live, now_s)

    async def pass_on(route: Route) -> None:
        await come.wait()
        await route.continue_()

    monkeypatch.setattr(Live, "_tick", held)
    async with open_shop(metrics_dsn) as shop, browsing() as tabs:
        await tabs.context.route("**/api/rpc/**", pass_on)
        tab = await tabs.open(shop.address)
        await expect(tab.head).to_contain_text("Loading")
        await expect(tab.section("Now").locator(".skeleton")).to_have_count(TILES)
        assert not any(each.isdigit() for each in await tab.section("Now").inner_text())
        come.set()
        await tab.live()
        await assert_confirmed(tab, CONFIRMED)


async def test_what_was_never_counted_is_not_zero(metrics_dsn: str) -> None:
    async with running(metrics_dsn) as service, browsing() as tabs:
        tab = await tabs.open(f"http://127.0.0.1:{service.http_port}")
        await expect(tab.head).to_contain_text("Nothing has been counted yet")
        await expect(tab.head.locator("code")).to_have_text("make replay")
        for name in ("Conversion", "Error rate", "Query p95"):
            tile = tab.section("Now").get_by_role("link", name=name)
            await expect(tile.locator("strong")).to_have_text(NONE)
        await expect(tab.section("Funnel")).to_contain_text("No session entered in this time.")
        assert tab.errors == []


async def test_paused_stands_still_until_it_is_resumed(metrics_dsn: str) -> None:
    async with open_shop(metrics_dsn) as shop, browsing() as tabs:
        still, other = await tabs.open(shop.address), await tabs.open(shop.address)
        await still.live()
        await still.page.get_by_role("button", name="Pause").click()
        await expect(still.head).to_contain_text("Paused")
        asked = len(still.asked)
        await shop.send(*shop.sale())
        await assert_confirmed(other, "7")
        await assert_confirmed(still, CONFIRMED)
        assert len(still.asked) == asked
        await still.page.get_by_role("button", name="Resume").click()
        await assert_confirmed(still, "7")
        await still.live()


async def test_a_service_that_is_killed_and_comes_back(metrics_dsn: str) -> None:
    async with open_shop(metrics_dsn):
        pass
    port = str(free_port())
    address = f"http://127.0.0.1:{port}"
    environ = {
        "METRICS_DATABASE_URL": metrics_dsn,
        "METRICS_PORT": str(free_port()),
        "METRICS_HTTP_PORT": port,
    }
    async with browsing() as tabs:
        async with process("serve", **environ) as killed:
            await answering(int(port))
            tab = await tabs.open(address)
            await assert_confirmed(tab, CONFIRMED)
            await expect(tab.head).to_contain_text("Live")
            killed.kill()
            await expect(tab.head).to_contain_text("Reconnecting")
        await assert_nothing_is_good(tab)
        await assert_confirmed(tab, CONFIRMED)
        await tab.page.evaluate("window.mark = 1")
        async with process("serve", **environ):
            await expect(tab.head).to_contain_text("Live")
            await assert_confirmed(tab, CONFIRMED)
        assert await tab.page.evaluate("window.mark") == 1


async def answering(port: int) -> None:
    """Wait until something listens there."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)


class Told:
    """Has the service say something else of itself."""

    def __init__(self, live: Live) -> None:
        self.changes: dict[str, Any] = {}
        self._read = live._read_status
        live._read_status = self

    async def __call__(self) -> dict[str, Any]:
        return {**await self._read(), **self.changes}


async def test_figures_that_are_old_are_not_shown_as_those_of_now(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "STATUS_S", 0.5)
    async with open_shop(metrics_dsn) as shop, browsing() as tabs:
        told = Told(shop.service.server._site.live)
        tab = await tabs.open(shop.address)
        await tab.live()
        told.changes = {"lag_s": 3_600}
        await expect(tab.head).to_contain_text("Stale")
        await expect(tab.head.get_by_role("status")).to_contain_text("The figures are 1 h old.")
        await assert_nothing_is_good(tab)
        await assert_confirmed(tab, CONFIRMED)
        told.changes = {"log": "away"}
        await expect(tab.head.get_by_role("status")).to_contain_text("Bookings go on")
        told.changes = {"data_since": "2020-11-03T00:00:00Z"}
        await expect(tab.head.locator(".since")).to_have_count(0)
        told.changes = {"data_since": "2100-01-01T00:00:00Z"}
        await expect(tab.head.locator(".since")).to_contain_text("data since")
        told.changes = {}
        await tab.live()
        assert tab.errors == []


@contextlib.asynccontextmanager
async def standing_by(dsn: str) -> AsyncIterator[str]:
    """The page of a process that waits to take over."""
    environ = {"METRICS_DATABASE_URL": dsn, "METRICS_PORT": "0", "METRICS_HTTP_PORT": "0"}
    server = MetricsServer(MetricsSettings.load(environ))
    _, port = await server.listen()
    starting = asyncio.create_task(server.start())
    try:
        await until(lambda: server.event_log.standing_by, "the standby")
        yield f"http://127.0.0.1:{port}"
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await server.stop()


async def test_a_standby_says_that_it_is_one(metrics_dsn: str) -> None:
    async with open_shop(metrics_dsn), standing_by(metrics_dsn) as address, browsing() as tabs:
        tab = await tabs.open(address)
        await expect(tab.head.get_by_role("status")).to_contain_text("This process is a standby")
        await assert_nothing_is_good(tab)
