"""What every part of the figures can do: be written to a checkpoint and read back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class Checkpointed(Protocol):
    """Figures with rows of their own in a checkpoint."""

    @property
    def tables(self) -> tuple[str, ...]:
        """What its sections begin with, up to the first dot."""

    def dump(self) -> Iterator[tuple[str, int, bytes]]:
        """Its rows."""

    def load(self, section: str, bucket: int, data: bytes) -> None:
        """Take back one row."""
