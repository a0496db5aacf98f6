"""Reads what a call brings besides its message: headers, and the names of a certificate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import grpc

MAX_HEADER_BYTES: Final = 128

NAME_KEYS: Final = ("peer_uri", "peer_dns")
"""Where gRPC has the names of a certificate; not its subject, which proves nothing."""


def header(metadata: Mapping[str, Any], key: str) -> str:
    """Return a header of at most MAX_HEADER_BYTES printable bytes, else an empty string."""
    value = metadata.get(key)
    if isinstance(value, str) and len(value.encode()) <= MAX_HEADER_BYTES and value.isprintable():
        return value
    return ""


def caller_header(metadata: Mapping[str, Any]) -> str:
    """Return whom x-caller names; empty if nobody."""
    return header(metadata, "x-caller")


def certificate_names(context: grpc.aio.ServicerContext[Any, Any]) -> list[str]:
    """Return the URIs, then the DNS names, of the caller's certificate; empty without one."""
    found = context.auth_context()
    return [name.decode(errors="replace") for key in NAME_KEYS for name in found.get(key, ())]
