"""Recently seen keys, within a bound: the newest `size` keys are always known, and at most twice as
many are held.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from protos.metrics.v1 import checkpoint_pb2

_KEYS_PER_ROW: Final = 4_096


class RecentKeys:
    """Flags of keys, in two generations: when the newer is full, the older is dropped.

    Dropping a whole generation costs nothing per key, unlike a queue beside a set.
    """

    __slots__ = ("_newer", "_older", "_size", "tables")

    def __init__(self, name: str, size: int) -> None:
        self.tables = (name,)
        self._size = size
        self._newer: dict[bytes | str, int] = {}
        self._older: dict[bytes | str, int] = {}

    def mark(self, key: bytes | str, flags: int = 1) -> bool:
        """Set flags of a key, and return whether any of them was not set before."""
        newer = self._newer
        before = newer.get(key)
        if before is None:
            before = self._older.get(key, 0)
            if len(newer) >= self._size:
                self._older, self._newer = newer, {}
            self._newer[key] = before | flags
        elif before & flags != flags:
            newer[key] = before | flags
        return before & flags != flags

    def flags(self, key: bytes | str) -> int:
        """Return the flags of a key; 0 for an unknown key."""
        found = self._newer.get(key)
        return self._older.get(key, 0) if found is None else found

    def dump(self) -> Iterator[tuple[str, int, bytes]]:
        """Yield rows of a checkpoint, in sections of the older and the newer keys."""
        for section, keys in (("older", self._older), ("newer", self._newer)):
            items = iter(keys.items())
            number = 0
            while part := list(islice(items, _KEYS_PER_ROW)):
                message = checkpoint_pb2.Seen(flags=[flags for _, flags in part])
                for key, _ in part:
                    if isinstance(key, str):
                        message.text.append(key)
                    else:
                        message.key.append(key)
                yield f"{self.tables[0]}.{section}", number, message.SerializeToString()
                number += 1

    def load(self, section: str, _bucket: int, data: bytes) -> None:
        """Take back one row of dump(); the rows of a section must come in their order."""
        message = checkpoint_pb2.Seen.FromString(data)
        keys: list[bytes | str] = [*message.key, *message.text]
        into = self._older if section.endswith(".older") else self._newer
        into.update(zip(keys, message.flags, strict=True))
