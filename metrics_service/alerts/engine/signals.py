"""Measures the rules over health, which is known from heartbeats and is no part of the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from metrics_service.alerts.engine.judge import judge_value
from metrics_service.alerts.model import Measurement, Rule, Sample, Verdict
from metrics_service.alerts.rules.metrics import HEALTH_ISSUES
from protos.metrics.v1.health_pb2 import DatabaseHealth, HealthReason

MAX_LAG: Final = 10_000
"""Records that may wait to be folded."""
MAX_REASONS: Final = 3

_OF_THE_LOG: Final = frozenset({"log", "lead_lost"})
_ISSUES: Final = frozenset(HEALTH_ISSUES.values())
# Never the reason that a database is unhealthy.
_OTHERS: Final = frozenset({"heartbeat", "p95_ms", "slow", "telemetry_fenced", "over_budget"})
_UNKNOWN: Final = frozenset(
    {DatabaseHealth.STATUS_UNSPECIFIED, DatabaseHealth.STALE, DatabaseHealth.STARTING}
)


def measure_signals(rule: Rule, health: DatabaseHealth) -> Measurement:
    """Measure a rule whose metric is known from signals."""
    if rule.metric == "ingest_stalled":
        return _stalled(rule, health)
    if rule.metric == "failed_queries_in_5_minutes":
        if health.status in _UNKNOWN:
            return Measurement(rule, (Sample((), Verdict.UNKNOWN),))
        window_us = health.window.ToMicroseconds()
        sample = judge_value(rule, float(health.figures.failed), window_us=window_us)
        return Measurement(rule, (sample,))
    return _issue(rule, health, HEALTH_ISSUES.get(rule.metric, ""))


def reasons_of(rule: Rule, health: DatabaseHealth) -> list[HealthReason]:
    """Return the reasons of health that a rule over an issue counts."""
    criterion = HEALTH_ISSUES.get(rule.metric, "")
    return [reason for reason in health.reasons if _belongs(reason.criterion, criterion)]


def _belongs(found: str, criterion: str) -> bool:
    """Whether a criterion is that of an issue; "": that of the database, which are all others."""
    return found == criterion if criterion else found not in _ISSUES | _OTHERS


def _issue(rule: Rule, health: DatabaseHealth, criterion: str) -> Measurement:
    """Measure an issue by its reasons. While an instance is stale nothing is known of it, so that
    no issue ends but those of the log.
    """
    found = reasons_of(rule, health) if health.status == DatabaseHealth.UNHEALTHY else []
    if found:
        value = float(len(found))
        sample = judge_value(rule, value, summary=f"{rule.title}: {_texts(found)}")
        return Measurement(rule, (sample,))
    if criterion in _OF_THE_LOG:
        over = health.log.writable
    else:
        stale = any(reason.criterion == "heartbeat" for reason in health.reasons)
        over = not stale and health.status not in _UNKNOWN
    return Measurement(rule, (Sample((), Verdict.GOOD if over else Verdict.UNKNOWN),))


def _stalled(rule: Rule, health: DatabaseHealth) -> Measurement:
    samples = [
        judge_value(
            rule,
            reason.value,
            labels=(("instance", reason.instance),),
            summary=f"{rule.title}: {_texts([reason])}",
        )
        for reason in health.reasons
        if reason.criterion == "heartbeat" and reason.instance
    ]
    if health.log.lag > MAX_LAG:
        lag = float(health.log.lag)
        summary = f"{rule.title}: {lag:,.0f} records wait to be folded"
        samples.append(judge_value(rule, lag, labels=(("log", "lag"),), summary=summary))
    unknown = health.status in (DatabaseHealth.STATUS_UNSPECIFIED, DatabaseHealth.STARTING)
    return Measurement(rule, samples, absent=Verdict.UNKNOWN if unknown else Verdict.GOOD)


def _texts(reasons: Sequence[HealthReason]) -> str:
    texts = [
        f"{reason.instance}: {reason.message}" if reason.instance else reason.message
        for reason in reasons[:MAX_REASONS]
    ]
    if len(reasons) > MAX_REASONS:
        texts.append(f"and {len(reasons) - MAX_REASONS} more")
    return "; ".join(texts)
