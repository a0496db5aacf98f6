"""Asks Prometheus and Alertmanager."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

T = TypeVar("T")

BOUND_S: Final = 60.0
POLL_S: Final = 0.1


def get(address: str, path: str, **parameters: str) -> Any:
    """The JSON of a path at "host:port"."""
    query = f"?{urlencode(parameters)}" if parameters else ""
    with urllib.request.urlopen(f"http://{address}{path}{query}", timeout=10) as answer:
        return json.load(answer)


def until(asked: Callable[[], T], holds: Callable[[T], object], what: str) -> T:
    """The first answer of which this holds."""
    give_up_s = time.monotonic() + BOUND_S
    while not holds(answer := asked()):
        assert time.monotonic() < give_up_s, f"not {what}: {answer}"
        time.sleep(POLL_S)
    return answer
