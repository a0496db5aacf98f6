"""The steps of a random script of booking commands: names, and numbers to choose values by."""

from __future__ import annotations

from hypothesis import strategies as st

NIGHTS = 5

Step = tuple[str, tuple[int, ...]]

_small = st.integers(0, 7)
_package = st.integers(0, 1)
_start = (_package, st.integers(0, 2), st.integers(0, NIGHTS - 1), st.integers(1, 3), _small)
_payment = (_small, st.integers(0, 5), st.integers(0, 7))


def _step(name: str, *values: st.SearchStrategy[int]) -> st.SearchStrategy[Step]:
    return st.tuples(st.just(name), st.tuples(*values))


# Steps that advance a booking are more frequent, so that scripts get beyond holds.
_KINDS = [
    *(_step("start", *_start), _step("start", *_start)),
    *(_step("stay", *_start), _step("stay", *_start), _step("stay", *_start)),
    *(_step("complete", _small), _step("confirm", *_payment), _step("captured", *_payment)),
    *(_step("batch", *_start, *_start), _step("extend", _small), _step("abandon", _small)),
    *(_step("fail", _small), _step("attempt", *_payment, _package)),
    *(_step("cancel", _small), _step("paid_back", *_payment), _step("refund", *_payment)),
    *(_step("reschedule", _small, *_start[2:4]), _step("reschedule", _small, *_start[2:4])),
    *(_step("expire", _package), _step("fulfil", _package), _step("reconcile", _package)),
    *(_step("capacity", _package, *_start[2:4], _small), _step("price", _package, _small)),
    *(_step("clock", st.integers(0, 3)), _step("complete", _small), _step("extend", _small)),
    *(_step("attempt", *_payment, _package), _step("captured", *_payment)),
    *(_step("paid_back", *_payment), _step("refund", *_payment), _step("claim", _small)),
]
scripts = st.lists(st.one_of(_KINDS), min_size=20, max_size=50)
