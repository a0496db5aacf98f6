"""Refuses requests for a name that is not this service's: a page of a stranger, whose own name
points to this address for a moment, could otherwise read the answers in a visitor's browser.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

ANY: Final = "*"
LOOPBACK_NAMES: Final = ("localhost", "localhost.localdomain")


class HostFilter:
    """Passes requests on whose Host is one of the names, a loopback name, or an address, which no
    stranger's page can have as its name; and those without a Host, which no browser sends.

    `setting` is that of the names, which a refusal tells.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str], *, setting: str) -> None:
        self._app = app
        self._names = frozenset((*LOOPBACK_NAMES, *(name.lower() for name in names)))
        self._setting = setting

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 421."""
        if scope["type"] != "http" or self._allows(Headers(scope=scope).get("host", "")):
            await self._app(scope, receive, send)
            return
        status = HTTPStatus.MISDIRECTED_REQUEST
        body = {
            "error": status.phrase,
            "path": scope["path"],
            "description": f"the Host is no name of this service; {self._setting} has its names",
        }
        await JSONResponse(body, status)(scope, receive, send)

    def _allows(self, host: str) -> bool:
        name = name_of(host)
        return not name or ANY in self._names or name in self._names or is_address(name)


def name_of(host: str) -> str:
    """Return the name or address of a Host header, in lower case, without port and brackets."""
    name, colon, port = host.strip().lower().rpartition(":")
    if not colon or not port.isdecimal():
        name = host.strip().lower()
    return name.removeprefix("[").removesuffix("]").rstrip(".")


def is_address(name: str) -> bool:
    """Return whether a name is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
