"""Notices that a file was replaced or written, for what is read again without a restart."""

from __future__ import annotations

from pathlib import Path

Signature = tuple[int, int, int]


class WatchedFiles:
    """A group of files that belong together, such as a certificate and its key."""

    def __init__(self, *paths: Path) -> None:
        self._paths = paths
        self._seen = self._signatures()

    def changed(self) -> bool:
        """Return whether any file is another than at the last call; costs one stat a file.

        A file that cannot be found counts as changed once, and again when it is back.
        """
        now = self._signatures()
        changed = now != self._seen
        self._seen = now
        return changed

    def _signatures(self) -> tuple[Signature | None, ...]:
        return tuple(_signature(path) for path in self._paths)


def _signature(path: Path) -> Signature | None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
