"""Posts to an address from the settings: a bounded time in all, no redirect, no cookie, nothing of
the answer but its status.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from metrics_service.alerts.targets.notice import NotAcceptedError

MAX_REQUEST_S: Final = 10.0
"""Of a request with its answer, whatever the other side does meanwhile."""

_AGAIN: Final = frozenset({408, 425, 429})
_BUSY: Final = frozenset({429, 503})


class Poster:
    """Posts to one address, which may hold a password and is never shown.

    A proxy and further authorities are taken from the environment, as HTTPS_PROXY and
    SSL_CERT_FILE.
    """

    def __init__(self, url: str, *, within_s: float = MAX_REQUEST_S) -> None:
        self._url = url
        self._within_s = within_s
        self._tls: ssl.SSLContext | None = None
        # They log addresses.
        for library in ("httpx", "httpcore"):
            logging.getLogger(library).setLevel(logging.WARNING)

    async def post(self, body: bytes, headers: Mapping[str, str]) -> str:
        """Return the status of the answer, such as "HTTP 200". Raises NotAcceptedError."""
        if self._tls is None:
            # It reads the authorities, which takes longer than the event loop may be held.
            self._tls = await asyncio.to_thread(httpx.create_ssl_context)
        try:
            async with asyncio.timeout(self._within_s):
                response = await self._exchange(self._tls, body, headers)
        except (TimeoutError, httpx.TimeoutException):
            raise NotAcceptedError(f"no answer within {self._within_s:g} s") from None
        except httpx.ConnectError:
            raise NotAcceptedError("cannot be reached") from None
        except httpx.RemoteProtocolError:
            raise NotAcceptedError("the answer is not HTTP, or there is none") from None
        except httpx.TransportError:
            raise NotAcceptedError("the connection has failed") from None
        except Exception as error:
            # Whatever it is, its text may quote the address.
            raise NotAcceptedError(f"cannot be sent: {type(error).__name__}") from None
        return _judged(response)

    async def _exchange(
        self, tls: ssl.SSLContext, body: bytes, headers: Mapping[str, str]
    ) -> httpx.Response:
        async with (
            httpx.AsyncClient(verify=tls, timeout=self._within_s) as client,
            client.stream("POST", self._url, content=body, headers=headers) as response,
        ):
            return response


def _judged(response: httpx.Response) -> str:
    status = response.status_code
    said = f"HTTP {status}"
    if 200 <= status < 300:
        return said
    if 300 <= status < 400:
        raise NotAcceptedError(f"{said}: redirects are not followed", again=False)
    after_s = retry_after_s(response.headers.get("Retry-After", "")) if status in _BUSY else 0.0
    raise NotAcceptedError(said, again=status in _AGAIN or status >= 500, after_s=after_s)


def retry_after_s(value: str, now_s: float | None = None) -> float:
    """Return the seconds that a Retry-After asks for, as number or date; 0 for anything else."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        then_s = parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return 0.0
    return max(then_s - (time.time() if now_s is None else now_s), 0.0)
