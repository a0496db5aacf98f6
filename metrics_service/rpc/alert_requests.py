"""Checks the fields of requests about alerts: one refusal names every invalid field."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from metrics_service.alerts.listing import (
    DEFAULT_PAGE_SIZE,
    MAX_PAGE_SIZE,
    Key,
    parse,
    parse_silence,
)
from metrics_service.alerts.rules.load import MAX_BYTES as MAX_RULES_BYTES
from metrics_service.rpc.validate import exact_us
from metrics_service.state.series.rings import SECOND_US
from metrics_service.storage.silences import FIRST, Spot
from protos.metrics.v1 import alert_pb2
from servicekit.errors import Violation, invalid

MAX_TEXT_BYTES: Final = 256
"""Of a comment, the name of a rule, and the name and the value of a label."""

MAX_LABELS: Final = 8
MAX_REQUEST_ID_CHARS: Final = 128
SILENCE_US: Final = (60 * SECOND_US, 30 * 86_400 * SECOND_US)

_ID: Final = re.compile(r"[0-9a-f]{32}")


def page(request: alert_pb2.ListAlertsRequest) -> tuple[int, Key | None]:
    """Return the size of the page and the place after which it begins. Raises ApiError."""
    after = parse(request.page_token)
    return _size(request, is_known=after is not None), after


def silences_page(request: alert_pb2.ListSilencesRequest) -> tuple[int, Spot]:
    """Return the size of the page and the spot after which it begins. Raises ApiError."""
    after = parse_silence(request.page_token)
    return _size(request, is_known=after is not None), after or FIRST


def resource_id(request: alert_pb2.GetAlertRequest | alert_pb2.ExpireSilenceRequest) -> str:
    """Return the id of an alert or a silence. Raises ApiError."""
    if not _ID.fullmatch(request.id):
        raise invalid([Violation("id", "must have 32 hex digits, as in a list")])
    return request.id


def after(request: alert_pb2.StreamAlertsRequest, newest: int) -> int:
    """Return the number of the event before the first that is wanted. Raises ApiError."""
    if not request.HasField("after"):
        return newest
    if not 0 <= request.after <= newest:
        why = f"must be from 0 to {newest}, the newest change, not {request.after}"
        raise invalid([Violation("after", why)])
    return request.after


def silence(request: alert_pb2.CreateSilenceRequest, rules: Collection[str]) -> int:
    """Return the duration in microseconds. Raises ApiError."""
    bad: list[Violation] = []
    match = request.match
    if not match.rule and not match.labels:
        bad.append(Violation("match", "must have a rule, labels, or both"))
    if match.rule and match.rule not in rules:
        bad.append(Violation("match.rule", f"must be one of {', '.join(rules)}"))
    if len(match.labels) > MAX_LABELS:
        bad.append(Violation("match.labels", f"must be at most {MAX_LABELS}"))
    elif not all(_fits(text) for label in match.labels.items() for text in label):
        bad.append(Violation("match.labels", f"must have names and values {_BOUND}"))
    if not _fits(request.comment):
        bad.append(Violation("comment", f"must say why, {_BOUND}"))
    if not _fits(request.request_id, least=0, most=MAX_REQUEST_ID_CHARS * 4) or (
        len(request.request_id) > MAX_REQUEST_ID_CHARS
    ):
        bad.append(Violation("request_id", f"must have at most {MAX_REQUEST_ID_CHARS} characters"))
    duration_us = exact_us(request.duration)
    least_us, most_us = SILENCE_US
    if duration_us is None or not least_us <= duration_us <= most_us:
        bad.append(Violation("duration", "must be from 1 min to 30 days, in whole microseconds"))
        duration_us = 0
    _refuse(bad)
    return duration_us


def rules(request: alert_pb2.LintRulesRequest) -> str:
    """Return the rule file. Raises ApiError."""
    if len(request.toml.encode()) > MAX_RULES_BYTES:
        raise invalid([Violation("toml", f"must have at most {MAX_RULES_BYTES} bytes")])
    return request.toml


def _size(
    request: alert_pb2.ListAlertsRequest | alert_pb2.ListSilencesRequest, *, is_known: bool
) -> int:
    bad: list[Violation] = []
    if request.page_size < 0:
        bad.append(Violation("page_size", f"must be 0 or more, not {request.page_size}"))
    if request.page_token and not is_known:
        bad.append(Violation("page_token", "must be the next_page_token of an answer"))
    _refuse(bad)
    return min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


_BOUND: Final = f"of 1 to {MAX_TEXT_BYTES} bytes without a zero"


def _fits(text: str, *, least: int = 1, most: int = MAX_TEXT_BYTES) -> bool:
    return least <= len(text.encode()) <= most and "\0" not in text


def _refuse(bad: list[Violation]) -> None:
    if bad:
        raise invalid(bad)
