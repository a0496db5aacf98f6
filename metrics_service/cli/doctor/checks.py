"""The checks, as functions of what was answered: nothing here asks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from metrics_service.cli.doctor.finding import Finding, bad, good, not_known
from metrics_service.cli.output.cells import span
from metrics_service.cli.words import name_of, status
from protos.metrics.v1.alert_pb2 import AlertTarget, ListAlertsResponse
from protos.metrics.v1.health_pb2 import DatabaseHealth, InstanceHealth, LogHealth

MAX_CLOCK_DIFFERENCE_S: Final = 2.0
MAX_LAG: Final = 10_000
"""Records of the log that are not counted yet."""

MAX_UNJUDGED_S: Final = 60.0
MAX_FACTS_PENDING: Final = 10_000
RECENT_S: Final = 3_600.0

_BUILD: Final = re.compile(r"^farehold_build_info\{([^}]*)\}", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="([^"\\]*)"')
_UP: Final = frozenset({DatabaseHealth.HEALTHY, DatabaseHealth.DEGRADED})
_DOWN: Final = frozenset({DatabaseHealth.UNHEALTHY, DatabaseHealth.STALE})


def build_of(metrics: str) -> dict[str, str]:
    """Return the labels of farehold_build_info in the text of /metrics; empty without one."""
    found = _BUILD.search(metrics)
    return dict(_LABEL.findall(found[1])) if found else {}


def version(service: str, build: dict[str, str], own: str) -> Finding:
    """Compare the version of a service with that of this program."""
    check, found = f"version of {service}", build.get("version", "")
    if not found:
        return not_known(check, "/metrics does not say")
    seen = f"{found} {build.get('revision', '')}".strip()
    if found == own:
        return good(check, seen)
    to_do = "deploy one version; metrics_service before booking_service"
    return bad(check, f"{seen}, and this program is {own}", to_do)


def clock_here(check_time: Timestamp, sent_s: float, received_s: float) -> Finding:
    """Compare this machine's clock, in seconds when the question was sent and when the answer came,
    with that of the service.
    """
    check = "clock of this machine"
    there_s = check_time.seconds + check_time.nanos / 1e9
    # It was judged at some time in between, or up to a second before.
    ahead = sent_s - there_s if there_s < sent_s else max(there_s - received_s, 0.0)
    seen = f"within {span(timedelta(seconds=min(ahead, 1e9)))} of that of metrics_service"
    if ahead <= MAX_CLOCK_DIFFERENCE_S:
        return good(check, seen)
    return bad(check, seen, "compare both with NTP")


def clock_of_log(log: LogHealth) -> Finding:
    check = "clock of the log"
    if not log.HasField("clock_step"):
        return good(check, "agrees with the database's")
    step = span(log.clock_step.ToTimedelta())
    return bad(check, f"the database's clock is {step} from it", "docs/operations.md: correct-time")


def log_of(health: DatabaseHealth) -> Finding:
    log, check = health.log, "log"
    role = name_of(LogHealth.Role, log.role)
    if health.status == DatabaseHealth.STARTING or log.role == LogHealth.STANDBY:
        return not_known(check, f"this process is a {role} and writes none")
    if not log.writable:
        return bad(check, f"cannot be written: {log.message}", "look at the metrics database")
    seen = f"{role}, {log.lag:,} records behind"
    if log.lag > MAX_LAG:
        return bad(check, seen, "it catches up; if not, it has too little CPU")
    return good(check, seen)


def verdict(health: DatabaseHealth) -> Finding:
    check, seen = "database health", status(health.status)[0]
    if health.reasons:
        seen += ": " + "; ".join(each.message for each in health.reasons[:3])
    to_do = "docs/health.md has what to do for each reason" if health.reasons else ""
    if health.status in _UP:
        return good(check, seen, to_do)
    if health.status in _DOWN:
        return bad(check, seen, to_do)
    return not_known(check, seen)


def producers(health: DatabaseHealth) -> Iterator[Finding]:
    """Judge each process that reports, watched ones first; those that have gone are left out."""
    present = [each for each in health.instances if not each.gone]
    if not any(each.watched for each in present):
        to_do = "start booking_service, and look at BOOKING_METRICS_TARGET"
        yield bad("producers", "no watched service reports", to_do)
    for each in present:
        yield _producer(each)


def _producer(each: InstanceHealth) -> Finding:
    check = f"producer {each.instance}"
    heartbeat = span(each.heartbeat_age.ToTimedelta())
    seen = [f"{each.service}", f"heartbeat {heartbeat} ago", f"probe {each.probe or 'none'}"]
    seen.append(f"pool {each.pool_size - each.pool_idle} of {each.pool_max} in use")
    wrong = []
    if each.probe not in ("", "reachable"):
        wrong.append("its database does not answer as it should")
    if each.pool_waiting:
        wrong.append(f"{each.pool_waiting:,} wait for a connection")
    if each.facts_pending > MAX_FACTS_PENDING:
        wrong.append(f"{each.facts_pending:,} facts are not delivered")
    if each.status in _DOWN:
        wrong += [reason.message for reason in each.reasons[:3]] or [status(each.status)[0]]
    if wrong:
        return bad(check, "; ".join(seen), "; ".join(wrong))
    if each.monitor.dropped:
        seen.append(f"{each.monitor.dropped:,} events dropped since its start")
    return good(check, "; ".join(seen))


def rules(alerts: ListAlertsResponse, now: Timestamp) -> Finding:
    check = "alert rules"
    if not alerts.HasField("as_of"):
        return not_known(check, "nothing has been judged yet")
    age_s = now.seconds - alerts.as_of.seconds
    seen = f"judged {span(timedelta(seconds=max(age_s, 0)))} ago"
    if age_s > MAX_UNJUDGED_S:
        return bad(check, seen, "the log stands still, or metrics_service lags")
    return good(check, seen)


def targets(alerts: ListAlertsResponse, now: Timestamp) -> Iterator[Finding]:
    """Judge who is told of alerts, by the process that leads."""
    if not alerts.targets:
        yield not_known("targets", "only the process that leads knows")
    elif all(each.name == "log" for each in alerts.targets):
        to_do = "METRICS_SENTRY_DSN or METRICS_WEBHOOK_URL, so that a person is told"
        yield good("targets", "alerts are told to the log alone", to_do)
    for each in alerts.targets:
        yield _target(each, now)


def _target(each: AlertTarget, now: Timestamp) -> Finding:
    check = f"target {each.name}"
    seen = f"{each.sent:,} sent, {each.failed:,} tries failed, {each.dropped:,} dropped"
    if each.last_error and now.seconds - each.last_error_time.seconds <= RECENT_S:
        to_do = f"farehold alerts test {each.name}"
        return bad(check, f"{seen}; within the last hour: {each.last_error}", to_do)
    return good(check, seen)
