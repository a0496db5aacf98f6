"""`doctor`: each check on figures that are good, bad and absent; and all on a real service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from metrics_service.cli.doctor import checks
from metrics_service.cli.doctor.command import view_of
from metrics_service.cli.doctor.finding import Finding, State, bad, good, not_known
from protos.metrics.v1.alert_pb2 import ListAlertsResponse
from protos.metrics.v1.health_pb2 import DatabaseHealth, InstanceHealth, LogHealth
from servicekit.binaries import free_port
from tests.metrics.cli.asked import Asked, served

NOW_S = 1_800_000_000
NOW = Timestamp(seconds=NOW_S)


def healthy() -> DatabaseHealth:
    health = DatabaseHealth(status=DatabaseHealth.HEALTHY, check_time=NOW)
    health.log.writable, health.log.role = True, LogHealth.LEADER
    instance = health.instances.add(
        instance="booking-1", service="booking_service", status=DatabaseHealth.HEALTHY
    )
    instance.watched, instance.probe, instance.facts_pending = True, "reachable", 0
    return health


def only(findings: Iterator[Finding]) -> Finding:
    (found,) = findings
    return found


def test_all_is_well() -> None:
    health = healthy()
    found = [
        checks.clock_here(NOW, NOW_S - 0.1, NOW_S + 0.1),
        checks.clock_of_log(health.log),
        checks.log_of(health),
        checks.verdict(health),
        *checks.producers(health),
        checks.version("it", {"version": "1"}, "1"),
        checks.rules(ListAlertsResponse(as_of=NOW), NOW),
    ]
    assert {each.state for each in found} == {State.OK}


@pytest.mark.parametrize(
    ("sent_s", "state", "said"),
    [
        (NOW_S - 0.5, State.OK, "within 0 s"),
        (NOW_S + 1.0, State.OK, "within 1 s"),
        (NOW_S + 3.0, State.BAD, "within 3 s"),
        (NOW_S - 60.0, State.BAD, "within 59 s"),
    ],
)
def test_the_clock_here(sent_s: float, state: State, said: str) -> None:
    found = checks.clock_here(NOW, sent_s, sent_s + 1.0)
    assert found.state is state
    assert said in found.seen


def test_the_log() -> None:
    health = healthy()
    health.log.lag = 10_001
    assert checks.log_of(health).state is State.BAD
    health.log.lag, health.log.writable, health.log.message = 0, False, "disk full"
    assert "disk full" in checks.log_of(health).seen
    health.log.role = LogHealth.STANDBY
    assert checks.log_of(health).state is State.NOT_KNOWN
    health.log.clock_step.FromTimedelta(timedelta(minutes=-3))
    assert checks.clock_of_log(health.log).state is State.BAD
    assert "-3 min" in checks.clock_of_log(health.log).seen


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (DatabaseHealth.HEALTHY, State.OK),
        (DatabaseHealth.DEGRADED, State.OK),
        (DatabaseHealth.UNHEALTHY, State.BAD),
        (DatabaseHealth.STALE, State.BAD),
        (DatabaseHealth.STARTING, State.NOT_KNOWN),
        (DatabaseHealth.STATUS_UNSPECIFIED, State.NOT_KNOWN),
    ],
)
def test_the_verdict(status: DatabaseHealth.Status.ValueType, state: State) -> None:
    assert checks.verdict(DatabaseHealth(status=status)).state is state


def test_producers() -> None:
    health = healthy()
    instance = health.instances[0]
    instance.facts_pending = 10_001
    assert "10,001 facts" in only(checks.producers(health)).to_do
    instance.facts_pending, instance.probe = 0, "schema_missing"
    assert only(checks.producers(health)).state is State.BAD
    instance.probe, instance.pool_waiting = "reachable", 4
    assert "4 wait for a connection" in only(checks.producers(health)).to_do
    instance.gone = True
    assert only(checks.producers(health)).seen == "no watched service reports"
    health.instances.append(InstanceHealth(instance="other", probe="reachable"))
    assert len(list(checks.producers(health))) == 2


def test_versions_are_read_of_the_metrics() -> None:
    text = (
        "# TYPE farehold_build info\n"
        'farehold_build_info{version="0.1.0",revision="abc",python="3.11"} 1\n'
    )
    build = checks.build_of(text)
    assert build == {"version": "0.1.0", "revision": "abc", "python": "3.11"}
    assert checks.version("it", build, "0.1.0").seen == "0.1.0 abc"
    assert checks.version("it", build, "0.2.0").state is State.BAD
    assert checks.version("it", checks.build_of(""), "0.2.0").state is State.NOT_KNOWN


def test_rules_and_targets() -> None:
    later = Timestamp(seconds=NOW_S + 61)
    alerts = ListAlertsResponse(as_of=NOW)
    assert checks.rules(alerts, later).state is State.BAD
    assert checks.rules(ListAlertsResponse(), later).state is State.NOT_KNOWN
    assert only(checks.targets(alerts, later)).state is State.NOT_KNOWN
    target = alerts.targets.add(name="webhook", sent=3, failed=1, last_error="403")
    target.last_error_time.CopyFrom(NOW)
    found = only(checks.targets(alerts, later))
    assert (found.state, found.to_do) == (State.BAD, "farehold alerts test webhook")
    an_hour_later = Timestamp(seconds=NOW_S + 3_601)
    assert only(checks.targets(alerts, an_hour_later)).state is State.OK


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ([good("a", "x")], 0),
        ([good("a", "x"), not_known("b", "y")], 3),
        ([not_known("b", "y"), bad("c", "z")], 1),
    ],
)
def test_the_worst_finding_decides(found: list[Finding], status: int) -> None:
    assert view_of(found).status == status


def test_a_real_service_without_its_neighbour(metrics_dsn: str) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    with served(metrics_dsn) as asked:
        http = f"127.0.0.1:{asked.http_port}"
        result = asked.run("doctor", "--http", http, "--booking", nobody, "-o", "json")
    assert (result.exit_code, result.stderr) == (1, "")
    states = {each["check"]: each["state"] for each in json.loads(result.stdout)}
    assert states["gRPC of booking_service"] == "bad"
    for check in ("gRPC of metrics_service", "log", "clock of this machine", "clock of the log"):
        assert states[check] == "ok", check
    assert states["producer booking-1"] == "ok"
    nothing = Asked(nobody, 0).run("doctor", "-o", "json")
    assert (nothing.exit_code, nothing.stdout) == (4, "")
