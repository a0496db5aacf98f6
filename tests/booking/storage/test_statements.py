"""Every statement is named once, valid, and takes its time and columns as it should."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import asyncpg
import pytest

from booking_service.domain.booking import Booking, Payment, Refund
from booking_service.domain.package import Package, Vendor
from booking_service.domain.profile import UserProfile
from booking_service.domain.review import Review
from booking_service.storage.sql import QUERIES, SQL_DIR, QueryGroup

CLOCKS = re.compile(
    r"\b(now|clock_timestamp|statement_timestamp|transaction_timestamp|timeofday)\s*\("
    r"|\b(current_(time|timestamp|date)|localtime|localtimestamp)\b",
    re.IGNORECASE,
)
# Arrays side by side have no columns of a table that could change.
STARS = re.compile(r"\bSELECT\s+\*(?! FROM unnest\()|,\s*\*|\w\.\*|RETURNING\s+\*", re.IGNORECASE)


async def test_every_statement_is_accepted_by_a_migrated_database(booking_dsn: str) -> None:
    connection = await asyncpg.connect(booking_dsn)
    refused = {}
    try:
        for name, query in QUERIES.items():
            try:
                await connection.prepare(query.sql)
            except asyncpg.PostgresError as error:
                refused[name] = str(error)
    finally:
        await connection.close()
    assert refused == {}
    assert len(QUERIES) > 30


def test_only_clock_now_reads_a_clock() -> None:
    reading = {name for name, query in QUERIES.items() if CLOCKS.search(_without_comments(query))}
    assert reading == {"clock.now"}


def test_columns_are_always_listed() -> None:
    starred = [name for name, query in QUERIES.items() if STARS.search(_without_comments(query))]
    assert starred == []


def test_name_is_the_label_of_the_timings() -> None:
    assert {query.definition.label: query for query in QUERIES.values()} == QUERIES


@pytest.mark.parametrize(
    "name",
    [
        "bookings.create",
        "bookings.get_user_bookings",
        "bookings.update",
        "packages.get_details",
        "packages.check_availability",
        "packages.search",
    ],
)
def test_operations_that_users_ask_about_have_their_names(name: str) -> None:
    assert not QUERIES[name].internal


@pytest.mark.parametrize("model", ["outbox", "sweeper", "probe", "clock", "indexes"])
def test_polls_and_probes_are_internal(model: str) -> None:
    ours = {name: query for name, query in QUERIES.items() if query.model == model}
    exposed = {name for name, query in ours.items() if not query.internal}
    assert ours
    # Appending to the outbox is part of a booking.
    assert exposed <= {"outbox.append"}


def test_group_gives_its_statements_and_names_what_is_missing() -> None:
    group = QueryGroup("bookings")
    assert group.get == QUERIES["bookings.get"]
    with pytest.raises(AttributeError, match=r"bookings\.gte"):
        _ = group.gte
    with pytest.raises(ValueError, match="bokings"):
        QueryGroup("bokings")


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("vendors.create", Vendor),
        ("packages.create", Package),
        ("bookings.create", Booking),
        ("payments.save", Payment),
        ("refunds.save", Refund),
        ("reviews.create", Review),
        ("profiles.save", UserProfile),
    ],
)
def test_columns_are_the_fields_of_what_is_written_in_their_order(name: str, written: Any) -> None:
    inserted = re.match(r"INSERT INTO \w+ \(([^)]*)\)", QUERIES[name].sql)
    assert inserted is not None
    columns = re.split(r",\s+", inserted[1].strip())
    # Who asked for a refund is the audit trail's.
    assert columns[len(fields(written)) :] in ([], ["caller", "request_id"])
    assert columns[: len(fields(written))] == [field.name for field in fields(written)]


def test_every_file_is_loaded() -> None:
    named = sum(path.read_text().count("\n-- name: ") for path in SQL_DIR.glob("*.sql"))
    first = sum(path.read_text().startswith("-- name: ") for path in SQL_DIR.glob("*.sql"))
    assert len(QUERIES) == named + first


def _without_comments(query: str) -> str:
    return re.sub(r"--.*", "", query)
