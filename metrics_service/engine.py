"""The loop from the log to the state: every record is folded once, in the order of positions,
across restarts of the process and the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import structlog

from metrics_service.eventlog.event_log import EventLog
from metrics_service.eventlog.recovery import Quarantine, Repair, UnreadableError, reason_of
from metrics_service.eventlog.saved_state import SavedState
from metrics_service.eventlog.shown import Shown
from metrics_service.state.fold import VERSION, State
from metrics_service.state.record import LogRecord
from metrics_service.storage.errors import CheckpointConflictError, LogUnavailableError, line_of
from servicekit.background import SLICE_S, BackgroundTask, TimeSlice

log = structlog.get_logger()

CHECKPOINT_INTERVAL_S: Final = 30.0
CHECKPOINT_EVENTS: Final = 200_000
CHECKPOINT_FOLDING_S: Final = 5.0
"""A checkpoint is written after folding for this long, which is what a restart has to do again."""

PREPARE_INTERVAL_S: Final = 10.0
PREPARE_PAUSE_S: Final = 4 * SLICE_S
"""How often completed buckets are added up for long windows, and the pause after each slice."""

MAX_SPAN_US: Final = 10 * 86_400_000_000
"""A checkpoint is written after so much time of the log, which passes in a moment where history is
loaded: what the rings drop is to be stored before.
"""

MAX_INBOX_BYTES: Final = 32 * 1024 * 1024
"""Of records received and not folded; beyond it they are read from the log again."""

MIN_CHECK_INTERVAL_S: Final = 10.0
"""The least time between two checks of the state for answers that failed."""

RETRY_S: Final = 0.5
FINAL_FOLD_S: Final = 1.0
FINAL_CHECKPOINT_S: Final = 2.0


class Engine:
    """Owns the state. One task changes it, so that between two awaits it is of whole records."""

    def __init__(
        self,
        event_log: EventLog,
        *,
        checkpoint_interval_s: float = CHECKPOINT_INTERVAL_S,
        checkpoint_events: int = CHECKPOINT_EVENTS,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state = State()
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._log = event_log
        self._checkpoint_interval_s = checkpoint_interval_s
        self._checkpoint_events = checkpoint_events
        self._monotonic_s = monotonic_s
        self._inbox: deque[LogRecord] = deque()
        self._inbox_bytes = 0
        self._wake = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []
        self._folding = BackgroundTask("fold")
        self._preparing = BackgroundTask("prepare reads")
        # The sums for reads of long windows were made once.
        self.prepared = asyncio.Event()
        # Whether the state may be written: it was restored, and no record has broken it.
        self._whole = False
        self._quarantine = Quarantine(monotonic_s)
        self._repair = Repair(event_log, self._quarantine)
        self._suspected, self._checked_s = False, -MIN_CHECK_INTERVAL_S
        self.saved: Final = SavedState(event_log)
        self._saved_s = 0.0
        self._events_since, self._folding_since_s = 0, 0.0
        self._started_from = 0

    async def start(self) -> None:
        """Wait to be the writer, restore the state from checkpoint and log, and start to fold.

        Raises LogUnavailableError when the database is lost meanwhile.
        """
        self._log.subscribe(self._on_records)
        await self._log.wait_leading()
        self.state = await self.saved.restore(State, VERSION)
        self._started_from = self.position
        self._saved_s = self._monotonic_s()
        self._whole = True
        await self._catch_up()
        self._folding.start(self._run())
        self._preparing.start(self._prepare())

    async def stop(self) -> None:
        """Fold what can be folded in time, also of a start, write a last checkpoint, and end."""
        await self._preparing.stop()
        await self._folding.stop()
        if self._whole and not self.failure.done() and self._log.leading:
            with contextlib.suppress(TimeoutError, LogUnavailableError):
                async with asyncio.timeout(FINAL_FOLD_S):
                    while await self._fold_next():
                        pass
            try:
                async with asyncio.timeout(FINAL_CHECKPOINT_S):
                    if self._whole:
                        await self._checkpoint()
            except (TimeoutError, CheckpointConflictError) as reason:
                log.warning("final_checkpoint_skipped", reason=line_of(reason))
        if self.failure.done():
            self.failure.exception()
        self.failure.cancel()

    @property
    def position(self) -> int:
        """The position of the last folded record."""
        return self.state.position

    @property
    def folded(self) -> int:
        """The number of records folded since the start."""
        return self.position - self._started_from

    def current_state(self) -> State:
        """Return the state to read; while a broken one is repaired, the last whole one. Raises
        UnreadableError where none is known.
        """
        state = self._repair.good if self._repair.under_way else self.state
        if state is None:
            raise UnreadableError("the figures are folded again without a record that broke them")
        return state

    def suspect(self) -> None:
        """Have the state checked soon, and repaired: an answer could not be made from it."""
        self._suspected = True
        self._wake.set()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call listener after records were folded; several records may share one call."""
        self._listeners.append(listener)

    def _on_records(self, records: list[LogRecord]) -> None:
        size = sum(len(record.payload) for record in records)
        if self._inbox_bytes + size > MAX_INBOX_BYTES:
            self._inbox.clear()
            self._inbox_bytes = 0
        else:
            self._inbox.extend(records)
            self._inbox_bytes += size
        self._wake.set()

    async def _run(self) -> None:
        try:
            while True:
                self._wake.clear()
                try:
                    await self._catch_up()
                except LogUnavailableError:
                    await asyncio.sleep(RETRY_S)
                    continue
                if self._suspected:
                    await self._check()
                if self._checkpoint_due():
                    await self._checkpoint()
                await self._wake.wait()
        except Exception as failure:
            log.critical("fold_failed", position=self.position, exc_info=True)
            if not self.failure.done():
                self.failure.set_exception(failure)

    async def _prepare(self) -> None:
        while True:
            try:
                turn = TimeSlice(self._monotonic_s)
                await turn.run(self.state.prepare(), PREPARE_PAUSE_S)
            except Exception:
                # A read adds up what it needs itself; what it cannot, the check finds.
                log.exception("read_preparation_failed")
                self.suspect()
            self.prepared.set()
            await asyncio.sleep(PREPARE_INTERVAL_S)

    async def _catch_up(self) -> None:
        """Fold every stored record, and write the checkpoints that become due meanwhile."""
        while await self._fold_next():
            if self._checkpoint_due():
                await self._checkpoint()

    async def _fold_next(self) -> bool:
        """Fold the next records: received ones where they continue the state, else a page of the
        log. Returns whether there were any.
        """
        if self._inbox and self._inbox[0].position <= self.position + 1:
            await self._fold(self._take_inbox())
        elif self.position < self._log.last_position:
            page = await self._log.read(self.position)
            if not page:
                raise LogUnavailableError("the newest records cannot be read")
            if page[0].position > self.position + 1:
                log.error("log_gap_found", after=self.position, until=page[0].position)
            await self._fold(page)
        else:
            return False
        return True

    def _take_inbox(self) -> Iterator[LogRecord]:
        """Yield what has been received so far: a checkpoint may be due before what comes then."""
        for _ in range(len(self._inbox)):
            if not self._inbox or self._inbox[0].position > self.position + 1:
                return
            record = self._inbox.popleft()
            self._inbox_bytes -= len(record.payload)
            yield record

    async def _fold(self, records: Iterable[LogRecord]) -> None:
        turn = TimeSlice(self._monotonic_s)
        for record in records:
            if record.position > self.position:
                try:
                    if reason := self.state.apply(record):
                        self._quarantine.name(record, reason)
                    await turn.run(self.state.settle())
                    self.saved.shown.hand_on(self.state)
                except Exception as failure:
                    await self._recover(record.position, failure)
                self._events_since += max(1, min(record.count, len(record.payload)))
            if turn.over:
                self._folding_since_s += turn.spent_s
                self._notify()
                await turn.renew()
        self._folding_since_s += turn.spent_s
        self._notify()

    async def _check(self) -> None:
        """Repair the state if an answer of any kind cannot be made from it; after a check, once
        MIN_CHECK_INTERVAL_S have passed.
        """
        if self._monotonic_s() - self._checked_s < MIN_CHECK_INTERVAL_S:
            return
        self._suspected, self._checked_s = False, self._monotonic_s()
        try:
            await TimeSlice(self._monotonic_s).run(self.state.encode_answers())
        except Exception as failure:
            await self._recover(self.position, failure)

    async def _recover(self, until: int, failure: Exception) -> None:
        """Replace the state, which is broken, by one at `until` without the records that broke it.

        Readers see the last whole state meanwhile.
        """
        log.error("fold_interrupted", position=until, reason=reason_of(failure), exc_info=failure)
        self._whole = False
        shown = Shown.of(self.state)
        state = await self._repair.state_at(until, State, VERSION)
        self.saved.history.repaired(anew=self._repair.anew)
        if self._repair.anew:
            shown.hand_on(state)
        self.state, self._whole = state, True
        self._events_since = self._checkpoint_events
        log.warning("fold_recovered", position=until)
        self._notify()

    def _notify(self) -> None:
        for listener in self._listeners:
            listener()

    def _checkpoint_due(self) -> bool:
        return (
            self._events_since >= self._checkpoint_events
            or self._folding_since_s >= CHECKPOINT_FOLDING_S
            or self.state.journeys.due
            or self.state.history_due
            or 0 < self.saved.as_of_us <= self.state.as_of_us - MAX_SPAN_US
            or self._monotonic_s() - self._saved_s >= self._checkpoint_interval_s
        )

    async def _checkpoint(self) -> None:
        """Write the rows that changed since the last one. Nothing is folded meanwhile."""
        self._saved_s = self._monotonic_s()
        self._events_since, self._folding_since_s = 0, 0.0
        if self.position == self.saved.position:
            return
        try:
            change = await self.saved.change_to(self.state)
        except Exception as failure:
            await self._recover(self.position, failure)
            change = await self.saved.change_to(self.state)
        await self.saved.write(change, self.position, VERSION)
        # Where it is unknown whether it is stored, a repair is to begin with what is.
        self._repair.rows = []
