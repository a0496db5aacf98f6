"""A log of many days, and what plain Python makes of its events: the oracle of the history."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import asyncpg

from metrics_service.eventlog.event_log import EventLog
from metrics_service.eventlog.producer import ProducerKey
from metrics_service.state.breakdown.cell import REACHED, VIEWS, BreakdownCell
from metrics_service.state.breakdown.packages import Group
from metrics_service.state.business import BusinessCell
from metrics_service.state.errors import ErrorCell
from metrics_service.state.funnel.cell import FunnelCell
from metrics_service.state.queries.cell import QueryTotals
from protos.tracking.v1 import event_pb2, tracking_pb2
from tests.metrics.delivery_pair import Sink, until
from tests.metrics.state.log import DAY, HOUR, MINUTE, NOW, Fact, Log
from tests.metrics.state.visits import keys_of, view

START = NOW // DAY * DAY
KEY = ProducerKey(tracking_pb2.LANE_FACTS, "relay")
Counts = dict[str, int]


@dataclass
class Days:
    """Batches of events by the time at which they are received, and their figures by hour, those
    by package, type, location and vendor too; packages: of bookings, by when they were confirmed.
    """

    days: int
    hours: tuple[int, ...] = (11, 23)
    seed: int = 0
    expected: dict[int, Counts] = field(default_factory=lambda: defaultdict(Counts))
    packages: dict[int, str] = field(default_factory=dict)

    def batches(self) -> Iterator[tuple[int, list[event_pb2.Event]]]:
        """Yield (receive time, events)."""
        dice, make = random.Random(self.seed), Log(START)
        refunds: dict[int, list[int]] = defaultdict(list)
        number = 0
        for day in range(self.days):
            for hour in self.hours:
                now_us = START + day * DAY + hour * HOUR + 50 * MINUTE
                make.now_us = now_us
                events = []
                for _ in range(dice.randrange(1, 5)):
                    number += 1
                    at_us = now_us - dice.randrange(5 * MINUTE, 5 * HOUR)
                    events += self._session(make, dice, at_us, f"{self.seed}-{number}")
                    refunds[day + dice.choice((1, 20, 40, 45))].append(at_us + 3 * MINUTE)
                if hour == 11:
                    for confirmed_us in refunds.pop(day, ()):
                        if (package := self.packages.get(confirmed_us)) is not None:
                            refund = make.refund(now_us, 7, confirmed_us)
                            refund.payment.package_id = package
                            events.append(refund)
                            self._count(confirmed_us, "refunded", 7, package)
                events.append(make.refused(now_us, f"R{dice.randrange(3)}"))
                events.append(make.tally(now_us, 9, 1))
                self._count(now_us, "errors", 1)
                self._count(now_us, "writes", 10)
                events.append(make.queries([1_000, 700_000], at_us=now_us))
                self._count(now_us, "queries", 2)
                yield now_us, events

    def by_day(self) -> dict[int, Counts]:
        """The sums of `expected` by the day since 1970."""
        found: dict[int, Counts] = defaultdict(Counts)
        for hour, counts in self.expected.items():
            for name, count in counts.items():
                found[hour // 24][name] = found[hour // 24].get(name, 0) + count
        return found

    def _session(
        self, make: Log, dice: random.Random, at_us: int, name: str
    ) -> list[event_pb2.Event]:
        package = f"p{dice.randrange(6)}"
        events = [view(make, at_us, name, package)]
        self._count(at_us, "entered", 1, package)
        if dice.random() < 0.7:
            start_us = at_us + MINUTE
            started = make.fact(
                *(Fact.STARTED, start_us, name), booking=name, package=package, hold_us=start_us
            )
            events.append(started)
            self._count(start_us, "started", 1)
            self._count(at_us, "reached start", 1, package)
        if len(events) > 1 and dice.random() < 0.7:
            confirm_us = at_us + 3 * MINUTE
            confirmed = make.fact(
                *(Fact.CONFIRMED, confirm_us, name),
                booking=name,
                package=package,
                confirm_us=confirm_us,
                amount=100,
            )
            events.append(confirmed)
            self._count(confirm_us, "confirmed", 1, package)
            self._count(confirm_us, "gross", 100, package)
            self.packages[confirm_us] = package
        return events

    def _count(self, time_us: int, name: str, count: int, package: str = "") -> None:
        counts = self.expected[time_us // HOUR]
        for key in (name, *(f"{name} {each}" for each in (keys_of(package) if package else ()))):
            counts[key] = counts.get(key, 0) + count


class Feeder:
    """Appends batches to a log at set times."""

    def __init__(self) -> None:
        self.now_us = START
        self.seq = 0

    async def append(self, log: EventLog, now_us: int, events: list[event_pb2.Event]) -> None:
        """Append one batch at a time."""
        self.now_us = now_us
        await log.wait_leading()
        point = await log.open_producer(
            KEY, epoch=1, instance="i", service="booking_service", backfill=False
        )
        self.seq += 1
        payload = event_pb2.EventList(events=events).SerializeToString()
        await log.append(
            KEY, token=point.token, epoch=1, seq=self.seq, count=len(events), payload=payload
        )
        log.release_producer(KEY, token=point.token)

    async def folded(self, sink: Sink, now_us: int, events: list[event_pb2.Event]) -> None:
        """Append one batch, and wait until it is folded."""
        await self.append(sink.log, now_us, events)
        await until(lambda: sink.engine.position == sink.log.last_position)

    def sink(self, dsn: str, **options: Any) -> Sink:
        """A metrics process whose clock is this one, and whose checkpoints the test writes."""
        options = {"tick_s": 1e9, "checkpoint_interval_s": 1e9, **options}
        options |= {"now_us": lambda: self.now_us, "monotonic_s": lambda: self.now_us / 1e6}
        return Sink(dsn, **options)


def counts_of(cells: dict[str, bytes]) -> Counts:
    """The figures of an hour or a day of its cells by section."""
    found: Counts = {}
    if "funnel" in cells:
        funnel = FunnelCell.decode(cells["funnel"])
        found |= {"entered": funnel.reached[0], "reached start": funnel.reached[1]}
    if "business" in cells:
        business = BusinessCell.decode(cells["business"])
        found |= {"started": business.started, "confirmed": business.confirmed}
        _, found["gross"], found["refunded"] = business.revenue.get("EUR", [0, 0, 0])
    if "errors" in cells:
        errors = ErrorCell.decode(cells["errors"])
        found |= {"errors": sum(errors.kinds.values()), "writes": errors.write_rpcs}
    if "query_totals" in cells:
        found["queries"] = QueryTotals.decode(cells["query_totals"]).total.total
    if "breakdown" in cells:
        groups = BreakdownCell.decode(cells["breakdown"])
        for group, counts in groups.groups.items():
            _add(found, group, {"entered": counts[REACHED], "reached start": counts[REACHED + 1]})
            assert counts[VIEWS] == counts[REACHED]
        for (group, _), (confirmed, gross, refunded) in groups.money.items():
            _add(found, group, {"confirmed": confirmed, "gross": gross, "refunded": refunded})
    return {name: count for name, count in found.items() if count}


def _add(found: Counts, group: Group, counts: Counts) -> None:
    for name, count in counts.items():
        for key in filter(None, group):
            found[f"{name} {key}"] = found.get(f"{name} {key}", 0) + count


async def stored(dsn: str, table: str) -> dict[int, Counts]:
    """The figures of history_hour or history_day, by the number of hours or days since 1970."""
    begin = "hour" if table == "history_hour" else "day"
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch(f"SELECT {begin} AS begin, section, state FROM {table}")
    await connection.close()
    found: dict[int, dict[str, bytes]] = {}
    for when, section, state in rows:
        found.setdefault(number_of(when), {})[section] = state
    return {key: counts for key, cells in found.items() if (counts := counts_of(cells))}


def number_of(begin: datetime | date) -> int:
    """The number of an hour or a day since 1970."""
    if isinstance(begin, datetime):
        return int(begin.timestamp() * 1_000_000) // HOUR
    return (begin - date(1970, 1, 1)).days
