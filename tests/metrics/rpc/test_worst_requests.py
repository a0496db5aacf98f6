"""Every field of every request at its bound and above, and every number at its ends: answered, or
refused with INVALID_ARGUMENT that names the field. All of it comes from the descriptors, so that a
new field without a bound fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from metrics_service.health.paging import Key, token_of
from metrics_service.health.signals import countable, displayable
from metrics_service.ingest.frames import MAX_ID_BYTES, MAX_ID_CHARS, MAX_SUCCEEDED, identity_of
from metrics_service.rpc.series import MAX_METRICS
from metrics_service.rpc.session_requests import Listed, sessions
from metrics_service.rpc.validate import MAX_DURATION_S, SECTIONS
from metrics_service.state.history.series_metrics import METRICS
from metrics_service.state.queries.limit import MAX_OPERATION_BYTES
from metrics_service.storage.session_reader import Place
from protos.metrics.v1 import deployment_pb2, health_pb2, metrics_pb2
from protos.metrics.v1.journey_pb2 import ListSessionsRequest
from protos.tracking.v1 import tracking_pb2
from tests.large_fields import fills
from tests.metrics.rpc.running_servicers import Servicers, serve
from tests.metrics.rpc.test_bad_input import ask, refusal

CONTRACT: Final[tuple[Any, ...]] = (metrics_pb2, health_pb2, deployment_pb2)
REQUESTS: Final[list[Any]] = [
    GetMessageClass(method.input_type)
    for file in CONTRACT
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
NUMBERS: Final = (-(1 << 31), -1, 0, 1, (1 << 31) - 1)
DURATIONS: Final = [
    Duration(seconds=seconds, nanos=nanos)
    for seconds in (-(1 << 63), -MAX_DURATION_S - 1, -1, 0, 1, 10, 3600, MAX_DURATION_S, 2**63 - 1)
    for nanos in (-(1 << 31), -1, 0, 1, 1_000, 999_999_999, (1 << 31) - 1)
]

PAGE_TOKEN: Final = sessions(ListSessionsRequest()).token(
    Listed(0, 1 << 62, 1 << 62, Place(1 << 62, 1 << 62))
)

TIMES: Final = [
    Timestamp(seconds=seconds, nanos=nanos)
    for seconds in (-(1 << 63), -1, 0, int(time.time()), 253_402_300_799, 2**63 - 1)
    for nanos in (-(1 << 31), -1, 0, 1_000, 999_999_999, (1 << 31) - 1)
]

MESSAGES: Final[list[tuple[Any, list[Any]]]] = [(Duration, DURATIONS), (Timestamp, TIMES)]

NEEDED: Final[dict[str, dict[str, Any]]] = {
    "MarkDeploymentRequest": {"version": "1"},
    "GetSeriesRequest": {
        "metrics": ["queries"],
        "window": Duration(seconds=3600),
        "step": Duration(seconds=10),
    },
}
"""The fields without which a request is refused."""

LONGEST: Final[dict[str, Callable[[bool], Any]]] = {
    "ListRecentQueriesRequest.operation": lambda above: "x" * (MAX_OPERATION_BYTES + above),
    "ListSlowQueriesRequest.operation": lambda above: "x" * (MAX_OPERATION_BYTES + above),
    "GetJourneyRequest.session_id": lambda above: "x" * (MAX_ID_BYTES + above),
    "GetJourneyRequest.booking_id": lambda above: "x" * (MAX_ID_BYTES + above),
    "ListSessionsRequest.step": lambda above: "complete" + "d" * above,
    "ListSessionsRequest.page_token": lambda above: PAGE_TOKEN + "x" * above,
    "StreamMetricsRequest.sections": lambda above: [*SECTIONS, *([1] * above)],
    "MarkDeploymentRequest.version": lambda above: "x" * (64 + above),
    "GetDeploymentReportRequest.id": lambda above: "x" * (256 + above),
    "GetSeriesRequest.metrics": lambda above: [*METRICS][: MAX_METRICS + above],
    "GetSeriesRequest.metrics[0]": lambda above: [max(METRICS, key=len) + "x" * above],
    "GetDatabaseHealthRequest.page_token": lambda above: token_of(
        Key(True, "s" * MAX_ID_BYTES, "i" * (2_048 if above else MAX_ID_BYTES))
    ),
}
"""The longest content of each text and list that is taken, and one that is above it."""


def with_(request: Any, field: str, value: Any) -> Message:
    """Return a request that is taken but for the value of this field, if at all."""
    message: Message = request(**NEEDED.get(request.DESCRIPTOR.name, {}) | {field: value})
    return message


def numbers(request: Any) -> Iterator[tuple[str, Message]]:
    """Yield requests with one field that is no text at one of its ends, and the field."""
    for field in request.DESCRIPTOR.fields:
        if field.message_type is not None:
            found = {each.DESCRIPTOR.full_name: ends for each, ends in MESSAGES}
            for message in found[field.message_type.full_name]:
                yield field.name, with_(request, field.name, message)
        elif field.enum_type is not None:
            for number in (*field.enum_type.values_by_number, *NUMBERS):
                value = [number] if field.is_repeated else number
                yield field.name, with_(request, field.name, value)
        elif field.type == FieldDescriptor.TYPE_INT32:
            for number in NUMBERS:
                yield field.name, with_(request, field.name, number)
        else:
            assert field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BOOL), field


async def answered_or_named(running: Servicers, request: Message, field: str) -> bool:
    """Return whether a request was answered; else its refusal names the field, and only that."""
    try:
        await ask(running, request)
    except grpc.aio.AioRpcError:
        assert list(await refusal(running, request)) == [field]
        return False
    return True


WITH_NUMBERS: Final = [request for request in REQUESTS if any(numbers(request))]


@pytest.mark.parametrize("request_", WITH_NUMBERS, ids=lambda each: each.DESCRIPTOR.name)
async def test_every_number_is_answered_or_named(request_: Any) -> None:
    async with serve() as running:
        tried = [
            await answered_or_named(running, request, field) for field, request in numbers(request_)
        ]
    assert any(tried) or not tried
    assert not all(tried) or not tried


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda each: each.DESCRIPTOR.name)
async def test_every_text_and_list_has_a_bound(request_: Any) -> None:
    async with serve() as running:
        for field, _, fill in fills(request_.DESCRIPTOR):
            large = request_(**NEEDED.get(request_.DESCRIPTOR.name, {}))
            assert fill(large)
            name = field.partition("[")[0]
            assert not await answered_or_named(running, large, name)
            longest = LONGEST[f"{request_.DESCRIPTOR.name}.{field}"]
            await ask(running, with_(request_, name, longest(False)))
            assert not await answered_or_named(running, with_(request_, name, longest(True)), name)


MAX_KEPT_BYTES: Final = 10_000
"""Of a heartbeat: a sketch with every bucket has 3,000."""

HELLO: Final = tracking_pb2.Hello(
    lane=tracking_pb2.LANE_FACTS, producer_id="p", service="s", instance="i", succeeds=["q"]
)


@pytest.mark.parametrize("field", [name for name, *_ in fills(tracking_pb2.Hello.DESCRIPTOR)])
def test_every_text_and_list_of_a_hello_has_a_bound(field: str) -> None:
    def with_(value: Any) -> tracking_pb2.Hello:
        hello = tracking_pb2.Hello()
        hello.CopyFrom(HELLO)
        name, is_list, _ = field.partition("[")
        if not hello.DESCRIPTOR.fields_by_name[name].is_repeated:
            setattr(hello, name, value)
        elif is_list:
            getattr(hello, name)[:] = [value]
        else:
            getattr(hello, name)[:] = ["q"] * (MAX_SUCCEEDED + (len(value) > MAX_ID_CHARS))
        return hello

    assert identity_of(HELLO) is not None
    for longest in ("x" * MAX_ID_CHARS, "\u00e9" * (MAX_ID_BYTES // 2)):
        assert identity_of(with_(longest)) is not None
        assert identity_of(with_(f"{longest}x")) is None
    if field != "succeeds":
        assert identity_of(with_("\u20ac" * 86)) is None


SIGNALS: Final = tracking_pb2.Signals(
    queries=tracking_pb2.QueryCounts(total=9, execute_us=tracking_pb2.Sketch(index_delta=[1])),
    operations=[tracking_pb2.OperationCounts(operation="o", total=1)],
    lane=tracking_pb2.LaneSignal(state=tracking_pb2.LaneSignal.FORKED),
    telemetry=tracking_pb2.LaneSignal(state=tracking_pb2.LaneSignal.FENCED),
)


@pytest.mark.parametrize("number", range(len([*fills(SIGNALS.DESCRIPTOR)])))
def test_every_text_and_list_of_a_heartbeat_is_cut(number: int) -> None:
    field, _, fill = [*fills(SIGNALS.DESCRIPTOR)][number]
    signals = tracking_pb2.Signals()
    signals.CopyFrom(SIGNALS)
    assert fill(signals), field
    queries, operations = countable(signals)
    kept = [displayable(signals), queries, *operations]
    assert sum(each.ByteSize() for each in kept) < MAX_KEPT_BYTES
