"""Reports the steps of the booking flow as a front end sees them. Reporting never blocks or raises;
steps that cannot be reported are counted.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Concatenate, Final, ParamSpec

from metrics_service.client.booking.reasons import KINDS, reason_of
from metrics_service.client.telemetry.emitter import Emitter
from protos.tracking.v1 import event_pb2
from servicekit.context import current_call

P = ParamSpec("P")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CONFIRM_KEYS: Final = frozenset({"amount", "currency"})


def _never_raises(
    track: Callable[Concatenate[BookingFlow, P], None],
) -> Callable[Concatenate[BookingFlow, P], None]:
    @wraps(track)
    def safe(flow: BookingFlow, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            track(flow, *args, **kwargs)
        except Exception:
            flow.not_emitted += 1

    return safe


class BookingFlow:
    """Sends the steps of all visitors to an emitter.

    Every step belongs to a session: the given one, else that of the RPC being served, else the
    user, else a new one. `not_emitted` counts steps with invalid arguments or without an emitter,
    `refused_keys` metadata keys that are not accepted.
    """

    def __init__(self, emitter: Emitter | None = None) -> None:
        self.emitter = emitter
        self.not_emitted = 0
        self.refused_keys = 0

    @_never_raises
    def track_view(
        self,
        package_id: str,
        user_id: str | None = None,
        *,
        session_id: str | None = None,
        at: datetime | None = None,
    ) -> None:
        """Report that a package was viewed, now or at an aware instant."""
        step = event_pb2.FlowStep(
            step=event_pb2.FlowStep.VIEW, package_id=str(package_id), user_id=str(user_id or "")
        )
        time_us = None if at is None else (at - _EPOCH) // timedelta(microseconds=1)
        self._emit(step, session_id, time_us)

    @_never_raises
    def track_start(
        self, package_id: str, user_id: str | None, *, session_id: str | None = None
    ) -> None:
        """Report that a booking was started."""
        step = event_pb2.FlowStep(
            step=event_pb2.FlowStep.START, package_id=str(package_id), user_id=str(user_id or "")
        )
        self._emit(step, session_id)

    @_never_raises
    def track_complete(
        self,
        package_id: str,
        user_id: str | None,
        booking_id: str,
        duration_ms: float,
        *,
        session_id: str | None = None,
    ) -> None:
        """Report that the form was completed, duration_ms after the start."""
        step = event_pb2.FlowStep(
            step=event_pb2.FlowStep.COMPLETE,
            package_id=str(package_id),
            user_id=str(user_id or ""),
            booking_id=str(booking_id),
            duration_us=_duration_us(duration_ms),
        )
        self._emit(step, session_id)

    @_never_raises
    def track_confirm(
        self,
        booking_id: str,
        user_id: str | None,
        metadata: Mapping[str, object] | None = None,
        *,
        session_id: str | None = None,
    ) -> None:
        """Report that the booking was confirmed. In metadata, amount is an int of minor units and
        currency an ISO 4217 code; other keys are not accepted.
        """
        given = metadata or {}
        self.refused_keys += len(given.keys() - _CONFIRM_KEYS)
        amount = given.get("amount", 0)
        currency = given.get("currency", "")
        if type(amount) is not int or amount < 0:
            raise ValueError("amount is not a number of minor units")
        step = event_pb2.FlowStep(
            step=event_pb2.FlowStep.CONFIRM,
            user_id=str(user_id or ""),
            booking_id=str(booking_id),
            amount_minor=amount,
            currency=_currency(currency),
        )
        self._emit(step, session_id)

    @_never_raises
    def track_error(
        self,
        error: object,
        package_id: str,
        user_id: str | None,
        *,
        kind: str | None = None,
        session_id: str | None = None,
    ) -> None:
        """Report that a step failed. error is a reason of the catalogue, an ErrorInfo, or what an
        RPC raised, and the kind follows from it; any other is UNKNOWN, of the given kind or
        "booking".
        """
        reason, known_kind = reason_of(error)
        if kind is not None and kind not in KINDS:
            raise ValueError("unknown kind")
        step = event_pb2.FlowStep(
            step=event_pb2.FlowStep.ERROR,
            package_id=str(package_id),
            user_id=str(user_id or ""),
            reason=reason,
            kind=kind or known_kind,
        )
        self._emit(step, session_id)

    @_never_raises
    def track_abandon(
        self,
        package_id: str,
        user_id: str | None,
        duration_ms: float,
        *,
        session_id: str | None = None,
    ) -> None:
        """Report that the visitor left, duration_ms after the start."""
        step = event_pb2.FlowStep(
            step=event_pb2.FlowStep.ABANDON,
            package_id=str(package_id),
            user_id=str(user_id or ""),
            duration_us=_duration_us(duration_ms),
        )
        self._emit(step, session_id)

    def _emit(
        self, step: event_pb2.FlowStep, session_id: str | None, time_us: int | None = None
    ) -> None:
        if self.emitter is None:
            self.not_emitted += 1
            return
        call = current_call.get()
        session = (
            session_id
            or (call.session_id if call is not None else "")
            or step.user_id
            or f"anonymous-{secrets.token_hex(8)}"
        )
        self.emitter.emit(step, session_id=session, time_us=time_us)


def _duration_us(duration_ms: float) -> int:
    duration_us = round(duration_ms * 1_000)
    if duration_us < 0:
        raise ValueError("a duration is not negative")
    return duration_us


def _currency(code: object) -> str:
    if code == "" or (isinstance(code, str) and len(code) == 3 and code.isalpha()):
        return code.upper()
    raise ValueError("not a currency")
