"""docs/operations.md: each drill is run as it is written, on real processes and databases, and the
totals of bookings and money agree afterwards, or differ by what the gap states.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from uuid import uuid4

import grpc
import pytest

from protos.booking.v1 import (
    booking_pb2,
    booking_pb2_grpc,
    catalog_pb2,
    catalog_pb2_grpc,
    payment_pb2,
    payment_pb2_grpc,
)
from protos.metrics.v1 import metrics_pb2, metrics_pb2_grpc
from servicekit import binaries
from servicekit.devstack import PostgresServer
from tests.booking.running_service import confirm_of, day, package_of
from tests.docs.snippet_runner import here, until
from tests.docs.snippets import ROOT
from tests.pair.real_pair import Pair

pytestmark = [pytest.mark.processes, pytest.mark.full, pytest.mark.timeout(300)]

DOCUMENT: Final = ROOT / "docs/operations.md"
BACKUP: Final = "Backup"
COMPARE: Final = "What to compare"
AWAY: Final = "metrics_service was away for too long"
RESTORED_METRICS: Final = "The metrics database is restored to an older point"
OLD_METRICS: Final = "The metrics database is older than what is kept"
WRONG_CLOCK: Final = "A clock was wrong, and the log of the metrics is ahead"
LOST_METRICS: Final = "The metrics database is lost"
RESTORED_BOOKINGS: Final = "The booking database is restored to an older point"
LOST_BOOKINGS: Final = "The booking database is lost"

LACKING: Final = re.compile(r"(\d+) facts are lacking")

SHOW: Final = "python -m booking_service lane show"
FORKED: Final = 3
COMMAND_TIMEOUT_S: Final = 120.0


def lines_of(section: str) -> list[str]:
    """The lines of the shell blocks of a section, with their comments."""
    [text] = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", DOCUMENT.read_text(), re.M | re.S)
    return [
        line
        for block in re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S)
        for line in block.splitlines()
    ]


@dataclass(frozen=True, slots=True)
class Totals:
    """Bookings ever confirmed, and money in minor units."""

    confirmed: int
    gross_minor: int
    refunded_minor: int


NOTHING: Final = Totals(0, 0, 0)


class Drill:
    """A pair on two databases of its own, whose sections of the document are carried out."""

    def __init__(self, pair: Pair, postgres: PostgresServer, folder: Path) -> None:
        self.pair = pair
        self.postgres = postgres
        self.folder = folder
        self.package_id = ""
        self.open: list[booking_pb2.Booking] = []
        self.lost: Callable[[], None] = lambda: None

    def run(self, section: str) -> list[str]:
        """Do what the section says, and return what its commands print."""
        outputs = []
        for line in lines_of(section):
            act, _, what = line.removeprefix("# ").partition(" ")
            if act == "lose":
                self.lost()
            elif act == "stop":
                self.pair.stop_one(what)
            elif act == "start":
                self.pair.start(what)
            else:
                if line == SHOW and section != COMPARE:
                    # Until the lane has met the metrics.
                    until(lambda: "forked" in self.shell(SHOW, {0, FORKED}))
                    continue
                outputs.append(self.shell(line))
        return outputs

    def shell(self, line: str, statuses: frozenset[int] | set[int] = frozenset({0})) -> str:
        """What a command prints that ends with one of these statuses."""
        programs = f"{Path(sys.executable).parent}:{binaries.program('psql').parent}"
        done = subprocess.run(
            ["bash", "-c", here(line, self.pair)],
            cwd=self.folder,
            env={
                **self.pair.environ,
                "PATH": f"{programs}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
                "no_proxy": "127.0.0.1",
            },
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        assert done.returncode in statuses, f"{line}: {done.stdout}{done.stderr}"
        return done.stdout

    def put_on_sale(self) -> None:
        """A package with room for all bookings of the drill."""
        first = datetime.now(UTC).date() + timedelta(days=30)
        with grpc.insecure_channel(self.pair.booking) as channel:
            catalog = catalog_pb2_grpc.CatalogServiceStub(channel)
            vendor = catalog.CreateVendor(
                catalog_pb2.CreateVendorRequest(vendor=catalog_pb2.Vendor(name="Costa"))
            )
            package = catalog.CreatePackage(
                catalog_pb2.CreatePackageRequest(package=package_of(vendor.id))
            )
            capacity = catalog_pb2.SetCapacityRequest(package_id=package.id)
            capacity.ranges.add(
                start_date=day(first), end_date=day(first + timedelta(days=2)), capacity=1_000
            )
            catalog.SetCapacity(capacity)
        self.package_id = package.id
        self.first = first

    def book(self, count: int) -> None:
        """Confirm bookings; one in three is paid back in part, and one more hold stays open."""
        with grpc.insecure_channel(self.pair.booking) as channel:
            booking = booking_pb2_grpc.BookingServiceStub(channel)
            payment = payment_pb2_grpc.PaymentServiceStub(channel)
            for number in range(count):
                pending = self._pending(booking)
                confirm = confirm_of(pending)
                booking.ConfirmBooking(confirm)
                if number % 3 == 0:
                    amount = pending.price
                    amount.units //= 2
                    amount.nanos = 0
                    payment.RecordPayment(
                        payment_pb2.RecordPaymentRequest(
                            booking_id=pending.id,
                            provider=confirm.provider,
                            payment_id=confirm.payment_id,
                            kind=payment_pb2.RecordPaymentRequest.REFUNDED,
                            amount=amount,
                            refund_id=f"re-{uuid4()}",
                        )
                    )
            self.open.append(self._pending(booking))

    def confirm_open(self) -> None:
        """Confirm what was left open, as its payer may at any time."""
        with grpc.insecure_channel(self.pair.booking) as channel:
            booking = booking_pb2_grpc.BookingServiceStub(channel)
            for pending in self.open:
                booking.ConfirmBooking(confirm_of(pending))
        self.open.clear()

    def _pending(self, booking: booking_pb2_grpc.BookingServiceStub) -> booking_pb2.Booking:
        held = booking.StartBooking(
            booking_pb2.StartBookingRequest(
                package_id=self.package_id,
                user_id=f"user-{uuid4()}",
                start_date=day(self.first),
                end_date=day(self.first + timedelta(days=1)),
            )
        )
        return booking.CompleteBooking(booking_pb2.CompleteBookingRequest(booking_id=held.id))

    def booked(self) -> Totals:
        """The totals by the booking database."""
        found = self._query(
            "SELECT count(*), coalesce(sum(captured_minor), 0), coalesce(sum(refunded_minor), 0)"
            " FROM bookings WHERE confirm_time IS NOT NULL"
        )
        return Totals(*map(int, found.split("|")))

    def facts(self) -> int:
        """How many facts the audit trail has."""
        return int(
            self._query(
                "SELECT (SELECT count(*) FROM booking_events)"
                " + (SELECT count(*) FROM payment_events WHERE fact <> '')"
            )
        )

    def forget_segments(self) -> None:
        """As the retention does, once it has passed."""
        self._query("DELETE FROM segment WHERE seq < (SELECT acked_seq FROM relay)")

    def _query(self, sql: str) -> str:
        return self.postgres.psql(self.database("BOOKING"), sql).strip()

    def database(self, service: str) -> str:
        """The name of a database."""
        return urlsplit(self.pair.environ[f"{service}_DATABASE_URL"]).path.removeprefix("/")

    def metrics(self, window: timedelta | None = None) -> metrics_pb2.MetricsSnapshot:
        request = metrics_pb2.GetMetricsRequest()
        if window is not None:
            request.window.FromTimedelta(window)
        with grpc.insecure_channel(self.pair.metrics) as channel:
            stub = metrics_pb2_grpc.MetricsServiceStub(channel)
            return stub.GetMetrics(request)

    def counted(self) -> Totals:
        """The totals by the metrics."""
        lines = self.metrics().business.revenue
        return Totals(
            sum(line.confirmed for line in lines),
            sum(line.gross_minor for line in lines),
            sum(line.refunded_minor for line in lines),
        )

    def agrees(self, beyond: Totals = NOTHING, facts: int = 0) -> None:
        """Wait until the metrics have the totals of the bookings, and these beyond them."""
        booked = self.booked()
        expected = Totals(
            booked.confirmed + beyond.confirmed,
            booked.gross_minor + beyond.gross_minor,
            booked.refunded_minor + beyond.refunded_minor,
        )
        until(lambda: self.metrics().quality.facts == self.facts() + facts)
        assert self.counted() == expected

    def fills_a_gap(self, section: str) -> None:
        """Do what the section says: facts are lacking, until the refill has sent them."""
        [_, accepted, _] = self.run(section)[-3:]
        [lacking] = LACKING.findall(accepted)
        assert int(lacking) > 0
        self.agrees()
        assert self.metrics().quality.facts_lacking == 0


@pytest.fixture
def drill(
    booking_dsn: str, metrics_dsn: str, postgres: PostgresServer, tmp_path: Path
) -> Iterator[Drill]:
    """A pair with some bookings that the metrics have counted, of which there are backups."""
    pair = Pair(booking_dsn, metrics_dsn, tmp_path)
    drill = Drill(pair, postgres, tmp_path)
    try:
        pair.start("metrics_service")
        pair.start("booking_service")
        drill.put_on_sale()
        drill.book(6)
        drill.agrees()
        assert drill.run(BACKUP) == ["", ""]
        yield drill
    finally:
        pair.stop()


def test_both_sides_are_compared(drill: Drill) -> None:
    table, figures, _ = drill.run(COMPARE)
    booked = drill.booked()
    assert booked.confirmed == 6
    assert re.search(
        rf"EUR *\| *{booked.confirmed} *\| *{booked.gross_minor} *\| *{booked.refunded_minor}$",
        table,
        re.M,
    )
    assert f'"gross_minor":{booked.gross_minor}' in figures.replace(" ", "")


def test_facts_that_were_withheld_are_sent_by_a_refill(drill: Drill) -> None:
    drill.pair.stop()
    drill.pair.environ["BOOKING_DELIVERY_MAX_MB"] = "0.01"
    drill.pair.start("booking_service")

    def withheld() -> bool:
        # Facts are withheld from the check on that finds too many of them.
        drill.book(20)
        return bool(re.search(r"^withheld +[1-9]", drill.shell(SHOW), re.M))

    until(withheld)
    drill.run(AWAY)
    drill.agrees()
    drill.book(2)
    drill.agrees()


def test_metrics_restored_to_an_older_point_go_on_by_themselves(drill: Drill) -> None:
    drill.book(5)
    drill.agrees()
    drill.run(RESTORED_METRICS)
    drill.agrees()
    drill.book(2)
    drill.agrees()


def test_a_log_that_is_ahead_is_dated_up_to_now(drill: Drill) -> None:
    def in_the_last_hour() -> int:
        lines = drill.metrics(timedelta(hours=1)).business.revenue
        return sum(line.confirmed for line in lines)

    booked = drill.booked().confirmed
    assert in_the_last_hour() == booked
    # As a clock leaves it that was wrong by 400 days for longer than a minute.
    drill.pair.stop_one("metrics_service")
    ahead = "UPDATE event_log_head SET received_at = received_at + interval '400 days'"
    drill.postgres.psql(drill.database("METRICS"), ahead)
    drill.pair.start("metrics_service")
    drill.book(3)
    drill.agrees()
    assert in_the_last_hour() == 0
    drill.run(WRONG_CLOCK)
    drill.book(2)
    drill.agrees()
    assert in_the_last_hour() == booked + 5
    as_of = drill.metrics().as_of.ToDatetime(UTC)
    assert abs(as_of - datetime.now(UTC)) < timedelta(minutes=1)


def test_metrics_older_than_what_is_kept_are_filled_again(drill: Drill) -> None:
    drill.book(5)
    drill.agrees()
    drill.book(1)
    drill.agrees()
    drill.forget_segments()
    drill.fills_a_gap(OLD_METRICS)
    drill.confirm_open()
    drill.agrees()


def test_metrics_that_are_lost_are_made_anew(drill: Drill) -> None:
    drill.lost = lambda: drill.postgres.drop_database(drill.database("METRICS"))
    drill.book(5)
    drill.agrees()
    drill.forget_segments()
    drill.fills_a_gap(LOST_METRICS)
    drill.confirm_open()
    drill.agrees()


def test_bookings_restored_to_an_older_point_leave_a_gap_that_says_how_many(
    drill: Drill,
) -> None:
    drill.book(5)
    drill.agrees()
    counted, facts = drill.counted(), drill.facts()
    drill.run(RESTORED_BOOKINGS)
    left = drill.booked()
    beyond = Totals(
        counted.confirmed - left.confirmed,
        counted.gross_minor - left.gross_minor,
        counted.refunded_minor - left.refunded_minor,
    )
    facts_beyond = facts - drill.facts()
    assert beyond.confirmed == 5
    # Open at the backup, and never paid for in the history that is gone.
    del drill.open[1:]
    drill.confirm_open()
    drill.book(2)
    drill.agrees(beyond, facts_beyond)


def test_bookings_that_are_lost_leave_a_gap_of_all_that_was_counted(drill: Drill) -> None:
    drill.lost = lambda: drill.postgres.drop_database(drill.database("BOOKING"))
    drill.book(2)
    drill.agrees()
    counted, facts = drill.counted(), drill.facts()
    [_, accepted] = drill.run(LOST_BOOKINGS)
    assert f" {facts} facts of the sink are not in this database" in accepted
    assert drill.booked() == NOTHING
    drill.put_on_sale()
    drill.open.clear()
    drill.book(3)
    drill.agrees(counted, facts)
    assert drill.metrics().quality.facts_beyond == facts
