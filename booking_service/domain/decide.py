"""Dispatches each command to its rule: the one place where a change is decided."""

from __future__ import annotations

from datetime import datetime
from typing import Final, assert_never

from booking_service.domain import (
    holds,
    package_rules,
    payments,
    profile_rules,
    refunds,
    review_rules,
    stays,
)
from booking_service.domain.commands import (
    AbandonBooking,
    CancelBooking,
    ClaimPayments,
    ClaimRefunds,
    Command,
    CompleteBooking,
    ConfirmBooking,
    CreatePackage,
    CreateReview,
    CreateVendor,
    ExpireHolds,
    ExtendHold,
    FailBooking,
    FulfilStays,
    ReconcileInventory,
    RecordPayment,
    RefundPayment,
    RescheduleBooking,
    SetCapacity,
    StartBatch,
    StartBooking,
    UpdatePackage,
    UpdateProfile,
    UpdateVendor,
)
from booking_service.domain.holds import Limits
from booking_service.domain.refusal import Reason, Refusal
from booking_service.domain.world import Changes, Decision, Draft, World

_TRY_AGAIN: Final = Refusal(
    Reason.OVERLOADED, "the package has more lapsed holds than can be ended at once", {}
)


def decide(command: Command, world: World, now: datetime, limits: Limits) -> Decision:
    """Decide a command in a world at a time: its outcome, and the changes that it makes.

    Pure: equal arguments give equal decisions, and the world is not modified.
    """
    draft = Draft(world, now)
    decision = _decide(draft, command, limits)
    if draft.lacks_holds:
        # To refuse for lack of room may be wrong: there are lapsed holds that are not known.
        return Decision(_TRY_AGAIN, Changes())
    return decision


def _decide(draft: Draft, command: Command, limits: Limits) -> Decision:
    match command:
        case StartBooking():
            return holds.start(draft, command, limits)
        case StartBatch():
            return holds.start_all(draft, command, limits)
        case ExtendHold():
            return holds.extend(draft, command, limits)
        case CompleteBooking():
            return holds.complete(draft, command)
        case AbandonBooking():
            return holds.abandon(draft, command)
        case FailBooking():
            return holds.fail(draft, command)
        case ExpireHolds():
            return holds.expire_all(draft, command)
        case FulfilStays():
            return stays.fulfil_all(draft, command)
        case ConfirmBooking():
            return payments.confirm(draft, command)
        case RecordPayment():
            return payments.record(draft, command)
        case RefundPayment():
            return refunds.refund(draft, command)
        case ClaimPayments():
            return payments.claim(draft, command)
        case ClaimRefunds():
            return refunds.claim(draft, command)
        case CancelBooking():
            return stays.cancel(draft, command)
        case RescheduleBooking():
            return stays.reschedule(draft, command)
        case CreateReview():
            return review_rules.create_review(draft, command)
        case CreateVendor():
            return package_rules.create_vendor(draft, command)
        case UpdateVendor():
            return package_rules.update_vendor(draft, command)
        case CreatePackage():
            return package_rules.create_package(draft, command)
        case UpdatePackage():
            return package_rules.update_package(draft, command)
        case SetCapacity():
            return package_rules.set_capacity(draft, command)
        case ReconcileInventory():
            return package_rules.reconcile(draft, command)
        case UpdateProfile():
            return profile_rules.update_profile(draft, command)
        case _:
            assert_never(command)
