"""Which targets the settings name, and which mistakes they refuse without showing a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from metrics_service.alerts.targets.create import create_targets, is_told
from metrics_service.config import MetricsSettings
from protos.metrics.v1.alert_pb2 import (
    ALERT_SEVERITY_INFO,
    ALERT_SEVERITY_WARNING,
    Alert,
    AlertSeverity,
)
from servicekit.settings import SettingsError
from tests.metrics.alerts.targets.receiver import listening

SECRET = "canary-4711"
DATABASE = {"METRICS_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x"}
WEBHOOK = "METRICS_WEBHOOK_URL"
TOKEN = "METRICS_WEBHOOK_TOKEN_FILE"
MONITOR = "METRICS_SENTRY_MONITOR"
EXTERNAL = "METRICS_EXTERNAL_URL"


def settings(**variables: str) -> MetricsSettings:
    return MetricsSettings.load({**DATABASE, **variables})


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        *(
            ({WEBHOOK: address}, "METRICS_WEBHOOK_URL='")
            for address in (
                "nowhere",
                f"ftp://{SECRET}@host/x",
                f"http://u:{SECRET}@/x",
                f"http://host:99999/{SECRET}",
                f"https://host/{SECRET}#part",
                f"https://host/a b{SECRET}",
                f"file:///{SECRET}",
            )
        ),
        ({TOKEN: "/token"}, "METRICS_WEBHOOK_TOKEN_FILE needs METRICS_WEBHOOK_URL"),
        ({TOKEN: "/token", WEBHOOK: f"https://u:{SECRET}@host/"}, "must name no user"),
        ({MONITOR: "farehold"}, "METRICS_SENTRY_MONITOR needs METRICS_SENTRY_DSN"),
        ({MONITOR: "A b"}, "must be a slug"),
        ({EXTERNAL: "metrics.example.org"}, "METRICS_EXTERNAL_URL="),
        ({EXTERNAL: f"https://u:{SECRET}@host"}, "METRICS_EXTERNAL_URL="),
    ],
)
def test_a_mistake_is_named_without_its_secret(variables: dict[str, str], text: str) -> None:
    with pytest.raises(SettingsError) as raised:
        settings(**variables)
    assert text in str(raised.value)
    assert SECRET not in str(raised.value)


def test_no_secret_is_in_the_text_of_the_settings() -> None:
    assert SECRET not in repr(settings(**{WEBHOOK: f"https://u:{SECRET}@host/{SECRET}"}))


async def test_without_settings_the_log_is_the_only_target() -> None:
    targets = create_targets(settings())
    assert [status.name for status in targets.status()] == ["log"]
    assert await targets.test("webhook") == (False, "METRICS_WEBHOOK_URL is not set")
    assert await targets.test("sentry") == (False, "METRICS_SENTRY_DSN is not set")


async def test_each_setting_makes_its_target(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("of-a-robot\n")
    with listening() as receiver:
        made = settings(
            METRICS_SENTRY_DSN="https://key@sentry.example.org/1",
            **{MONITOR: "farehold", WEBHOOK: receiver.url, TOKEN: str(token)},
            **{EXTERNAL: "https://metrics.example.org/"},
        )
        targets = create_targets(made)
        assert {target for target, _ in targets.counts()} == {
            "log",
            "sentry",
            "sentry_monitor",
            "webhook",
        }
        assert await targets.test("webhook") == (True, "HTTP 200")
        request = receiver.next()
    assert request.headers["Authorization"] == "Bearer of-a-robot"
    assert request.json["externalURL"] == "https://metrics.example.org"


async def test_a_token_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    made = settings(**{WEBHOOK: "https://host/", TOKEN: str(tmp_path / "none")})
    with pytest.raises(SettingsError, match=f"{TOKEN}=.*none cannot be read: No such file"):
        create_targets(made)


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({}, "http://127.0.0.1:8080"),
        ({"METRICS_HTTP_HOST": "::1", "METRICS_HTTP_PORT": "81"}, "http://[::1]:81"),
    ],
)
async def test_links_lead_to_this_service(variables: dict[str, str], address: str) -> None:
    with listening() as receiver:
        await create_targets(settings(**{WEBHOOK: receiver.url}, **variables)).test("webhook")
        assert receiver.next().json["externalURL"] == address


@pytest.mark.parametrize(
    ("info_too", "target", "severity", "told"),
    [
        (False, "log", ALERT_SEVERITY_INFO, True),
        (False, "sentry", ALERT_SEVERITY_INFO, False),
        (False, "webhook", ALERT_SEVERITY_INFO, False),
        (False, "sentry", ALERT_SEVERITY_WARNING, True),
        (True, "sentry", ALERT_SEVERITY_INFO, True),
    ],
)
def test_info_goes_to_the_log_alone_unless_it_is_wanted(
    info_too: bool, target: str, severity: AlertSeverity.ValueType, told: bool
) -> None:
    assert is_told(info_too, target, Alert(severity=severity)) is told
