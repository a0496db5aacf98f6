"""What strangers have chosen is text on the page, and what they put into it does not run."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from playwright.async_api import expect

from tests.browser.shop import HOSTILE, SHOWN, open_shop
from tests.browser.tabs import Tab, browsing

pytestmark = [pytest.mark.processes, pytest.mark.full, pytest.mark.timeout(180)]

INJECTED = """async (elsewhere) => {
  const told = [];
  addEventListener('securitypolicyviolation', (event) => told.push(event.effectiveDirective));
  const inline = document.createElement('script');
  inline.textContent = 'window.h = "inline"';
  const far = document.createElement('script');
  far.src = `${elsewhere}/assets/main.js`;
  const box = document.createElement('div');
  box.innerHTML = `<img src="data:,x" onerror="window.h = 'handler'">
    <a href="javascript:window.h='link'">x</a><p style="color: red">x</p>
    <form action="/none"><button>x</button></form><object data="/"></object>`;
  const frame = document.createElement('iframe');
  frame.src = '/';
  document.body.append(inline, far, box, frame);
  box.querySelector('a').click();
  box.querySelector('button').click();
  // What the browser is told to evaluate may itself evaluate; a timer of the page may not.
  setTimeout(() => eval('window.h = "eval"'), 0);
  await fetch(`${elsewhere}/api/rpc/GetMetrics`).catch(() => told.push('fetch'));
  await new Promise((done) => setTimeout(done, 500));
  return told;
}"""


async def assert_text(tab: Tab) -> None:
    """What is shown is text: nothing of it was made an element, and nothing has run."""
    assert await tab.page.evaluate("window.h") is None
    assert await tab.page.locator("script").count() == 1
    assert await tab.page.locator("img").count() == 0
    text = await tab.page.locator("body").inner_text()
    assert not set(text) & set("\x1b\0\u202e")
    assert tab.errors == []


async def test_hostile_texts_are_text_everywhere(metrics_dsn: str) -> None:
    async with open_shop(metrics_dsn, HOSTILE) as shop, browsing() as tabs:
        tab = await tabs.open(f"{shop.address}/?by=type&step=confirm&group=fingerprint")
        await tab.live()
        for name in ("Funnel", "Queries", "Errors", "Business", "Slow and blocked now"):
            await expect(tab.section(name).get_by_text(SHOWN).first, name).to_be_attached()
        await assert_text(tab)
        for by in ("location", "vendor", "package"):
            await tab.page.get_by_role("group", name="Split by").get_by_text(by).click()
            await expect(
                tab.section("Funnel").locator(f"#groups >> text={SHOWN[:5]}")
            ).to_be_visible()
        await assert_text(tab)
        await tab.page.goto(f"{shop.address}/errors/{quote(HOSTILE, safe='')}")
        await tab.live()
        await expect(tab.page.locator("main").get_by_text(SHOWN).first).to_be_attached()
        await assert_text(tab)
        await tab.page.goto(f"{shop.address}/?step=start")
        # A session whose name has characters that are not seen is listed by a digest of it.
        await tab.section("Funnel").get_by_role("link", name="~").first.click()
        await expect(tab.section("Journey")).to_contain_text(SHOWN[-20:])
        await assert_text(tab)
        await tab.page.goto(shop.address)
        await tab.section("Alerts").get_by_role("link", name="slow_query").click()
        await expect(tab.section("slow_query")).to_contain_text(SHOWN)
        await assert_text(tab)
        await tab.page.goto(f"{shop.address}/?group=fingerprint")
        await tab.section("Queries").get_by_role("link", name=SHOWN).click()
        await expect(tab.page).to_have_url(re.compile("/queries/"))
        await expect(tab.page.locator("main").get_by_text(f"SELECT {SHOWN}")).to_be_attached()
        await assert_text(tab)


async def test_an_injected_script_does_not_run(metrics_dsn: str) -> None:
    async with open_shop(metrics_dsn) as shop, browsing() as tabs:
        tab = await tabs.open(shop.address)
        await tab.live()
        address = tab.page.url
        told = await tab.page.evaluate(INJECTED, shop.address.replace("127.0.0.1", "localhost"))
        assert await tab.page.evaluate("window.h") is None
        assert tab.page.url == address
        assert set(told) >= {
            "script-src-elem",
            "script-src-attr",
            "style-src-attr",
            "form-action",
            "object-src",
            "frame-src",
            "connect-src",
            "script-src",
            "fetch",
        }


async def test_no_other_site_shows_or_reads_the_page(metrics_dsn: str) -> None:
    async with open_shop(metrics_dsn) as shop, browsing() as tabs:
        page = await tabs.context.new_page()
        # The name of a stranger's page that points to this address.
        stranger = shop.address.replace("127.0.0.1", "farehold.test")
        answer = await tabs.context.request.get(
            f"{shop.address}/", headers={"Host": stranger.removeprefix("http://")}
        )
        assert answer.status == 421
        await page.goto(shop.address.replace("127.0.0.1", "localhost") + "/none")
        await page.set_content(f'<iframe src="{shop.address}/"></iframe>')
        frame = page.frame_locator("iframe")
        await expect(frame.locator("body")).not_to_contain_text("Farehold")
        read = "url => fetch(url).then(() => 'read', () => 'refused')"
        assert await page.evaluate(read, f"{shop.address}/api/rpc/GetMetrics") == "refused"
        assert await page.evaluate(read, f"{shop.address}/api/stream") == "refused"
