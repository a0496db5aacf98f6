"""Gathers what each session did, until a checkpoint takes it to the table of sessions.

A visit lasts as long as the funnel keeps its actor, so that a visit is what the funnel counts. What
else a session does, such as a cancellation days later, belongs to a visit without a chain. Of a
live visit one integer is kept, with its actor; events are kept until the next checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from metrics_service.state.funnel.actors import Actor
from metrics_service.state.funnel.chain import Outcome
from metrics_service.state.funnel.funnel import FunnelFold
from metrics_service.state.journeys.changes import SessionChange, SessionChanges
from metrics_service.state.journeys.visit import (
    EVENTS,
    MAX_KEPT_EVENTS,
    NO_VISIT,
    NUMBER_SHIFT,
    encode,
)
from protos.metrics.v1 import checkpoint_pb2

VIEW, START, COMPLETE, CONFIRM, ABANDON, EXPIRE, CANCEL, ERROR, PAYMENT_FAILED = range(9)
NAMES: Final = (
    "view",
    "start",
    "complete",
    "confirm",
    "abandon",
    "expire",
    "cancel",
    "error",
    "payment_failed",
)
"""Of the events; the first are the steps of the funnel."""

MAX_CHANGES: Final = 200_000
"""Visits with changes that no checkpoint has taken; beyond it the changes of one are lost."""

CHANGES_DUE: Final = 50_000
"""A checkpoint is due with so many."""

MAX_LOOSE_VISITS: Final = 10_000
"""Visits without an actor that a further event of their session is added to."""

_TABLE: Final = "journeys"
_LOOSE: Final = "journeys.loose"
_CHANGES: Final = "journeys.changes"


class Journeys:
    """The newest events of all sessions, and the visits without an actor."""

    tables = (_TABLE,)

    def __init__(self, funnel: FunnelFold) -> None:
        self.changes = SessionChanges()
        self.last_number = 0
        self.evicted = 0
        self._funnel = funnel
        self._loose: dict[str, int] = {}
        self._unsaved_loaded = False
        funnel.on_evicted = self._evicted

    @property
    def due(self) -> bool:
        """Whether a checkpoint is to take the changes soon."""
        return len(self.changes) >= CHANGES_DUE

    def add(
        self,
        key: str,
        name: int,
        time_us: int,
        package_id: str,
        booking_id: str = "",
        reason: str = "",
    ) -> SessionChange:
        """Add an event of a session, as one of NAMES, and return what has changed of its visit."""
        actor = self._funnel.actor(key)
        visit = (actor.visit if actor is not None else 0) or self._visit(key, actor)
        number = visit >> NUMBER_SHIFT
        change = self.changes.by_number.get(number) or self._change(number, key, visit)
        events = visit & EVENTS
        if events < MAX_KEPT_EVENTS:
            if booking_id and booking_id not in change.booking_ids:
                change.booking_ids = (*change.booking_ids, booking_id)
            change.part += encode(time_us, name, package_id, booking_id, reason)
        if events < EVENTS:
            visit += 1
        change.events = events + 1
        if time_us > change.last_us:
            change.last_us = time_us
        if actor is None:
            self._keep_loose(key, visit)
        else:
            actor.visit = visit
            change.ahead = actor.ahead
        return change

    def step(
        self,
        key: str,
        name: int,
        time_us: int,
        package_id: str,
        booking_id: str,
        outcome: Outcome | None,
    ) -> None:
        """Add an event from which an outcome follows in the funnel; None if it came too late."""
        change = self.add(key, name, time_us, package_id, booking_id)
        if outcome is not None:
            best = outcome.best
            change.steps = len(best)
            change.abandoned = outcome.abandoned
            if best:
                change.start_us = best[0]
                if best[-1] == time_us and len(best) == name + 1:
                    change.package_id = package_id

    def dump(self) -> Iterator[tuple[str, int, bytes]]:
        """Yield rows of a checkpoint, without what the table of sessions has."""
        yield (
            _LOOSE,
            0,
            checkpoint_pb2.LooseVisits(
                key=self._loose.keys(), visit=self._loose.values()
            ).SerializeToString(),
        )

    def unsaved(self) -> Iterator[tuple[str, int, bytes]]:
        """Yield rows of what the table of sessions does not have; load() takes them back."""
        for bucket, data in enumerate(self.changes.dump()):
            yield _CHANGES, bucket, data

    def load(self, section: str, _bucket: int, data: bytes) -> None:
        """Take back one row; call loaded() after the last."""
        if section == _CHANGES:
            self._unsaved_loaded = True
            self.changes.load(data)
        else:
            loose = checkpoint_pb2.LooseVisits.FromString(data)
            self._loose.update(zip(loose.key, loose.visit, strict=True))

    def loaded(self, last_number: int) -> None:
        """Finish loading: without rows of unsaved(), the table has everything."""
        self.last_number = last_number
        if not self._unsaved_loaded:
            self.saved()

    def saved(self) -> None:
        """Note that the table of sessions has everything up to now."""
        self.changes.saved(self.last_number)

    def _visit(self, key: str, actor: Actor | None) -> int:
        """Return the visit of an actor, or of a session without one, which may be new."""
        if actor is not None and actor.visit:
            return actor.visit
        visit = self._loose.get(key, NO_VISIT) if actor is None else self._loose.pop(key, NO_VISIT)
        if not visit:
            self.last_number += 1
            visit = self.last_number << NUMBER_SHIFT
        return visit

    def _change(self, number: int, key: str, visit: int) -> SessionChange:
        """Return the changes of a visit, which are new if there were none."""
        changes = self.changes.by_number
        if number not in changes:
            if len(changes) >= MAX_CHANGES:
                del changes[next(iter(changes))]
                self.evicted += 1
            is_new = number > self.changes.saved_number
            changes[number] = SessionChange(
                number, key, is_new=is_new, first=min(visit & EVENTS, MAX_KEPT_EVENTS)
            )
        return changes[number]

    def _keep_loose(self, key: str, visit: int) -> None:
        if key not in self._loose and len(self._loose) >= MAX_LOOSE_VISITS:
            del self._loose[next(iter(self._loose))]
        self._loose[key] = visit

    def _evicted(self, key: str, actor: Actor, outcome: Outcome) -> None:
        """Note that the funnel counts an open actor as abandoned, as it has no room for it."""
        if actor.visit:
            change = self._change(actor.visit >> NUMBER_SHIFT, key, actor.visit)
            change.start_us, change.steps = outcome.best[0], len(outcome.best)
            change.abandoned, change.ahead = True, actor.ahead
            change.events = actor.visit & EVENTS
            change.last_us = max(change.last_us, outcome.best[-1])
