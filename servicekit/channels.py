"""Opens channels to servers: in plaintext, or with TLS, a client certificate or a token.

The files are read for each channel, so that one that is opened after a rotation has the new ones.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from servicekit import pem
from servicekit.pem import PemError
from servicekit.watched_file import WatchedFiles

MAX_TOKEN_BYTES: Final = 1024

Options = Sequence[tuple[str, Any]]


def open_channel(
    target: str, credentials: grpc.ChannelCredentials | None, options: Options = ()
) -> grpc.aio.Channel:
    """Open a channel to a target; without credentials the connection is not encrypted."""
    if credentials is None:
        return grpc.aio.insecure_channel(target, options)
    return grpc.aio.secure_channel(target, credentials, options)


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """What a client needs to reach a server: nothing for plaintext, else the authority of the
    server's certificate; and where the server asks who calls, a certificate with its key or a file
    with a token.

    `prefix` is that of the settings, such as `FAREHOLD_`: they end with TLS_CA, TLS_CERT, TLS_KEY
    and TOKEN_FILE.
    """

    prefix: str = ""
    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token: Path | None = None

    def check(self) -> None:
        """Read every file. Raises PemError in one line that names the setting."""
        self.context()
        self.bearer()

    def open(self, target: str, options: Options = ()) -> grpc.aio.Channel:
        """Open a channel to a target such as `127.0.0.1:50051`. Raises PemError."""
        return open_channel(target, self.credentials(), options)

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Return the credentials of a channel; None for plaintext. Raises PemError."""
        if self.context() is None:
            return None
        prefix = f"{self.prefix}TLS_"
        pair: tuple[bytes | None, bytes | None] = (None, None)
        if self.certificate is not None and self.key is not None:
            pair = (pem.read(f"{prefix}KEY", self.key), pem.read(f"{prefix}CERT", self.certificate))
        authority = pem.read(f"{prefix}CA", self.authority) if self.authority else None
        credentials = grpc.ssl_channel_credentials(authority, *pair)
        if self.token is None:
            return credentials
        token = grpc.metadata_call_credentials(_Token(self.bearer, self.token))
        return grpc.composite_channel_credentials(credentials, token)

    def context(self) -> ssl.SSLContext | None:
        """Return the same for HTTP; None for plaintext. Raises PemError."""
        prefix = f"{self.prefix}TLS_"
        if (self.certificate is None) != (self.key is None):
            raise PemError(f"{prefix}CERT and {prefix}KEY must be set together")
        if self.authority is None:
            needy = f"{prefix}CERT" if self.certificate else f"{self.prefix}TOKEN_FILE"
            if self.certificate is not None or self.token is not None:
                raise PemError(f"{needy} needs {prefix}CA")
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        pem.load_authorities(context, f"{prefix}CA", self.authority)
        if self.certificate is not None and self.key is not None:
            pem.load_pair(context, prefix, self.certificate, self.key)
        return context

    def bearer(self) -> str:
        """Return the token; empty without one. Raises PemError."""
        if self.token is None:
            return ""
        setting = f"{self.prefix}TOKEN_FILE"
        token = pem.read(setting, self.token).decode(errors="replace").strip()
        if not (0 < len(token) <= MAX_TOKEN_BYTES and token.isascii() and token.isprintable()):
            raise PemError(
                f"{setting}={str(self.token)!r}: it is not a token of 1 to {MAX_TOKEN_BYTES} "
                "printable characters"
            )
        return token


PLAINTEXT: Final = ClientFiles()


class _Token(grpc.AuthMetadataPlugin):
    """Adds the token to each call; one that was replaced is read again."""

    def __init__(self, read: Callable[[], str], path: Path) -> None:
        self._read = read
        self._files = WatchedFiles(path)
        self._token = read()

    def __call__(
        self,
        _context: grpc.AuthMetadataContext,
        callback: grpc.AuthMetadataPluginCallback,
    ) -> None:
        if self._files.changed():
            with contextlib.suppress(PemError):
                self._token = self._read()
        callback((("authorization", f"Bearer {self._token}"),), None)
