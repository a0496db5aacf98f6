"""Values that no output may contain, and the search for them in every form that they may take."""

from __future__ import annotations

import datetime
import decimal
import gzip
import secrets
import struct
import uuid
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Canaries:
    """Random values of each type; `text` values all begin with `mark`, so that a part is found."""

    mark: str = field(default_factory=lambda: "zq" + secrets.token_hex(6))
    number: int = field(default_factory=lambda: 10**17 + secrets.randbelow(8 * 10**17))
    day: datetime.date = field(
        default_factory=lambda: datetime.date(3000 + secrets.randbelow(6000), 11, 23)
    )
    raw: bytes = field(default_factory=lambda: secrets.token_bytes(12))
    unique: uuid.UUID = field(default_factory=uuid.uuid4)

    def text(self, of: str) -> str:
        """A text of its own for each place that it is planted in."""
        return f"{self.mark}-{of}"

    @property
    def exact(self) -> decimal.Decimal:
        return decimal.Decimal(self.number) / 1000

    @property
    def all(self) -> tuple[object, ...]:
        return (self.text("value"), self.number, self.exact, self.day, self.raw, self.unique)

    def literals(self) -> list[str]:
        """Each value as SQL writes it, in several ways."""
        text = self.text("literal")
        return [
            *(f"'{text}'", f"E'{text}\\''", f"$${text}$$", f"$x${text}$x$", f"U&'{text}'"),
            *(str(self.number), str(self.exact), f"-{self.number}", f"DATE '{self.day}'"),
            *(f"'\\x{self.raw.hex()}'::bytea", f"'{self.unique}'::uuid", f"'it''s {text}'"),
        ]

    def needles(self) -> list[bytes]:
        """The forms to look for: texts, and what protobuf and PostgreSQL make of the others."""
        return [
            self.mark.encode(),
            str(self.number).encode(),
            str(self.exact).encode(),
            struct.pack(">q", self.number),
            struct.pack("<q", self.number),
            _varint(self.number),
            self.day.isoformat().encode(),
            self.raw,
            self.raw.hex().encode(),
            str(self.unique).encode(),
            self.unique.hex.encode(),
            self.unique.bytes,
        ]


def found(canaries: Canaries, outputs: Iterable[tuple[str, bytes]]) -> set[str]:
    """The names of the outputs, (name, content), that contain one of the values in some form."""
    needles = canaries.needles()
    return {
        name
        for name, content in outputs
        if any(needle in form for form in _forms(content) for needle in needles)
    }


def _forms(content: bytes) -> Iterator[bytes]:
    """The content as it is, and unpacked where it is packed."""
    yield content
    for unpack in (gzip.decompress, zlib.decompress):
        try:
            yield unpack(content)
        except (OSError, EOFError, zlib.error):
            continue


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
