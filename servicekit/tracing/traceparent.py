"""Reads the traceparent header of W3C Trace Context, by which a caller names its trace."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

TRACE_ID_BYTES: Final = 16
SPAN_ID_BYTES: Final = 8

_SAMPLED: Final = 0x01
# A later version may have more behind the flags.
_HEADER: Final = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})(?P<span>[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<more>-[!-~]*)?"
)


@dataclass(frozen=True, slots=True)
class Parent:
    """The caller's span: 16 bytes of trace, 8 of span, and whether the caller records the trace."""

    trace_id: bytes
    span_id: bytes
    sampled: bool


def read(header: str) -> Parent | None:
    """Return the parent that a header names; None for an empty or malformed one, which the standard
    says to ignore.
    """
    found = _HEADER.fullmatch(header)
    if found is None or (found["version"] == "00" and found["more"]):
        return None
    sampled = bool(int(found["flags"], 16) & _SAMPLED)
    return Parent(bytes.fromhex(found["trace"]), bytes.fromhex(found["span"]), sampled)
