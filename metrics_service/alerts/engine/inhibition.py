"""Which alerts hold back the notifications of which others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from metrics_service.alerts.engine.entry import Entry, Key
from metrics_service.alerts.model import Change, Rule
from protos.metrics.v1 import alert_pb2


def inhibit(entries: Mapping[Key, Entry], rules: Iterable[Rule]) -> list[tuple[Entry, Change]]:
    """Set of each alert which other one holds it back, and return those for which it has changed
    and that people know of.

    An alert is held back by one that fires of a rule in `inhibited_by` of its own rule, and a
    warning by a critical alert of the same rule with the same labels.
    """
    firing = {key for key, entry in entries.items() if entry.firing}
    names = {key.rule for key in firing}
    inhibitors = {rule.key: rule.inhibited_by for rule in rules}
    changes: list[tuple[Entry, Change]] = []
    for key, entry in sorted(entries.items()):
        by = next((name for name in inhibitors[key.rule, key.severity] if name in names), "")
        if not by and key.severity == "warning" and key._replace(severity="critical") in firing:
            by = f"{key.rule} (critical)"
        before, entry.alert.inhibited_by = entry.alert.inhibited_by, by
        pending = entry.alert.state == alert_pb2.ALERT_STATE_PENDING
        if bool(before) != bool(by) and not pending:
            changes.append((entry, "inhibited" if by else "released"))
    return changes
