"""When the refund of a cancellation changes, compared with each second computed separately."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from booking_service.domain.policy import (
    CancellationPolicy,
    Tier,
    refund_changes_below_s,
    refund_minor,
)

TIERS = st.dictionaries(st.integers(0, 40), st.integers(0, 10_000), max_size=4)


def policy_of(tiers: dict[int, int]) -> CancellationPolicy:
    ordered = sorted(tiers.items(), reverse=True)
    return CancellationPolicy(tuple(Tier(before_s, share) for before_s, share in ordered))


@given(tiers=TIERS, paid_minor=st.integers(0, 500), time_left_s=st.integers(-3, 50))
def test_a_refund_stays_the_same_down_to_the_second_that_is_named(
    tiers: dict[int, int], paid_minor: int, time_left_s: int
) -> None:
    policy = policy_of(tiers)
    now_minor = refund_minor(policy, paid_minor, time_left_s)
    changing = [
        second
        for second in range(time_left_s, -5, -1)
        if refund_minor(policy, paid_minor, second) != now_minor
    ]
    # The last second before the first that differs.
    expected = changing[0] + 1 if changing else None
    assert refund_changes_below_s(policy, paid_minor, time_left_s, now_minor) == expected


@given(
    tiers=TIERS,
    paid_minor=st.integers(0, 500),
    time_left_s=st.integers(-3, 50),
    left_minor=st.integers(0, 500),
)
def test_a_refund_is_never_more_than_what_is_left_of_the_payment(
    tiers: dict[int, int], paid_minor: int, time_left_s: int, left_minor: int
) -> None:
    policy = policy_of(tiers)

    def due_minor(second: int) -> int:
        return min(left_minor, refund_minor(policy, paid_minor, second))

    now_minor = due_minor(time_left_s)
    found = refund_changes_below_s(policy, paid_minor, time_left_s, now_minor)
    same_down_to = time_left_s
    while same_down_to >= -4 and due_minor(same_down_to) == now_minor:
        same_down_to -= 1
    # Without knowing what is refundable it may name an earlier change, but never a later one.
    assert found is not None or same_down_to < -4
    assert found is None or found > same_down_to
