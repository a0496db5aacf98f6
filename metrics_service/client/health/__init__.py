"""Judges database health from exact counts over a sliding window: the same judgement for one
process and for the combined figures of several, with every reason stated.
"""

from __future__ import annotations

from metrics_service.client.health.hysteresis import VerdictHysteresis
from metrics_service.client.health.judge import (
    Criteria,
    Figures,
    OperationFigures,
    Reason,
    Status,
    Verdict,
    judge,
    with_budgets,
)
from metrics_service.client.health.window import WINDOW_S, HealthWindow

__all__ = [
    "WINDOW_S",
    "Criteria",
    "Figures",
    "HealthWindow",
    "OperationFigures",
    "Reason",
    "Status",
    "Verdict",
    "VerdictHysteresis",
    "judge",
    "with_budgets",
]
