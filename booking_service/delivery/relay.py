"""Leads, or waits to lead, and seals the outbox into numbered segments for the tracking stream.

Numbers are dense, a segment never changes, and only the process with the current epoch seals: one
that was frozen and wakes up seals nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Final, Protocol

import structlog

from booking_service.delivery.fact_lane import FactLane
from booking_service.delivery.segments import Epoch, Segments, Trouble, Weight
from booking_service.storage.database import Database
from booking_service.storage.driver_errors import DatabaseError, DatabaseUnavailable
from metrics_service.client.host import LaneSource
from servicekit.background import BackgroundTask

POLL_S: Final = 0.25
"""How often the outbox is read without a commit of this process."""

SPACING_S: Final = 0.02
"""The pause between two seals, so that many commits share a segment."""

RETRY_S: Final = 1.0
"""The pause between two attempts to lead, or to reach the database."""

HOUSEKEEPING_S: Final = 1.0

MAX_BYTES: Final = 4096 * 10**6
"""Of the facts that wait, and of those that are kept."""

log = structlog.get_logger()


class Lanes(Protocol):
    """Sends lanes: the stream client."""

    def add_lane(self, source: LaneSource) -> None: ...

    def remove_lane(self, source: LaneSource) -> None: ...


class OutboxRelay:
    """Seals and streams facts while this process leads; otherwise waits to lead.

    Of all processes on one database, one leads. Facts take `max_bytes` in the outbox and the
    segments: beyond it acknowledged segments are dropped, and then new facts are withheld, which a
    refill sends from the audit trail.
    """

    def __init__(
        self,
        database: Database,
        lanes: Lanes,
        *,
        retention: timedelta = timedelta(hours=24),
        max_bytes: int = MAX_BYTES,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._lanes = lanes
        self._retention = retention
        self._max_bytes = max_bytes
        self._monotonic_s = monotonic_s
        self._committed = asyncio.Event()
        self._lane: FactLane | None = None
        self._pending: int | None = None
        self._weight: Weight | None = None
        self._task = BackgroundTask("outbox-relay")

    @property
    def leading(self) -> bool:
        """Whether this process seals."""
        return self._lane is not None

    @property
    def facts_pending(self) -> int | None:
        """Facts committed and not yet acknowledged, at most a second old, 0 before the first count;
        None unless it leads.
        """
        return (self._pending or 0) if self.leading else None

    @property
    def trouble(self) -> Trouble | None:
        """Why no fact is sent although this process leads; None while all is well."""
        return self._lane.trouble if self._lane is not None else None

    @property
    def facts_withheld(self) -> int | None:
        """Facts that are in the audit trail alone, until a refill sends them; at most a second old,
        None unless this process leads.
        """
        if not self.leading:
            return None
        return self._weight.withheld if self._weight is not None else 0

    @property
    def shortage(self) -> Trouble | None:
        """That facts are, or were, withheld, and no refill has sent them; None while none are."""
        weight = self._weight
        if not self.leading or weight is None or not (weight.withholding or weight.withheld):
            return None
        since = f" since {weight.withheld_from:%Y-%m-%dT%H:%M:%SZ}" if weight.withheld_from else ""
        then = "once metrics_service has taken those that wait" if weight.withholding else "now"
        line = f"{weight.withheld} facts{since} are withheld: `lane refill` sends them {then}"
        return Trouble("withheld", line)

    def notify(self) -> None:
        """Wake the relay after a commit that wrote facts. Never waits."""
        self._committed.set()

    def start(self) -> None:
        self._task.start(self._run())

    async def stop(self) -> None:
        """End and let another process lead. What is not sealed stays in the outbox."""
        await self._task.stop()

    async def _run(self) -> None:
        interrupted = False
        while True:
            try:
                async with Segments.connected(self._database) as segments:
                    leads = await segments.try_lead()
                    while not leads:
                        interrupted = False
                        await segments.withhold_beyond(self._max_bytes)
                        await asyncio.sleep(RETRY_S)
                        leads = await segments.try_lead()
                    again = True
                    while again:
                        # A read-only database lets it connect, and refuses this.
                        epoch = await segments.raise_epoch()
                        interrupted = False
                        again = await self._lead(segments, epoch)
            except (DatabaseUnavailable, DatabaseError) as error:
                if not interrupted:
                    log.warning("outbox_relay_interrupted", reason=str(error))
                interrupted = True
            except Exception:
                # An unforeseen error must not end the delivery of facts.
                log.exception("outbox_relay_failed")
            await asyncio.sleep(RETRY_S)

    async def _lead(self, segments: Segments, epoch: Epoch) -> bool:
        """Seal until the lane ends; return whether a newer epoch has ended it.

        While the connection holds the lock no other process leads: the lane was then begun anew.
        """
        log.info("outbox_leadership_gained", epoch=epoch.number, producer=epoch.producer_id)
        lane = self._lane = FactLane(segments, epoch)
        self._lanes.add_lane(lane)
        housekeeping_at_s = 0.0
        try:
            while not lane.ended:
                self._committed.clear()
                await lane.seal_all()
                if self._monotonic_s() >= housekeeping_at_s:
                    housekeeping_at_s = self._monotonic_s() + HOUSEKEEPING_S
                    self._pending = await segments.pending()
                    await segments.drop_acknowledged(self._retention, self._max_bytes)
                    self._note(await segments.keep_within(self._max_bytes))
                await asyncio.sleep(SPACING_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._committed.wait()
        finally:
            self._lane = self._weight = None
            self._lanes.remove_lane(lane)
            log.info("outbox_leadership_ended", epoch=epoch.number)
        return lane.superseded

    def _note(self, weight: Weight) -> None:
        before, self._weight = self._weight, weight
        was = before is not None and before.withholding
        if weight.withholding and not was:
            log.critical("facts_withheld", bytes=weight.bytes, max_bytes=self._max_bytes)
        elif was and not weight.withholding:
            log.warning("withholding_ended", facts=weight.withheld)
