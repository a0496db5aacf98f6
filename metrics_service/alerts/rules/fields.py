"""Reads one rule of a file, key by key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from metrics_service.alerts.model import SEVERITIES, Rule
from metrics_service.alerts.rules.metrics import METRICS, SAMPLED, WINDOWED, Metric
from metrics_service.state.series.rings import HOUR_US, MINUTE_US, SECOND_US, WindowError, ring_of

MAX_TEXT: Final = 600
MAX_WINDOWS: Final = 3
MAX_NUMBER: Final = 2**53
MAX_DURATION_US: Final = 30 * 24 * HOUR_US
MAX_WINDOW_US: Final = 29 * 24 * HOUR_US
"""Rings keep 30 days, and matured windows ended up to two hours ago."""

RESOLVED_BETTER: Final = 0.1
"""Without `resolve` an alert ends at a value that is better than the line by this share."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_DURATION: Final = re.compile(r"(\d{1,6})(s|m|h|d)")
_UNITS_US: Final = {"s": SECOND_US, "m": MINUTE_US, "h": HOUR_US, "d": 24 * HOUR_US}
_KEYS: Final = (
    "name",
    "severity",
    "metric",
    "below",
    "above",
    "resolve",
    "good",
    "windows",
    "min_samples",
    "none_of",
    "for",
    "keep_firing_for",
    "no_data_after",
    "inhibited_by",
    "max_alerts",
    "title",
    "reason",
    "action",
)


class FieldError(ValueError):
    """A value that no rule can have; `key` is where it stands, "" for the rule as a whole."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}" if key else message)
        self.key = key


class _Condition(NamedTuple):
    key: str
    line: float
    resolve: float
    good: tuple[float, float] | None


def read_rule(table: Mapping[str, Any], line_number: int) -> Rule:
    """Return the rule of a table. Raises FieldError."""
    for key in table:
        if key not in _KEYS:
            raise FieldError(key, f"no such key; there are {', '.join(_KEYS)}")
    severity = _choice(table, "severity", SEVERITIES)
    metric = METRICS[_choice(table, "metric", METRICS)]
    condition = _condition(table)
    if condition.line < metric.least:
        raise FieldError(condition.key, f"{metric.name} is known from {metric.least:g} on only")
    if metric.kind not in SAMPLED:
        for key in ("min_samples", "none_of"):
            if key in table:
                raise FieldError(key, f"{metric.name} has no samples")
    if metric.kind != "ratio" and "none_of" in table:
        raise FieldError("none_of", f"{metric.name} is no ratio")
    return Rule(
        name=_name(table),
        severity=severity,  # type: ignore[arg-type]  # One of SEVERITIES.
        metric=metric.name,
        comparison="below" if condition.key == "below" else "above",
        line=condition.line,
        resolve=condition.resolve,
        good=condition.good,
        unit=metric.unit,
        windows_us=_windows(table, metric),
        min_samples=_count(table, "min_samples", 10 if metric.kind in SAMPLED else 1),
        none_of=_count(table, "none_of", 0),
        for_us=_duration(table, "for"),
        keep_firing_for_us=_duration(table, "keep_firing_for"),
        no_data_after_us=_duration(table, "no_data_after"),
        inhibited_by=_names(table, "inhibited_by"),
        max_alerts=_max_alerts(table, metric),
        title=_text(table, "title"),
        reason=_text(table, "reason"),
        action=_text(table, "action"),
        line_number=line_number,
    )


def _name(table: Mapping[str, Any]) -> str:
    name = table.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise FieldError("name", "must be 1 to 63 lower-case letters, digits and _")
    return name


def _choice(table: Mapping[str, Any], key: str, choices: Mapping[str, Any]) -> str:
    value = table.get(key)
    if not isinstance(value, str) or value not in choices:
        said = "is missing" if value is None else f"{str(value)[:64]!r} is none"
        raise FieldError(key if key in table else "", f"{said}; one of {', '.join(choices)}")
    return value


def _condition(table: Mapping[str, Any]) -> _Condition:
    given = [key for key in ("below", "above") if key in table]
    if len(given) != 1:
        raise FieldError("above" if given else "", "exactly one of below and above is needed")
    key = given[0]
    line = _number(table, key)
    sign = 1 if key == "below" else -1
    resolve = line * (1 + sign * RESOLVED_BETTER)
    if "resolve" in table:
        resolve = _number(table, "resolve")
        if sign * (resolve - line) < 0:
            raise FieldError("resolve", f"{resolve:g} is worse than {key} = {line:g}")
    good = None
    if "good" in table:
        values = table["good"]
        if not isinstance(values, list) or len(values) != 2 or not all(map(_is_number, values)):
            raise FieldError("good", "must be two numbers, from and to")
        good = float(values[0]), float(values[1])
        if good[0] > good[1]:
            raise FieldError("good", "must be two numbers, the lower one first")
    return _Condition(key, line, resolve, good)


def _windows(table: Mapping[str, Any], metric: Metric) -> tuple[int, ...]:
    if metric.kind not in WINDOWED:
        if "windows" in table:
            raise FieldError("windows", f"{metric.name} has a window of its own")
        return ()
    most = MAX_WINDOWS if metric.kind in ("ratio", "mean") else 1
    values = table.get("windows")
    if not isinstance(values, list) or not 1 <= len(values) <= most:
        key = "windows" if "windows" in table else ""
        raise FieldError(key, f"{metric.name} needs windows, 1 to {most} of them")
    windows = tuple(_parse("windows", value) for value in values)
    if list(windows) != sorted(set(windows)):
        raise FieldError("windows", "must ascend")
    for window_us in windows:
        try:
            ring_of(window_us)
        except WindowError as problem:
            raise FieldError("windows", str(problem)) from None
        if window_us > MAX_WINDOW_US:
            raise FieldError("windows", "29 days at most")
    return windows


def _max_alerts(table: Mapping[str, Any], metric: Metric) -> int:
    if "max_alerts" in table and metric.kind != "own":
        raise FieldError("max_alerts", f"{metric.name} has one alert")
    value = _count(table, "max_alerts", 20)
    if not 1 <= value <= 100:
        raise FieldError("max_alerts", "must be 1 to 100")
    return value


def _is_number(value: object) -> bool:
    """Whether it is a number that is kept as it is; neither NaN nor infinity is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= MAX_NUMBER


def _number(table: Mapping[str, Any], key: str) -> float:
    value = table[key]
    if not _is_number(value):
        raise FieldError(key, "must be a number")
    if not 0 <= value <= 1e12:
        raise FieldError(key, "must be 0 to 1e12")
    return float(value)


def _count(table: Mapping[str, Any], key: str, default: int) -> int:
    value = table.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 10**9:
        raise FieldError(key, "must be a whole number, 0 to 1e9")
    return value


def _duration(table: Mapping[str, Any], key: str) -> int:
    return _parse(key, table.get(key, "0s"))


def _parse(key: str, value: object) -> int:
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise FieldError(key, f"{str(value)[:64]!r} is no duration such as 30s, 5m, 6h or 2d")
    duration_us = int(found[1]) * _UNITS_US[found[2]]
    if duration_us > MAX_DURATION_US:
        raise FieldError(key, "30 days at most")
    return duration_us


def _names(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = table.get(key, [])
    if not isinstance(values, list) or len(values) > 10 or not all(map(_is_name, values)):
        raise FieldError(key, "must be names of rules, at most 10")
    return tuple(values)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key)
    if value is None:
        raise FieldError("", f"{key} is missing")
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT or not value.isprintable():
        raise FieldError(key, f"must be 1 to {MAX_TEXT} characters in one line")
    return value
