"""Bounds of the texts that are kept: no producer sends longer ones, and what is longer is cut."""

from __future__ import annotations

MAX_NAME_BYTES = 200
MAX_TEXT_BYTES = 2_048
MAX_PLAN_BYTES = 4_096


def truncate(text: str, max_bytes: int) -> str:
    """At most max_bytes of UTF-8, whole characters."""
    return text[:max_bytes].encode()[:max_bytes].decode(errors="ignore")


def truncate_at_line(text: str, max_bytes: int) -> str:
    """At most max_bytes of UTF-8, whole lines where there is more than one."""
    kept = truncate(text, max_bytes)
    if len(kept) == len(text):
        return kept
    lines, newline, _ = kept.rpartition("\n")
    return lines if newline else kept
