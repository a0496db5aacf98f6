"""Counts each event in the tables it belongs to: every event counts once, facts at their own time,
telemetry at a plausible time. What belongs on the lane of facts is on no other, see batch.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from metrics_service.measure.sums import clamped
from metrics_service.state.batch import EVENT_ID_BYTES, FACTS, OF_FACTS_LANE, Item
from metrics_service.state.breakdown.packages import Groups
from metrics_service.state.errors import (
    BOOKING_FAILED,
    PAYMENT_FAILED,
    front_end_key,
    refusal_key,
)
from metrics_service.state.journeys import journeys
from metrics_service.state.queries.columns import MAX_DURATION_US, Columns, correct_times
from metrics_service.state.record import LogRecord
from metrics_service.state.series.rings import HOUR_US, SECOND_US
from metrics_service.state.tables import Tables
from metrics_service.state.truncate import MAX_ID_BYTES, truncate
from protos.tracking.v1 import event_pb2
from protos.tracking.v1.tracking_pb2 import LANE_FACTS

# Telemetry whose time is further from its receive time than this counts at its receive time.
MAX_AHEAD_US: Final = 60 * SECOND_US
MAX_BEHIND_US: Final = 24 * HOUR_US

# The id of a fact can be foretold: telemetry that has it must not make the fact a repeat.
_SEEN_FACT, _SEEN_TELEMETRY = 1, 2

_VIEW, _START, _COMPLETE, _CONFIRM = range(4)
# Beside the step bits of a booking: its booking time is counted.
_TIMED: Final = 1 << 8

_Fact = event_pb2.BookingFact
_FACT_STEPS: Final = {_Fact.STARTED: _START, _Fact.COMPLETED: _COMPLETE, _Fact.CONFIRMED: _CONFIRM}
# What no RPC has asked for.
_OF_THE_CLOCK: Final = frozenset({_Fact.EXPIRED, _Fact.FULFILLED})
_Flow = event_pb2.FlowStep
_FLOW_STEPS: Final = {
    _Flow.VIEW: _VIEW,
    _Flow.START: _START,
    _Flow.COMPLETE: _COMPLETE,
    _Flow.CONFIRM: _CONFIRM,
}


_Step: TypeAlias = event_pb2.BookingFact | event_pb2.PaymentFact | event_pb2.FlowStep
_Viewed: TypeAlias = _Step | event_pb2.PackageViewed


class EventFold:
    """Writes events to `tables`; nothing else does."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
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

    def apply(self, items: Sequence[Item], record: LogRecord) -> None:
        """Count the events of a batch, but for its repeats and events whose id was seen before."""
        quality = self._tables.quality
        mark = self._tables.seen_events.mark
        self._tables.journeys.changes.received_us = record.received_at_us
        repeats = frozenset(record.repeats)
        resent, known = self._tables.facts_resent, quality.duplicates
        # Before this index are facts of the audit trail, which may be ones that were lacking.
        refilled_to = 0
        for index, (event, body, columns) in enumerate(items):
            if index in repeats:
                quality.duplicates += 1
                continue
            event_id = event.event_id
            seen = _SEEN_FACT if body in OF_FACTS_LANE else _SEEN_TELEMETRY
            if len(event_id) == EVENT_ID_BYTES and not mark(event_id, seen):
                quality.duplicates += 1
                continue
            quality.events += 1
            if body == "facts_gap":
                self._facts_gap(event)
                continue
            if body == "facts_refill":
                refilled_to = index + 1 + event.facts_refill.facts
                self._facts_refill(event, record)
                continue
            if body in FACTS:
                quality.facts += 1
                if index < refilled_to and quality.facts_lacking:
                    quality.facts_lacking -= 1
                self._handlers[body](event, event.time_us)
                continue
            quality.telemetry_events += 1
            if columns is not None:
                self._query_timings(event.query_timings, columns, record)
            elif body == "running_query":
                observed_us = self._telemetry_time_us(event.time_us, record)
                self._tables.slowest.observe(
                    event.running_query, observed_us, record, self._tables.queries.fingerprints
                )
            elif body in self._handlers:
                self._handlers[body](event, self._telemetry_time_us(event.time_us, record))
        if resent and record.lane == LANE_FACTS and not record.backfill:
            # What a lane that began anew sends first, and the log has, is not beyond its database.
            again = min(quality.duplicates - known, resent, quality.facts_beyond)
            quality.facts_beyond -= again
            self._tables.facts_resent = max(0, resent - len(items))

    def unclean_end(self, record: LogRecord) -> None:
        """Count a producer's end without a Goodbye, and drop its running queries."""
        self._tables.quality.unclean_ends += 1
        self._tables.slowest.drop(record.instance, record.epoch + 1)

    def _booking(self, event: event_pb2.Event, time_us: int) -> None:
        fact, tables = event.booking, self._tables
        groups = tables.breakdown.packages.of_body(fact)
        tables.business.count_booking(fact, time_us, groups)
        transition = fact.transition
        if transition not in _OF_THE_CLOCK:
            tables.breakdown.count_write(groups, time_us, error=transition == _Fact.FAILED)
        step = _FACT_STEPS.get(transition)
        if step is not None:
            booking_id = fact.booking_id
            if transition == _Fact.COMPLETED and fact.hold_time_us and fact.complete_time_us:
                duration_us = fact.complete_time_us - fact.hold_time_us
                self._booking_time(booking_id, time_us, duration_us)
            if self._first(booking_id, 1 << step):
                self._step(event, fact, step, time_us, booking_id, groups)
        elif transition == _Fact.ABANDONED:
            self._abandon(event, fact, journeys.ABANDON, time_us, groups)
        elif transition == _Fact.EXPIRED:
            self._abandon(event, fact, journeys.EXPIRE, time_us, groups)
        elif transition == _Fact.CANCELLED:
            self._happened(event, fact, journeys.CANCEL, time_us)
        elif transition == _Fact.FAILED:
            tables.errors.add(BOOKING_FAILED, time_us, fact.package_id)
            self._happened(event, fact, journeys.ERROR, time_us, BOOKING_FAILED.reason)

    def _payment(self, event: event_pb2.Event, time_us: int) -> None:
        fact, breakdown = event.payment, self._tables.breakdown
        groups = breakdown.packages.of_body(fact)
        self._tables.business.count_payment(fact, groups)
        if fact.kind == event_pb2.PaymentFact.FAILED:
            self._tables.errors.add(PAYMENT_FAILED, time_us, fact.package_id)
            breakdown.count_write(groups, time_us, error=True)
            self._happened(event, fact, journeys.PAYMENT_FAILED, time_us, PAYMENT_FAILED.reason)

    def _package_viewed(self, event: event_pb2.Event, time_us: int) -> None:
        viewed, breakdown = event.package_viewed, self._tables.breakdown
        groups = breakdown.packages.of_body(viewed)
        breakdown.count_view(groups, time_us)
        self._tables.business.count_view(time_us)
        self._step(event, viewed, _VIEW, time_us, "", groups)

    def _rpc_refused(self, event: event_pb2.Event, time_us: int) -> None:
        refused, tables = event.rpc_refused, self._tables
        error = refusal_key(refused)
        tables.errors.add(error, time_us, refused.package_id)
        # Refused requests name packages that do not exist, too.
        groups = tables.breakdown.packages.known(refused.package_id)
        tables.breakdown.count_write(groups, time_us, error=refused.counts_as_error)
        if event.session_id:
            actor, package_id = self._actor(event, ""), _id(refused.package_id)
            tables.journeys.add(actor, journeys.ERROR, time_us, package_id, reason=error.reason)

    def _rpc_tally(self, event: event_pb2.Event, time_us: int) -> None:
        self._tables.errors.tally(event.rpc_tally, time_us)
        self._tables.rpcs.tally(event.rpc_tally, time_us)

    def _flow_step(self, event: event_pb2.Event, time_us: int) -> None:
        """Count a front end's step, unless a fact has already reported it."""
        flow, breakdown = event.flow_step, self._tables.breakdown
        kind, groups = flow.step, breakdown.packages.of(flow.package_id)
        if kind == _Flow.ERROR:
            error = front_end_key(flow)
            self._tables.errors.add(error, time_us, flow.package_id)
            breakdown.count_write(groups, time_us, error=error.counts_as_error)
            self._happened(event, flow, journeys.ERROR, time_us, error.reason)
        elif kind == _Flow.ABANDON:
            self._abandon(event, flow, journeys.ABANDON, time_us, groups)
        elif (step := _FLOW_STEPS.get(kind)) is not None:
            booking_id = _id(flow.booking_id)
            if kind == _Flow.COMPLETE and flow.duration_us > 0:
                started = self._tables.seen_bookings.flags(booking_id) & 1 << _START
                if not booking_id or not started:
                    self._booking_time(booking_id, time_us, flow.duration_us)
            if self._first(booking_id, 1 << step):
                self._step(event, flow, step, time_us, booking_id, groups)

    def _query_definitions(self, event: event_pb2.Event, _time_us: int) -> None:
        for definition in event.query_definitions.definitions:
            self._tables.queries.define(definition)

    def _query_plan(self, event: event_pb2.Event, _time_us: int) -> None:
        self._tables.slowest.add_plan(event.query_plan)

    def _telemetry_loss(self, event: event_pb2.Event, _time_us: int) -> None:
        loss, quality = event.telemetry_loss, self._tables.quality
        quality.dropped_events = clamped(quality.dropped_events + loss.dropped_events)
        quality.dropped_timings = clamped(quality.dropped_timings + loss.dropped_timings)

    def _facts_gap(self, event: event_pb2.Event) -> None:
        gap, quality = event.facts_gap, self._tables.quality
        quality.facts_gaps += 1
        quality.facts_lacking = clamped(quality.facts_lacking + gap.lacking)
        quality.facts_beyond = clamped(quality.facts_beyond + gap.beyond)
        self._tables.facts_resent = gap.resent

    def _facts_refill(self, event: event_pb2.Event, record: LogRecord) -> None:
        refill, quality = event.facts_refill, self._tables.quality
        if refill.producer_id and refill.producer_id == record.producer_id:
            # What was lacking beyond that was counted twice, as repeats are.
            quality.facts_lacking = min(quality.facts_lacking, refill.not_kept)

    def _query_timings(
        self, timings: event_pb2.QueryTimings, columns: Columns, record: LogRecord
    ) -> None:
        start_us = columns.start_us
        corrected_us: list[int] = []
        self._tables.quality.query_timings += len(start_us)
        if start_us and not record.backfill:
            us = record.received_at_us
            skewed = correct_times(start_us, us - MAX_BEHIND_US, us + MAX_AHEAD_US, us)
            self._tables.quality.skewed += skewed
            corrected_us = start_us if skewed else []
        self._tables.queries.add(columns)
        self._tables.recent.add(timings, record.instance, corrected_us)
        self._tables.slowest.add_ended(timings, columns, record, self._tables.queries.fingerprints)
        self._tables.critical.add(timings, columns, record.instance)

    def _telemetry_time_us(self, time_us: int, record: LogRecord) -> int:
        received_us = record.received_at_us
        if record.backfill or received_us - MAX_BEHIND_US <= time_us <= received_us + MAX_AHEAD_US:
            return time_us
        self._tables.quality.skewed += 1
        return received_us

    def _booking_time(self, booking_id: str, time_us: int, duration_us: int) -> None:
        if 0 <= duration_us <= MAX_DURATION_US and self._first(booking_id, _TIMED):
            self._tables.business.count_booking_time(time_us, duration_us)

    def _first(self, booking_id: str, flag: int) -> bool:
        """Return whether `flag` is new for the booking; True without a booking id."""
        return not booking_id or self._tables.seen_bookings.mark(booking_id, flag)

    def _step(
        self,
        event: event_pb2.Event,
        body: _Viewed,
        step: int,
        time_us: int,
        booking_id: str,
        groups: Groups,
    ) -> None:
        tables, actor = self._tables, self._actor(event, body.user_id)
        outcome = tables.funnel.step(actor, step, time_us, groups)
        tables.journeys.step(actor, step, time_us, _id(body.package_id), booking_id, outcome)

    def _abandon(
        self, event: event_pb2.Event, body: _Step, name: int, time_us: int, groups: Groups
    ) -> None:
        tables, actor = self._tables, self._actor(event, body.user_id)
        outcome = tables.funnel.abandon(actor, time_us, groups)
        ids = _id(body.package_id), _id(body.booking_id)
        tables.journeys.step(actor, name, time_us, *ids, outcome)

    def _happened(
        self, event: event_pb2.Event, body: _Step, name: int, time_us: int, reason: str = ""
    ) -> None:
        """Add to a journey what the funnel does not see; nothing without a session or user."""
        if event.session_id or body.user_id:
            actor = self._actor(event, body.user_id)
            ids = _id(body.package_id), _id(body.booking_id)
            self._tables.journeys.add(actor, name, time_us, *ids, reason)

    def _actor(self, event: event_pb2.Event, user_id: str) -> str:
        """Return the session, else the user, else a new name; the first byte says which."""
        actor = event.session_id or (f"\x00{user_id}" if user_id else "")
        if len(actor) > MAX_ID_BYTES // 4:
            return truncate(actor, MAX_ID_BYTES)
        if actor:
            return actor
        self._tables.anonymous_actors += 1
        return f"\x01{self._tables.anonymous_actors}"


def _id(text: str) -> str:
    return truncate(text, MAX_ID_BYTES) if len(text) > MAX_ID_BYTES // 4 else text
