"""Carries commands from the servicers to the command bus, in the name of the caller being served.

A refusal leaves here as an error of the catalogue.
"""

from typing import Protocol, TypeVar
from uuid import UUID

from booking_service.database import Conflict
from booking_service.domain.commands import Command
from booking_service.domain.refusal import Refused
from booking_service.domain.world import Answer
from booking_service.errors import conflict, refused
from booking_service.mapping.requests import Change
from servicekit.context import current_call

A = TypeVar("A", bound=Answer)
C = TypeVar("C", bound=Command)


class Bus(Protocol):
    """What the command bus does for a servicer."""

    async def submit(
        self,
        command: Command,
        *,
        caller: str,
        rpc: str,
        request_id: UUID | None,
        fingerprint: bytes,
    ) -> Answer:
        """The command's answer, after it was committed. Raises Refused, Conflict, ApiError."""


class Changes:
    """Submits what a request asks to change."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def carry_out(self, change: Change[C], answer: type[A]) -> A:
        """The command's answer, of the type that this kind of command has."""
        call = current_call.get()
        if call is None:
            raise RuntimeError("no RPC is being served: the interceptor is missing")
        try:
            given = await self._bus.submit(
                change.command,
                caller=call.caller,
                rpc=call.method,
                request_id=change.request_id,
                fingerprint=change.fingerprint,
            )
        except Refused as refusal:
            raise refused(refusal.refusal) from None
        except Conflict:
            raise conflict() from None
        if not isinstance(given, answer):
            raise TypeError(f"{type(change.command)} was answered with {type(given)}")
        return given


def session_id() -> str:
    """The session of the RPC being served; may be empty."""
    call = current_call.get()
    return call.session_id if call is not None else ""
