"""Alerts of a running service on real PostgreSQL, asked over gRPC: fired, stored, silenced and
streamed, read back, and answered by a standby.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from metrics_service.alerts.rules.load import shipped
from metrics_service.storage.errors import LogUnavailableError
from protos.metrics.v1 import alert_pb2 as a
from protos.metrics.v1 import alert_pb2_grpc
from protos.tracking.v1.tracking_pb2 import Probe
from tests.metrics.running_service import BOUND_S, Producer, Service, running, until
from tests.metrics.service_process import ended, serving
from tests.metrics.test_start import starting

RULE = "database_unhealthy"
SLOW_S = 2 * BOUND_S
"""For processes that start beside many others."""


def stub(service: Service) -> alert_pb2_grpc.AlertServiceAsyncStub:
    made: Any = alert_pb2_grpc.AlertServiceStub(service.channel)
    return made  # type: ignore[no-any-return]


@contextlib.asynccontextmanager
async def client(target: str) -> AsyncIterator[alert_pb2_grpc.AlertServiceAsyncStub]:
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        made: Any = alert_pb2_grpc.AlertServiceStub(channel)
        yield made


async def restored(service: Service) -> None:
    await until(lambda: service.server.alerts.leads, "the alerts")


async def find(service: Service, state: a.AlertState.ValueType) -> a.Alert:
    """Wait for the alert of RULE to be in a state."""
    async with asyncio.timeout(BOUND_S):
        while True:
            answer = await stub(service).ListAlerts(a.ListAlertsRequest(include_resolved=True))
            for alert in answer.alerts:
                if alert.rule == RULE and alert.state == state:
                    return alert
            await asyncio.sleep(0.02)


async def streaming(
    alerts: alert_pb2_grpc.AlertServiceAsyncStub,
) -> AsyncIterator[a.StreamAlertsResponse]:
    """A stream of all changes, once the process has read back what is stored."""
    async with asyncio.timeout(SLOW_S):
        while True:
            call = alerts.StreamAlerts(a.StreamAlertsRequest(after=0))
            await call.initial_metadata()
            try:
                # The first comes at once, or the refusal does.
                async with asyncio.timeout(0.2):
                    await asyncio.shield(call.code())
            except TimeoutError:
                return aiter(call)


async def events(stream: AsyncIterator[a.StreamAlertsResponse], count: int) -> list[a.AlertEvent]:
    """Read a number of events."""
    found: list[a.AlertEvent] = []
    async with asyncio.timeout(SLOW_S):
        while len(found) < count:
            answer = await anext(stream)
            if answer.HasField("event"):
                found.append(answer.event)
    return found


async def test_an_alert_fires_is_streamed_and_read_back_with_its_silence(metrics_dsn: str) -> None:
    async with running(metrics_dsn) as service, Producer(service) as producer:
        await restored(service)
        stream = aiter(stub(service).StreamAlerts(a.StreamAlertsRequest(after=0)))
        producer.report(Probe.UNREACHABLE)
        firing = await find(service, a.ALERT_STATE_FIRING)
        (fired,) = await events(stream, 1)
        assert (fired.number, fired.alert_id, fired.change) == (1, firing.id, "fired")
        silence = await stub(service).CreateSilence(
            a.CreateSilenceRequest(
                match=a.SilenceMatch(rule=RULE), duration=Duration(seconds=600), comment="known"
            )
        )
        assert (silence.created_by, silence.active) == ("local", True)
        shown = await stub(service).GetAlert(a.GetAlertRequest(id=firing.id))
        assert shown.silenced_by == silence.id
        assert [each.number for each in shown.history] == [1]
    async with running(metrics_dsn) as service:
        await restored(service)
        again = await find(service, a.ALERT_STATE_FIRING)
        assert (again.id, again.fire_time) == (firing.id, firing.fire_time)
        assert again.silenced_by == silence.id
        kept = await events(aiter(stub(service).StreamAlerts(a.StreamAlertsRequest(after=0))), 1)
        assert kept == [fired]
        async with Producer(service) as producer:
            producer.report(Probe.REACHABLE)
            over = await find(service, a.ALERT_STATE_RESOLVED)
        assert over.id == firing.id
        ended = await stub(service).ExpireSilence(a.ExpireSilenceRequest(id=silence.id))
        assert not ended.active


async def test_before_the_first_judgement_there_is_no_time_of_it(metrics_dsn: str) -> None:
    async with running(metrics_dsn) as service:
        await restored(service)
        alerts = service.server.alerts
        alerts.evaluator.as_of_us = 0
        answer = await alerts.list_alerts(include_over=False, size=10, after=None)
        assert not answer.HasField("as_of")


async def test_a_standby_answers_from_what_is_stored(metrics_dsn: str) -> None:
    async with running(metrics_dsn) as service, Producer(service) as producer:
        await restored(service)
        producer.report(Probe.UNREACHABLE)
        firing = await find(service, a.ALERT_STATE_FIRING)
        await until(lambda: service.server.alerts.feed.newest, "the event")
        async with starting(metrics_dsn) as (other, _):
            await until(lambda: other.server.event_log.standing_by, "the standby")
            answer = await stub(other).ListAlerts(a.ListAlertsRequest())
            assert [each.id for each in answer.alerts] == [firing.id]
            assert (await stub(other).GetAlert(a.GetAlertRequest(id=firing.id))).history
            for call in (
                stub(other).CreateSilence(
                    a.CreateSilenceRequest(
                        match=a.SilenceMatch(rule=RULE),
                        duration=Duration(seconds=600),
                        comment="known",
                    )
                ),
                anext(aiter(stub(other).StreamAlerts(a.StreamAlertsRequest()))),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await call
                assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_lost_database_does_not_stop_the_evaluation_and_gets_what_it_missed(
    metrics_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(metrics_dsn) as service, Producer(service) as producer:
        await restored(service)
        alerts = service.server.alerts
        save = alerts._store.save
        lost = True

        async def save_if_there(*given: Any, **named: Any) -> None:
            if lost:
                raise LogUnavailableError("the database is lost")
            await save(*given, **named)

        monkeypatch.setattr(alerts._store, "save", save_if_there)
        producer.report(Probe.UNREACHABLE)
        firing = await find(service, a.ALERT_STATE_FIRING)
        assert alerts.feed.newest == 0
        history = (await stub(service).GetAlert(a.GetAlertRequest(id=firing.id))).history
        assert [each.change for each in history] == ["fired"]
        producer.report(Probe.REACHABLE)
        await until(lambda: alerts._recorder.waiting >= 2, "the end of the alert")
        lost = False
        over = await find(service, a.ALERT_STATE_RESOLVED)
        assert over.id == firing.id
        kept = await events(aiter(stub(service).StreamAlerts(a.StreamAlertsRequest(after=0))), 2)
        assert [each.number for each in kept] == [1, 2]
        assert (kept[0].change, kept[-1].alert_id) == ("fired", firing.id)


async def test_a_rule_file_with_an_error_changes_nothing(
    metrics_dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rules.toml"
    file.write_bytes(shipped())
    async with running(metrics_dsn, METRICS_ALERT_RULES=str(file)) as service:
        await restored(service)
        async with Producer(service) as producer:
            producer.report(Probe.UNREACHABLE)
            firing = await find(service, a.ALERT_STATE_FIRING)
            file.write_text(f"{shipped().decode()}\n[[rule]]\nname = 4\n")
            names = service.server.alerts.rule_names
            capsys.readouterr()
            service.server.alerts.reload()
            (line,) = [each for each in capsys.readouterr().out.splitlines() if "refused" in each]
            assert f"{file}:" in line
            assert service.server.alerts.rule_names == names
            rules = shipped().decode().split("[[rule]]")
            file.write_text("[[rule]]".join(each for each in rules if RULE not in each))
            service.server.alerts.reload()
            ended = await find(service, a.ALERT_STATE_RESOLVED)
            assert (ended.id, ended.end_reason) == (firing.id, "rule changed")
            assert RULE not in service.server.alerts.rule_names


async def test_the_start_says_how_long_anomalies_are_still_learned(
    metrics_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(metrics_dsn) as service:
        await restored(service)
        (line,) = [
            each for each in capsys.readouterr().out.splitlines() if "alerts_restored" in each
        ]
        assert "learning, 0 of 14 days" in line


@pytest.mark.processes
async def test_a_bad_rule_file_is_one_line_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text("[[rule]]\nname = 4\n")
    settings = {
        "METRICS_DATABASE_URL": "postgresql://x@127.0.0.1/x",
        "METRICS_ALERT_RULES": str(file),
    }
    end = await ended("check-config", **settings)
    assert (end.status, end.out) == (2, "")
    assert end.err.startswith(f"METRICS_ALERT_RULES is refused: {file}:")
    assert len(end.err.splitlines()) == 1


@pytest.mark.processes
@pytest.mark.full
@pytest.mark.timeout(180)
async def test_a_killed_process_goes_on_with_what_it_has_stored(metrics_dsn: str) -> None:
    quick = {f"METRICS_HEALTH_{name}": "0" for name in ("DOWN_AFTER_S", "UP_AFTER_S", "GAP_S")}
    request = a.ListAlertsRequest(include_resolved=True)
    async with serving(metrics_dsn, **quick) as process, client(process.target) as alerts:
        stream = await streaming(alerts)
        producer = Producer(process)  # type: ignore[arg-type]  # it needs its address
        await producer.stream.start()
        producer.report(Probe.UNREACHABLE)
        (fired,) = await events(stream, 1)
        silence = await alerts.CreateSilence(
            a.CreateSilenceRequest(
                match=a.SilenceMatch(rule=RULE),
                duration=Duration(seconds=600),
                comment="known",
                request_id="once",
            )
        )
        before = await alerts.ListAlerts(request)
        await process.end(signal.SIGKILL)
        await producer.stream.stop(0.1)
    async with serving(metrics_dsn, **quick) as process, client(process.target) as alerts:
        stream = await streaming(alerts)
        assert await events(stream, 1) == [fired]
        after = await alerts.ListAlerts(request)
        assert [each.id for each in after.alerts] == [each.id for each in before.alerts]
        assert after.alerts[0].state == a.ALERT_STATE_FIRING
        assert after.alerts[0].silenced_by == silence.id
        listed = (await alerts.ListSilences(a.ListSilencesRequest())).silences
        assert [each.id for each in listed] == [silence.id]
        producer = Producer(process)  # type: ignore[arg-type]  # it needs its address
        async with producer:
            producer.report(Probe.REACHABLE)
            (following,) = await events(stream, 1)
        assert following.number == fired.number + 1
        assert following.alert_id == fired.alert_id
        process.child.send_signal(signal.SIGHUP)
        status, lines = await process.end(signal.SIGTERM)
        assert (status, lines.count('"alert_rules_loaded"')) == (0, 1)


async def test_a_rule_file_is_checked_and_a_target_tested_over_grpc(metrics_dsn: str) -> None:
    async with running(metrics_dsn) as service:
        alerts = stub(service)
        good = await alerts.LintRules(a.LintRulesRequest(toml=shipped().decode()))
        assert good.accepted
        bad = await alerts.LintRules(a.LintRulesRequest(toml="\n[[rule]]\nname = 4\n"))
        assert not bad.accepted
        assert (bad.findings[0].level, bad.findings[0].line) == (a.LintFinding.ERROR, 2)
        sent = await alerts.SendTest(a.SendTestRequest(target="log"))
        assert sent.delivered
        unset = await alerts.SendTest(a.SendTestRequest(target="sentry"))
        assert (unset.delivered, unset.detail) == (False, "METRICS_SENTRY_DSN is not set")
        for target in ("", "x" * 200_000):
            with pytest.raises(
                grpc.aio.AioRpcError, match="one of log, sentry, webhook"
            ) as refused:
                await alerts.SendTest(a.SendTestRequest(target=target))
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_what_does_not_exist_or_was_asked_before_is_refused(metrics_dsn: str) -> None:
    async with running(metrics_dsn) as service:
        await restored(service)
        alerts = stub(service)
        nothing = "0" * 32
        for call, code in (
            (alerts.GetAlert(a.GetAlertRequest(id=nothing)), grpc.StatusCode.NOT_FOUND),
            (alerts.ExpireSilence(a.ExpireSilenceRequest(id=nothing)), grpc.StatusCode.NOT_FOUND),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert refused.value.code() is code
        request = a.CreateSilenceRequest(
            match=a.SilenceMatch(rule=RULE),
            duration=Duration(seconds=600),
            comment="known",
            request_id="once",
        )
        made = [await alerts.CreateSilence(request) for _ in range(2)]
        assert made[0] == made[1]
        request.comment = "another"
        with pytest.raises(grpc.aio.AioRpcError, match="used before") as refused:
            await alerts.CreateSilence(request)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        listed = await alerts.ListSilences(a.ListSilencesRequest(page_size=1))
        assert (list(listed.silences), listed.next_page_token) == ([made[0]], "")
