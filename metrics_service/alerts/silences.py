"""The active silences: which of them holds back the notifications of an alert now."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from uuid import uuid4

from metrics_service.alerts.listing import fit, silence_token
from metrics_service.storage.silences import SilenceStore, Spot
from protos.metrics.v1.alert_pb2 import Alert, ListSilencesResponse, Silence, SilenceMatch


class Silences:
    """The silences of the leader, in memory as they are stored. now_us: the time of the log.

    What changes them raises LogUnavailableError where it is not stored.
    """

    def __init__(self, store: SilenceStore, now_us: Callable[[], int]) -> None:
        self._store = store
        self._now_us = now_us
        self._active: dict[str, Silence] = {}
        # Whether one may be stored that is not known here: the answer to a commit was lost.
        self._unknown = False

    async def load(self) -> None:
        """Read those that are active."""
        self._unknown = False
        self._replace(await self._store.list_active(self._now_us()))

    async def refresh(self) -> None:
        """Read them again if one may be missing, and forget those that ended long ago."""
        await self._store.forget(self._now_us())
        if self._unknown:
            await self.load()

    async def listed(self, *, include_ended: bool, size: int, after: Spot) -> ListSilencesResponse:
        """Return one page: active ones, newest first, and after them those that ended last."""
        found = await self._store.list(
            self._now_us(), include_ended=include_ended, limit=size + 1, after=after
        )
        page = fit(found, size)
        answer = ListSilencesResponse(silences=page)
        if len(page) < len(found):
            answer.next_page_token = silence_token(page[-1])
        return answer

    @property
    def active(self) -> int:
        """How many are active."""
        now_us = self._now_us()
        return sum(each.end_time.ToMicroseconds() > now_us for each in self._active.values())

    def holding(self, alert: Alert) -> str:
        """Return the id of a silence that is active and matches an alert; "" for none."""
        now_us = self._now_us()
        for silence in self._active.values():
            if silence.end_time.ToMicroseconds() > now_us and _matches(silence.match, alert):
                return silence.id
        return ""

    async def create(
        self, match: SilenceMatch, *, duration_us: int, comment: str, caller: str, request_id: str
    ) -> Silence:
        """Store a silence from now on; the same request of a caller makes one only.

        Raises SilenceLimitError and RequestReusedError.
        """
        now_us = self._now_us()
        silence = Silence(
            id=uuid4().hex, match=match, comment=comment, created_by=caller, active=True
        )
        silence.create_time.FromMicroseconds(now_us)
        silence.end_time.FromMicroseconds(now_us + duration_us)
        self._unknown = True
        made = await self._store.create(silence, request_id)
        self._note(made)
        return made

    async def expire(self, silence_id: str) -> Silence | None:
        """End a silence now; None if there is none."""
        self._unknown = True
        ended = await self._store.expire(silence_id, self._now_us())
        if ended is not None:
            self._note(ended)
        return ended

    def _note(self, silence: Silence) -> None:
        now_us = self._now_us()
        others = [each for each in self._active.values() if each.id != silence.id]
        self._replace(
            each for each in (*others, silence) if each.end_time.ToMicroseconds() > now_us
        )

    def _replace(self, silences: Iterable[Silence]) -> None:
        self._active = {silence.id: silence for silence in silences}


def _matches(match: SilenceMatch, alert: Alert) -> bool:
    return match.rule in ("", alert.rule) and all(
        alert.labels.get(name) == value for name, value in match.labels.items()
    )
