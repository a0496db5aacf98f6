"""The list of sessions and the journey of one, over real gRPC from a real table."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_status.rpc_status import from_call

from metrics_service.rpc.sessions import Sessions
from metrics_service.storage.session_reader import SessionReader
from protos.metrics.v1 import journey_pb2
from protos.metrics.v1.journey_pb2 import GetJourneyRequest, ListSessionsRequest
from tests.metrics.rpc.running_servicers import Servicers, serve
from tests.metrics.rpc.test_bad_input import ask, refusal
from tests.metrics.state.log import HOUR, MINUTE, NOW, SECOND, Fact, Flow, Log
from tests.metrics.storage.sessions_log import Table, busy_log

Outcome = journey_pb2.SessionOutcome
OPEN = journey_pb2.SESSION_OUTCOME_OPEN
CONVERTED = journey_pb2.SESSION_OUTCOME_CONVERTED
ABANDONED = journey_pb2.SESSION_OUTCOME_ABANDONED


@asynccontextmanager
async def running(dsn: str, log: Log) -> AsyncIterator[tuple[Servicers, Table]]:
    """The service over a checkpoint of a log."""
    table, reader = Table(dsn), SessionReader(dsn)
    try:
        await table.store.load()
        table.fold(log.records)
        await table.save()
        async with serve(sessions=Sessions(reader)) as servicers:
            yield servicers, table
    finally:
        await reader.close()
        await table.store.close()


async def listed(
    servicers: Servicers, request: ListSessionsRequest
) -> list[journey_pb2.SessionSummary]:
    """All pages of a list, whose length is its total."""
    found: list[journey_pb2.SessionSummary] = []
    while True:
        answer = await ask(servicers, request)
        assert isinstance(answer, journey_pb2.ListSessionsResponse)
        found += answer.sessions
        if not answer.next_page_token:
            assert len(found) == answer.total
            return found
        request.page_token = answer.next_page_token


async def reason(servicers: Servicers, request: GetJourneyRequest) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(servicers, request)
    status = from_call(cast("grpc.Call", caught.value))
    info = error_details_pb2.ErrorInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    return caught.value.code(), info.reason


def booked() -> Log:
    """A session that books, one that gives up, one that looks, and a user without a session."""
    log = Log()
    refused = log.refused(NOW + 30 * SECOND, "HOLD_EXPIRED")
    refused.session_id = "books"
    log.append(
        log.view(NOW, "books", user="u1"),
        log.fact(Fact.STARTED, NOW + 10 * SECOND, "books", booking="b1", user="u1"),
        refused,
        log.fact(Fact.COMPLETED, NOW + 40 * SECOND, "books", booking="b1"),
        log.fact(Fact.CONFIRMED, NOW + 50 * SECOND, "books", booking="b1"),
        log.view(NOW + 1, "gives-up"),
        log.fact(Fact.STARTED, NOW + 2, "gives-up", booking="b2"),
        log.flow(Flow.ABANDON, NOW + 3, "gives-up"),
        log.view(NOW + 4, "looks"),
        log.view(NOW + 5, "", user="u2"),
        log.fact(Fact.STARTED, NOW + 6, "", booking="b3", user="u2"),
    )
    log.tick(NOW + MINUTE)
    return log


async def test_a_list_has_what_the_funnel_counts_page_by_page(metrics_dsn: str) -> None:
    log = busy_log(random.Random(7), batches=100, sessions=8)
    async with running(metrics_dsn, log) as (servicers, table):
        for window_us in (None, HOUR, 24 * HOUR):
            funnel = table.state.funnel(window_us)
            window = None if window_us is None else Duration(seconds=window_us // SECOND)
            for number, step in enumerate(funnel.steps):
                request = ListSessionsRequest(window=window, step=step.name, page_size=7)
                found = await listed(servicers, request)
                assert len(found) == step.actors
                keys = [each.entry_time.ToMicroseconds() for each in found]
                assert keys == sorted(keys, reverse=True)
                only = ListSessionsRequest(window=window, step=step.name, furthest=True)
                beyond = funnel.steps[number + 1].actors if number < 3 else 0
                assert len(await listed(servicers, only)) == step.actors - beyond
            for outcome, count in (
                (OPEN, funnel.open),
                (ABANDONED, funnel.abandoned),
                (CONVERTED, funnel.converted),
            ):
                found = await listed(servicers, ListSessionsRequest(window=window, outcome=outcome))
                assert len(found) == count
                assert {each.outcome for each in found} <= {outcome}
        assert funnel.entered > funnel.converted > 0


async def test_a_session_says_how_far_it_came(metrics_dsn: str) -> None:
    async with running(metrics_dsn, booked()) as (servicers, table):
        answer = await ask(servicers, ListSessionsRequest())
        assert isinstance(answer, journey_pb2.ListSessionsResponse)
        assert answer.as_of.ToMicroseconds() == table.state.as_of_us
        assert answer.revision == table.state.revision
        user, looks, gives_up, books = answer.sessions
        assert [(each.session_id, each.step, each.outcome) for each in answer.sessions[1:]] == [
            ("looks", "view", OPEN),
            ("gives-up", "start", ABANDONED),
            ("books", "confirm", CONVERTED),
        ]
        assert user.session_id.startswith("~")
        assert (books.events, list(books.booking_ids), books.package_id) == (5, ["b1"], "p")
        assert books.last_time.ToMicroseconds() == NOW + 50 * SECOND
        assert looks.booking_ids == []
        assert gives_up.entry_time.ToMicroseconds() == NOW + 1


async def test_a_journey_is_in_the_order_of_time(metrics_dsn: str) -> None:
    async with running(metrics_dsn, booked()) as (servicers, table):
        by_session = await ask(servicers, GetJourneyRequest(session_id="books"))
        by_booking = await ask(servicers, GetJourneyRequest(booking_id="b1"))
        assert isinstance(by_session, journey_pb2.Journey)
        assert by_session == by_booking
        assert by_session.as_of.ToMicroseconds() == table.state.as_of_us
        events = by_session.events
        assert [each.name for each in events] == ["view", "start", "error", "complete", "confirm"]
        assert [each.since_previous.ToSeconds() for each in events] == [0, 10, 20, 10, 10]
        assert not events[0].HasField("since_previous")
        assert (events[2].reason, events[1].booking_id) == ("HOLD_EXPIRED", "b1")
        assert by_session.further_events == 0
        # The name of a user in the list is one that a journey can be asked for.
        first = await ask(servicers, GetJourneyRequest(booking_id="b3"))
        assert isinstance(first, journey_pb2.Journey)
        again = await ask(servicers, GetJourneyRequest(session_id=first.session.session_id))
        assert again == first
        assert [each.name for each in first.events] == ["view", "start"]


async def test_a_journey_has_all_visits_and_what_came_days_later(metrics_dsn: str) -> None:
    log = booked()
    log.tick(NOW + HOUR)
    log.append(log.view(log.now_us, "books"))
    log.jump(NOW + 72 * HOUR)
    log.append(log.fact(Fact.CANCELLED, log.now_us, "books", booking="b1"))
    log.append(*(log.view(log.now_us + 1 + n, "books") for n in range(600)))
    async with running(metrics_dsn, log) as (servicers, _):
        journey = await ask(servicers, GetJourneyRequest(session_id="books"))
        assert isinstance(journey, journey_pb2.Journey)
        assert (len(journey.events), journey.further_events) == (500, 5 + 1 + 1 + 600 - 500)
        assert [each.name for each in journey.events[5:8]] == ["view", "cancel", "view"]
        assert (journey.session.step, journey.session.events) == ("confirm", 607)
        assert journey.session.last_time.ToMicroseconds() == log.now_us + 600
        found = await listed(servicers, ListSessionsRequest(step="view"))
        assert [each.session_id for each in found].count("books") == 2


async def test_an_unknown_session_is_not_found(metrics_dsn: str) -> None:
    async with running(metrics_dsn, booked()) as (servicers, _):
        for request in (GetJourneyRequest(session_id="x"), GetJourneyRequest(booking_id="x")):
            found = await reason(servicers, request)
            assert found == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")


async def test_a_lost_database_is_said(metrics_dsn: str) -> None:
    reader = SessionReader("postgresql://nobody@127.0.0.1:1/none")
    async with serve(sessions=Sessions(reader)) as servicers:
        found = await reason(servicers, GetJourneyRequest(session_id="s"))
        assert found == (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(servicers, ListSessionsRequest())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_what_is_wrong_is_named_with_the_choices() -> None:
    async with serve() as servicers:
        request = ListSessionsRequest(step="pay", page_size=-1, ended=Duration(seconds=10))
        named = await refusal(servicers, request)
        assert sorted(named) == ["ended", "page_size", "step"]
        assert named["step"] == "must be empty or one of view, start, complete, confirm"
        hour = Duration(seconds=3600)
        for window, ended in ((hour, Duration(seconds=3661)), (Duration(seconds=3590), hour)):
            odd = ListSessionsRequest(window=window, ended=ended)
            assert list(await refusal(servicers, odd)) == ["ended"]
        assert list(await refusal(servicers, GetJourneyRequest())) == ["session_id"]
        nul = GetJourneyRequest(booking_id="a\x00")
        assert list(await refusal(servicers, nul)) == ["booking_id"]


async def test_a_token_belongs_to_its_question(metrics_dsn: str) -> None:
    async with running(metrics_dsn, booked()) as (servicers, _):
        first = await ask(servicers, ListSessionsRequest(page_size=1))
        assert isinstance(first, journey_pb2.ListSessionsResponse)
        token = first.next_page_token
        other = ListSessionsRequest(page_size=2, page_token=token, step="start")
        assert list(await refusal(servicers, other)) == ["page_token"]
        rest = await ask(servicers, ListSessionsRequest(page_size=99, page_token=token))
        assert isinstance(rest, journey_pb2.ListSessionsResponse)
        assert (len(rest.sessions), rest.total, rest.next_page_token) == (3, 4, "")
