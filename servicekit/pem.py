"""Reads PEM files and says in one line what is wrong with one: gRPC itself does not."""

from __future__ import annotations

import ssl
from pathlib import Path


class PemError(Exception):
    """A file cannot be used; the text is one line, which names the setting."""


def read(setting: str, path: Path) -> bytes:
    """Return the bytes of the file that a setting names. Raises PemError."""
    try:
        return path.read_bytes()
    except OSError as error:
        why = error.strerror or type(error).__name__
    except ValueError:
        why = "it is not a path"
    raise PemError(f"{setting}={str(path)!r} cannot be read: {why}")


def load_authorities(context: ssl.SSLContext, setting: str, path: Path) -> None:
    """Trust the certificates of a file. Raises PemError if it has none, or a broken one."""
    read(setting, path)
    try:
        context.load_verify_locations(path)
    except (ssl.SSLError, OSError):
        raise PemError(f"{setting}={str(path)!r}: it is not a PEM file of certificates") from None


def load_pair(context: ssl.SSLContext, prefix: str, certificate: Path, key: Path) -> None:
    """Load a certificate and its key; their settings are `prefix` with CERT and KEY.

    Raises PemError if one cannot be read, or the key is not that of the certificate.
    """
    read(f"{prefix}KEY", key)
    load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), f"{prefix}CERT", certificate)
    try:
        # A key that is protected fails, where OpenSSL would ask for its password in the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        unfit = getattr(error, "reason", None) == "KEY_VALUES_MISMATCH"
        why = (
            f"it is not the key of the certificate in {prefix}CERT={str(certificate)!r}"
            if unfit
            else "it is not a PEM file of a private key without a password"
        )
        raise PemError(f"{prefix}KEY={str(key)!r}: {why}") from None
