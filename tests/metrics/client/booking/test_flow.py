"""BookingFlow: every step ends as an event of its session, and nothing ever raises."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

import metrics_service.client as client_module
from booking_service import errors as booking_errors
from metrics_service.client import BookingFlow
from metrics_service.client.booking.reasons import KIND_BY_REASON, KINDS
from metrics_service.client.telemetry.emitter import Emitter
from protos.tracking.v1 import event_pb2
from servicekit.caller import LOCAL
from servicekit.context import Call, current_call

STEP = event_pb2.FlowStep


async def told(emitter: Emitter) -> list[event_pb2.Event]:
    """What the emitter would send now."""
    await emitter.open(0, b"")
    emitter.drain()
    return list(event_pb2.EventList.FromString((await emitter.next()).payload).events)


@pytest.fixture
def emitter() -> Emitter:
    return Emitter("web", instance="i-1", now_us=lambda: 5)


@pytest.fixture
def flow(emitter: Emitter) -> BookingFlow:
    return BookingFlow(emitter)


async def test_every_step_carries_its_arguments(flow: BookingFlow, emitter: Emitter) -> None:
    flow.track_view("p", "u", at=datetime(1970, 1, 1, 0, 0, 1, 7, tzinfo=UTC))
    flow.track_start("p", "u")
    flow.track_complete("p", "u", "b", 1500.25)
    flow.track_confirm("b", "u", {"amount": 24_990, "currency": "eur"})
    flow.track_error("SOLD_OUT", "p", "u")
    flow.track_abandon("p", "u", 0)
    found = await told(emitter)
    assert found[0].time_us == 1_000_007
    assert {event.time_us for event in found[1:]} == {5}
    assert {event.session_id for event in found} == {"u"}
    assert [event.flow_step for event in found] == [
        STEP(step=STEP.VIEW, package_id="p", user_id="u"),
        STEP(step=STEP.START, package_id="p", user_id="u"),
        STEP(
            step=STEP.COMPLETE,
            package_id="p",
            user_id="u",
            booking_id="b",
            duration_us=1_500_250,
        ),
        STEP(step=STEP.CONFIRM, user_id="u", booking_id="b", amount_minor=24_990, currency="EUR"),
        STEP(
            step=STEP.ERROR,
            package_id="p",
            user_id="u",
            reason="SOLD_OUT",
            kind="availability",
        ),
        STEP(step=STEP.ABANDON, package_id="p", user_id="u"),
    ]


async def test_the_session_is_the_given_one_else_the_calls_else_the_user_else_new(
    flow: BookingFlow, emitter: Emitter
) -> None:
    token = current_call.set(Call("m", "r", LOCAL, "from-call", None))
    flow.track_start("p", "u", session_id="given")
    flow.track_start("p", "u")
    current_call.reset(token)
    flow.track_start("p", "u")
    flow.track_view("p")
    flow.track_view("p")
    sessions = [event.session_id for event in await told(emitter)]
    assert sessions[:3] == ["given", "from-call", "u"]
    assert sessions[3] != sessions[4]
    assert all(session.startswith("anonymous-") for session in sessions[3:])


class RpcError(Exception):
    """What grpc.aio raises, as far as it matters here."""

    def __init__(self, reason: str) -> None:
        detail = any_pb2.Any()
        detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="booking.farehold"))
        status = status_pb2.Status(code=9, message="secret text", details=[detail])
        self._details = status.SerializeToString()

    def trailing_metadata(self) -> list[tuple[str, Any]]:
        return [("x-other", "1"), ("grpc-status-details-bin", self._details)]


@pytest.mark.parametrize(
    ("error", "kind", "expected"),
    [
        ("PAYMENT_DECLINED", None, ("PAYMENT_DECLINED", "payment")),
        (RpcError("HOLD_EXPIRED"), None, ("HOLD_EXPIRED", "booking")),
        (error_details_pb2.ErrorInfo(reason="SOLD_OUT"), None, ("SOLD_OUT", "availability")),
        ("card 4111 1111 1111 1111 of Jo refused", None, ("UNKNOWN", "booking")),
        (ValueError("Jo"), "payment", ("UNKNOWN", "payment")),
        (RpcError("NOT_OURS"), None, ("UNKNOWN", "booking")),
        (None, None, ("UNKNOWN", "booking")),
    ],
)
async def test_an_error_is_sent_by_its_reason_and_never_by_its_text(
    flow: BookingFlow,
    emitter: Emitter,
    error: object,
    kind: str | None,
    expected: tuple[str, str],
) -> None:
    flow.track_error(error, "p", "u", kind=kind)
    (event,) = await told(emitter)
    assert (event.flow_step.reason, event.flow_step.kind) == expected
    assert b"Jo" not in event.SerializeToString()
    assert b"4111" not in event.SerializeToString()


def test_the_reasons_and_kinds_are_those_of_the_catalogue_of_bookings() -> None:
    for spec in booking_errors.CATALOGUE.values():
        kind = spec.kind if spec.kind in KINDS else "booking"
        assert KIND_BY_REASON.get(spec.reason) == kind, spec.reason
    assert KIND_BY_REASON.keys() == booking_errors.CATALOGUE.keys()


async def test_refused_metadata_is_counted_and_the_step_is_sent(
    flow: BookingFlow, emitter: Emitter
) -> None:
    flow.track_confirm("b", "u", {"amount": 1, "currency": "EUR", "email": "jo@example.org"})
    (event,) = await told(emitter)
    assert flow.refused_keys == 1
    assert b"jo@" not in event.SerializeToString()


def test_nothing_raises_and_steps_that_cannot_be_sent_are_counted(flow: BookingFlow) -> None:
    flow.track_complete("p", "u", "b", float("nan"))
    flow.track_abandon("p", "u", -1)
    flow.track_confirm("b", "u", {"amount": 249.9})
    flow.track_confirm("b", "u", {"amount": 1, "currency": "euro"})
    flow.track_confirm("b", "u", 7)  # type: ignore[arg-type]  # the point
    flow.track_view("p", at="soon")  # type: ignore[arg-type]  # the point
    flow.track_view("p", at=datetime(2026, 1, 1))  # noqa: DTZ001 - the point
    flow.track_error("x", "p", "u", kind="weather")
    flow.track_start()  # type: ignore[call-arg]  # the point
    assert flow.not_emitted == 9


async def test_the_flow_of_the_process_sends_nothing_before_init_and_after_close() -> None:
    flow = client_module.flow
    before = flow.not_emitted
    flow.track_view("p")
    assert flow.not_emitted == before + 1
    instrumentation = client_module.init("127.0.0.1:1", service="web")
    flow.track_view("p", session_id="s")
    assert flow.not_emitted == before + 1
    assert [event.session_id for event in await told(instrumentation.emitter)] == ["s"]
    await instrumentation.close(0.05)
    flow.track_view("p")
    assert flow.not_emitted == before + 2
