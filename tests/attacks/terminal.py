"""Row 13: texts that control a terminal, sent to the metrics and watched by `make watch`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import re
import secrets
import signal
import struct
import subprocess
import sys
from fcntl import ioctl
from termios import TIOCSWINSZ
from threading import Timer
from typing import Final

from protos.tracking.v1 import tracking_pb2
from protos.tracking.v1.event_pb2 import Event, FlowStep, RpcRefused
from tests.attacks.rows.telemetry import columns, producer
from tests.attacks.strike import ANSWER_S, Addresses, Strike, Tally
from tests.metrics.cli.hostile import HOSTILE_TEXTS
from tests.metrics.delivery_pair import TELEMETRY
from tests.metrics.raw_client import raw_client
from tests.pair.real_pair import ROOT

WATCHED_S: Final = 4.0
TEXTS: Final[dict[str, tuple[str, ...]]] = {
    "markup": tuple(text for text in HOSTILE_TEXTS if "[" in text and text.isprintable()),
    "control characters": tuple(
        text for text in HOSTILE_TEXTS if text and not text.isprintable() and len(text) < 100
    ),
    "long and wide texts": tuple(text for text in HOSTILE_TEXTS if len(text) > 100),
}
# What the view itself says to a terminal: styles, moves of the cursor, erasing, modes.
OWN: Final = re.compile(r"\x1b\[[0-9;?]*[mABCDHKJhl]")


async def watch(at: Addresses, tally: Tally, texts: tuple[str, ...]) -> None:
    """Send the texts wherever one is taken, and look at what a terminal is sent meanwhile."""
    strike = Strike(at)
    async with raw_client(at.metrics) as client, producer(strike) as lane:
        for text in texts:
            name = secrets.token_hex(4)
            # An id is refused or it is shown; either will do.
            await client.hello(
                f"{name}{text}"[:120].replace("\0", ""),
                lane=TELEMETRY,
                service="ghosts",
                instance=f"{text}{name}"[:120].replace("\0", ""),
            )
            await client.send(heartbeat=tracking_pb2.ClientHeartbeat())
            refused = RpcRefused(rpc=text, code=5, reason=text, kind=text, counts_as_error=True)
            step = FlowStep(step=FlowStep.ERROR, reason=text, kind=text, currency=text)
            await lane.send(strike, [Event(rpc_refused=refused), Event(flow_step=step), columns(1)])
        tally.add(strike.tally)
        await asyncio.to_thread(_look, at, tally)


def _look(at: Addresses, tally: Tally) -> None:
    terminal, inside = pty.openpty()
    ioctl(inside, TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-m", "metrics_service", "watch", "--target", at.metrics],
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
        stdin=inside,
        stdout=inside,
        stderr=inside,
    ) as process:
        os.close(inside)
        shown = _read(terminal, process)
    os.close(terminal)
    text = shown.decode(errors="replace")
    bare = OWN.sub("", text)
    odd = sorted({each for each in bare if not each.isprintable() and each not in "\r\n"})
    tally.check(process.returncode in (0, 130), f"make watch ended with {process.returncode}")
    tally.check("Traceback" not in text, text[-300:])
    tally.check(odd == [], f"the terminal is sent {odd}")
    tally.check("Farehold" in text, "nothing is shown")


def _read(terminal: int, process: subprocess.Popen[bytes]) -> bytes:
    """What is shown for WATCHED_S, after which Ctrl-C ends it."""
    ends = [
        Timer(WATCHED_S, process.send_signal, (signal.SIGINT,)),
        Timer(WATCHED_S + ANSWER_S, process.kill),
    ]
    for each in ends:
        each.start()
    shown = b""
    # It is an error once the other end is closed.
    with contextlib.suppress(OSError):
        while piece := os.read(terminal, 1 << 16):
            shown += piece
    process.wait()
    for each in ends:
        each.cancel()
    return shown
