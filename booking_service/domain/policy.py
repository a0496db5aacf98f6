"""What a cancellation gives back."""

from dataclasses import dataclass

from booking_service.domain.money import share


@dataclass(frozen=True, slots=True)
class Tier:
    """A share given back when at least `before_s` seconds are left before the start."""

    before_s: int
    refund_basis_points: int


@dataclass(frozen=True, slots=True)
class CancellationPolicy:
    """Tiers, longest `before_s` first; without any, nothing is given back."""

    tiers: tuple[Tier, ...] = ()


def refund_minor(policy: CancellationPolicy, price_minor: int, time_left_s: float) -> int:
    """What is given back of a price, in minor units, `time_left_s` before the stay begins.

    The tier with the largest `before_s` that is not longer than the time left decides; after
    the start none does.
    """
    for tier in policy.tiers:
        if tier.before_s <= time_left_s:
            return share(price_minor, tier.refund_basis_points)
    return 0
