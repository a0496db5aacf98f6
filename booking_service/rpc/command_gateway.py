"""Carries commands from the servicers to the command bus, in the name of the caller being served.

A refusal leaves here as an error of the catalogue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar
from uuid import UUID, uuid4

from booking_service.domain.commands import Command
from booking_service.domain.refusal import Refused
from booking_service.domain.world import Answer, Decision
from booking_service.domain.world import Changes as Drafted
from booking_service.errors import conflict, refused
from booking_service.mapping.command_request import Change
from booking_service.storage.driver_errors import Conflict
from servicekit.context import current_call
from servicekit.errors import ApiError

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

    async def preview(self, command: Command) -> Decision:
        """What a command would come to now. Raises as submit; nothing is changed."""


class Changes:
    """Submits what a request asks to change."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def carry_out(self, change: Change[C], answer: type[A]) -> A:
        """The command's answer, of the type that this kind of command has.

        With `validate_only` it is what the answer would be, and nothing is changed.
        """
        if change.validate_only:
            return (await self.preview(change.command, answer))[0]
        call = current_call.get()
        if call is None:
            raise RuntimeError("no RPC is being served: the interceptor is missing")
        with _told():
            given = await self._bus.submit(
                change.command,
                caller=call.caller,
                rpc=call.method,
                # Minted where none came, so that a redone group knows its own work again.
                request_id=change.request_id or uuid4(),
                fingerprint=change.fingerprint,
            )
        return _of_type(given, answer, change.command)

    async def carry_out_each(
        self, changes: Iterable[Change[C]], answer: type[A]
    ) -> list[A | ApiError]:
        """The answer to each, or why it was refused; they arrive together and in their order."""
        async with asyncio.TaskGroup() as tasks:
            carried = [tasks.create_task(self._attempt(change, answer)) for change in changes]
        return [task.result() for task in carried]

    async def preview(self, command: Command, answer: type[A]) -> tuple[A, Drafted]:
        """What a command would be answered now, and the changes that it would make."""
        with _told():
            decision = await self._bus.preview(command)
        return _of_type(decision.outcome, answer, command), decision.changes

    async def _attempt(self, change: Change[C], answer: type[A]) -> A | ApiError:
        try:
            return await self.carry_out(change, answer)
        except ApiError as error:
            return error


def session_id() -> str:
    """The session of the RPC being served; may be empty."""
    call = current_call.get()
    return call.session_id if call is not None else ""


@contextmanager
def _told() -> Iterator[None]:
    """What the command bus raises becomes what the caller is told."""
    try:
        yield
    except Refused as refusal:
        raise refused(refusal.refusal) from None
    except Conflict:
        raise conflict() from None


def _of_type(given: object, answer: type[A], command: Command) -> A:
    if not isinstance(given, answer):
        raise TypeError(f"{type(command)} was answered with {type(given)}")
    return given
