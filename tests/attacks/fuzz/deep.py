"""Requests of the metrics that are mostly right in every field, each another one, so that what is
changed in them comes past the checks of fields: series, silences, rule files and deployments.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from random import Random
from typing import Any, Final

from metrics_service.alerts.rules.load import shipped
from metrics_service.rpc.series import DIMENSIONS
from metrics_service.state.history.series_metrics import METRICS
from protos.metrics.v1 import alert_pb2, deployment_pb2, series_pb2
from tests.attacks.fuzz.values import SHORT_TEXTS

DAY_S: Final = 86_400
STEPS_S: Final = (10, 60, 3_600, DAY_S)
MAX_STEPS: Final = 1_000
MAX_METRICS: Final = 16
RULES: Final = shipped().decode()
RULE_NAMES: Final = re.findall(r'^name = "(\w+)"', RULES, re.MULTILINE)
# What a line of a rule file may get in the place of its value.
TOML_VALUES: Final = (
    *("0", "-1", "1e308", "nan", "-inf", "9" * 30, "0x7fffffffffffffff", "true", '""', "[]"),
    *('"5m"', '"999999999d"', '"-1h"', '"\\u0000"', '"[/]\\u001b[2J"', "2026-06-01", "{}"),
    *('["1h", "1h"]', "[0.9, 0.1]", "[[1]]", "[" * 300, '{a = {b = "c"}}', "'''"),
)


def series(random: Random) -> series_pb2.GetSeriesRequest:
    dimension = random.choice((series_pb2.DIMENSION_UNSPECIFIED, *DIMENSIONS))
    by = DIMENSIONS.get(dimension, "")
    step_s = random.choice(STEPS_S[1:] if by else STEPS_S) * random.choice((1, 1, 2, 7))
    steps = random.choice((1, 2, 24, 288, MAX_STEPS - 1, MAX_STEPS))
    names = [name for name, metric in METRICS.items() if not by or by in metric.by]
    random.shuffle(names)
    request = series_pb2.GetSeriesRequest(
        metrics=names[: random.choice((1, 1, 2, 4, MAX_METRICS))], by=dimension
    )
    request.step.FromSeconds(step_s)
    request.window.FromSeconds(step_s * steps)
    if random.random() < 0.5:
        request.ended.FromSeconds(step_s * random.choice((0, 1, 7, 300)))
    return request


def silence(random: Random) -> alert_pb2.CreateSilenceRequest:
    match = alert_pb2.SilenceMatch()
    if random.random() < 0.7:
        match.rule = random.choice(RULE_NAMES)
    if not match.rule or random.random() < 0.3:
        for number in range(random.choice((1, 1, 2, 8))):
            name = random.choice(("severity", "package", "instance", f"label {number}"))
            match.labels[name] = random.choice(("critical", "warning", "x", "\u20ac" * 42))
    request = alert_pb2.CreateSilenceRequest(match=match, comment=random.choice(_texts()))
    request.duration.FromSeconds(random.choice((60, 61, 3_600, 30 * DAY_S)))
    if random.random() < 0.5:
        request.request_id = f"silence {random.randrange(50)}"
    return request


def rules(random: Random) -> alert_pb2.LintRulesRequest:
    """The rule file of the package with up to four lines changed."""
    lines = RULES.splitlines()
    for _ in range(random.randrange(5)):
        at = random.randrange(len(lines))
        name, is_, _ = lines[at].partition(" = ")
        match random.randrange(6):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, random.choice(lines))
            case 2:
                lines[at] = lines[at][: random.randrange(len(lines[at]) + 1)]
            case 3:
                lines.insert(at, f"{random.choice(('x', 'for', 'a.b.c'))} = 1")
            case _ if is_:
                lines[at] = f"{name} = {random.choice(TOML_VALUES)}"
    return alert_pb2.LintRulesRequest(toml="\n".join(lines))


def deployment(random: Random) -> deployment_pb2.MarkDeploymentRequest:
    request = deployment_pb2.MarkDeploymentRequest(version=random.choice(_texts()))
    if random.random() < 0.7:
        ago_s = random.choice((0, 1, 3_600, 72 * 3_600, 399 * DAY_S, random.randrange(DAY_S)))
        request.time.FromSeconds(int(time.time()) - ago_s)
    return request


def _texts() -> list[str]:
    return [text for text in SHORT_TEXTS if text.isprintable() and text.strip()]


_MADE: Final[dict[str, Callable[[Random], Any]]] = {
    series_pb2.GetSeriesRequest.DESCRIPTOR.full_name: series,
    alert_pb2.CreateSilenceRequest.DESCRIPTOR.full_name: silence,
    alert_pb2.LintRulesRequest.DESCRIPTOR.full_name: rules,
    deployment_pb2.MarkDeploymentRequest.DESCRIPTOR.full_name: deployment,
}


def deep(name: str, random: Random) -> Any:
    """Return a good request of the type of this full name; None for any other type."""
    make = _MADE.get(name)
    return make(random) if make is not None else None
