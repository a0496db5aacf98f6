"""Checks the fields of requests: one refusal names every invalid field of a request."""

from __future__ import annotations

from typing import Final

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.duration_pb2 import Duration

from metrics_service.health.paging import MAX_PAGE_SIZE, Page, key_of
from metrics_service.state.groups import MAX_DAYS
from metrics_service.state.queries.limit import MAX_OPERATION_BYTES, bounded_limit
from metrics_service.state.queries.stats import FINGERPRINT_RESOLUTIONS
from metrics_service.state.series.rings import (
    HOUR_US,
    RESOLUTIONS,
    SECOND_US,
    Resolution,
    Window,
    WindowError,
    ring_of,
)
from protos.metrics.v1 import deployment_pb2, health_pb2, journey_pb2, metrics_pb2
from protos.metrics.v1.series_pb2 import Dimension
from servicekit.errors import Violation, invalid

MAX_DURATION_S: Final = 315_576_000_000
"""The longest protobuf Duration: ten thousand years."""

STREAM_INTERVAL_US: Final = (SECOND_US // 10, SECOND_US, 60 * SECOND_US)
WATCH_INTERVAL_US: Final = (SECOND_US, 15 * SECOND_US, 60 * SECOND_US)
"""Minimum, default, maximum."""

MAX_ID_BYTES: Final = 256
MAX_VERSION_BYTES: Final = 64
MAX_DEPLOYMENT_AGE_US: Final = 400 * 24 * HOUR_US
MAX_CLOCK_SKEW_US: Final = 60 * SECOND_US
"""How far a caller's clock may be ahead."""

SECTIONS: Final = frozenset(metrics_pb2.Section.values()) - {metrics_pb2.SECTION_UNSPECIFIED}

WindowRequest = (
    metrics_pb2.GetMetricsRequest
    | metrics_pb2.GetFunnelRequest
    | metrics_pb2.GetErrorBreakdownRequest
    | journey_pb2.ListSessionsRequest
)


def window(request: WindowRequest) -> Window:
    """Return the window. Raises ApiError."""
    bad: list[Violation] = []
    window = checked_window(request, bad)
    _refuse(bad)
    return window


def funnel(request: metrics_pb2.GetFunnelRequest) -> Window:
    """Check the request, and return its window. Raises ApiError."""
    bad: list[Violation] = []
    window = checked_window(request, bad)
    check_enum("state", request.state, metrics_pb2.GetFunnelRequest.State.DESCRIPTOR, bad)
    check_enum("by", request.by, Dimension.DESCRIPTOR, bad)
    if not 0 <= request.entry_days <= MAX_DAYS:
        bad.append(Violation("entry_days", f"must be 0 to {MAX_DAYS}, not {request.entry_days}"))
    _refuse(bad)
    return window


def query_stats(request: metrics_pb2.GetQueryStatsRequest) -> metrics_pb2.GetQueryStatsRequest:
    """Return the request with its limit and enums filled in. Raises ApiError."""
    kinds = metrics_pb2.GetQueryStatsRequest
    bad: list[Violation] = []
    by_fingerprint = request.group_by == kinds.FINGERPRINT
    window = checked_window(
        request, bad, FINGERPRINT_RESOLUTIONS if by_fingerprint else RESOLUTIONS
    )
    check_enum("group_by", request.group_by, kinds.GroupBy.DESCRIPTOR, bad)
    check_enum("order_by", request.order_by, kinds.OrderBy.DESCRIPTOR, bad)
    limit = _limit(request.limit, bad)
    _refuse(bad)
    filled = kinds(
        limit=limit,
        group_by=request.group_by or kinds.OPERATION,
        order_by=request.order_by or kinds.TOTAL_TIME,
    )
    if window.window_us is not None:
        filled.window.CopyFrom(request.window)
        filled.ended.CopyFrom(request.ended)
    return filled


def recent_queries(
    request: metrics_pb2.ListRecentQueriesRequest,
) -> metrics_pb2.ListRecentQueriesRequest:
    """Return the request with its limit filled in. Raises ApiError."""
    bad: list[Violation] = []
    limit = _limit(request.limit, bad)
    _check_operation(request.operation, bad)
    _refuse(bad)
    return metrics_pb2.ListRecentQueriesRequest(
        limit=limit, operation=request.operation, include_internal=request.include_internal
    )


def slow_queries(
    request: metrics_pb2.ListSlowQueriesRequest,
) -> metrics_pb2.ListSlowQueriesRequest:
    """Return the request with its limit filled in. Raises ApiError."""
    bad: list[Violation] = []
    limit = _limit(request.limit, bad)
    _check_operation(request.operation, bad)
    _refuse(bad)
    return metrics_pb2.ListSlowQueriesRequest(limit=limit, operation=request.operation)


def stream(
    request: metrics_pb2.StreamMetricsRequest,
) -> tuple[Window, float, frozenset[metrics_pb2.Section.ValueType]]:
    """Return the window, the interval in seconds, and the sections that are wanted. Raises
    ApiError.
    """
    bad: list[Violation] = []
    window = checked_window(request, bad)
    interval_us = _interval(request, STREAM_INTERVAL_US, "100 ms", bad)
    sections = frozenset(request.sections if len(request.sections) <= len(SECTIONS) else ())
    if len(sections) != len(request.sections) or not sections <= SECTIONS:
        bad.append(Violation("sections", f"must be at most {len(SECTIONS)} Sections, each once"))
    _refuse(bad)
    return window, interval_us / SECOND_US, sections or SECTIONS


def watch(request: health_pb2.WatchDatabaseHealthRequest) -> float:
    """Return the interval in seconds. Raises ApiError."""
    bad: list[Violation] = []
    interval_us = _interval(request, WATCH_INTERVAL_US, "1 s", bad)
    _refuse(bad)
    return interval_us / SECOND_US


def page(request: health_pb2.GetDatabaseHealthRequest) -> Page:
    """Return the page of instances that is asked for. Raises ApiError."""
    bad: list[Violation] = []
    if request.page_size < 0:
        bad.append(Violation("page_size", f"must be 0 or more, not {request.page_size}"))
    after = key_of(request.page_token)
    if request.page_token and after is None:
        bad.append(Violation("page_token", "must be the next_page_token of an answer"))
    _refuse(bad)
    return Page(min(request.page_size or MAX_PAGE_SIZE, MAX_PAGE_SIZE), after)


def deployment(request: deployment_pb2.MarkDeploymentRequest, now_us: int) -> int:
    """Return the time of a deployment in microseconds. Raises ApiError."""
    bad: list[Violation] = []
    version = request.version
    if not 0 < len(version.encode()) <= MAX_VERSION_BYTES or not version.isprintable():
        bad.append(
            Violation("version", f"must be 1 to {MAX_VERSION_BYTES} bytes of visible characters")
        )
    time_us = now_us
    if request.HasField("time"):
        seconds, nanos = request.time.seconds, request.time.nanos
        time_us = seconds * SECOND_US + nanos // 1000
        if not 0 <= nanos <= 999_999_999 or nanos % 1000:
            bad.append(Violation("time", "must be a time in whole microseconds"))
        elif not now_us - MAX_DEPLOYMENT_AGE_US <= time_us <= now_us + MAX_CLOCK_SKEW_US:
            bad.append(Violation("time", "must not be in the future, and at most 400 days ago"))
    _refuse(bad)
    return time_us


def identifier(field: str, value: str) -> None:
    """Check the length of an id; an unknown one is for the caller to refuse. Raises ApiError."""
    if len(value) > MAX_ID_BYTES or len(value.encode()) > MAX_ID_BYTES:
        raise invalid([Violation(field, f"must be at most {MAX_ID_BYTES} bytes")])


def checked_window(
    request: WindowRequest | metrics_pb2.GetQueryStatsRequest | metrics_pb2.StreamMetricsRequest,
    bad: list[Violation],
    kept: tuple[Resolution, ...] = RESOLUTIONS,
) -> Window:
    """Return the window of a request; a violation names the window, unless it is kept but for when
    it ended.
    """
    ended_us = exact_us(request.ended)
    if ended_us is None or ended_us < 0:
        bad.append(Violation("ended", "must be a duration in whole microseconds, 0 or more"))
        ended_us = 0
    if not request.HasField("window"):
        if ended_us:
            bad.append(Violation("ended", "needs a window"))
        return Window()
    window_us = exact_us(request.window)
    field = "window"
    try:
        if window_us is None:
            raise WindowError("must be a duration in whole microseconds")
        ring_of(window_us, 0, kept)
        field = "ended"
        ring_of(window_us, ended_us, kept)
    except WindowError as error:
        bad.append(Violation(field, str(error)))
        return Window()
    return Window(window_us, ended_us)


def check_enum(field: str, value: int, enum: EnumDescriptor, bad: list[Violation]) -> None:
    if value not in enum.values_by_number:
        names = ", ".join(each.name for each in enum.values if each.number)
        bad.append(Violation(field, f"must be one of {names}, not {value}"))


def _interval(
    request: metrics_pb2.StreamMetricsRequest | health_pb2.WatchDatabaseHealthRequest,
    bounds: tuple[int, int, int],
    least: str,
    bad: list[Violation],
) -> int:
    least_us, default_us, most_us = bounds
    if not request.HasField("interval"):
        return default_us
    interval_us = exact_us(request.interval)
    if interval_us is None or not least_us <= interval_us <= most_us:
        bad.append(Violation("interval", f"must be from {least} to 60 s, in whole microseconds"))
        return default_us
    return interval_us


def _limit(limit: int, bad: list[Violation]) -> int:
    if limit < 0:
        bad.append(Violation("limit", f"must be 0 or more, not {limit}"))
    return bounded_limit(limit)


def _check_operation(operation: str, bad: list[Violation]) -> None:
    if len(operation) > MAX_OPERATION_BYTES or len(operation.encode()) > MAX_OPERATION_BYTES:
        bad.append(Violation("operation", f"must be at most {MAX_OPERATION_BYTES} bytes"))


def exact_us(duration: Duration) -> int | None:
    """Microseconds; None for a duration that is malformed or finer than that."""
    seconds, nanos = duration.seconds, duration.nanos
    if abs(seconds) > MAX_DURATION_S or abs(nanos) > 999_999_999 or nanos % 1000:
        return None
    if seconds * nanos < 0:
        return None
    return seconds * SECOND_US + nanos // 1000


def _refuse(bad: list[Violation]) -> None:
    if bad:
        raise invalid(bad)
