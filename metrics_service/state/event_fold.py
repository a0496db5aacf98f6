"""Takes each event to the figures it changes: every event counts once, facts at their own time,
telemetry at a time that can be true.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from metrics_service.state.batch import FACTS, Item
from metrics_service.state.business import BusinessFold
from metrics_service.state.checkpointed import Checkpointed
from metrics_service.state.errors import (
    BOOKING_FAILED,
    PAYMENT_FAILED,
    ErrorFold,
    front_end_key,
    refusal_key,
)
from metrics_service.state.figures import int64
from metrics_service.state.funnel.funnel import FunnelFold
from metrics_service.state.quality import COUNTERS, Quality
from metrics_service.state.queries.columns import MAX_DURATION_US, Columns
from metrics_service.state.queries.critical import CriticalQueries
from metrics_service.state.queries.recent import RecentQueries
from metrics_service.state.queries.slowest import SlowestQueries
from metrics_service.state.queries.stats import QueryFold
from metrics_service.state.recent_keys import RecentKeys
from metrics_service.state.record import LogRecord
from metrics_service.state.rpcs import RpcFold
from metrics_service.state.series.rings import HOUR_US, SECOND_US
from protos.tracking.v1 import event_pb2

# Telemetry outside of these, by the time it was received, gets that time.
AHEAD_US = 60 * SECOND_US
BEHIND_US = 24 * HOUR_US

SEEN_EVENTS = 65_536
SEEN_BOOKINGS = 50_000

_EVENT_ID_BYTES = 16
_VIEW, _START, _COMPLETE, _CONFIRM = range(4)
# Beside the bits of a booking's steps: its booking time is counted.
_TIMED = 1 << 8

_Fact = event_pb2.BookingFact
_FACT_STEPS = {_Fact.STARTED: _START, _Fact.COMPLETED: _COMPLETE, _Fact.CONFIRMED: _CONFIRM}
_Flow = event_pb2.FlowStep
_FLOW_STEPS = {
    _Flow.VIEW: _VIEW,
    _Flow.START: _START,
    _Flow.COMPLETE: _COMPLETE,
    _Flow.CONFIRM: _CONFIRM,
}


class EventFold:
    """All figures, and the one way for an event to reach them."""

    def __init__(self) -> None:
        self.quality = Quality()
        self.funnel = FunnelFold()
        self.business = BusinessFold()
        self.errors = ErrorFold()
        self.rpcs = RpcFold()
        self.queries = QueryFold()
        self.recent = RecentQueries()
        self.slowest = SlowestQueries()
        self.critical = CriticalQueries()
        self.anonymous_actors = 0
        self._seen_events = RecentKeys("seen_events", SEEN_EVENTS)
        self._seen_bookings = RecentKeys("seen_bookings", SEEN_BOOKINGS)
        self._parts: tuple[Checkpointed, ...] = (
            self.funnel,
            self.business,
            self.errors,
            self.rpcs,
            self.queries,
            self.recent,
            self.slowest,
            self._seen_events,
            self._seen_bookings,
        )
        self._handlers = {
            "booking": self._booking,
            "payment": self._payment,
            "package_viewed": self._package_viewed,
            "rpc_refused": self._rpc_refused,
            "rpc_tally": self._rpc_tally,
            "flow_step": self._flow_step,
            "query_definitions": self._query_definitions,
            "query_plan": self._query_plan,
            "telemetry_loss": self._telemetry_loss,
        }

    def advance(self, now_us: int, running_us: int) -> None:
        """Let time pass (see FunnelFold.advance)."""
        self.funnel.advance(now_us, running_us)
        self.business.rings.advance(now_us)
        self.errors.advance(now_us)
        self.rpcs.rings.advance(now_us)
        self.queries.advance(now_us)
        self.slowest.advance(now_us)

    def prepare(self) -> Iterator[None]:
        """See Rings.prepare."""
        yield from self.funnel.prepare()
        for rings in (self.business.rings, self.errors.rings, self.rpcs.rings):
            yield from rings.prepare()
        yield from self.queries.prepare()

    def apply(self, items: Sequence[Item], record: LogRecord) -> None:
        """Count the events of a batch."""
        quality = self.quality
        mark = self._seen_events.mark
        for event, body, columns in items:
            event_id = event.event_id
            if len(event_id) == _EVENT_ID_BYTES and not mark(event_id):
                quality.duplicates += 1
                continue
            quality.events += 1
            if body in FACTS:
                quality.facts += 1
                self._handlers[body](event, event.time_us)
                continue
            quality.telemetry_events += 1
            if columns is not None:
                self._query_timings(event.query_timings, columns, record)
            elif body == "running_query":
                observed_us = self._telemetry_time_us(event.time_us, record)
                self.slowest.observe(
                    event.running_query, observed_us, record, self.queries.fingerprints
                )
            elif body:
                self._handlers[body](event, self._telemetry_time_us(event.time_us, record))

    def unclean_end(self, record: LogRecord) -> None:
        """A producer ended without a Goodbye, and what it ran ended with it."""
        self.quality.unclean_ends += 1
        self.slowest.drop(record.instance, record.epoch + 1)

    def evicted(self) -> dict[str, int]:
        """What bounds pushed out, by table."""
        return {
            "actors": self.funnel.evicted,
            **self.business.evicted(),
            **self.errors.evicted(),
            **self.rpcs.evicted(),
            **self.queries.evicted(),
            **self.slowest.evicted(),
        }

    def counters(self) -> dict[str, int]:
        """Every counter that no row of dump() holds."""
        return {
            **self.quality.counters(),
            "anonymous_actors": self.anonymous_actors,
            "late": self.funnel.late,
            "evicted_actors": self.funnel.evicted,
            "evicted_currencies": self.business.evicted_currencies,
            "evicted_error_times": self.errors.evicted_times,
            "evicted_operations": self.queries.evicted_operations,
            "evicted_fingerprints": self.queries.fingerprints.evicted_fingerprints,
            "evicted_query_definitions": self.queries.fingerprints.evicted_definitions,
        }

    def dump(self) -> Iterator[tuple[str, int, bytes]]:
        """Rows (section, bucket, bytes) of a checkpoint; a section begins with its table's name."""
        for part in self._parts:
            yield from part.dump()

    def load(
        self,
        rows: Iterable[tuple[str, int, bytes]],
        counters: Mapping[str, int],
        now_us: int,
        running_us: int,
    ) -> None:
        """Take back what dump() and counters() gave at now_us; rows in order of section and bucket.

        KeyError for a table that is not kept, ValueError for rows that do not fit.
        """
        owners = {name: part for part in self._parts for name in part.tables}
        for section, bucket, data in rows:
            owners[section.partition(".")[0]].load(section, bucket, data)
        self.quality = Quality({name: counters[name] for name in COUNTERS})
        self.anonymous_actors = counters["anonymous_actors"]
        self.funnel.late = counters["late"]
        self.funnel.evicted = counters["evicted_actors"]
        self.business.evicted_currencies = counters["evicted_currencies"]
        self.errors.evicted_times = counters["evicted_error_times"]
        self.queries.evicted_operations = counters["evicted_operations"]
        self.queries.fingerprints.evicted_fingerprints = counters["evicted_fingerprints"]
        self.queries.fingerprints.evicted_definitions = counters["evicted_query_definitions"]
        self.funnel.loaded()
        self.advance(now_us, running_us)

    def _booking(self, event: event_pb2.Event, time_us: int) -> None:
        fact = event.booking
        self.business.count_booking(fact, time_us)
        transition = fact.transition
        step = _FACT_STEPS.get(transition)
        if step is not None:
            booking_id = fact.booking_id
            if transition == _Fact.COMPLETED and fact.hold_time_us and fact.complete_time_us:
                duration_us = fact.complete_time_us - fact.hold_time_us
                self._booking_time(booking_id, time_us, duration_us)
            if self._first(booking_id, 1 << step):
                self.funnel.step(self._actor(event, fact.user_id), step, time_us)
        elif transition in (_Fact.ABANDONED, _Fact.EXPIRED):
            self.funnel.abandon(self._actor(event, fact.user_id), time_us)
        elif transition == _Fact.FAILED:
            self.errors.add(BOOKING_FAILED, time_us)

    def _payment(self, event: event_pb2.Event, time_us: int) -> None:
        fact = event.payment
        self.business.count_payment(fact)
        if fact.kind == event_pb2.PaymentFact.FAILED:
            self.errors.add(PAYMENT_FAILED, time_us)

    def _package_viewed(self, event: event_pb2.Event, time_us: int) -> None:
        self.funnel.step(self._actor(event, event.package_viewed.user_id), _VIEW, time_us)

    def _rpc_refused(self, event: event_pb2.Event, time_us: int) -> None:
        self.errors.add(refusal_key(event.rpc_refused), time_us)

    def _rpc_tally(self, event: event_pb2.Event, time_us: int) -> None:
        self.errors.tally(event.rpc_tally, time_us)
        self.rpcs.tally(event.rpc_tally, time_us)

    def _flow_step(self, event: event_pb2.Event, time_us: int) -> None:
        """A front end's steps move its actor's chain; what a fact says too counts once."""
        flow = event.flow_step
        kind = flow.step
        if kind == _Flow.ERROR:
            self.errors.add(front_end_key(flow), time_us)
        elif kind == _Flow.ABANDON:
            self.funnel.abandon(self._actor(event, flow.user_id), time_us)
        elif (step := _FLOW_STEPS.get(kind)) is not None:
            booking_id = flow.booking_id
            if kind == _Flow.COMPLETE and flow.duration_us > 0:
                started = self._seen_bookings.flags(booking_id) & 1 << _START
                if not booking_id or not started:
                    self._booking_time(booking_id, time_us, flow.duration_us)
            if self._first(booking_id, 1 << step):
                self.funnel.step(self._actor(event, flow.user_id), step, time_us)

    def _query_definitions(self, event: event_pb2.Event, _time_us: int) -> None:
        for definition in event.query_definitions.definitions:
            self.queries.define(definition)

    def _query_plan(self, event: event_pb2.Event, _time_us: int) -> None:
        self.slowest.add_plan(event.query_plan)

    def _telemetry_loss(self, event: event_pb2.Event, _time_us: int) -> None:
        loss = event.telemetry_loss
        quality = self.quality
        quality.dropped_events = int64(quality.dropped_events + loss.dropped_events)
        quality.dropped_timings = int64(quality.dropped_timings + loss.dropped_timings)

    def _query_timings(
        self, timings: event_pb2.QueryTimings, columns: Columns, record: LogRecord
    ) -> None:
        start_us = columns.start_us
        corrected_us: list[int] = []
        self.quality.query_timings += len(start_us)
        if start_us and not record.backfill:
            received_us = record.received_at_us
            earliest_us, latest_us = received_us - BEHIND_US, received_us + AHEAD_US
            if min(start_us) < earliest_us or max(start_us) > latest_us:
                possible = [earliest_us <= time_us <= latest_us for time_us in start_us]
                self.quality.skewed += possible.count(False)
                start_us[:] = [
                    time_us if ok else received_us
                    for time_us, ok in zip(start_us, possible, strict=True)
                ]
                corrected_us = start_us
        self.queries.add(columns)
        self.recent.add(timings, record.instance, corrected_us)
        self.slowest.add_ended(timings, columns, record, self.queries.fingerprints)
        self.critical.add(timings, columns, record.instance)

    def _telemetry_time_us(self, time_us: int, record: LogRecord) -> int:
        received_us = record.received_at_us
        if record.backfill or received_us - BEHIND_US <= time_us <= received_us + AHEAD_US:
            return time_us
        self.quality.skewed += 1
        return received_us

    def _booking_time(self, booking_id: str, time_us: int, duration_us: int) -> None:
        if 0 <= duration_us <= MAX_DURATION_US and self._first(booking_id, _TIMED):
            self.business.count_booking_time(time_us, duration_us)

    def _first(self, booking_id: str, flag: int) -> bool:
        """Whether this is the first time for the booking; always, where none is named."""
        return not booking_id or self._seen_bookings.mark(booking_id, flag)

    def _actor(self, event: event_pb2.Event, user_id: str) -> str:
        """The session, else the user, else nobody seen before; the first byte keeps them apart."""
        session_id = event.session_id
        if session_id:
            return session_id
        if user_id:
            return f"\x00{user_id}"
        self.anonymous_actors += 1
        return f"\x01{self.anonymous_actors}"
