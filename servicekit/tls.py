"""Reads the TLS files of a server, and names the setting whose file cannot be used."""

from __future__ import annotations

import ssl
from pathlib import Path

import grpc

from servicekit.settings import ServerSettings, SettingsError


def credentials(settings: ServerSettings) -> grpc.ServerCredentials | None:
    """Return the credentials that the settings name; None when they name none.

    Raises SettingsError in one line when a file cannot be read, is not what it should be, or the
    key is not that of the certificate. gRPC itself would report all of these as a taken port.
    """
    prefix = settings.model_config.get("env_prefix", "")
    certificate, key, authority = settings.tls_cert, settings.tls_key, settings.tls_client_ca
    if certificate is None or key is None:
        return None
    pair = (_read(f"{prefix}TLS_KEY", key), _read(f"{prefix}TLS_CERT", certificate))
    authorities = _read(f"{prefix}TLS_CLIENT_CA", authority) if authority else None
    _check(f"{prefix}TLS_CERT", certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # A key that is protected fails, where OpenSSL would ask for its password in the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        unfit = getattr(error, "reason", None) == "KEY_VALUES_MISMATCH"
        why = (
            f"it is not the key of the certificate in {prefix}TLS_CERT={str(certificate)!r}"
            if unfit
            else "it is not a PEM file of a private key without a password"
        )
        raise SettingsError(f"{prefix}TLS_KEY={str(key)!r}: {why}") from None
    if authority:
        _check(f"{prefix}TLS_CLIENT_CA", authority)
    return grpc.ssl_server_credentials(
        [pair], root_certificates=authorities, require_client_auth=authorities is not None
    )


def _read(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        why = error.strerror or type(error).__name__
    except ValueError:
        why = "it is not a path"
    raise SettingsError(f"{setting}={str(path)!r} cannot be read: {why}")


def _check(setting: str, path: Path) -> None:
    """Refuse a file without certificates, or with one that cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(path)
    except (ssl.SSLError, OSError):
        raise SettingsError(
            f"{setting}={str(path)!r}: it is not a PEM file of certificates"
        ) from None
