"""A real browser, and what its tabs do that they should not."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

from playwright.async_api import (
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    async_playwright,
    expect,
)

from tests.requires import program

BOUND_MS: Final = 45_000
"""For whatever is awaited of a page, on a slow machine too."""

expect.set_options(timeout=BOUND_MS)


@dataclass
class Tab:
    """A page, with the addresses it asked for and the errors it told of."""

    page: Page
    asked: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def note(self, line: ConsoleMessage) -> None:
        """Note what the console says is wrong."""
        if line.type in ("error", "warning"):
            self.errors.append(line.text)

    @property
    def head(self) -> Locator:
        """What is always in sight."""
        return self.page.locator("#head")

    def section(self, name: str) -> Locator:
        """A section by its heading."""
        return self.page.get_by_role("region", name=name, exact=True)

    async def live(self) -> None:
        """Wait until all it shows is of now."""
        await expect(self.head).to_contain_text("Live")
        await expect(self.page.locator("main .skeleton")).to_have_count(0)


class Tabs:
    """Opens tabs of one browser."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context

    async def open(self, address: str) -> Tab:
        """Open a tab, and note what it does from the beginning."""
        page = await self.context.new_page()
        tab = Tab(page)
        page.on("request", lambda request: tab.asked.append(request.url))
        page.on("pageerror", lambda error: tab.errors.append(str(error)))
        page.on("console", tab.note)
        await page.goto(address)
        return tab


@contextlib.asynccontextmanager
async def browsing(**options: Any) -> AsyncIterator[Tabs]:
    """A new browser without a past; options are those of playwright's new_context."""
    path = program("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path)
        try:
            context = await browser.new_context(**options)
            context.set_default_timeout(BOUND_MS)
            yield Tabs(context)
        finally:
            await browser.close()
