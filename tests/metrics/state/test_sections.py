"""An error names the section of the state in which it was raised."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from metrics_service.eventlog.recovery import reason_of
from metrics_service.state.fold import State
from metrics_service.state.sections import SectionError, naming
from metrics_service.state.series.rings import WindowError
from tests.metrics.state.log import HOUR, Log


def _broken(*_: object) -> Iterator[None]:
    raise OverflowError("planted")


def answer(state: State) -> None:
    for _ in state.encode_answers():
        pass


def dump(state: State) -> None:
    list(state.dump())


@pytest.mark.parametrize(
    ("owner", "method", "act", "section"),
    [
        ("funnel", "window", answer, "funnel"),
        ("business", "evicted", answer, "quality"),
        ("errors", "last_five_minutes", answer, "errors"),
        ("queries", "total", answer, "performance"),
        ("queries", "stats", answer, "query_stats"),
        ("recent", "newest", answer, "recent_queries"),
        ("slowest", "slowest", answer, "slow_queries"),
        ("funnel", "dump", dump, "funnel"),
        ("slowest", "dump", dump, "slow_queries"),
    ],
)
def test_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
    owner: str,
    method: str,
    act: Callable[[State], None],
    section: str,
) -> None:
    log = Log()
    log.append(log.view(log.now_us, "a"))
    monkeypatch.setattr(type(getattr(log.state._tables, owner)), method, _broken)
    with pytest.raises(SectionError) as raised:
        act(log.state)
    assert reason_of(raised.value) == f"{section}: OverflowError"


def test_a_mistake_of_the_caller_is_not_the_states() -> None:
    with pytest.raises(WindowError):
        Log().state.metrics(HOUR + 1)


def test_the_inner_section_is_named() -> None:
    with pytest.raises(SectionError) as raised, naming("outer"), naming("inner"):
        raise ZeroDivisionError
    assert reason_of(raised.value) == "inner: ZeroDivisionError"
