"""Serves with TLS files that may be replaced: new connections get the new certificate, while others
stay. Files that are not good when they are read again change nothing, and are reported once.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Final

import grpc
import structlog

from servicekit import pem
from servicekit.pem import PemError
from servicekit.settings import ServerSettings, SettingsError
from servicekit.watched_file import WatchedFiles

log = structlog.get_logger(__name__)

MINIMUM_VERSION: Final = ssl.TLSVersion.TLSv1_2


class ServerTls:
    """The certificate of a server with its key, and the authorities of its clients, if any."""

    def __init__(self, certificate: Path, key: Path, authority: Path | None, prefix: str) -> None:
        """Note the files; their settings are `prefix` with CERT, KEY and CLIENT_CA."""
        self._certificate, self._key, self._authority = certificate, key, authority
        self._prefix = prefix

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Return credentials that follow the files. Raises PemError."""
        files = self._watch()

        def renew() -> Any:
            """Return the new configuration, None for no change; gRPC asks at each handshake."""
            return self._renewed(self._configuration) if files.changed() else None

        return grpc.dynamic_ssl_server_credentials(
            self._configuration(),
            renew,
            require_client_authentication=self._authority is not None,
        )

    def context(self) -> ssl.SSLContext:
        """Return a context for HTTP that follows the files. Raises PemError."""
        files = self._watch()
        newest = outer = self._context()

        def greet(connection: Any, _name: str | None, _: ssl.SSLContext) -> None:
            nonlocal newest
            if files.changed():
                newest = self._renewed(self._context) or newest
            connection.context = newest

        # It is called in every handshake, also without a name.
        outer.sni_callback = greet
        return outer

    def _watch(self) -> WatchedFiles:
        return WatchedFiles(*filter(None, (self._certificate, self._key, self._authority)))

    def _renewed(self, make: Any) -> Any:
        try:
            renewed = make()
        except PemError as error:
            log.error("tls_reload_failed", reason=str(error))
            return None
        log.info("tls_reloaded", certificate=str(self._certificate))
        return renewed

    def _configuration(self) -> Any:
        self._context()
        prefix, authority = self._prefix, self._authority
        pair = (pem.read(f"{prefix}KEY", self._key), pem.read(f"{prefix}CERT", self._certificate))
        authorities = None if authority is None else pem.read(f"{prefix}CLIENT_CA", authority)
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=authorities)

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = MINIMUM_VERSION
        pem.load_pair(context, self._prefix, self._certificate, self._key)
        if self._authority is not None:
            pem.load_authorities(context, f"{self._prefix}CLIENT_CA", self._authority)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def server_tls(settings: ServerSettings) -> ServerTls | None:
    """Return the TLS of a server, whose files are good; None where the settings name none.

    Raises SettingsError in one line when a file cannot be read, is not what it should be, or the
    key is not that of the certificate. gRPC itself would report all of these as a taken port.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    prefix = f"{settings.model_config.get('env_prefix', '')}TLS_"
    tls = ServerTls(settings.tls_cert, settings.tls_key, settings.tls_client_ca, prefix)
    try:
        tls.context()
    except PemError as error:
        raise SettingsError(str(error)) from None
    return tls
