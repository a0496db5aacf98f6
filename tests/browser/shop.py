"""A service with the figures of a small shop, whose every text is as a stranger may choose it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Final

from protos.tracking.v1.event_pb2 import BookingFact, Event, PackageViewed
from tests.metrics.running_service import Producer, Service, running, until
from tests.metrics.state.log import MINUTE, SECOND, Log, holder

MS: Final = 1_000

HOSTILE: Final = '\x1b[31m\0\u202e[red]">&lt;<script>h=1</script><img src=x onerror=h=1>'
"""Markup of pages and of terminals, and characters that are not seen or turn the text round, as
short as the shortest text that is kept whole. What runs of it sets `h`.
"""

SHOWN: Final = HOSTILE.translate({ord(c): f"\\u{ord(c):04x}" for c in "\x1b\0\u202e"})
"""The same as the page shows it."""


class Shop:
    """Sends events to a service, as a booking_service would."""

    def __init__(self, service: Service, producer: Producer) -> None:
        self.service = service
        self._producer = producer
        self._log = Log(time.time_ns() // 1_000)
        self.bookings = 0

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.service.http_port}"

    async def send(self, *events: Event) -> None:
        """Send events, and wait until they are counted."""
        before = self._counted()
        self._producer.facts.add(list(events))
        await until(lambda: self._counted() >= before + len(events), "the events")

    async def open(self, text: str = "stay") -> None:
        """Sell, refuse and be slow for the first time, with a text wherever a stranger has one."""
        log = self._log
        await self.send(
            *(event for _ in range(6) for event in self.sale(text)),
            *self.sale(text, steps=1),
            *self.sale(text, steps=0),
            log.define(1, "bookings.confirm", f"SELECT '{text}' FROM t WHERE a = $1"),
            log.define(2, text, f"SELECT {text}"),
            log.queries([3 * MS] * 40, fingerprint=1, rows=2),
            log.queries([1_400 * MS, 20 * MS], fingerprint=2),
            log.running(9, 800 * MS, blockers=[holder(4711)]),
            log.plan(1, text),
            log.refused(log.now_us - SECOND, text, rpc=text),
            log.refused(log.now_us - SECOND, "SOLD_OUT", "availability"),
            log.tally(log.now_us, ok=50, refused=2, rpc=text, queries=100, most=4),
        )

    def sale(self, text: str = "stay", *, steps: int = 3) -> Iterator[Event]:
        """The events of one session: a view, and so many steps of a booking."""
        self.bookings += 1
        now_us = time.time_ns() // 1_000 - MINUTE
        session = f"{text}-{self.bookings}"
        viewed = PackageViewed(
            package_id=text, user_id=text, package_type=text, location=text, vendor_id=text
        )
        yield Event(
            event_id=self._log.event_id(),
            time_us=now_us,
            session_id=session,
            package_viewed=viewed,
        )
        transitions = (BookingFact.STARTED, BookingFact.COMPLETED, BookingFact.CONFIRMED)
        for version, transition in enumerate(transitions[:steps], start=1):
            fact = BookingFact(
                transition=transition,
                version=version,
                booking_id=f"{self.bookings}-{text}",
                package_id=text,
                vendor_id=text,
                package_type=text,
                location=text,
                user_id=text,
                quantity=1,
                hold_time_us=now_us + SECOND,
                complete_time_us=now_us + 2 * SECOND if version > 1 else 0,
                confirm_time_us=now_us + 3 * SECOND if version > 2 else 0,
                amount_minor=10_000,
                currency="EUR",
            )
            yield Event(
                event_id=self._log.event_id(),
                time_us=now_us + version * SECOND,
                session_id=session,
                booking=fact,
            )

    def refusals(self, reason: str, count: int) -> list[Event]:
        """So many refusals that count as errors."""
        return [self._log.refused(time.time_ns() // 1_000, reason) for _ in range(count)]

    def _counted(self) -> int:
        return self.service.server.engine.state.metrics(None).quality.events


@contextlib.asynccontextmanager
async def open_shop(dsn: str, text: str = "stay", **variables: str) -> AsyncIterator[Shop]:
    """A service with some figures, with a text wherever a stranger has one."""
    # Sessions are listed as of the newest checkpoint.
    variables.setdefault("METRICS_CHECKPOINT_INTERVAL_S", "1")
    async with running(dsn, **variables) as service, Producer(service) as producer:
        shop = Shop(service, producer)
        await shop.open(text)
        yield shop
