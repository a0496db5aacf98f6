"""The values that an event may have: one out of range makes its batch unusable, so that no sum and
no answer can overflow. Times of live telemetry are corrected instead, and durations that a front
end reports are ignored.
"""

from __future__ import annotations

from typing import Final

from metrics_service.measure.sums import MAX_SUM
from metrics_service.state.queries.columns import Columns
from metrics_service.state.record import MAX_TIME_US, MIN_TIME_US
from metrics_service.state.truncate import MAX_CODE_BYTES, MAX_ID_BYTES
from protos.tracking.v1 import event_pb2

# Of what one event counts: RPCs, queries, dropped events.
MAX_COUNT: Final = 1 << 42
MAX_MONEY_MINOR: Final = MAX_SUM


class OutOfRangeError(ValueError):
    """A value of an event is out of range; the text names its field."""


def check_event(event: event_pb2.Event, body: str) -> None:
    """Raise OutOfRangeError for a fact or a count that cannot be true, or a fact's id that is too
    long.
    """
    if body == "booking":
        _check_booking(event)
    elif body == "payment":
        payment = event.payment
        _check_times(event.time_us, payment.confirm_time_us)
        _check_money(payment.amount_minor)
        _check_ids(payment.booking_id, payment.package_id, currency=payment.currency)
    elif body == "rpc_tally":
        for entry in event.rpc_tally.entries:
            _check_counts(entry.ok, entry.refused, entry.queries, entry.queries_max)
    elif body == "facts_gap":
        gap = event.facts_gap
        if min(gap.lacking, gap.beyond, gap.resent) < 0:
            raise OutOfRangeError("a count is out of range")
        _check_counts(gap.lacking, gap.beyond, gap.resent)
    elif body == "facts_refill":
        refill = event.facts_refill
        if min(refill.facts, refill.not_kept) < 0:
            raise OutOfRangeError("a count is out of range")
        _check_counts(refill.facts, refill.not_kept)
    elif body == "telemetry_loss":
        _check_counts(event.telemetry_loss.dropped_events, event.telemetry_loss.dropped_timings)


def check_trusted_times(event: event_pb2.Event, columns: Columns | None) -> None:
    """Raise OutOfRangeError for a time of backfilled telemetry that cannot be true."""
    times = columns.start_us if columns is not None and columns.start_us else [event.time_us]
    if min(times) < MIN_TIME_US or max(times) > MAX_TIME_US:
        raise OutOfRangeError("a time is out of range")


def _check_booking(event: event_pb2.Event) -> None:
    fact = event.booking
    _check_times(event.time_us, fact.hold_time_us, fact.complete_time_us, fact.confirm_time_us)
    _check_money(fact.amount_minor, fact.refund_minor)
    _check_ids(fact.booking_id, fact.package_id, currency=fact.currency)


def _check_times(time_us: int, *optional_us: int) -> None:
    """Check a time, and times of which 0 means none."""
    if not MIN_TIME_US <= time_us <= MAX_TIME_US:
        raise OutOfRangeError("a time is out of range")
    for each in optional_us:
        if each and not MIN_TIME_US <= each <= MAX_TIME_US:
            raise OutOfRangeError("a time is out of range")


def _check_money(*amounts_minor: int) -> None:
    if min(amounts_minor) < 0 or max(amounts_minor) > MAX_MONEY_MINOR:
        raise OutOfRangeError("an amount of money is out of range")


def _check_ids(*ids: str, currency: str) -> None:
    for each in ids:
        if len(each) > MAX_ID_BYTES // 4 and len(each.encode()) > MAX_ID_BYTES:
            raise OutOfRangeError("an id is too long")
    if len(currency.encode()) > MAX_CODE_BYTES:
        raise OutOfRangeError("a currency is too long")


def _check_counts(*counts: int) -> None:
    if max(counts) > MAX_COUNT:
        raise OutOfRangeError("a count is out of range")
