"""Every field of every request about alerts at its bound and above: taken, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from metrics_service.rpc import alert_requests
from protos.metrics.v1 import alert_pb2 as a
from servicekit.errors import ApiError

RULES: Final = ("high_error_rate", "slow_query")
NEWEST: Final = 7
DAY_S: Final = 86_400
HEX: Final = "0123456789abcdef" * 2
TEXT: Final = "é" * 128


def silence(**fields: Any) -> a.CreateSilenceRequest:
    given: dict[str, Any] = {
        "match": a.SilenceMatch(rule="slow_query"),
        "duration": Duration(seconds=60),
        "comment": "why",
    }
    return a.CreateSilenceRequest(**given | fields)


CHECKS: Final[dict[str, Callable[[Any], object]]] = {
    "ListAlertsRequest": alert_requests.page,
    "GetAlertRequest": alert_requests.resource_id,
    "StreamAlertsRequest": lambda request: alert_requests.after(request, NEWEST),
    "CreateSilenceRequest": lambda request: alert_requests.silence(request, RULES),
    "ListSilencesRequest": alert_requests.silences_page,
    "ExpireSilenceRequest": alert_requests.resource_id,
    "LintRulesRequest": alert_requests.rules,
}

GOOD: Final = [
    a.ListAlertsRequest(),
    a.ListAlertsRequest(include_resolved=True, page_size=2**31 - 1),
    a.ListAlertsRequest(page_token=f"0.1800000000000000.{HEX}"),
    a.GetAlertRequest(id=HEX),
    a.StreamAlertsRequest(),
    a.StreamAlertsRequest(after=0),
    a.StreamAlertsRequest(after=NEWEST),
    silence(),
    silence(duration=Duration(seconds=30 * DAY_S), comment=TEXT, request_id="x" * 128),
    silence(match=a.SilenceMatch(labels={TEXT[:126] + str(n): TEXT for n in range(8)})),
    a.ListSilencesRequest(include_ended=True, page_size=2**31 - 1),
    a.ListSilencesRequest(page_token=f"1.1800000000000000.{HEX}"),
    a.ExpireSilenceRequest(id=HEX),
    a.LintRulesRequest(toml="é" * 32_768),
]
BAD: Final = [
    (a.ListAlertsRequest(page_size=-1), ["page_size"]),
    (a.ListAlertsRequest(page_size=-1, page_token="x" * 200_000), ["page_size", "page_token"]),
    (a.GetAlertRequest(), ["id"]),
    (a.GetAlertRequest(id=HEX.upper()), ["id"]),
    (a.GetAlertRequest(id="0" * 200_000), ["id"]),
    (a.StreamAlertsRequest(after=-1), ["after"]),
    (a.StreamAlertsRequest(after=NEWEST + 1), ["after"]),
    (silence(match=a.SilenceMatch()), ["match"]),
    (silence(match=a.SilenceMatch(rule="slow")), ["match.rule"]),
    (silence(match=a.SilenceMatch(labels={str(n): "" for n in range(9)})), ["match.labels"]),
    (silence(match=a.SilenceMatch(labels={"a": TEXT + "x"})), ["match.labels"]),
    (silence(match=a.SilenceMatch(labels={"": "x"})), ["match.labels"]),
    (silence(match=a.SilenceMatch(labels={"a": "\0"})), ["match.labels"]),
    (silence(duration=Duration(seconds=59)), ["duration"]),
    (silence(duration=Duration(seconds=60, nanos=1)), ["duration"]),
    (silence(duration=Duration(seconds=30 * DAY_S, nanos=1_000)), ["duration"]),
    (silence(comment=""), ["comment"]),
    (silence(comment=TEXT + "x"), ["comment"]),
    (silence(comment="a\0b"), ["comment"]),
    (silence(request_id="x" * 129), ["request_id"]),
    (a.CreateSilenceRequest(), ["match", "comment", "duration"]),
    (a.ListSilencesRequest(page_size=-1, page_token="2.1.x"), ["page_size", "page_token"]),
    (a.ExpireSilenceRequest(id="x"), ["id"]),
    (a.LintRulesRequest(toml="x" * 65_537), ["toml"]),
]


def check(request: Message) -> object:
    return CHECKS[request.DESCRIPTOR.name](request)


@pytest.mark.parametrize("request_", GOOD, ids=lambda each: each.DESCRIPTOR.name)
def test_a_request_within_its_bounds_is_taken(request_: Message) -> None:
    check(request_)


@pytest.mark.parametrize(("request_", "fields"), BAD, ids=lambda each: str(each)[:40])
def test_every_bad_field_is_named(request_: Message, fields: list[str]) -> None:
    with pytest.raises(ApiError) as refused:
        check(request_)
    assert [each.field for each in refused.value.violations] == fields


def test_each_field_of_each_request_is_tried_at_its_bound() -> None:
    methods = a.DESCRIPTOR.services_by_name["AlertService"].methods
    # The targets name their choices themselves.
    requests = {each.input_type.name: each.input_type for each in methods}
    del requests["SendTestRequest"]
    assert requests.keys() == CHECKS.keys()
    boolean = {"include_resolved", "include_ended"}
    for name, descriptor in requests.items():
        fields = {field.name for field in descriptor.fields} - boolean
        bad = {
            field.partition(".")[0]
            for request, named in BAD
            if request.DESCRIPTOR.name == name
            for field in named
        }
        assert bad == fields, name


def test_a_rule_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(ApiError, match="must be one of high_error_rate, slow_query"):
        check(silence(match=a.SilenceMatch(rule="slow")))
