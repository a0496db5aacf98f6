"""Submits the commands of the servicers to the command bus, in the name of the caller being served.

Every refusal becomes an error of the catalogue here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar
from uuid import UUID, uuid4

from booking_service.domain.commands import Command
from booking_service.domain.refusal import Refused
from booking_service.domain.world import Answer, Changes, Decision
from booking_service.errors import conflict, to_api_error
from booking_service.group_commit.costs import cost_of
from booking_service.mapping.command_request import CommandRequest
from booking_service.storage.driver_errors import Conflict
from servicekit.context import current_call
from servicekit.errors import ApiError

A = TypeVar("A", bound=Answer)
C = TypeVar("C", bound=Command)


class Bus(Protocol):
    """The command bus as the servicers use it."""

    async def submit(
        self,
        command: Command,
        *,
        caller: str,
        rpc: str,
        request_id: UUID | None,
        fingerprint: bytes,
        batch_cost: int,
    ) -> Answer:
        """Return the answer once it is committed. Raises Refused, Conflict, ApiError."""

    async def preview(self, command: Command) -> Decision:
        """Decide a command without changing anything. Raises as `submit` does."""


class CommandGateway:
    """Submits commands and checks the type of each answer."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def carry_out(
        self, request: CommandRequest[C], answer: type[A], *, batch_cost: int = 0
    ) -> A:
        """Carry out a command and return its answer, which has the type `answer`.

        `batch_cost` is the cost of all commands of the RPC, where it has several. With
        `validate_only` nothing is changed, and the answer is the one that would be given.
        """
        if request.validate_only:
            return (await self.preview(request.command, answer))[0]
        call = current_call.get()
        if call is None:
            raise RuntimeError("no RPC is being served: the interceptor is missing")
        with _as_api_errors():
            given = await self._bus.submit(
                request.command,
                caller=call.caller,
                rpc=call.method,
                # Made here if missing, so that a retried group finds its own answers.
                request_id=request.request_id or uuid4(),
                fingerprint=request.fingerprint,
                batch_cost=batch_cost,
            )
        return _of_type(given, answer, request.command)

    async def carry_out_each(
        self, requests: Sequence[CommandRequest[C]], answer: type[A]
    ) -> list[A | ApiError]:
        """Submit all requests together, in their order, and return the answer or error of each."""
        cost = sum(cost_of(request.command) for request in requests)

        async def attempt(request: CommandRequest[C]) -> A | ApiError:
            try:
                return await self.carry_out(request, answer, batch_cost=cost)
            except ApiError as error:
                return error

        async with asyncio.TaskGroup() as tasks:
            carried = [tasks.create_task(attempt(request)) for request in requests]
        return [task.result() for task in carried]

    async def preview(self, command: Command, answer: type[A]) -> tuple[A, Changes]:
        """Return the answer that a command would get now, and the changes that it would make."""
        with _as_api_errors():
            decision = await self._bus.preview(command)
        return _of_type(decision.outcome, answer, command), decision.changes


def session_id() -> str:
    """Return the session of the RPC being served; may be empty."""
    call = current_call.get()
    return call.session_id if call is not None else ""


@contextmanager
def _as_api_errors() -> Iterator[None]:
    """Translate what the command bus raises into errors of the catalogue."""
    try:
        yield
    except Refused as refusal:
        raise to_api_error(refusal.refusal) from None
    except Conflict:
        raise conflict() from None


def _of_type(given: object, answer: type[A], command: Command) -> A:
    if not isinstance(given, answer):
        raise TypeError(f"{type(command)} was answered with {type(given)}")
    return given
