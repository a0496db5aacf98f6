"""The steps of the booking flow as a front end sees them; telling them never blocks and never
raises, and what cannot be told is counted.
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
    """Tells the steps of one visitor after the other to an emitter.

    Every step belongs to a session: the one given, else that of the RPC being served, else the
    user, else one of its own. `not_emitted` counts steps whose arguments made no sense or for which
    there is no emitter, `refused_keys` metadata that is not taken.
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
        """A package was looked at, now or at an aware instant."""
        step = event_pb2.FlowStep(
            step=event_pb2.FlowStep.VIEW, package_id=str(package_id), user_id=str(user_id or "")
        )
        time_us = None if at is None else (at - _EPOCH) // timedelta(microseconds=1)
        self._emit(step, session_id, time_us)

    @_never_raises
    def track_start(
        self, package_id: str, user_id: str | None, *, session_id: str | None = None
    ) -> None:
        """A booking was begun."""
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
        """The form was completed, duration_ms after it was begun."""
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
        """The booking was confirmed. Of metadata, amount is an int of minor units and currency an
        ISO 4217 code; other keys are not taken.
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
        """A step failed. error is a reason of the catalogue, an ErrorInfo, or what an RPC raised,
        from which the kind follows; any other is UNKNOWN, of the kind given or "booking".
        """
        reason, known_kind = reason_of(error)
        if kind is not None and kind not in KINDS:
            raise ValueError("no such kind")
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
        """The visitor left, duration_ms after the booking was begun."""
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
    raise ValueError("no currency")
