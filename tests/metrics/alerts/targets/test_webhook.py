"""The webhook against a real HTTP server: what it is sent, and whatever it answers."""

from __future__ import annotations

import asyncio
import base64
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from metrics_service.alerts.targets.notice import NotAcceptedError, Notice, Notification
from metrics_service.alerts.targets.posting import Poster, retry_after_s
from metrics_service.alerts.targets.webhook import MAX_ALERTS, Webhook
from protos.metrics.v1.alert_pb2 import ALERT_SEVERITY_WARNING
from tests.metrics.alerts.targets.incidents import firing, resolved
from tests.metrics.alerts.targets.receiver import CLOSE, DRIP, GARBAGE, HANG, Receiver, listening

SECRET = "canary-4711"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with listening() as state:
        yield state


def webhook(receiver: Receiver, within_s: float = 5.0, token: Path | None = None) -> Webhook:
    return Webhook(Poster(receiver.url, within_s=within_s), "https://metrics.example.org", token)


def notification(count: int = 1) -> Notification:
    notices = []
    for number in range(count):
        alert = firing(f"{number:032x}", operation=f"bookings.{number}")
        notices.append(Notice(alert, "fired", 0, f"{number:032x}"))
    return Notification("high_error_rate", tuple(notices))


async def test_the_body_is_that_of_alertmanager(receiver: Receiver) -> None:
    first, second = firing("a" * 32, operation="get"), resolved(firing("b" * 32, operation="put"))
    second.severity = ALERT_SEVERITY_WARNING
    notices = (Notice(first, "fired", 0, "1" * 32), Notice(second, "resolved", 1, "2" * 32))
    said = await webhook(receiver).send(Notification("high_error_rate", notices))
    assert said == "HTTP 200"
    request = receiver.next()
    assert (request.path, request.headers["Content-Type"]) == ("/hook", "application/json")
    assert "Authorization" not in request.headers
    body = request.json
    alerts = body.pop("alerts")
    assert body == {
        "version": "4",
        "groupKey": '{}:{alertname="high_error_rate"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "webhook",
        "groupLabels": {"alertname": "high_error_rate"},
        "commonLabels": {"alertname": "high_error_rate"},
        "commonAnnotations": {
            "action": "Look at the reasons.",
            "description": "9 of 11 are payment/DECLINED",
        },
        "externalURL": "https://metrics.example.org",
    }
    fingerprints = [each.pop("fingerprint") for each in alerts]
    assert len(set(fingerprints)) == 2
    assert all(len(bytes.fromhex(each)) == 8 for each in fingerprints)
    assert alerts[1] == {
        "status": "resolved",
        "labels": {"alertname": "high_error_rate", "operation": "put", "severity": "warning"},
        "annotations": {
            "summary": "Resolved: high_error_rate: 11 errors within 5 min, more than 10",
            "description": "9 of 11 are payment/DECLINED",
            "action": "Look at the reasons.",
            "change": "resolved",
            "incident": "b" * 32,
            "notice": "2" * 32,
        },
        "startsAt": "2026-09-21T14:13:20Z",
        "endsAt": "2026-09-21T14:14:20Z",
        "generatorURL": f"https://metrics.example.org/alerts/{'b' * 32}",
    }
    assert (alerts[0]["status"], alerts[0]["endsAt"]) == ("firing", "0001-01-01T00:00:00Z")


async def test_the_fingerprint_is_that_of_the_labels_not_of_the_incident(
    receiver: Receiver,
) -> None:
    for alert_id in ("a" * 32, "b" * 32):
        alert = firing(alert_id, operation="get")
        await webhook(receiver).send(
            Notification(alert.rule, (Notice(resolved(alert), "resolved", 1, alert_id),))
        )
    first, second = (receiver.next().json for _ in range(2))
    assert first["alerts"][0]["fingerprint"] == second["alerts"][0]["fingerprint"]
    assert first["status"] == "resolved"


async def test_a_large_group_is_cut_and_says_so(receiver: Receiver) -> None:
    await webhook(receiver).send(notification(MAX_ALERTS + 7))
    body = receiver.next().json
    assert (len(body["alerts"]), body["truncatedAlerts"]) == (MAX_ALERTS, 7)


@pytest.mark.parametrize(
    ("answer", "detail", "again", "after_s"),
    [
        (204, None, False, 0.0),
        (500, "HTTP 500", True, 0.0),
        ((503, {"Retry-After": "7"}), "HTTP 503", True, 7.0),
        ((429, {"Retry-After": "120"}), "HTTP 429", True, 120.0),
        ((429, {"Retry-After": "soon"}), "HTTP 429", True, 0.0),
        (400, "HTTP 400", False, 0.0),
        (401, "HTTP 401", False, 0.0),
        (404, "HTTP 404", False, 0.0),
        ((302, {"Location": "/elsewhere"}), "HTTP 302: redirects are not followed", False, 0.0),
        (HANG, "no answer within 1 s", True, 0.0),
        (DRIP, "no answer within 1 s", True, 0.0),
        (GARBAGE, "the answer is not HTTP, or there is none", True, 0.0),
        (CLOSE, "the answer is not HTTP, or there is none", True, 0.0),
    ],
)
async def test_whatever_it_answers_is_named(
    receiver: Receiver, answer: object, detail: str | None, again: bool, after_s: float
) -> None:
    receiver.always = answer
    target = webhook(receiver, within_s=1.0 if answer in (HANG, DRIP) else 5.0)
    if detail is None:
        assert await target.send(notification()) == f"HTTP {answer}"
    else:
        with pytest.raises(NotAcceptedError) as caught:
            await target.send(notification())
        assert (str(caught.value), caught.value.again) == (detail, again)
        assert caught.value.after_s == after_s
    assert [each.path for each in receiver.requests] == ["/hook"]


async def test_one_that_is_not_there_is_named() -> None:
    with pytest.raises(NotAcceptedError, match="cannot be reached"):
        await Webhook(Poster("http://127.0.0.1:1/hook"), "").send(notification())


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        (" 12 ", 12),
        ("9" * 400, 999_999_999),
        ("-1", 0),
        ("1.5", 0),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 20),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Thu, 99 Jan 1970 00:00:00 GMT", 0),
        ("\u0661", 0),
        ("", 0),
    ],
)
def test_retry_after_is_a_number_or_a_date(value: str, seconds: float) -> None:
    assert retry_after_s(value, now_s=100.0) == seconds


async def test_the_token_is_read_anew_and_sent_as_bearer(
    receiver: Receiver, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    target = webhook(receiver, token=token)
    for text in ("first", "second"):
        token.write_text(f"{text}\n")
        await target.send(notification())
        assert receiver.next().headers["Authorization"] == f"Bearer {text}"
    token.write_text("of two\nlines")
    with pytest.raises(NotAcceptedError, match="must hold one token"):
        await target.send(notification())
    token.unlink()
    with pytest.raises(NotAcceptedError, match="cannot be read: No such file"):
        await target.send(notification())


@pytest.mark.parametrize("answer", [200, 500, GARBAGE, CLOSE, None])
async def test_no_secret_of_its_address_is_ever_shown(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, answer: object
) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.always = answer
    port = 1 if answer is None else receiver.port
    url = f"http://robot:{SECRET}@127.0.0.1:{port}/{SECRET}?key={SECRET}"
    shown = ""
    try:
        await Webhook(Poster(url), "").send(notification())
    except NotAcceptedError as error:
        shown = "".join(traceback.format_exception(error))
    assert SECRET not in shown + caplog.text
    if answer is not None:
        request = receiver.next()
        assert request.path == f"/{SECRET}?key={SECRET}"
        basic = base64.b64encode(f"robot:{SECRET}".encode()).decode()
        assert request.headers["Authorization"] == f"Basic {basic}"


async def test_no_cookie_is_kept(receiver: Receiver) -> None:
    receiver.always = (200, {"Set-Cookie": "session=1; Path=/"})
    target = webhook(receiver)
    await target.send(notification())
    await target.send(notification())
    assert "Cookie" not in receiver.requests[1].headers


async def test_one_that_hangs_holds_nobody_else(receiver: Receiver) -> None:
    receiver.answers.append(HANG)
    target = webhook(receiver)
    hanging = asyncio.create_task(target.send(notification()))
    await asyncio.to_thread(receiver.next)
    assert [await target.send(notification()) for _ in range(3)] == ["HTTP 200"] * 3
    assert not hanging.done()
    hanging.cancel()
    await asyncio.gather(hanging, return_exceptions=True)
