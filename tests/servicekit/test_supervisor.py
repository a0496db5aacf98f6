"""Child processes are awaited until they serve, and always end in order and in time."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

from metrics_service.server import STOP_S
from servicekit import supervisor as supervisor_module
from servicekit.binaries import free_port
from servicekit.start import StartError
from servicekit.supervisor import Child, Supervisor

pytestmark = pytest.mark.processes

BOUND_S = 30.0
SERVICE = textwrap.dedent(
    """
    import asyncio, sys
    from pydantic_settings import SettingsConfigDict
    from servicekit.server import GrpcServer, run
    from servicekit.settings import ServerSettings

    class Settings(ServerSettings):
        model_config = SettingsConfigDict(env_prefix="CHILD_")

    async def main(stop):
        server = GrpcServer(Settings.load(), domain="test")
        await server.start([])
        await stop.wait()
        await server.drain()
        print("drained")

    sys.exit(run(main))
    """
)


def service(name: str, port: int) -> Child:
    return Child(
        name,
        [sys.executable, "-c", SERVICE],
        {"CHILD_PORT": str(port)},
        health_target=f"127.0.0.1:{port}",
    )


async def test_a_child_is_waited_for_until_it_serves_and_drains_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Neither is killed for being slow: killing is what another test is about.
    monkeypatch.setattr(supervisor_module, "STOP_TIMEOUT_S", BOUND_S)
    async with Supervisor(tmp_path) as supervisor:
        await supervisor.start(service("one", free_port()))
        await supervisor.start(service("two", free_port()))
        pids = [supervisor.pid("one"), supervisor.pid("two")]
        await supervisor.stop()
    assert supervisor.log_path("one").read_text().endswith("drained\n")
    assert supervisor.log_path("two").read_text().endswith("drained\n")
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_child_that_cannot_start_is_one_line_with_its_last_message(tmp_path: Path) -> None:
    child = replace(service("wrong", free_port()), environ={"CHILD_PROT": "1"})
    async with Supervisor(tmp_path) as supervisor:
        with pytest.raises(StartError, match=r"wrong ended with status 2: CHILD_PROT is not a"):
            await supervisor.start(child)


async def test_a_taken_port_is_one_line_and_not_mistaken_for_the_child(tmp_path: Path) -> None:
    port = free_port()
    async with Supervisor(tmp_path) as supervisor:
        await supervisor.start(service("first", port))
        with pytest.raises(StartError, match=rf"second cannot listen on 127.0.0.1:{port}: it is"):
            await supervisor.start(service("second", port))


async def test_a_child_that_ends_by_itself_is_reported(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        await supervisor.start(service("steady", free_port()))
        await supervisor.start(service("fragile", free_port()))
        waiting = asyncio.create_task(supervisor.wait())
        await asyncio.sleep(0)
        os.kill(supervisor.pid("fragile"), signal.SIGKILL)
        async with asyncio.timeout(BOUND_S):
            assert "fragile ended with status -9" in await waiting


async def test_a_child_that_ignores_sigterm_is_killed_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # metrics_service's own bound, within which it writes its last checkpoint.
    assert STOP_S < supervisor_module.STOP_TIMEOUT_S < 6
    monkeypatch.setattr(supervisor_module, "STOP_TIMEOUT_S", 0.2)
    child = service("stubborn", free_port())
    ignoring = SERVICE.replace("await stop.wait()", "await asyncio.Event().wait()")
    async with Supervisor(tmp_path) as supervisor:
        await supervisor.start(replace(child, command=[sys.executable, "-c", ignoring]))
        pid = supervisor.pid("stubborn")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_child_that_hangs_takes_no_time_from_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []
    timeout = asyncio.timeout

    def noted(delay: float) -> asyncio.Timeout:
        given.append(delay)
        # The one that hangs gets no time at all, the other all of it.
        return timeout(0 if len(given) == 1 else BOUND_S)

    ignoring = SERVICE.replace("await stop.wait()", "await asyncio.Event().wait()")
    async with Supervisor(tmp_path) as supervisor:
        await supervisor.start(service("first", free_port()))
        stubborn = service("stubborn", free_port())
        await supervisor.start(replace(stubborn, command=[sys.executable, "-c", ignoring]))
        monkeypatch.setattr(asyncio, "timeout", noted)
        await supervisor.stop()
    assert given == [supervisor_module.STOP_TIMEOUT_S] * 2
    assert supervisor.log_path("first").read_text().endswith("drained\n")


async def test_the_log_of_the_previous_run_is_kept(tmp_path: Path) -> None:
    for word in ("first", "second"):
        async with Supervisor(tmp_path) as supervisor:
            await supervisor.start(Child("speaker", ["sh", "-c", f"echo {word}"]))
            async with asyncio.timeout(BOUND_S):
                await supervisor.wait()
    assert (tmp_path / "speaker.log").read_text() == "second\n"
    assert (tmp_path / "speaker.previous.log").read_text() == "first\n"


def test_make_returns_the_status_of_a_recipe_that_handled_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text(f"run:\n\t@{sys.executable} recipe.py\n")
    (tmp_path / "recipe.py").write_text(
        textwrap.dedent(
            """
            import signal, sys
            from servicekit.terminal import own_interrupts

            class Stopped(Exception):
                pass

            def stop(*_):
                raise Stopped

            signal.signal(signal.SIGINT, stop)
            with own_interrupts():
                try:
                    print("up", flush=True)
                    signal.pause()
                except Stopped:
                    print("stopped", flush=True)
            """
        )
    )
    # The shell that a person types in: it gets the status, and Ctrl-C goes through a terminal.
    shell = f"cd {tmp_path} && make -s run; echo status $?"
    child, terminal = pty.fork()
    if child == 0:
        os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
        os.execvp("bash", ["bash", "-c", shell])
    shown = ""
    give_up = time.monotonic() + BOUND_S
    interrupted = False
    while "status" not in shown.split("\n", 1)[-1] or not shown.rstrip()[-1].isdigit():
        assert time.monotonic() < give_up, shown
        shown += os.read(terminal, 1024).decode()
        if "up" in shown and not interrupted:
            interrupted = True
            os.write(terminal, b"\x03")
    os.waitpid(child, 0)
    os.close(terminal)
    assert "stopped" in shown
    assert "status 0" in shown


def test_without_a_terminal_the_process_group_stays_the_same() -> None:
    program = (
        "import os\n"
        "from servicekit.terminal import own_interrupts\n"
        "before = os.getpgrp()\n"
        "with own_interrupts():\n"
        "    print(os.getpgrp() == before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True\n"
