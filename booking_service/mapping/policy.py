"""Cancellation policies, proto to domain and back."""

from __future__ import annotations

from typing import Final

from google.protobuf.duration_pb2 import Duration

from booking_service.domain.policy import CancellationPolicy, Tier
from booking_service.mapping.fields import Fields
from protos.booking.v1 import catalog_pb2

MAX_TIERS: Final = 10
_DAY_S: Final = 24 * 3600


def read_policy(
    read: Fields, field: str, message: catalog_pb2.CancellationPolicy
) -> CancellationPolicy:
    """Tiers may come in any order, each with another `before`; the domain has the longest first."""
    if not read.fits(f"{field}.tiers", message.tiers, most=MAX_TIERS):
        return CancellationPolicy()
    tiers: dict[int, Tier] = {}
    for n, tier in enumerate(message.tiers):
        path = f"{field}.tiers[{n}]"
        before_s = read.seconds(f"{path}.before", tier.before, low=0, high=366 * _DAY_S)
        share = read.number(
            f"{path}.refund_basis_points", tier.refund_basis_points, low=0, high=10_000
        )
        if before_s in tiers:
            read.bad(f"{path}.before", f"is {before_s} s in another tier as well")
        tiers[before_s] = Tier(before_s, share)
    return CancellationPolicy(tuple(tiers[before_s] for before_s in sorted(tiers, reverse=True)))


def policy(value: CancellationPolicy) -> catalog_pb2.CancellationPolicy:
    return catalog_pb2.CancellationPolicy(
        tiers=[
            catalog_pb2.CancellationPolicy.Tier(
                before=Duration(seconds=tier.before_s),
                refund_basis_points=tier.refund_basis_points,
            )
            for tier in value.tiers
        ]
    )
