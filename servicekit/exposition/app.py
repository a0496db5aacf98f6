"""The HTTP side of a service that serves GET /metrics and nothing else."""

from __future__ import annotations

from collections.abc import Collection

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from servicekit.exposition.exposition import Exposition
from servicekit.exposition.scrape import PATH, Scrape
from servicekit.http.answers import failed, refused
from servicekit.http.guard import Guard
from servicekit.http.hosts import HostFilter
from servicekit.identity.gate import Gate


def create_app(
    exposition: Exposition, *, gate: Gate, hosts: Collection[str], setting: str
) -> Starlette:
    """Create the application; the gate decides who may ask, and `hosts`, which the setting has, for
    which names of this service.
    """
    return Starlette(
        routes=[Route(PATH, Guard(gate).guarded(Scrape(exposition)))],
        middleware=[Middleware(HostFilter, names=hosts, setting=setting)],
        exception_handlers={HTTPException: refused, Exception: failed},
    )
