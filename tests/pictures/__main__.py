"""Renders the page into docs/pictures: on the replay and on the history of the bookings, light and
dark, wide and narrow, and in each of its states. Needs Debian's chromium.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, Page, sync_playwright

from servicekit.binaries import free_port

ROOT: Final = Path(__file__).resolve().parents[2]
PICTURES: Final = ROOT / "docs" / "pictures"
STATES: Final = Path(__file__).with_name("states.js")
SIZES: Final = {"wide": (1280, 800), "narrow": (390, 844)}
SCHEMES: Final = ("light", "dark")
# What the page shows of each database, and the line after which all of it is there.
PLACES: Final = {
    "replay": ("/?range=15m&tz=utc", "The services go on"),
    "history": ("/?range=30d&span=2y&tz=utc", "Ctrl-C stops everything"),
}
# The states, by the address that shows them; states.js brings the page into each.
SHOWN: Final = {
    "loading": "/",
    "paused": "/",
    "reconnecting": "/",
    "stale": "/",
    "standby": "/",
    "log-away": "/",
    "no-data": "/?range=15m&to={hours_ago}",
    "never-had-data": "/",
    "longer-than-history": "/?range=30d",
}
TIMEOUT_MS: Final = 20_000
CHECKPOINT_S: Final = 40


@contextlib.contextmanager
def demo(command: str, until: str, *options: str) -> Iterator[str]:
    """Run the demo on free ports until it has said a line; yields the page's address."""
    http = free_port()
    others = ("BOOKING_PORT", "BOOKING_HTTP_PORT", "METRICS_PORT")
    ports = {"METRICS_HTTP_PORT": http} | {name: free_port() for name in others}
    environ = os.environ | {name: str(port) for name, port in ports.items()}
    environ["METRICS_ENVIRONMENT"] = "demo"
    with tempfile.TemporaryDirectory() as data:
        line = [sys.executable, "-m", "booking_service.demo", command, "--data", data, *options]
        with subprocess.Popen(
            line, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True
        ) as run:
            try:
                assert run.stdout is not None
                for told in run.stdout:
                    print(told, end="")
                    if until in told:
                        break
                else:
                    sys.exit(f"{command} ended early")
                yield f"http://127.0.0.1:{http}"
            finally:
                run.send_signal(signal.SIGINT)


def settle(page: Page) -> None:
    """Wait until nothing is loading."""
    page.wait_for_selector("section#deployments, section#detail")
    page.wait_for_selector(".skeleton", state="detached", timeout=TIMEOUT_MS)


def save(page: Page, name: str) -> None:
    """Keep what is in sight."""
    path = PICTURES / f"{name}.png"
    page.screenshot(path=path)
    print(f"{path.relative_to(ROOT)}, {path.stat().st_size // 1000} kB")


def of_figures(browser: Browser, name: str, url: str) -> None:
    """Render the page in both schemes and both sizes."""
    for scheme in SCHEMES:
        for size, (width, height) in SIZES.items():
            page = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme="dark" if scheme == "dark" else "light",
                locale="en-GB",
            )
            page.goto(url)
            settle(page)
            save(page, f"{name}-{scheme}-{size}")
            page.close()


def of_states(browser: Browser, url: str) -> None:
    """Render each state, by a stream that is not the service's."""
    hours_ago = (datetime.now(UTC) - timedelta(hours=10)).strftime("%Y-%m-%dT%H:%M:%SZ")
    for state, path in SHOWN.items():
        page = browser.new_page(viewport={"width": 1280, "height": 800}, locale="en-GB")
        page.add_init_script(path=STATES)
        page.goto(f"{url}{path.format(hours_ago=hours_ago)}#state={state}")
        page.wait_for_selector(f"html[data-state='{state}']", timeout=TIMEOUT_MS)
        if state == "paused":
            page.get_by_role("button", name="Pause").click()
        page.wait_for_timeout(1_500)
        save(page, f"state-{state}")
        page.close()


def main() -> None:
    """Render what the arguments name, or all."""
    arguments = argparse.ArgumentParser(description="Render the page into docs/pictures.")
    arguments.add_argument("--speed", default="2", help="days of the replay a second")
    arguments.add_argument("--only", choices=PLACES, help="one of the databases")
    given = arguments.parse_args()
    PICTURES.mkdir(exist_ok=True)
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path="/usr/bin/chromium")
        for name, (path, until) in PLACES.items():
            if given.only in (None, name):
                options = ("--speed", given.speed, "--tight") if name == "replay" else ()
                with demo(name if name == "history" else "run", until, *options) as url:
                    # The history is charted from what a checkpoint has stored.
                    time.sleep(CHECKPOINT_S if name == "history" else 0)
                    of_figures(browser, name, url + path)
                    if name == "replay":
                        of_states(browser, url)
        browser.close()


if __name__ == "__main__":
    main()
