"""The table of who may call what: each RPC with the roles that may; everybody else is refused.

Each service has its own as `access.toml` beside its code, a table for each service of the contract:

    ["booking.v1.BookingService"]
    StartBooking = ["service"]
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from servicekit.caller import ROLES, Role
from servicekit.errors import ApiError

ANYONE: Final = "anyone"
"""In place of roles: an RPC that needs no identity, such as a health check."""

PLATFORM: Final[Mapping[str, frozenset[str]]] = {
    "grpc.health.v1.Health/Check": frozenset({ANYONE}),
    "grpc.health.v1.Health/List": frozenset({ANYONE}),
    "grpc.health.v1.Health/Watch": frozenset({ANYONE}),
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo": ROLES,
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": ROLES,
}
"""What every server here has beside its own contract."""


class AccessRefused(ApiError):  # noqa: N818 - a refusal
    """The caller is not known, or may not do this, or does too much of it."""


class Access:
    """The roles that may call each RPC, by its full method."""

    def __init__(self, table: Mapping[str, Collection[str]]) -> None:
        unknown = {role for roles in table.values() for role in roles} - ROLES - {ANYONE}
        if unknown:
            raise ValueError(f"no such role: {', '.join(sorted(unknown))}")
        self.table: Mapping[str, frozenset[str]] = {
            **PLATFORM,
            **{method: frozenset(roles) for method, roles in table.items()},
        }

    def open(self, method: str) -> bool:
        """Return whether the RPC needs no identity."""
        return ANYONE in self.table.get(method, ())

    def allows(self, roles: Collection[Role], method: str) -> bool:
        """Return whether one of the roles may call the RPC; nobody may call one that is not in the
        table.
        """
        allowed = self.table.get(method, frozenset())
        return ANYONE in allowed or not allowed.isdisjoint(roles)


def read(module: str) -> Access:
    """Read the table beside a module, given its `__file__`. ValueError if it is malformed."""
    with Path(module).with_name("access.toml").open("rb") as file:
        services: dict[str, dict[str, list[str]]] = tomllib.load(file)
    return Access(
        {
            f"{service}/{rpc}": roles
            for service, rpcs in services.items()
            for rpc, roles in rpcs.items()
        }
    )
