"""What an alert names as its causes, in the order of weight."""

from __future__ import annotations

from dataclasses import replace

from protos.metrics.v1 import alert_pb2
from tests.metrics.alerts.engine.replay import Replay, Sessions
from tests.metrics.state.log import Fact

GOOD = Sessions()


def alert_of(replay: Replay, rule: str) -> alert_pb2.Alert:
    (alert,) = [each for each in replay.watch.machine.alerts() if each.rule == rule]
    return alert


def causes(replay: Replay, rule: str) -> list[tuple[str, str]]:
    return [(cause.kind, cause.key) for cause in alert_of(replay, rule).causes]


def test_the_step_the_package_the_errors_and_the_queries_are_named() -> None:
    replay = Replay()
    replay.pass_minutes(110, GOOD)
    for _ in range(22):
        replay.append(
            replay.payment_failed(replay.now_us),
            replay.define(1, "payments.add"),
            replay.queries([2_500_000]),
        )
        replay.pass_minutes(5, replace(GOOD, confirmed=1))
    assert causes(replay, "overall_conversion") == [
        ("step", "confirm"),
        ("package", "p"),
        ("error", "PAYMENT_FAILED"),
        ("query", "payments.add"),
    ]
    texts = [cause.text for cause in alert_of(replay, "overall_conversion").causes]
    assert "good from 90%" in texts[0]
    assert "errors with the reason PAYMENT_FAILED in 1 h" in texts[2]
    assert texts[3] == "payments.add took up to 2,500 ms"


def test_the_package_that_misses_most_is_named_first() -> None:
    replay = Replay()
    replay.pass_minutes(110, GOOD)
    for number in range(22):
        views = [replay.view(replay.now_us, f"out {number} {each}") for each in range(20)]
        for view in views:
            view.package_viewed.package_id = "gone"
        replay.append(*views)
        replay.pass_minutes(5, replace(GOOD, started=4, completed=4, confirmed=4))
    packages = [
        cause for cause in alert_of(replay, "view_to_start").causes if cause.kind == "package"
    ]
    assert [cause.key for cause in packages][:1] == ["gone"]
    assert "0 of " in packages[0].text
    assert "the others 2" in packages[0].text


def test_doubts_about_the_data_come_first() -> None:
    """A start that is no longer reported reads as low conversion."""
    replay = Replay()
    replay.pass_minutes(110, GOOD)
    for number in range(22):
        lost = []
        for each in range(4):
            name = f"lost {number} {each}"
            lost.append(replay.view(replay.now_us, name))
            lost.append(replay.fact(Fact.COMPLETED, replay.now_us + 1, name, booking=name))
        replay.append(*lost, replay.loss(events=3, timings=0))
        replay.pass_minutes(5, replace(GOOD, started=2, completed=2, confirmed=2))
    found = causes(replay, "view_to_start")
    assert found[:2] == [("quality", "dropped"), ("quality", "unmatched complete")]
    assert ("step", "start") in found
    assert all(kind != "quality" for kind, _ in found[2:])


def test_an_issue_of_health_names_its_reasons() -> None:
    replay = Replay()
    replay.unwell("p99_ms", "booking-1")
    (cause,) = alert_of(replay, "database_unhealthy").causes
    assert (cause.kind, cause.key, cause.text) == ("reason", "p99_ms", "booking-1: it is so")
