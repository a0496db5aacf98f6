"""Bounds of kept texts: producers send none that are longer, and longer ones are truncated."""

from __future__ import annotations

from typing import Final

MAX_ID_BYTES: Final = 256
MAX_CODE_BYTES: Final = 16
MAX_NAME_BYTES: Final = 200
MAX_TEXT_BYTES: Final = 2_048
MAX_PLAN_BYTES: Final = 4_096


def truncate(text: str, max_bytes: int) -> str:
    """Return at most max_bytes of UTF-8, in whole characters."""
    return text[:max_bytes].encode()[:max_bytes].decode(errors="ignore")


def truncate_at_line(text: str, max_bytes: int) -> str:
    """Return at most max_bytes of UTF-8, in whole lines if there is more than one."""
    kept = truncate(text, max_bytes)
    if len(kept) == len(text):
        return kept
    lines, newline, _ = kept.rpartition("\n")
    return lines if newline else kept
