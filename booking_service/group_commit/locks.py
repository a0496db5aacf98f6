"""The locks of a group of commands, in one fixed order: packages, then users, each sorted.

Nothing is locked later, so groups cannot deadlock; what is loaded under the locks does not change
until the transaction ends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from booking_service.domain.commands import Command, UpdateProfile
from booking_service.domain.holds import Limits
from booking_service.domain.package import Package
from booking_service.group_commit.load import starts_of
from booking_service.storage import rows
from booking_service.storage.connection import Connection
from booking_service.storage.sql import QueryGroup

_PACKAGES: Final = QueryGroup("packages")
_USERS: Final = QueryGroup("users")


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


async def lock_users(connection: Connection, user_ids: Iterable[str]) -> None:
    """Lock users, so that their starts of any package run one after another."""
    keys = sorted({_advisory_key(user_id) for user_id in user_ids})
    if keys:
        await connection.execute(_USERS.lock, keys)


def users_of(commands: Sequence[Command], limits: Limits) -> set[str]:
    """Return the users whose other bookings, or whose profile, a command depends on."""
    users = {command.user_id for command in commands if isinstance(command, UpdateProfile)}
    if limits.of_users:
        users |= {start.user_id for command in commands for start in starts_of(command)}
    return users


def _advisory_key(user_id: str) -> int:
    digest = hashlib.blake2b(b"user:" + user_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
