"""Traces are on where the settings name an endpoint; what is wrong is one line at the start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from servicekit.settings import SettingsError
from servicekit.start import StartError
from servicekit.tracing import create
from tests.servicekit.tracing.test_rpc_spans import Settings

ROOT = Path(__file__).resolve().parents[3]
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
GOOD = {ENDPOINT: "http://127.0.0.1:4317"}


@pytest.mark.parametrize(
    "endpoint",
    [
        "127.0.0.1:4317",
        "http://127.0.0.1",
        "grpc://127.0.0.1:4317",
        "http://:4317",
        "http://h:port",
        "http://h:99999",
        "http://[::1:4317",
    ],
)
def test_a_bad_endpoint_is_one_line_that_shows_no_secret(endpoint: str) -> None:
    with pytest.raises(SettingsError, match=ENDPOINT) as raised:
        Settings.load({ENDPOINT: endpoint.replace("h:", "grace:secret@h:")})
    assert "secret" not in str(raised.value)
    assert "must be empty or an address such as http://127.0.0.1:4317" in str(raised.value)


@pytest.mark.parametrize("ratio", ["-0.1", "1.1", "all", "nan"])
def test_a_bad_ratio_is_one_line(ratio: str) -> None:
    with pytest.raises(SettingsError, match="OTEL_TRACES_SAMPLER_ARG"):
        Settings.load({"OTEL_TRACES_SAMPLER_ARG": ratio})


def test_without_an_endpoint_there_is_no_queue() -> None:
    assert create.tracer(Settings.load({}), service="s", instance="i").queue is None


async def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "servicekit.tracing.otlp", None)
    with pytest.raises(StartError, match=r"pip install 'farehold\[otlp\]'"):
        create.tracer(Settings.load(GOOD), service="s", instance="i")


async def test_a_wrong_variable_of_opentelemetry_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "zip")
    with pytest.raises(StartError, match="OTEL_EXPORTER_OTLP_COMPRESSION") as raised:
        create.tracer(Settings.load(GOOD), service="s", instance="i")
    assert "\n" not in str(raised.value)


@pytest.mark.processes
def test_a_service_without_an_endpoint_imports_nothing_of_opentelemetry() -> None:
    code = (
        "import sys, booking_service.server, metrics_service.server\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
