"""Starts the database and both services, replays a file, and stops everything on Ctrl-C.

Everything that was started is stopped in the reverse order, however the run ends: the replay, the
two services, the database.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from booking_service.cli import indexes
from booking_service.demo.calls import Client, RefusalError, UnreachableError
from booking_service.demo.hotel import FileError, read_file
from booking_service.demo.screen import Screen
from booking_service.demo.seed import SeedError
from booking_service.demo.session import Order, replay_file
from booking_service.storage.database import Database
from booking_service.storage.driver_errors import DatabaseError, DatabaseUnavailable
from servicekit import devstack, start, terminal
from servicekit.channels import ClientFiles
from servicekit.client_settings import client_files
from servicekit.migrations import MIGRATIONS, migrate
from servicekit.start import StartError
from servicekit.supervisor import Child, Supervisor

DEMO_ERRORS: Final = (FileError, SeedError, RefusalError, UnreachableError)


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of the pair: "host:port" each, and what a client needs for their TLS."""

    booking: str
    metrics: str
    http: str
    booking_http: str
    files: ClientFiles

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Addresses:
        """Read the addresses as the services do. Raises StartError for an invalid port or file."""

        def address(service: str, default: int, listener: str = "") -> str:
            host = environ.get(f"{service}_{listener}HOST", "127.0.0.1")
            return f"{host}:{_port(environ, f'{service}_{listener}PORT', default)}"

        return cls(
            booking=address("BOOKING", 50051),
            metrics=address("METRICS", 50052),
            http=address("METRICS", 8080, "HTTP_"),
            booking_http=address("BOOKING", 8081, "HTTP_"),
            files=client_files(),
        )


def run(order: Order, data: Path, screen: Screen) -> int:
    """Run until Ctrl-C or SIGTERM and return the exit status, which is 0 then.

    All files are under `data`. An error is one line on standard error and status 1.
    """
    # Until the event loop handles them, both signals interrupt the start.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with terminal.own_interrupts(), ExitStack() as stack:
            read_file(order.path)
            addresses = Addresses.of(os.environ)
            stack.enter_context(devstack.sole_user(data))
            screen.say("Starting the database ...")
            urls = stack.enter_context(devstack.databases(data))
            _migrate(urls)
            return start.run(partial(_serve, order, data, addresses, urls, screen))
    except KeyboardInterrupt:
        return 0
    except StartError as error:
        return start.fail(error)
    except DEMO_ERRORS as error:
        return start.fail(StartError(str(error)))


def _migrate(urls: Mapping[str, str]) -> None:
    for name in devstack.DATABASES:
        migrate(urls[f"{name.upper()}_DATABASE_URL"], MIGRATIONS / name)
    database = Database(urls["BOOKING_DATABASE_URL"], application_name="booking_admin")
    try:
        # An earlier run may have been ended while it built one.
        asyncio.run(indexes.repair(database, also_missing=True))
    except (DatabaseUnavailable, DatabaseError) as error:
        raise StartError(f"the indexes cannot be built: {error}") from None


async def _serve(
    order: Order,
    data: Path,
    addresses: Addresses,
    urls: Mapping[str, str],
    screen: Screen,
    stop: asyncio.Event,
) -> None:
    async with Supervisor(data / "logs", addresses.files) as supervisor:
        show = asyncio.create_task(_show(order, addresses, urls, screen, supervisor))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({show, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        show.cancel()
        (outcome,) = await asyncio.gather(show, return_exceptions=True)
        screen.say("Stopping ...")
        if isinstance(outcome, Exception):
            raise outcome


async def _show(
    order: Order,
    addresses: Addresses,
    urls: Mapping[str, str],
    screen: Screen,
    supervisor: Supervisor,
) -> None:
    for child in _children(addresses, urls):
        screen.say(f"Starting {child.name} ...")
        await supervisor.start(child)
    _greet(addresses, screen)
    ended = asyncio.create_task(supervisor.wait())
    replay = asyncio.create_task(_replay(order, addresses, screen))
    try:
        await asyncio.wait({ended, replay}, return_when=asyncio.FIRST_COMPLETED)
        raise StartError(await ended)
    finally:
        ended.cancel()
        replay.cancel()
        await asyncio.gather(ended, replay, return_exceptions=True)


async def _replay(order: Order, addresses: Addresses, screen: Screen) -> None:
    today = datetime.now(UTC).date()
    try:
        async with (
            Client(addresses.booking, files=addresses.files) as booking,
            Client(addresses.metrics, files=addresses.files) as metrics,
        ):
            await replay_file(order, booking, metrics, today, screen)
    except DEMO_ERRORS as error:
        screen.say(f"The replay stopped: {error}")
    screen.say("The services go on; Ctrl-C stops them.")


def _children(addresses: Addresses, urls: Mapping[str, str]) -> tuple[Child, Child]:
    target = os.environ.get("BOOKING_METRICS_TARGET", addresses.metrics)
    python = sys.executable
    return (
        Child(
            "metrics_service", (python, "-m", "metrics_service", "serve"), urls, addresses.metrics
        ),
        Child(
            "booking_service",
            (python, "-m", "booking_service", "serve"),
            {
                **urls,
                "BOOKING_METRICS_TARGET": target,
                "BOOKING_HTTP_PORT": addresses.booking_http.rpartition(":")[2],
                "BOOKING_DEVELOPMENT": "true",
            },
            addresses.booking,
        ),
    )


def _greet(addresses: Addresses, screen: Screen) -> None:
    screen.say(
        f"""
The page: http://{addresses.http}/

Serving:
  booking_service  gRPC {addresses.booking}, HTTP http://{addresses.booking_http}/metrics
  metrics_service  gRPC {addresses.metrics}, HTTP http://{addresses.http}

Three things to try in another terminal:
  make watch
  curl -s http://{addresses.http}/api/metrics/bookings
  grpcurl -plaintext -d '{{"location": "Algarve"}}' {addresses.booking} \\
    booking.v1.CatalogService/SearchPackages

Ctrl-C stops everything.
"""
    )


def _port(environ: Mapping[str, str], name: str, default: int) -> int:
    given = environ.get(name, str(default))
    if not (given.isascii() and given.isdigit() and 1 <= int(given) <= 65535):
        raise StartError(f"{name} is {given!r}; it must be a port from 1 to 65535")
    return int(given)
