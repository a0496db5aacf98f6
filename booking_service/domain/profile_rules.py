"""The rule of profiles: one for each user, replaced as a whole."""

from __future__ import annotations

from booking_service.domain.commands import UpdateProfile
from booking_service.domain.etag import etag
from booking_service.domain.profile import UserProfile
from booking_service.domain.refusal import etag_mismatch
from booking_service.domain.world import Decision, Draft


def update_profile(draft: Draft, command: UpdateProfile) -> Decision:
    """Create or replace the profile of a user."""
    known = draft.profile(command.user_id)
    stored_etag = "" if known is None else etag(known.version, known.update_time)
    if command.etag not in ("", stored_etag):
        return draft.decided(etag_mismatch("user profile", command.user_id))
    profile = UserProfile(
        id=command.profile_id if known is None else known.id,
        user_id=command.user_id,
        display_name=command.display_name,
        email=command.email,
        locale=command.locale,
        version=1 if known is None else known.version + 1,
        create_time=draft.now if known is None else known.create_time,
        update_time=draft.now,
    )
    draft.changes.profiles[command.user_id] = profile
    return draft.decided(profile)
