"""Query parameters as request messages: every field of the RPCs served, and every bad parameter."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from metrics_service.web import fields
from metrics_service.web.calls import methods
from protos.metrics.v1 import alert_pb2, journey_pb2, metrics_pb2, series_pb2
from servicekit.errors import ApiError

SECOND = 1_000_000_000


def read(kind: type[Message], *parameters: tuple[str, str]) -> Any:
    return fields.read(kind, parameters)


def refused(kind: type[Message], *parameters: tuple[str, str]) -> dict[str, str]:
    with pytest.raises(ApiError) as error:
        read(kind, *parameters)
    return {each.field: each.description for each in error.value.violations}


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("3600s", 3_600 * SECOND),
        ("1h", 3_600 * SECOND),
        ("90", 90 * SECOND),
        ("15m", 900 * SECOND),
        ("30d", 30 * 86_400 * SECOND),
        ("250ms", SECOND // 4),
        ("0.000001s", 1_000),
        ("1.5h", 5_400 * SECOND),
        ("0", 0),
    ],
)
def test_a_duration_is_a_number_with_its_unit(text: str, nanoseconds: int) -> None:
    request = read(metrics_pb2.GetMetricsRequest, ("window", text))
    assert request.HasField("window")
    assert request.window.ToNanoseconds() == nanoseconds


@pytest.mark.parametrize(
    "text", ["", "h", "-1h", "1 h", "1w", "1e3s", "1h30m", "٣s", "0.0000000001s", "9" * 400, "NaN"]
)
def test_another_text_is_no_duration(text: str) -> None:
    assert "such as 15m" in refused(metrics_pb2.GetMetricsRequest, ("window", text))["window"]


def test_every_kind_of_field_is_read() -> None:
    series = read(
        series_pb2.GetSeriesRequest,
        ("metrics", "confirmed"),
        ("metrics", "p95_ms"),
        ("by", "DIMENSION_VENDOR"),
        ("step", "1m"),
    )
    assert list(series.metrics) == ["confirmed", "p95_ms"]
    assert (series.by, series.step) == (series_pb2.DIMENSION_VENDOR, Duration(seconds=60))
    page = read(alert_pb2.ListAlertsRequest, ("include_resolved", "true"), ("page_size", "-1"))
    assert page == alert_pb2.ListAlertsRequest(include_resolved=True, page_size=-1)
    hostile = "[red]<script>\0\u202e"
    assert read(journey_pb2.GetJourneyRequest, ("session_id", hostile)).session_id == hostile


def test_an_inner_field_has_its_path() -> None:
    silence = read(alert_pb2.CreateSilenceRequest, ("match.rule", "x"), ("duration", "9s"))
    assert (silence.match.rule, silence.duration.seconds) == ("x", 9)
    assert refused(alert_pb2.CreateSilenceRequest, ("duration.seconds", "9"), ("x.y", "")) == {
        "duration.seconds": "is no field of this request",
        "x.y": "is no field of this request; fields are match, duration, comment, request_id",
    }


def test_all_bad_parameters_are_named_at_once() -> None:
    assert refused(
        alert_pb2.ListAlertsRequest,
        ("include_resolved", "yes"),
        ("page_size", "2147483648"),
        ("page_token", "a"),
        ("page_token", "b"),
        ("window", "1h"),
        ("page_size.x", "1"),
    ) == {
        "include_resolved": "must be true or false",
        "page_size": "must be a whole number of 32 bits",
        "page_token": "must be given once",
        "window": "is no field of this request; fields are include_resolved, page_size, page_token",
        "page_size.x": "is no field of this request",
    }
    assert refused(series_pb2.GetSeriesRequest, ("by", "VENDOR")) == {
        "by": "must be one of DIMENSION_PACKAGE, DIMENSION_PACKAGE_TYPE, DIMENSION_LOCATION, "
        "DIMENSION_VENDOR"
    }
    both = refused(journey_pb2.GetJourneyRequest, ("session_id", "a"), ("booking_id", "b"))
    assert both == {"booking_id": "must not be given with session_id"}
    assert "rule, labels" in refused(alert_pb2.CreateSilenceRequest, ("match", "x"))["match"]


def test_parameters_and_what_a_refusal_repeats_are_bounded() -> None:
    many = [(f"{'x' * 500}{number}", "") for number in range(10_000)]
    bad = refused(metrics_pb2.GetMetricsRequest, *many)
    assert len(bad) <= fields.MAX_PARAMETERS + 1
    assert max(map(len, bad)) == fields.MAX_NAME_CHARS
    assert bad[""] == f"must have at most {fields.MAX_PARAMETERS} parameters"


def test_every_field_of_every_request_can_be_given() -> None:
    for method in methods().values():
        for field in method.request.DESCRIPTOR.fields:
            text = {field.TYPE_BOOL: "true", field.TYPE_MESSAGE: "1h"}.get(field.type, "1")
            if field.enum_type is not None:
                text = field.enum_type.values[1].name
            assert read(method.request, (field.name, text)).ListFields()


NAMES = sorted({f.name for m in methods().values() for f in m.request.DESCRIPTOR.fields})
TEXTS = st.one_of(
    st.text(max_size=30),
    st.integers().map(str),
    st.from_regex(r"[0-9]{1,14}(\.[0-9]{1,10})?(ms|s|m|h|d)", fullmatch=True),
    st.sampled_from(["true", "DIMENSION_VENDOR", "MATURED", "P95"]),
)
PARAMETERS = st.lists(
    st.tuples(st.one_of(st.sampled_from(NAMES), st.text(alphabet="window.s", max_size=12)), TEXTS),
    max_size=6,
)


@given(st.sampled_from(sorted(methods())), PARAMETERS)
def test_whatever_is_given_is_a_message_or_refused(
    name: str, parameters: list[tuple[str, str]]
) -> None:
    kind = methods()[name].request
    try:
        message = fields.read(kind, parameters)
    except ApiError as error:
        refusal = error
    else:
        assert kind.FromString(message.SerializeToString()) == message
        return
    named = {each.field for each in refusal.violations}
    assert named
    assert named <= {each for each, _ in parameters}
