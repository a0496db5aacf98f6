"""`lane show` and `lane accept-fork`, as a person runs them."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from booking_service.cli.commands import app
from protos.tracking.v1.event_pb2 import EventList

SINK = "0a0a0a0a-0000-4000-8000-000000000001"
FORK = f"""
INSERT INTO lane_trouble (state, reason, since, sink_id, resume_after, facts)
VALUES ('forked', 'the sink has batch 9', '2026-03-01T12:00Z', '{SINK}', 9, 50)
"""


def at(dsn: str, statement: str) -> list[Any]:
    async def run() -> list[Any]:
        connection = await asyncpg.connect(dsn)
        try:
            return list(await connection.fetch(statement))
        finally:
            await connection.close()

    return asyncio.run(run())


@pytest.fixture
def lane(booking_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command of the lane on a database with four segments of ten facts, two of them
    acknowledged, and three facts in the outbox.
    """
    monkeypatch.setenv("BOOKING_DATABASE_URL", booking_dsn)
    at(
        booking_dsn,
        "INSERT INTO segment (seq, epoch, count, batch, batch_hash, seal_time)"
        " SELECT n, 1, 10, convert_to(n::text, 'UTF8'), sha256(''), '2026-03-01Z'"
        " FROM generate_series(1, 4) AS n",
    )
    at(booking_dsn, "UPDATE relay SET epoch = 7, next_seq = 5, acked_seq = 2, acked_facts = 20")
    at(booking_dsn, "INSERT INTO outbox (count, events) VALUES (3, '')")

    def run(*arguments: str, said: str = "") -> Result:
        return CliRunner().invoke(app, ["lane", *arguments], input=said)

    return run


def test_show_prints_one_line_for_each_value(lane: Any, booking_dsn: str) -> None:
    shown = lane("show")
    assert shown.exit_code == 0
    lines = dict(line.rstrip().split("  ", 1) for line in shown.stdout.splitlines())
    values = {name.strip(): value.strip() for name, value in lines.items()}
    producer = values.pop("producer")
    assert UUID(producer)
    assert values == {
        "epoch": "7",
        "next": "5",
        "acknowledged": "2",
        "facts pending": "23",
        "withheld": "0",
        "kept from": "1",
        "sink": "none met yet",
        "state": "ok",
    }


def test_show_of_a_forked_lane_has_a_status_of_its_own(lane: Any, booking_dsn: str) -> None:
    at(booking_dsn, FORK)
    shown = lane("show")
    assert shown.exit_code == 3
    assert "forked" in shown.stdout
    assert "2026-03-01T12:00:00Z" in shown.stdout
    assert "the sink has batch 9" in shown.stdout


def test_nothing_is_accepted_without_a_fork(lane: Any) -> None:
    for arguments in (["accept-fork"], ["accept-fork", "--yes"]):
        refused = lane(*arguments)
        assert refused.exit_code == 1
        assert refused.output == "the lane is not forked: nothing to accept\n"


def test_a_fork_is_accepted_only_after_a_question(lane: Any, booking_dsn: str) -> None:
    at(booking_dsn, FORK)
    asked = lane("accept-fork", said="n\n")
    assert asked.exit_code == 1
    assert "30 facts of the sink are not in this database, 23 facts are sent" in asked.stdout
    assert at(booking_dsn, "SELECT epoch FROM relay") == [(7,)]
    assert lane("accept-fork", said="y\n").exit_code == 0
    assert at(booking_dsn, "SELECT epoch FROM relay") == [(8,)]


def test_the_new_lane_begins_with_the_gap_and_keeps_the_order(lane: Any, booking_dsn: str) -> None:
    [(old,)] = at(booking_dsn, "SELECT producer_id FROM relay")
    at(booking_dsn, FORK)
    assert lane("accept-fork", "--yes").exit_code == 0
    [(producer, succeeds, epoch, next_seq, acked, facts, sink)] = at(
        booking_dsn,
        "SELECT producer_id, succeeds, epoch, next_seq, acked_seq, acked_facts, sink_id FROM relay",
    )
    assert producer != old
    assert (succeeds, epoch, next_seq, acked, facts) == ([old], 8, 4, 0, 50)
    assert str(sink) == SINK
    batches = at(booking_dsn, "SELECT seq, batch FROM segment ORDER BY seq")
    assert [(seq, batch) for seq, batch in batches[1:]] == [(2, b"3"), (3, b"4")]
    [event] = EventList.FromString(batches[0][1]).events
    gap = event.facts_gap
    assert (gap.succeeds, gap.lacking, gap.beyond, gap.resent) == (str(old), 0, 30, 23)
    assert at(booking_dsn, "SELECT count(*) FROM lane_trouble") == [(0,)]


@pytest.mark.parametrize(
    ("sink_facts", "kept", "lacking", "renumbered"),
    [
        # An empty sink gets all that is kept.
        (0, [1, 2, 3, 4], 0, 5),
        # One that has the first segment gets the rest.
        (10, [2, 3, 4], 0, 4),
        # Part of a segment counts as none of it: what it has is not counted twice.
        (15, [2, 3, 4], 0, 4),
    ],
)
def test_what_the_sink_lacks_is_sent_as_far_as_it_is_kept(
    lane: Any, booking_dsn: str, sink_facts: int, kept: list[int], lacking: int, renumbered: int
) -> None:
    at(booking_dsn, FORK.replace("50)", f"{sink_facts})"))
    accepted = lane("accept-fork", "--yes")
    assert f"{lacking} facts are lacking" in accepted.stdout
    found = at(booking_dsn, "SELECT seq, batch FROM segment WHERE seq > 1 ORDER BY seq")
    assert [int(batch) for _, batch in found] == kept
    assert [seq for seq, _ in found] == list(range(2, renumbered + 1))


def test_a_producer_that_is_no_uuid_is_refused(lane: Any, booking_dsn: str) -> None:
    at(booking_dsn, FORK)
    refused = lane("accept-fork", "--yes", "--succeeds", "relay")
    assert refused.exit_code == 2
    assert "must be the id of a producer, a UUID" in refused.output


def test_a_lane_that_its_sink_knows_takes_no_other_place(lane: Any, booking_dsn: str) -> None:
    at(booking_dsn, FORK)
    refused = lane("accept-fork", "--yes", "--succeeds", SINK)
    assert refused.exit_code == 1
    assert refused.output == "the sink knows this lane: it need not succeed another one\n"
    assert at(booking_dsn, "SELECT epoch FROM relay") == [(7,)]


@pytest.mark.parametrize(("part", "left"), [("payments", ("bookings", [], 0)), ("done", None)])
def test_an_interrupted_refill_begins_again_with_the_new_lane(
    lane: Any, booking_dsn: str, part: str, left: Any
) -> None:
    at(
        booking_dsn,
        "INSERT INTO refill (begin_time, rebuild, part, after, seen)"
        f" VALUES ('2026-03-01Z', false, '{part}', '{{a,b,c,d}}', 9)",
    )
    at(booking_dsn, FORK)
    assert lane("accept-fork", "--yes").exit_code == 0
    found = at(booking_dsn, "SELECT part, after, seen FROM refill")
    assert found == [left or (part, ["a", "b", "c", "d"], 9)]
