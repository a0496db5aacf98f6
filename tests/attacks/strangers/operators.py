"""Row 8: TLS as operators use it: every client of ours, replaced certificates, files that do not
fit each other, and the signal by which other programs read their files again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
from functools import partial
from typing import Final

from protos.metrics.v1 import metrics_pb2
from servicekit.channels import ClientFiles
from tests.attacks.processes import SERVICES
from tests.attacks.strangers.stage import Speaker, Stage
from tests.attacks.trade import comes_true
from tests.pair.real_pair import ROOT, serves

METRICS: Final = "metrics.v1.MetricsService/GetMetrics"
LOOKS_S: Final = 10.0


async def operators(stage: Stage) -> None:
    """Do to the pair over TLS what operators do."""
    await asyncio.to_thread(_programs, stage)
    await asyncio.to_thread(_hangups, stage)
    await asyncio.to_thread(_rotation, stage)
    await asyncio.to_thread(_bad_pairs, stage)
    for name, wanted in (("board", "OK"), ("desk", "PERMISSION_DENIED")):
        async with Speaker(stage, stage.known(name)) as caller:
            code = await caller.code(METRICS, metrics_pb2.GetMetricsRequest())
        stage.tally.check(code == wanted, f"afterwards {name} is answered {code}")


def _run(stage: Stage, *arguments: str, **variables: str) -> tuple[int, str]:
    """Run one of our programs; return its exit status and what it says."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=stage.pair.environ | variables,
        check=False,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def _client(files: ClientFiles) -> dict[str, str]:
    named = {"TLS_CA": files.authority, "TLS_CERT": files.certificate, "TLS_KEY": files.key}
    return {f"FAREHOLD_{name}": str(path) for name, path in named.items() if path}


def _programs(stage: Stage) -> None:
    """Our own producer and command line have the files that they need; others are refused."""
    port = stage.pair.http.rpartition(":")[2]
    strangers = {who: files for who, (files, _) in stage.strangers().items()}
    tried = {
        "ops": (stage.known("ops"), 0, "booking_service"),
        "desk": (stage.known("desk"), 1, "Forbidden"),
        "one without a certificate": (strangers["without a certificate"], 4, "not reachable"),
        "one in plaintext": (strangers["in plaintext"], 4, "not reachable"),
    }
    for who, (files, status, says) in tried.items():
        done, said = _run(
            stage, "metrics_service", "health", METRICS_HTTP_PORT=port, **_client(files)
        )
        stage.tally.check(done == status and says in said, f"{who}: status {done}: {said[-200:]}")


def _hangups(stage: Stage) -> None:
    """SIGHUP ends nobody."""
    for service in SERVICES:
        os.kill(stage.pair.pid(service), signal.SIGHUP)
    for service, target in zip(SERVICES, (stage.pair.booking, stage.pair.metrics), strict=True):
        again = comes_true(partial(_serves, stage, target), LOOKS_S)
        stage.tally.check(again, f"{service} does not serve after SIGHUP")


def _rotation(stage: Stage) -> None:
    """A new certificate is shown at once, and a key that is not its own changes nothing."""
    targets = (stage.pair.booking, stage.pair.metrics, stage.pair.http)
    before = [_shown(stage, target) for target in targets]
    stage.files.issue("server", "localhost", "127.0.0.1")
    for target, old in zip(targets, before, strict=True):
        new = comes_true(partial(_shows_another, stage, target, old), LOOKS_S)
        stage.tally.check(new, f"{target} shows its old certificate")
    good = [_shown(stage, target) for target in targets]
    key = (stage.files.path / "server.key").read_bytes()
    stage.files.write("server.key", (stage.files.path / "desk.key").read_bytes())
    for target, shown in zip(targets, good, strict=True):
        stage.tally.check(_shown(stage, target) == shown, f"{target} has lost its certificate")
    stage.files.write("server.key", key)


def _bad_pairs(stage: Stage) -> None:
    """A start with a pair that does not fit, or no pair, says so in one line."""
    wrong = str(stage.files.path / "desk.key")
    for service, value in zip(SERVICES, (wrong, f"{wrong}.none"), strict=True):
        setting = f"{service.removesuffix('_service').upper()}_TLS_KEY"
        status, said = _run(stage, service, "serve", **{setting: value})
        named = status == 2 and len(said.strip().splitlines()) == 1 and setting in said
        stage.tally.check(named, f"{service}: status {status}: {said[-200:]}")


def _serves(stage: Stage, target: str) -> bool:
    return serves(target, files=stage.pair.files)


def _shows_another(stage: Stage, target: str, old: int) -> bool:
    return _shown(stage, target) not in (old, 0)


def _shown(stage: Stage, target: str) -> int:
    """The serial number of the certificate that a listener shows; 0 where there is none."""
    context = stage.known("ops").context()
    assert context is not None
    host, _, port = target.rpartition(":")
    try:
        with (
            socket.create_connection((host, int(port)), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            shown = secure.getpeercert() or {}
    except (OSError, ssl.SSLError):
        return 0
    return int(str(shown.get("serialNumber", "0")), 16)
