"""The rule of profiles: one for each user, replaced as a whole or in part."""

from __future__ import annotations

from dataclasses import replace

from booking_service.domain.commands import UpdateProfile
from booking_service.domain.etag import etag
from booking_service.domain.profile import UserProfile
from booking_service.domain.refusal import etag_mismatch, not_found
from booking_service.domain.world import Decision, Draft


def update_profile(draft: Draft, command: UpdateProfile) -> Decision:
    """Create, replace or change the profile of a user."""
    known = draft.profile(command.user_id)
    if known is None and not command.may_create:
        return draft.decided(not_found("user profile", command.user_id))
    stored_etag = "" if known is None else etag(known.version, known.update_time)
    if command.etag not in ("", stored_etag):
        return draft.decided(etag_mismatch("user profile", command.user_id))
    profile = known or UserProfile(
        id=command.profile_id,
        user_id=command.user_id,
        display_name="",
        email="",
        locale="",
        version=0,
        create_time=draft.now,
        update_time=draft.now,
    )
    profile = replace(profile, **command.changes)  # type: ignore[arg-type] # three texts of it
    profile = replace(profile, version=profile.version + 1, update_time=draft.now)
    draft.changes.profiles[command.user_id] = profile
    return draft.decided(profile)
