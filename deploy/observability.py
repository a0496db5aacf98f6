"""Runs Prometheus and Alertmanager beside the pair that `make run` serves, until Ctrl-C, with the
configurations of deploy/prometheus. They listen on loopback alone.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import httpx

from servicekit import devstack, start, terminal
from servicekit.start import StartError
from servicekit.supervisor import Child, Supervisor

FOLDER: Final = Path(__file__).resolve().parent / "prometheus"
# The addresses in prometheus.yml.
METRICS: Final = "127.0.0.1:8080"
BOOKING: Final = "127.0.0.1:8081"
ALERTMANAGER: Final = "127.0.0.1:9093"
PROMETHEUS: Final = "127.0.0.1:9090"
READY_TIMEOUT_S: Final = 30.0
POLL_S: Final = 0.05
# As Debian names them, and as they are named elsewhere.
PROGRAMS: Final = (("prometheus",), ("prometheus-alertmanager", "alertmanager"))


@dataclass(frozen=True, slots=True)
class Addresses:
    """Each "host:port": where both services serve /metrics, and where the programs listen."""

    metrics: str
    booking: str
    prometheus: str
    alertmanager: str


def find_programs() -> tuple[str, str]:
    """Return the paths of Prometheus and Alertmanager. Raises StartError."""
    prometheus, alertmanager = (
        next(filter(None, map(shutil.which, names)), None) for names in PROGRAMS
    )
    if prometheus is None or alertmanager is None:
        missing = "Prometheus" if prometheus is None else "Alertmanager"
        raise StartError(
            f"{missing} is not installed. On Debian, as root: apt-get install"
            " --no-install-recommends prometheus prometheus-alertmanager; elsewhere see"
            " https://prometheus.io/download/"
        )
    return prometheus, alertmanager


def configure(changes: Mapping[str, str]) -> str:
    """Return prometheus.yml for another folder, with texts replaced, such as the address of a
    service. Raises ValueError for a text that it does not have.
    """
    text = (FOLDER / "prometheus.yml").read_text()
    for old, new in {"- rules.yml": f"- {FOLDER / 'rules.yml'}", **changes}.items():
        if old not in text:
            raise ValueError(f"prometheus.yml has no {old}")
        text = text.replace(old, new)
    return text


def prometheus_command(program: str, folder: Path, address: str) -> Sequence[str]:
    """Return the command that serves at an address what `folder` has: prometheus.yml and data."""
    return (
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address={address}",
        "--enable-feature=exemplar-storage",
        "--log.level=warn",
    )


def alertmanager_command(
    program: str, configuration: Path, folder: Path, address: str
) -> Sequence[str]:
    """Return the command that serves at an address, with its data in `folder`."""
    return (
        program,
        f"--config.file={configuration}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={address}",
        # Else it listens to further ones on all addresses.
        "--cluster.listen-address=",
        "--log.level=warn",
    )


async def _serve(folder: Path, addresses: Addresses, stop: asyncio.Event) -> None:
    prometheus, alertmanager = find_programs()
    changes = {METRICS: addresses.metrics, BOOKING: addresses.booking}
    text = configure(changes | {ALERTMANAGER: addresses.alertmanager})
    (folder / "prometheus.yml").write_text(text)
    routes = FOLDER / "alertmanager.yml"
    commands = {
        addresses.alertmanager: alertmanager_command(
            alertmanager, routes, folder, addresses.alertmanager
        ),
        addresses.prometheus: prometheus_command(prometheus, folder, addresses.prometheus),
    }
    async with Supervisor(folder / "logs") as supervisor:
        for address, command in commands.items():
            _check_free(address)
            await supervisor.start(Child(Path(command[0]).name, command))
            await _ready(address, supervisor)
        print(
            f"Prometheus    http://{addresses.prometheus}/targets, /rules, /alerts and /graph\n"
            f"Alertmanager  http://{addresses.alertmanager}\n"
            "Grafana       import deploy/grafana/dashboards/*.json; the data source is Prometheus\n"
            "\nCtrl-C stops both.",
            flush=True,
        )
        ended = asyncio.create_task(supervisor.wait())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if ended.done():
            raise StartError(ended.result())
        ended.cancel()


def _check_free(address: str) -> None:
    """Refuse an address that another process listens on: it would answer in place of ours."""
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        if probe.connect_ex((host, int(port))) == 0:
            raise StartError(
                f"{address} is taken by another process: end it, or choose another address with"
                ' ARGS="--prometheus HOST:PORT --alertmanager HOST:PORT"'
            )


async def _ready(address: str, supervisor: Supervisor) -> None:
    """Wait until a program serves. Raises StartError when it ends before, or takes too long."""
    ended = asyncio.create_task(supervisor.wait())
    ready = asyncio.create_task(_answers(f"http://{address}/-/ready"))
    done, _ = await asyncio.wait(
        {ended, ready}, timeout=READY_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED
    )
    ended.cancel()
    ready.cancel()
    if ended in done:
        raise StartError(ended.result())
    if ready not in done:
        raise StartError(f"nothing is ready on {address} after {READY_TIMEOUT_S:.0f} s")


async def _answers(url: str) -> None:
    async with httpx.AsyncClient() as client:
        while True:
            try:
                if (await client.get(url)).is_success:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(POLL_S)


def main() -> int:
    """Run until Ctrl-C, and return the exit status, which is 0 then."""
    parser = argparse.ArgumentParser(prog="make observability", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(".data"), help="data folder")
    parser.add_argument("--prometheus", default=PROMETHEUS, help="host:port to listen on")
    parser.add_argument("--alertmanager", default=ALERTMANAGER, help="host:port to listen on")
    options = parser.parse_args()
    addresses = Addresses(
        # Where `make run` has them.
        metrics=f"127.0.0.1:{os.environ.get('METRICS_HTTP_PORT', '8080')}",
        booking=f"127.0.0.1:{os.environ.get('BOOKING_HTTP_PORT', '8081')}",
        prometheus=options.prometheus,
        alertmanager=options.alertmanager,
    )
    folder = options.data / "observability"
    try:
        with terminal.own_interrupts(), devstack.sole_user(folder):
            return start.run(partial(_serve, folder, addresses))
    except StartError as error:
        return start.fail(error)
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
