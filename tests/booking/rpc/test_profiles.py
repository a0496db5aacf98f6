"""ProfileService over a real channel and a real database."""

from __future__ import annotations

import asyncio
from datetime import UTC, timedelta

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from protos.booking.v1 import profile_pb2
from tests.booking.running_service import NOON, RunningService, refusal_of

Profile = profile_pb2.UserProfile
Get = profile_pb2.GetUserProfileRequest
Update = profile_pb2.UpdateUserProfileRequest
ANA = Profile(user_id="ana", display_name="Ana", email="ana@example.org", locale="pt-PT")


async def test_a_profile_is_created_and_read(booking: RunningService) -> None:
    made = await booking.profile.UpdateUserProfile(Update(profile=ANA))
    assert (made.user_id, made.display_name) == ("ana", "Ana")
    assert (made.email, made.locale) == ("ana@example.org", "pt-PT")
    assert made.create_time == made.update_time
    assert made.etag
    assert await booking.profile.GetUserProfile(Get(user_id="ana")) == made
    refusal = await refusal_of(booking.profile.GetUserProfile(Get(user_id="ben")))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
    assert refusal.resource == ("user profile", "ben")


async def test_a_profile_is_replaced_as_a_whole(booking: RunningService) -> None:
    made = await booking.profile.UpdateUserProfile(Update(profile=ANA))
    booking.clock.advance(timedelta(minutes=1))
    bare = Profile(user_id="ana", display_name="Ana Sousa", etag=made.etag)
    replaced = await booking.profile.UpdateUserProfile(Update(profile=bare))
    assert (replaced.display_name, replaced.email, replaced.locale) == ("Ana Sousa", "", "")
    assert replaced.create_time == made.create_time
    assert replaced.update_time.ToDatetime(UTC) == NOON + timedelta(minutes=1)
    assert replaced.etag != made.etag
    assert await booking.profile.GetUserProfile(Get(user_id="ana")) == replaced


async def test_a_mask_changes_what_it_names(booking: RunningService) -> None:
    made = await booking.profile.UpdateUserProfile(Update(profile=ANA))
    given = Profile(user_id="ana", email="a@example.org", locale="not read")
    mask = FieldMask(paths=["email"])
    changed = await booking.profile.UpdateUserProfile(Update(profile=given, update_mask=mask))
    assert (changed.display_name, changed.locale) == (made.display_name, made.locale)
    assert changed.email == "a@example.org"
    assert await booking.profile.GetUserProfile(Get(user_id="ana")) == changed
    bare = Profile(user_id="ana", display_name="Ana Sousa", etag=changed.etag)
    whole = Update(profile=bare, update_mask=FieldMask(paths=["*"]))
    replaced = await booking.profile.UpdateUserProfile(whole)
    assert (replaced.display_name, replaced.email, replaced.locale) == ("Ana Sousa", "", "")


async def test_only_a_whole_profile_creates_one(booking: RunningService) -> None:
    given = Profile(user_id="ana", display_name="Ana")
    mask = FieldMask(paths=["display_name"])
    refusal = await refusal_of(
        booking.profile.UpdateUserProfile(Update(profile=given, update_mask=mask))
    )
    assert (refusal.reason, refusal.resource) == ("NOT_FOUND", ("user profile", "ana"))
    whole = Update(profile=given, update_mask=FieldMask(paths=["*"]))
    made = await booking.profile.UpdateUserProfile(whole)
    assert made.display_name == "Ana"


@pytest.mark.parametrize("known", [True, False], ids=["replaced meanwhile", "never there"])
async def test_an_etag_that_is_not_the_stored_one_changes_nothing(
    booking: RunningService, known: bool
) -> None:
    made = await booking.profile.UpdateUserProfile(Update(profile=ANA))
    user_id = "ana" if known else "ben"
    await booking.profile.UpdateUserProfile(Update(profile=ANA))
    stale = Profile(user_id=user_id, display_name="Changed", etag=made.etag)
    refusal = await refusal_of(booking.profile.UpdateUserProfile(Update(profile=stale)))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert refusal.resource == ("user profile", user_id)
    if known:
        found = await booking.profile.GetUserProfile(Get(user_id="ana"))
        assert found.display_name == "Ana"


async def test_of_changes_at_once_with_one_etag_one_is_made(booking: RunningService) -> None:
    made = await booking.profile.UpdateUserProfile(Update(profile=ANA))
    outcomes = await asyncio.gather(
        *(
            booking.profile.UpdateUserProfile(
                Update(profile=Profile(user_id="ana", display_name=f"Ana {n}", etag=made.etag))
            )
            for n in range(10)
        ),
        return_exceptions=True,
    )
    (changed,) = [each for each in outcomes if isinstance(each, Profile)]
    assert await booking.profile.GetUserProfile(Get(user_id="ana")) == changed


async def test_profiles_created_at_once_are_one(booking: RunningService) -> None:
    made = await asyncio.gather(
        *(booking.profile.UpdateUserProfile(Update(profile=ANA)) for _ in range(10))
    )
    assert len({each.create_time.ToMicroseconds() for each in made}) == 1
    assert len({each.etag for each in made}) == 10


async def test_times_and_etags_go_on_when_the_clock_goes_back(booking: RunningService) -> None:
    made = await booking.profile.UpdateUserProfile(Update(profile=ANA))
    booking.clock.advance(timedelta(hours=-1))
    later = await booking.profile.UpdateUserProfile(Update(profile=ANA))
    assert later.update_time.ToDatetime(UTC) > made.update_time.ToDatetime(UTC)


@pytest.mark.parametrize("locale", ["en", "pt-BR", "zh-Hant-TW", "de-CH-1901", "x-klingon", ""])
async def test_language_tags_are_taken(booking: RunningService, locale: str) -> None:
    profile = Profile(user_id="ana", display_name="Ana", locale=locale)
    made = await booking.profile.UpdateUserProfile(Update(profile=profile))
    assert made.locale == locale
