"""Turns rows of the booking database into domain values, and values of jsonb into their columns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, TypeAlias

from booking_service.domain.booking import (
    Booking,
    Payment,
    PaymentState,
    Refund,
    RefundState,
    State,
)
from booking_service.domain.catalog_events import CounterRun, FieldChange
from booking_service.domain.package import Package, PackageStatus, Pricing, Vendor
from booking_service.domain.policy import CancellationPolicy, Tier
from booking_service.domain.profile import UserProfile
from booking_service.domain.review import Review
from booking_service.storage.connection import Record

Row: TypeAlias = Mapping[str, Any] | Record


def vendor(row: Row) -> Vendor:
    return Vendor(**row)


def package(row: Row) -> Package:
    values = dict(row)
    values["status"] = PackageStatus(values["status"])
    values["pricing"] = Pricing(values["pricing"])
    values["cancellation_policy"] = policy(values["cancellation_policy"])
    return Package(**values)


def booking(row: Row) -> Booking:
    values = dict(row)
    values["state"] = State(values["state"])
    values["cancellation_policy"] = policy(values["cancellation_policy"])
    return Booking(**values)


def payment(row: Row) -> Payment:
    return Payment(**{**row, "state": PaymentState(row["state"])})


def refund(row: Row) -> Refund:
    return Refund(**{**row, "state": RefundState(row["state"])})


def review(row: Row) -> Review:
    return Review(**row)


def profile(row: Row) -> UserProfile:
    return UserProfile(**row)


def policy(column: str) -> CancellationPolicy:
    """Parse a policy from its jsonb column, [[before_s, refund_basis_points], ...]."""
    return CancellationPolicy(
        tuple(Tier(before_s, share) for before_s, share in json.loads(column))
    )


def policy_column(value: CancellationPolicy) -> str:
    """Return a policy as its jsonb column."""
    return json.dumps([[tier.before_s, tier.refund_basis_points] for tier in value.tiers])


def field_changes(column: str) -> tuple[FieldChange, ...]:
    """Parse the changes of fields from their jsonb column, [[field, before, after], ...]."""
    return tuple(FieldChange(*each) for each in json.loads(column))


def field_changes_column(changes: Sequence[FieldChange]) -> str:
    """Return changes of fields as their jsonb column."""
    return json.dumps([[each.field, each.before, each.after] for each in changes])


def counter_runs(column: str) -> tuple[CounterRun, ...]:
    """Parse runs from their jsonb column, [[counter, first day, day after, before, after], ...]."""
    return tuple(
        CounterRun(counter, date.fromisoformat(start), date.fromisoformat(end), before, after)
        for counter, start, end, before, after in json.loads(column)
    )


def counter_runs_column(runs: Sequence[CounterRun]) -> str:
    """Return runs of days as their jsonb column."""
    return json.dumps(
        [
            [run.counter, str(run.start_date), str(run.end_date), run.before, run.after]
            for run in runs
        ]
    )
