"""The state of one actor in the funnel, and its rows in a checkpoint."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final
from zlib import crc32

from metrics_service.state.breakdown.packages import (
    Group,
    Groups,
    read_groups,
    write_groups,
)
from metrics_service.state.funnel.chain import Outcome
from protos.metrics.v1 import checkpoint_pb2

# Rows of a checkpoint: few of them change between two checkpoints.
_ROWS: Final = 256
# Stands for None in a checkpoint: the smallest int64, which no real time has.
_NEVER_US: Final = -(1 << 63)


class Actor:
    """The newest events of an actor, and the outcome of the older ones.

    events: packed, sorted. base: the outcome of the events before them, None without any. groups:
    those of its packages, by their numbers in the events. mixed: the events have several of these
    numbers, and `bases` has the outcomes of the older events by number.
    newest_folded: the newest event in base. due_us: when its window is checked next.
    expires_us: when it is dropped, by the fold's running time. ahead: it counts in the figures of
    all times only. visit: see state/journeys; 0 before its first event there.
    """

    __slots__ = (
        "ahead",
        "base",
        "bases",
        "due_us",
        "events",
        "expires_us",
        "groups",
        "mixed",
        "newest_folded",
        "visit",
    )

    def __init__(self, events: Iterable[int] = ()) -> None:
        self.events = array("q", events)
        self.groups: Groups = ()
        self.mixed = False
        self.bases: dict[int, Outcome] | None = None
        self.base: Outcome | None = None
        self.newest_folded = 0
        self.due_us: int | None = None
        self.expires_us: int | None = None
        self.ahead = False
        self.visit = 0


def write_actors(actors: Mapping[str, Actor]) -> Iterator[tuple[int, bytes]]:
    """Yield rows (number, checkpoint_pb2.FunnelActors); the key of an actor decides its row."""
    rows: list[list[str]] = [[] for _ in range(_ROWS)]
    for key in actors:
        rows[crc32(key.encode()) % _ROWS].append(key)
    for number, keys in enumerate(rows):
        if keys:
            keys.sort()
            yield number, _write_row(keys, [actors[key] for key in keys])


def read_actors(data: bytes, known_of: Callable[[Group], Groups]) -> Iterator[tuple[str, Actor]]:
    """Yield the actors of one row; known_of gives the groups that actors share."""
    message = checkpoint_pb2.FunnelActors.FromString(data)
    bases: dict[int, list[checkpoint_pb2.FunnelBase]] = {}
    for base in message.base:
        bases.setdefault(base.actor, []).append(base)
    ahead, mixed = set(message.ahead), set(message.mixed)
    events, groups = iter(message.event), iter(message.group)
    known = [known_of(group) for group in read_groups(message.groups)]
    columns = zip(
        message.key,
        message.events,
        message.due_us,
        message.expires_us,
        message.visit,
        message.packages,
        strict=True,
    )
    for number, (key, count, due_us, expires_us, visit, packages) in enumerate(columns):
        actor = Actor(islice(events, count))
        actor.visit = visit
        if packages == 1:
            actor.groups = known[next(groups)]
        elif packages:
            actor.groups = tuple(known[index][0] for index in islice(groups, packages))
        actor.mixed = number in mixed
        actor.due_us = None if due_us == _NEVER_US else due_us
        actor.expires_us = None if expires_us == _NEVER_US else expires_us
        actor.ahead = number in ahead
        for base in bases.get(number, ()):
            outcome = Outcome(
                tuple(tuple(chain.time_us) for chain in base.chain),
                tuple(base.best.time_us),
                base.abandoned,
                (),
            )
            if base.part:
                actor.bases = actor.bases or {}
                actor.bases[base.part - 1] = outcome
            else:
                actor.newest_folded, actor.base = base.newest_event, outcome
        yield key, actor


def _write_row(keys: list[str], actors: list[Actor]) -> bytes:
    groups = sorted({group for actor in actors for group in actor.groups})
    places = {group: place for place, group in enumerate(groups)}
    return checkpoint_pb2.FunnelActors(
        key=keys,
        events=[len(actor.events) for actor in actors],
        event=[event for actor in actors for event in actor.events],
        due_us=[_or_never(actor.due_us) for actor in actors],
        expires_us=[_or_never(actor.expires_us) for actor in actors],
        base=[
            _write_base(number, part, base, actor.newest_folded)
            for number, actor in enumerate(actors)
            for part, base in _bases(actor)
        ],
        ahead=[number for number, actor in enumerate(actors) if actor.ahead],
        visit=[actor.visit for actor in actors],
        packages=[len(actor.groups) for actor in actors],
        group=[places[group] for actor in actors for group in actor.groups],
        groups=write_groups(groups),
        mixed=[number for number, actor in enumerate(actors) if actor.mixed],
    ).SerializeToString()


def _bases(actor: Actor) -> Iterator[tuple[int, Outcome]]:
    """Yield the outcomes of older events: 0 and that of all, then 1 + number of each package."""
    if actor.base is not None:
        yield 0, actor.base
    for number, base in sorted((actor.bases or {}).items()):
        yield 1 + number, base


def _write_base(number: int, part: int, base: Outcome, newest: int) -> checkpoint_pb2.FunnelBase:
    return checkpoint_pb2.FunnelBase(
        actor=number,
        part=part,
        chain=[checkpoint_pb2.FunnelChain(time_us=chain) for chain in base.chains],
        best=checkpoint_pb2.FunnelChain(time_us=base.best),
        abandoned=base.abandoned,
        newest_event=newest,
    )


def _or_never(time_us: int | None) -> int:
    return _NEVER_US if time_us is None else time_us
