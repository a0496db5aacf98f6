"""The update mask of a request: which fields of a resource it changes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

from booking_service.mapping.fields import Fields

ALL: Final = "*"


def read_mask(read: Fields, mask: FieldMask, changeable: Collection[str]) -> list[str]:
    """Return the paths that a mask names, each once; `*` alone names all that are changeable."""
    if list(mask.paths) == [ALL]:
        return list(changeable)
    named: list[str] = []
    field = "update_mask.paths"
    fits = read.fits(field, mask.paths, most=len(changeable))
    for n, path in enumerate(mask.paths if fits else ()):
        if path == ALL:
            read.bad(f"{field}[{n}]", f"{ALL} must be the only path")
        elif path not in changeable:
            read.bad(f"{field}[{n}]", f"must be one of {', '.join(changeable)}")
        elif path in named:
            read.bad(f"{field}[{n}]", f"repeats {path}")
        else:
            named.append(path)
    return named
