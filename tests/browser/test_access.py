"""The page without a mouse, without colours and without sight."""

from __future__ import annotations

import re
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

from tests.browser.shop import open_shop
from tests.browser.tabs import Tab, browsing

pytestmark = [pytest.mark.processes, pytest.mark.full, pytest.mark.timeout(180)]

MAX_STEPS = 120
PHONE = {"width": 390, "height": 844}
FOCUSED = """() => {
  const at = document.activeElement;
  if (at === document.body) return null;
  const { outlineStyle, outlineWidth } = getComputedStyle(at);
  const words = at.getAttribute('aria-label') ?? at.textContent;
  const ring = outlineStyle !== 'none' && outlineWidth !== '0px';
  return [at.tagName.toLowerCase(), words.trim(), ring];
}"""


async def focus(tab: Tab, kind: str, words: str) -> None:
    """Press Tab until this has the focus; on the way each that has it can be seen to have it."""
    passed: list[Any] = []
    for _ in range(MAX_STEPS):
        await tab.page.keyboard.press("Tab")
        found = await tab.page.evaluate(FOCUSED)
        if found is None:
            continue
        assert found[2], f"{found} does not show that it is focused"
        passed.append(found[:2])
        if found[:2] == [kind, words]:
            return
    raise AssertionError(f"{kind} {words!r} is not among {passed}")


async def test_everything_works_by_keyboard(metrics_dsn: str) -> None:
    async with open_shop(metrics_dsn) as shop, browsing() as tabs:
        tab = await tabs.open(shop.address)
        await tab.live()
        keyboard = tab.page.keyboard
        await focus(tab, "a", "Skip to the figures")
        await keyboard.press("Enter")
        assert await tab.page.evaluate("document.activeElement.id") == "main"
        await focus(tab, "button", "Start")
        await keyboard.press("Enter")
        await expect(tab.page.get_by_role("button", name="Start", exact=True)).to_have_attribute(
            "aria-expanded", "true"
        )
        await expect(tab.page).to_have_url(re.compile("step=start"))
        # Drawn anew, and still where the reader is.
        assert (await tab.page.evaluate(FOCUSED))[1] == "Start"
        await keyboard.press("Escape")
        await expect(tab.page).not_to_have_url(re.compile("step"))
        await focus(tab, "a", "SOLD_OUT")
        await keyboard.press("Enter")
        await expect(tab.section("SOLD_OUT")).to_be_visible()
        await expect(tab.page).to_have_url(re.compile("/errors/SOLD_OUT$"))
        assert await tab.page.evaluate("document.activeElement.id") == "main"
        await keyboard.press("Escape")
        await expect(tab.section("Funnel")).to_be_visible()
        await tab.page.reload()
        await tab.live()
        await focus(tab, "button", "6h")
        await keyboard.press("Space")
        await expect(tab.page).to_have_url(re.compile("range=6h"))
        await focus(tab, "button", "Pause")
        await keyboard.press("Enter")
        await expect(tab.head).to_contain_text("Paused")
        assert tab.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing(metrics_dsn: str, scheme: str) -> None:
    async with open_shop(metrics_dsn) as shop, browsing(color_scheme=scheme) as tabs:
        tab = await tabs.open(f"{shop.address}/?by=type&step=confirm&vs=previous")
        await tab.live()
        links = [
            await tab.section(name).get_by_role("link").first.get_attribute("href")
            for name in ("Queries", "Slow and blocked now", "Errors")
        ]
        await assert_clean(tab)
        await tab.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
        await assert_clean(tab)
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert await tab.page.evaluate(wide) == 0
        for link in links:
            await tab.page.goto(f"{shop.address}{link}")
            await tab.live()
            await assert_clean(tab)
        assert tab.errors == []


async def assert_clean(tab: Tab) -> None:
    """Run axe, and fail with what it finds."""
    found = await Axe().run(tab.page)
    assert [
        (each["id"], [node["html"][:200] for node in each["nodes"]])
        for each in found.response["violations"]
    ] == []
