"""Alerting in this process: it reads back what is stored, judges while it leads, and answers; a
standby answers from what the leader has stored.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from metrics_service.alerts import listing
from metrics_service.alerts.evaluator import Evaluator
from metrics_service.alerts.feed import MAX_KEPT, AlertFeed
from metrics_service.alerts.listing import Key
from metrics_service.alerts.model import Rule
from metrics_service.alerts.recorder import Recorder
from metrics_service.alerts.rules.load import Checked, RuleFileError, check, load
from metrics_service.alerts.silences import Silences
from metrics_service.alerts.targets.create import create_targets
from metrics_service.config import MetricsSettings
from metrics_service.engine import Engine
from metrics_service.eventlog.event_log import EventLog
from metrics_service.state.watched import Watched
from metrics_service.storage.alerts import MAX_HISTORY, OVER, AlertStore, Place
from metrics_service.storage.errors import LogUnavailableError, line_of
from metrics_service.storage.silences import SilenceStore
from protos.metrics.v1.alert_pb2 import Alert, ListAlertsResponse, Silence, SilenceMatch
from protos.metrics.v1.health_pb2 import DatabaseHealth
from servicekit.background import BackgroundTask
from servicekit.clock import wall_us
from servicekit.settings import SettingsError

TICK_S: Final = 0.2
JUDGE_S: Final = 1.0
"""Rules are judged when the log is a second further or health has changed, which is looked at every
TICK_S, and at least every JUDGE_S.
"""

TOLD_WITHIN_US: Final = 4 * 3600 * 1_000_000
MAX_RESTORED: Final = 1_000
"""Alerts that were resolved within this time before a start: somebody may not know it yet."""

RETRY_S: Final = 0.5
FORGET_S: Final = 600.0
STOP_S: Final = 1.0

_NEWEST: Final = Place(4_102_444_800_000_000, "0" * 32)

log = structlog.get_logger()


class StandbyError(Exception):
    """Only the process that leads, once it has started, can do this; the text says so."""


def read_rules(settings: MetricsSettings) -> Sequence[Rule]:
    """Return the rules that the settings name. Raises SettingsError in one line."""
    try:
        return load(settings.alert_rules)
    except (RuleFileError, OSError) as error:
        raise SettingsError(f"METRICS_ALERT_RULES is refused: {line_of(error)}") from None


class Alerts:
    """All of alerting. What reads or writes the database raises LogUnavailableError."""

    def __init__(
        self,
        settings: MetricsSettings,
        event_log: EventLog,
        engine: Engine,
        health: Callable[[], DatabaseHealth],
    ) -> None:
        """Read the rules. Raises SettingsError where the file is refused."""
        self._log = event_log
        self._engine = engine
        self.feed: Final = AlertFeed()
        self._store = AlertStore(settings.database_url, lambda: self._log.writer_epoch)
        self.silences: Final = Silences(SilenceStore(self._store), self._now_us)
        self.targets: Final = create_targets(settings, self._held)
        self._recorder = Recorder(self._store, self.feed, lambda: self.evaluator.present())
        self.evaluator: Final = Evaluator(
            read_rules(settings),
            settings.alert_rules,
            figures=self._figures,
            health=health,
            lag_us=self._lag_us,
            record=self._recorder.record,
            tell=self.targets.offer,
        )
        self._restored = self._superseded = self._changed = False
        self._judging = BackgroundTask("alerts")
        self._keeping = BackgroundTask("alert retention")

    def start(self) -> None:
        """Read back what is stored, and judge from then on; the figures must be restored."""
        self._judging.start(self._run())
        self._keeping.start(self._keep())

    async def stop(self, within_s: float = STOP_S) -> None:
        """Store and tell what waits, each for at most this time, and end. The log must be open."""
        self.feed.close()
        await self._judging.stop()
        await self._keeping.stop()
        await self._recorder.stop(within_s)
        await self.targets.stop(within_s)
        await self._store.close()

    def reload(self) -> None:
        """Read the rule file again; one that has an error changes nothing."""
        self.evaluator.reload()
        self._changed = True

    def judge_soon(self) -> None:
        """Have the rules judged, since health has changed."""
        self._changed = True

    # What is answered.

    @property
    def leads(self) -> bool:
        """Whether this process has the alerts, rather than reading what another one stores."""
        return self._restored and not self._log.superseded

    @property
    def present(self) -> list[Alert]:
        """The alerts that are not over, firing ones first; callers must not change them."""
        return self.evaluator.alerts()

    async def list_alerts(
        self, *, include_over: bool, size: int, after: Key | None
    ) -> ListAlertsResponse:
        """Return one page of the alerts, and when they were so."""
        if self.leads:
            found, as_of_us = self.present, self.evaluator.as_of_us
        else:
            await self.silences.load()
            found, as_of_us = await self._store.list_open(), await self._store.saved_us()
        listed = listing.sort(found, after)
        if include_over and len(listed) <= size:
            place = _NEWEST
            if after is not None and after.rank == listing.OVER:
                place = Place(-after.before_us, after.id)
            listed += await self._store.list_resolved(place, size + 1 - len(listed))
        page = listing.fit([self._shown(alert) for alert in listed[: size + 1]], size)
        answer = ListAlertsResponse(alerts=page)
        if self.leads:
            answer.targets.extend(self.targets.status())
        if len(page) < len(listed):
            answer.next_page_token = listing.token_of(listing.key_of(page[-1]))
        if as_of_us:
            answer.as_of.FromMicroseconds(as_of_us)
        return answer

    async def get_alert(self, alert_id: str) -> Alert | None:
        """Return an alert with its history; None if there is none."""
        own = self.present if self.leads else []
        found = next((each for each in own if each.id == alert_id), None)
        alert = found or await self._store.get(alert_id)
        if alert is None:
            return None
        history = []
        try:
            history = await self._store.history(alert_id)
        except LogUnavailableError:
            if found is None:
                raise
        newest = history[-1].number if history else 0
        history += [each for each in self._recorder.history(alert_id) if each.number > newest]
        shown = self._shown(alert)
        shown.history.extend(history[-MAX_HISTORY:])
        return shown

    async def create_silence(
        self, match: SilenceMatch, *, duration_us: int, comment: str, caller: str, request_id: str
    ) -> Silence:
        """See Silences.create. Raises StandbyError."""
        self._lead()
        return await self.silences.create(
            match, duration_us=duration_us, comment=comment, caller=caller, request_id=request_id
        )

    async def expire_silence(self, silence_id: str) -> Silence | None:
        """End a silence now; None if there is none. Raises StandbyError."""
        self._lead()
        return await self.silences.expire(silence_id)

    @property
    def rule_names(self) -> list[str]:
        """The names of the rules."""
        return self.evaluator.rule_names

    async def lint(self, toml: str) -> Checked:
        """Check a rule file without using it."""
        # It takes a moment, in which others run.
        return await asyncio.to_thread(check, toml.encode())

    async def test_target(self, name: str) -> tuple[bool, str]:
        """See Targets.test."""
        return await self.targets.test(name)

    def _lead(self) -> None:
        if not self.leads:
            raise StandbyError("this process does not lead, or still starts")

    def _shown(self, alert: Alert) -> Alert:
        shown = Alert()
        shown.CopyFrom(alert)
        if alert.state not in OVER:
            shown.silenced_by = self.silences.holding(alert)
        return shown

    # What is judged.

    async def _run(self) -> None:
        await self._engine.prepared.wait()
        while not self._restored:
            try:
                await self._restore()
            except LogUnavailableError as trouble:
                log.warning("alerts_not_restored", reason=line_of(trouble))
                await asyncio.sleep(RETRY_S)
        judged_s = -JUDGE_S
        while True:
            due = self._changed or self.evaluator.is_due(self._engine.state.as_of_us)
            if due or time.monotonic() - judged_s >= JUDGE_S:
                self._changed, judged_s = False, time.monotonic()
                try:
                    await self._judge()
                except Exception:
                    log.exception("alerts_failed")
            await asyncio.sleep(TICK_S)

    async def _restore(self) -> None:
        stored = await self._store.take(MAX_KEPT)
        await self.silences.load()
        over = await self._store.list_resolved(_NEWEST, MAX_RESTORED)
        now_us = self._log.clock.now_us()
        recent = [
            each for each in over if each.resolve_time.ToMicroseconds() > now_us - TOLD_WITHIN_US
        ]
        await self.targets.restore([*stored.alerts, *recent])
        self.targets.start()
        self.feed.begin(stored.next_number - 1, stored.events)
        self.feed.as_of_us = stored.saved_us
        self._recorder.start(stored.next_number)
        self.evaluator.restore(stored, now_us)
        self._restored = True
        log.info(
            "alerts_restored",
            open=len(stored.alerts),
            next_number=stored.next_number,
            anomalies=self.evaluator.anomalies,
        )

    async def _judge(self) -> None:
        superseded, self._superseded = self._superseded, self._log.superseded
        if self._superseded and not superseded:
            # The other process tells of them.
            self.targets.clear()
        elif superseded and not self._superseded:
            # Asked for again until the ledger has answered.
            self._superseded = True
            await self.targets.restore(self.present)
            self._superseded = False
        self.evaluator.judge(leads=not self._superseded)
        if self._superseded:
            return
        self.targets.evaluated()
        if not self._recorder.waiting:
            self.feed.as_of_us = max(self.feed.as_of_us, self.evaluator.as_of_us)

    async def _keep(self) -> None:
        while True:
            if self.leads and self._log.leading:
                try:
                    while await self._store.forget(self._now_us()):
                        pass
                    await self.silences.refresh()
                except LogUnavailableError as trouble:
                    log.warning("alert_retention_failed", reason=line_of(trouble))
            await asyncio.sleep(FORGET_S)

    def _figures(self) -> Watched:
        return self._engine.current_state().watched

    def _held(self, alert: Alert) -> str:
        return self.silences.holding(alert) or alert.inhibited_by

    def _lag_us(self) -> int:
        """How far the figures are behind the log; 0 while it is lost and has no time of its own."""
        if not self._log.leading:
            return 0
        return self._log.clock.now_us() - self._engine.state.as_of_us

    def _now_us(self) -> int:
        return self._log.clock.now_us() if self._log.leading else wall_us()
