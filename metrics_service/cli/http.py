"""Fetches what a service answers over HTTP, with the identity of the client settings."""

from __future__ import annotations

from http.client import HTTPException
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

from metrics_service.cli.asking import NotReachableError
from metrics_service.cli.plain import plain
from servicekit.channels import ClientFiles

TIMEOUT_S: Final = 5.0
MAX_BYTES: Final = 32 * 1024 * 1024


def fetch(address: str, path: str, files: ClientFiles) -> tuple[int, bytes]:
    """Return status and body of a path at an address such as "127.0.0.1:8080". Raises
    NotReachableError and PemError.
    """
    context = files.context()
    url = f"{'http' if context is None else 'https'}://{address}{path}"
    opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context))
    if token := files.bearer():
        opener.addheaders = [("Authorization", f"Bearer {token}")]
    try:
        with opener.open(url, timeout=TIMEOUT_S) as answer:
            return int(answer.status), answer.read(MAX_BYTES)
    except HTTPError as error:
        with error:
            return error.code, error.read(MAX_BYTES)
    except (URLError, HTTPException, OSError, ValueError) as error:
        reason = plain(str(getattr(error, "reason", error)))
        raise NotReachableError(f"{plain(url)} is not reachable: {reason}") from None
