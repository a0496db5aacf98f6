"""Most requests of the fuzz that are to be right in every field are taken, and every rule file that
is spoilt is judged.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from metrics_service.alerts.rules.load import check
from metrics_service.rpc import alert_requests, series, validate
from servicekit.errors import ApiError
from tests.attacks.fuzz.deep import RULE_NAMES, deep, rules
from tests.attacks.fuzz.requests import good
from tests.attacks.fuzz.values import Known, Values

SEEDS = range(100)
CHECKS: dict[str, Callable[[Any], object]] = {
    "metrics.v1.GetSeriesRequest": series.checked,
    "metrics.v1.CreateSilenceRequest": lambda each: alert_requests.silence(each, RULE_NAMES),
    "metrics.v1.LintRulesRequest": alert_requests.rules,
    "metrics.v1.MarkDeploymentRequest": lambda each: validate.deployment(
        each, round(time.time() * 1e6)
    ),
}


def taken(name: str, seed: int) -> bool:
    request = deep(name, Random(seed))
    assert good(request.DESCRIPTOR, Values(Random(seed), Known())) == request
    try:
        CHECKS[name](request)
    except ApiError:
        return False
    return True


@pytest.mark.parametrize("name", CHECKS)
def test_most_requests_come_past_the_checks_of_their_fields(name: str) -> None:
    assert sum(taken(name, seed) for seed in SEEDS) > len(SEEDS) / 2


def test_a_rule_file_is_judged_however_it_is_spoilt() -> None:
    judged = [check(rules(Random(seed)).toml.encode()) for seed in SEEDS]
    refused = [any(each.level == "error" for each in one.findings) for one in judged]
    assert 10 < sum(refused) < len(SEEDS) - 10
