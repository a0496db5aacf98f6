"""Reads the file that names the callers of a service, their roles and their limits.

Each table of the file is one identity. Its name is a URI or DNS name of the caller's certificate,
or, where callers have tokens, any name:

    ["spiffe://shop.example/checkout"]
    roles = ["service", "payment"]

    ["reviews"]
    roles = ["service", "producer"]
    tokens_sha256 = ["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]
    services = ["reviews"]
    lanes = ["telemetry"]
    max_concurrent = 50
    max_per_second = 200

The file has the hashes of the tokens, not the tokens; during a rotation it has both.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from servicekit.caller import Identity, Lane, Role
from servicekit.settings import SettingsError

MAX_IDENTITIES: Final = 10_000
MAX_FILE_BYTES: Final = 4 * 1024 * 1024
MAX_NAME_BYTES: Final = 256
MAX_TOKENS: Final = 4
MAX_SERVICES: Final = 64
SHOWN_OF_A_HASH: Final = 16
"""Digits of a token's hash that tell it from others, in the audit trail."""

Name = Annotated[str, Field(min_length=1, max_length=128)]


class _Entry(BaseModel):
    """One table of the file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    roles: list[Role] = Field(min_length=1)
    tokens_sha256: list[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = Field(
        [], max_length=MAX_TOKENS
    )
    services: list[Name] = Field([], max_length=MAX_SERVICES)
    lanes: list[Lane] = []
    max_concurrent: int | None = Field(None, ge=1, le=1_000_000)
    max_per_second: float | None = Field(None, gt=0, le=1_000_000, strict=False)


class Identities:
    """All identities of one file, by their name and by their tokens.

    `texts` says of each name all that its table says, with the beginnings of the hashes of its
    tokens; `file_sha256` is the digest of the file in hexadecimal digits.
    """

    def __init__(
        self,
        by_name: Mapping[str, Identity],
        by_token: Mapping[bytes, Identity],
        texts: Mapping[str, str],
        file_sha256: str,
    ) -> None:
        self.by_name = by_name
        self.texts = texts
        self.file_sha256 = file_sha256
        self._by_token = by_token

    def of_token(self, token: str) -> Identity | None:
        """Return whose token it is; the time taken says nothing of the tokens."""
        return self._by_token.get(hashlib.sha256(token.encode()).digest())


def read(path: Path, *, setting: str, tokens: bool) -> Identities:
    """Read the file that a setting names; with `tokens`, every identity needs one.

    Raises SettingsError in one line that names the setting, the identity and what is wrong.
    """
    where = f"{setting}={str(path)!r}"
    entries, file_sha256 = _entries(where, path)
    by_name: dict[str, Identity] = {}
    by_token: dict[bytes, Identity] = {}
    for name, entry in entries.items():
        identity = by_name[name] = Identity(
            name,
            frozenset(entry.roles),
            frozenset(entry.services),
            frozenset(entry.lanes),
            entry.max_concurrent,
            entry.max_per_second,
        )
        _check(where, identity, entry, tokens=tokens)
        for each in entry.tokens_sha256:
            if by_token.setdefault(bytes.fromhex(each), identity) is not identity:
                raise SettingsError(f"{where}: {name!r} has a token of another identity")
    texts = {name: _text(entry) for name, entry in entries.items()}
    return Identities(by_name, by_token, texts, file_sha256)


def _text(entry: _Entry) -> str:
    """Return such as "roles=producer lanes=facts services=booking_service"."""
    said = {
        "roles": ",".join(sorted(entry.roles)),
        "lanes": ",".join(sorted(entry.lanes)),
        "services": ",".join(sorted(entry.services)),
        "max_concurrent": entry.max_concurrent,
        "max_per_second": entry.max_per_second,
        "tokens": ",".join(sorted(each[:SHOWN_OF_A_HASH] for each in entry.tokens_sha256)),
    }
    text = " ".join(f"{name}={value}" for name, value in said.items() if value)
    return text if text.isprintable() else ascii(text)


def _entries(where: str, path: Path) -> tuple[dict[str, _Entry], str]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise SettingsError(f"{where} has more than {MAX_FILE_BYTES} bytes")
        found = tomllib.loads(data.decode())
        entries = TypeAdapter(dict[str, _Entry]).validate_python(found)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise SettingsError(f"{where} cannot be read: {why}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(each) for each in first["loc"])
        raise SettingsError(f"{where}: {field}: {first['msg'].lower()}") from None
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        line = str(error).splitlines()[0][:200]
        raise SettingsError(f"{where} is not a TOML file: {line}") from None
    if not 0 < len(entries) <= MAX_IDENTITIES:
        raise SettingsError(f"{where} must name 1 to {MAX_IDENTITIES} identities")
    return entries, hashlib.sha256(data).hexdigest()


def _check(where: str, identity: Identity, entry: _Entry, *, tokens: bool) -> None:
    name = identity.name
    if not name.isprintable() or not 0 < len(name.encode()) <= MAX_NAME_BYTES:
        raise SettingsError(f"{where}: {name!r} is not a name of 1 to {MAX_NAME_BYTES} bytes")
    if tokens and not entry.tokens_sha256:
        raise SettingsError(f"{where}: {name!r} has no tokens_sha256")
    produces = bool(identity.services and identity.lanes)
    if ("producer" in identity.roles) != produces:
        raise SettingsError(
            f"{where}: {name!r} needs services and lanes with the role producer, and only with it"
        )
