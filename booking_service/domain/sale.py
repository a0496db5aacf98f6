"""The checks before seats are taken: whether a package is on sale, at what price, and has room."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta

from booking_service.domain.commands import Quote
from booking_service.domain.inventory import Day, days_of
from booking_service.domain.package import Package, PackageStatus, Pricing
from booking_service.domain.policy import CancellationPolicy
from booking_service.domain.refusal import Reason, Refusal, currency_mismatch
from booking_service.domain.transitions import expire
from booking_service.domain.world import Draft


def refuse_if_not_on_sale(
    package: Package, start_date: date, end_date: date, now: datetime
) -> Refusal | None:
    """Refuse dates outside of the bookable window, past the cutoff, or of a closed package."""
    outside = (package.bookable_from is not None and start_date < package.bookable_from) or (
        package.bookable_until is not None and end_date > package.bookable_until
    )
    if package.status is PackageStatus.CLOSED or outside:
        window = f"[{package.bookable_from or '...'}, {package.bookable_until or '...'})"
        return Refusal(
            Reason.PACKAGE_CLOSED,
            f"package {package.id} is {package.status} and sold for {window}",
            {"status": str(package.status), "window": window},
        )
    closes = package.begins(start_date) - timedelta(seconds=package.cutoff_s)
    if now >= closes:
        return Refusal(
            Reason.PAST_CUTOFF,
            f"selling {start_date} ended at {closes.isoformat()}",
            {"cutoff_time": closes.isoformat()},
        )
    return None


def unavailable_reason(
    package: Package, days: Sequence[tuple[date, Day]], quantity: int, now: datetime
) -> Reason | None:
    """Return the reason with which a start on these days would be refused at `now`.

    The days are consecutive, at least one. Limits of the user are not considered.
    """
    start_date, end_date = days[0][0], days[-1][0] + timedelta(days=1)
    refusal = refuse_if_not_on_sale(package, start_date, end_date, now)
    if refusal is not None:
        return refusal.reason
    return Reason.SOLD_OUT if any(day.free < quantity for _, day in days) else None


def refuse_wrong_price(package: Package, quote: Quote | None, price_minor: int) -> Refusal | None:
    """Refuse a quote that the package does not accept, or that is not the list price."""
    if quote is None:
        if package.pricing is Pricing.PER_UNIT_DAY:
            return None
        return Refusal(Reason.QUOTE_REQUIRED, f"package {package.id} needs a quoted price", {})
    if quote.price.currency != package.currency:
        return currency_mismatch(quote.price.currency, package.currency)
    if package.pricing is Pricing.QUOTED:
        return None
    if quote.price.minor == price_minor and quote.cancellation_policy is None:
        return None
    return Refusal(
        Reason.PRICE_CHANGED,
        f"the price is {price_minor} {package.currency} in minor units",
        {"price_minor": str(price_minor), "currency": package.currency},
    )


def agreed_terms(
    quote: Quote | None, list_price_minor: int, policy: CancellationPolicy
) -> tuple[int, CancellationPolicy]:
    """Return the price and the policy of a stay: those of the quote, else the given ones."""
    if quote is None:
        return list_price_minor, policy
    if quote.cancellation_policy is not None:
        policy = quote.cancellation_policy
    return quote.price.minor, policy


def make_room(
    draft: Draft, package: Package, start_date: date, end_date: date, quantity: int
) -> Refusal | None:
    """Refuse with SOLD_OUT unless every day has `quantity` units free.

    A lapsed hold never blocks a sale: on a day with too few units, the lapsed holds end first.
    """
    days = list(days_of(start_date, end_date))
    short = _short(draft, package, days, quantity)
    if short:
        for hold in draft.lapsed(package.id):
            if any(hold.start_date <= day < hold.end_date for day in short):
                expire(draft, hold)
        short = _short(draft, package, days, quantity)
    if not short:
        return None
    draft.lacks_holds = draft.lacks_holds or draft.has_more_lapsed(package.id)
    free = {day: draft.day(package.id, day).free for day in short}
    listed = ",".join(f"{day}={units}" for day, units in free.items())
    return Refusal(
        Reason.SOLD_OUT,
        f"{quantity} units were requested on each day, but free are: {listed}",
        {"days": listed, "quantity": str(quantity)},
    )


def _short(draft: Draft, package: Package, days: Iterable[date], quantity: int) -> list[date]:
    return [day for day in days if draft.day(package.id, day).free < quantity]
