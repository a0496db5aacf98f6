"""The page in a real browser: complete by itself, live, and its address says what it shows."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httpx
import pytest
from playwright.async_api import expect

from tests.browser.shop import open_shop
from tests.browser.tabs import Tab, browsing
from tests.metrics.running_service import BOUND_S

pytestmark = [pytest.mark.processes, pytest.mark.full, pytest.mark.timeout(180)]

SECTIONS = (
    "Now",
    "Funnel",
    "Alerts",
    "Trends",
    "Slow and blocked now",
    "Queries",
    "Errors",
    "Business",
    "Health and producers",
    "Data quality",
    "Deployment watch",
)


async def test_it_is_complete_and_asks_nobody_but_its_service(metrics_dsn: str) -> None:
    async with open_shop(metrics_dsn) as shop, browsing() as tabs:
        tab = await tabs.open(shop.address)
        await tab.live()
        for name in SECTIONS:
            await expect(tab.section(name)).to_be_visible()
        await expect(tab.page.locator(".problem")).to_have_count(0)
        assert [url for url in tab.asked if not url.startswith(f"{shop.address}/")] == []
        assert tab.errors == []


async def test_an_event_shows_without_a_reload_and_a_table_keeps_its_order(
    metrics_dsn: str,
) -> None:
    async with open_shop(metrics_dsn) as shop, browsing() as tabs:
        tab = await tabs.open(shop.address)
        await tab.live()
        confirmed = tab.section("Now").get_by_role("link", name="Confirmed")
        await expect(confirmed.locator("strong")).to_have_text("6")
        await tab.page.evaluate("window.mark = 1")
        errors = tab.section("Errors").locator("tbody tr")
        before = await errors.all_text_contents()
        await errors.first.hover()
        await shop.send(*shop.sale(), *shop.refusals("DEADLINE_TOO_SHORT", 5))
        await expect(confirmed.locator("strong")).to_have_text("7")
        more = tab.section("Errors").get_by_role("button", name="1 new, show")
        await expect(more).to_be_visible()
        assert [row[:8] for row in await errors.all_text_contents()] == [row[:8] for row in before]
        await more.click()
        await expect(errors).to_have_count(len(before) + 1)
        assert await tab.page.evaluate("window.mark") == 1
        assert tab.errors == []


# The module is the page's own; what it was told is drawn with the next frame.
SHOWN = """async () => {
  const { live } = await import('/assets/data.js');
  const revision = live.snapshot.revision;
  await new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)));
  const links = [...document.querySelectorAll('a')];
  const tile = links.find((each) => each.textContent.startsWith('Confirmed'));
  return [revision, live.snapshot.revision, Number(tile.querySelector('strong').textContent)];
}"""


async def shown_and_told(tab: Tab, address: str) -> list[tuple[int, int]]:
    """Revision and confirmed bookings of the page, and of the RPC over HTTP."""
    first, last, confirmed = await tab.page.evaluate(SHOWN)
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{address}/api/rpc/GetMetrics?window=1h")
    told: Any = answer.json()
    # It may have been drawn of either where they differ.
    drawn = first if first == last else 0
    return [(drawn, confirmed), (told["revision"], told["business"]["confirmed"])]


async def test_confirmed_bookings_are_those_of_the_rpc_at_one_revision(metrics_dsn: str) -> None:
    async with open_shop(metrics_dsn) as shop, browsing() as tabs, asyncio.timeout(BOUND_S):
        tab = await tabs.open(shop.address)
        await tab.live()
        await shop.send(*shop.sale())
        # The log ticks meanwhile: until both have met one revision.
        while len(set(await shown_and_told(tab, shop.address))) > 1:
            pass
        assert {number for _, number in await shown_and_told(tab, shop.address)} == {7}


async def test_the_address_holds_what_is_chosen(metrics_dsn: str) -> None:
    async with open_shop(metrics_dsn) as shop, browsing() as tabs:
        tab = await tabs.open(f"{shop.address}/?range=24h&vs=previous&tz=utc&by=type&step=confirm")
        await tab.live()
        for _ in range(2):
            for label, chosen in (("Range", "24h"), ("Time zone", "UTC"), ("Split by", "type")):
                pressed = tab.page.get_by_role("group", name=label).locator("[aria-pressed=true]")
                await expect(pressed).to_have_text(chosen)
            await expect(tab.page.get_by_label("Compare with")).to_have_value("previous")
            # The compared period is written out.
            await expect(tab.head.locator(".dates")).to_have_text(
                re.compile(r"against .*\d{2}:\d{2}")
            )
            await tab.page.reload()
        await tab.page.get_by_role("button", name="Copy link").click()
        link = await tab.page.get_by_label("Link").input_value()
        assert re.search(r"[?&]to=\d{4}-", link)
        await tab.page.get_by_role("button", name="Keep it relative").click()
        await expect(tab.page.get_by_label("Link")).not_to_have_value(re.compile("[?&]to="))
        await tab.page.goto(link)
        await expect(tab.page.get_by_role("button", name="Back to now")).to_be_visible()
        await expect(tab.section("Funnel")).to_contain_text("sessions entered")
        await tab.page.get_by_role("button", name="1h").click()
        await tab.page.go_back()
        await expect(tab.page.get_by_role("button", name="24h")).to_have_attribute(
            "aria-pressed", "true"
        )
        assert tab.errors == []
