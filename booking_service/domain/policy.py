"""Cancellation policies: how much of a price a cancellation refunds."""

from __future__ import annotations

from dataclasses import dataclass

from booking_service.domain.money import share


@dataclass(frozen=True, slots=True)
class Tier:
    """A share that is refunded when at least `before_s` seconds remain before the start."""

    before_s: int
    refund_basis_points: int


@dataclass(frozen=True, slots=True)
class CancellationPolicy:
    """Tiers, longest `before_s` first; without any, nothing is refunded."""

    tiers: tuple[Tier, ...] = ()


def refund_changes_below_s(
    policy: CancellationPolicy, paid_minor: int, time_left_s: float, due_minor: int
) -> int | None:
    """Return the seconds before the start below which the refund is no longer `due_minor`, None
    when it no longer changes.

    `due_minor` is the refund now: less than the policy grants of `paid_minor` where a part was
    already refunded.
    """
    capped = due_minor < refund_minor(policy, paid_minor, time_left_s)
    ahead = [tier for tier in policy.tiers if tier.before_s <= time_left_s]
    shares = [share(paid_minor, tier.refund_basis_points) for tier in ahead[1:]]
    for tier, next_minor in zip(ahead, [*shares, 0], strict=False):
        if (min(next_minor, due_minor) if capped else next_minor) != due_minor:
            return tier.before_s
    return None


def refund_minor(policy: CancellationPolicy, price_minor: int, time_left_s: float) -> int:
    """Return the refund of a price, in minor units, `time_left_s` before the stay begins.

    The tier with the largest `before_s` that is not longer than the time left applies; after the
    start none does.
    """
    for tier in policy.tiers:
        if tier.before_s <= time_left_s:
            return share(price_minor, tier.refund_basis_points)
    return 0
