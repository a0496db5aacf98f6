"""The locks of a group of commands, in one fixed order: packages, then owners, each sorted.

Nothing is locked later, so groups cannot deadlock; what is loaded under the locks does not change
until the transaction ends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from booking_service.domain.commands import Command, UpdateProfile, UpdateVendor
from booking_service.domain.holds import Limits
from booking_service.domain.package import Package
from booking_service.group_commit.load import starts_of
from booking_service.storage import rows
from booking_service.storage.connection import Connection
from booking_service.storage.sql import QueryGroup

_PACKAGES: Final = QueryGroup("packages")
_OWNERS: Final = QueryGroup("owners")


async def lock_packages(
    connection: Connection, package_ids: Iterable[UUID], *, skip_locked: bool
) -> tuple[dict[UUID, Package], set[UUID]]:
    """Lock packages, and return those now locked here and the ids that another session has locked.

    Packages that do not exist are in neither. Without `skip_locked` it waits for other sessions.
    """
    wanted = sorted(package_ids)
    if not wanted:
        return {}, set()
    query = _PACKAGES.lock_free if skip_locked else _PACKAGES.lock
    locked = {row["id"]: rows.package(row) for row in await connection.fetch(query, wanted)}
    missing = [package_id for package_id in wanted if package_id not in locked]
    if not skip_locked or not missing:
        return locked, set()
    existing = await connection.fetch(_PACKAGES.existing, missing)
    return locked, {row["id"] for row in existing}


async def lock_owners(connection: Connection, owners: Iterable[str]) -> None:
    """Lock owners, so that what depends on one of them is decided one after another."""
    keys = sorted({_advisory_key(owner) for owner in owners})
    if keys:
        await connection.execute(_OWNERS.lock, keys)


def owners_of(commands: Sequence[Command], limits: Limits) -> set[str]:
    """Return the users whose other bookings, or whose profile, a command depends on, and the
    vendors that are changed, such as "user:ana".
    """
    owners = set()
    for command in commands:
        if isinstance(command, UpdateProfile):
            owners.add(f"user:{command.user_id}")
        elif isinstance(command, UpdateVendor):
            owners.add(f"vendor:{command.vendor_id}")
        elif limits.of_users:
            owners |= {f"user:{start.user_id}" for start in starts_of(command)}
    return owners


def _advisory_key(owner: str) -> int:
    digest = hashlib.blake2b(owner.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
