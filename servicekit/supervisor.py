"""Runs services as child processes for `make run`.

Children start one after the other, none is restarted, and none outlives the supervisor: it ends
them in reverse order, each within a bound, and the kernel ends them if the supervisor is killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from servicekit import binaries
from servicekit.channels import PLAINTEXT, ClientFiles
from servicekit.start import StartError

READY_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 5.0
"""Of each child: one that hangs must not leave the next without time for its last writes."""

POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Child:
    """A process to run: `command` with `environ` added to the supervisor's environment.

    `health_target` is the `host:port` where its grpc.health.v1 answers.
    """

    name: str
    command: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)
    health_target: str = ""


class Supervisor:
    """The running children, as an async context manager: leaving it ends them all.

    Each child's output goes to `log_dir/NAME.log`; the output of the previous run is kept as
    `NAME.previous.log`. `files` are those of TLS, with which health is asked.
    """

    def __init__(self, log_dir: Path, files: ClientFiles = PLAINTEXT) -> None:
        self._log_dir = log_dir
        self._files = files
        self._running: list[tuple[Child, asyncio.subprocess.Process]] = []

    async def __aenter__(self) -> Self:
        try:
            self._log_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StartError(
                f"no logs can be written to {self._log_dir}: {error.strerror}"
            ) from None
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self, child: Child) -> None:
        """Start `child` and return when its health is SERVING.

        Raises `StartError` when its port is taken, and, with the last line it wrote, when it ends
        before it serves or takes longer than 60 s.
        """
        if child.health_target and await _listens(child.health_target):
            raise StartError(
                f"{child.name} cannot listen on {child.health_target}: "
                "it is taken by another process"
            )
        log_path = self.log_path(child.name)
        if log_path.exists():
            log_path.replace(log_path.with_name(f"{child.name}.previous.log"))
        with log_path.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *child.command,
                env={**os.environ, **child.environ},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A new session: Ctrl-C reaches only the supervisor, which ends them in order.
                start_new_session=True,
                preexec_fn=binaries.end_with_parent,
            )
        self._running.append((child, process))
        if child.health_target:
            await self._wait_serving(child, process)

    async def wait(self) -> str:
        """Wait until a child ends by itself and return a line that describes it."""
        waits = {asyncio.ensure_future(process.wait()): child for child, process in self._running}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        first = next(iter(done))
        return self._describe_end(waits[first], first.result())

    async def stop(self) -> None:
        """End the children, the last started first, each within 5 s; may be repeated."""
        while self._running:
            _, process = self._running[-1]
            _send(process, signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                _send(process, signal.SIGKILL)
                await process.wait()
            self._running.pop()

    def pid(self, name: str) -> int:
        """Return the process id of a running child."""
        return next(process.pid for child, process in self._running if child.name == name)

    def log_path(self, name: str) -> Path:
        """Return the file of the child's output."""
        return self._log_dir / f"{name}.log"

    async def _wait_serving(self, child: Child, process: asyncio.subprocess.Process) -> None:
        async with self._files.open(child.health_target) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)  # its type stubs have no methods
            give_up = asyncio.get_running_loop().time() + READY_TIMEOUT_S
            while asyncio.get_running_loop().time() < give_up:
                if process.returncode is not None:
                    raise StartError(self._describe_end(child, process.returncode))
                if await _serves(stub):
                    return
                await asyncio.sleep(POLL_S)
        raise StartError(
            f"{child.name} does not serve on {child.health_target} after {READY_TIMEOUT_S:.0f} s; "
            f"see {self.log_path(child.name)}"
        )

    def _describe_end(self, child: Child, status: int) -> str:
        lines = self.log_path(child.name).read_text(errors="replace").strip().splitlines()
        last = lines[-1] if lines else "it wrote nothing"
        return f"{child.name} ended with status {status}: {last} ({self.log_path(child.name)})"


async def _listens(target: str) -> bool:
    host, port = target.rsplit(":", 1)
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def _serves(stub: Any) -> bool:
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=1.0)
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if process.returncode is None:
        process.send_signal(number)
