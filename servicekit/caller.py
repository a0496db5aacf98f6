"""A caller, as every part of a service knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

Role = Literal["service", "payment", "ops", "monitor", "producer"]
ROLES: Final[frozenset[Role]] = frozenset(get_args(Role))

Lane = Literal["facts", "telemetry"]
LANES: Final[frozenset[Lane]] = frozenset(get_args(Lane))


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller: its name is in every audit row and log line.

    `services` and `lanes` are those that it may send events of, as a producer; None stands for
    every service. `max_concurrent` is the number of its RPCs at a time, `max_per_second` that of
    new ones; None is no limit.
    """

    name: str
    roles: frozenset[Role] = frozenset()
    services: frozenset[str] | None = frozenset()
    lanes: frozenset[Lane] = frozenset()
    max_concurrent: int | None = None
    max_per_second: float | None = None


LOCAL: Final = Identity("local", ROLES, None, LANES)
"""Everybody, where callers are not told apart."""

NOBODY: Final = Identity("")
"""Who calls an RPC that needs no identity, without one."""
