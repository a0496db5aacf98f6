"""Profiles, proto to domain and back.

Bounds are those that the comments of profile.proto state; every bad field is named at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final
from uuid import uuid4

from booking_service.domain.commands import UpdateProfile
from booking_service.domain.etag import etag
from booking_service.domain.profile import UserProfile
from booking_service.mapping.bounds import MAX_ETAG
from booking_service.mapping.command_request import CommandRequest, fingerprint, read_request_id
from booking_service.mapping.fields import Fields
from booking_service.mapping.masks import ALL, read_mask
from booking_service.mapping.scalars import timestamp
from protos.booking.v1 import profile_pb2

# A simplification of RFC 5646: subtags of letters and digits, the first a language or "x" or "i".
_LANGUAGE_TAG: Final = re.compile(r"([A-Za-z]{2,8}|[xXiI](?=-))(-[A-Za-z0-9]{1,8})*")
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+")


def get_profile(request: profile_pb2.GetUserProfileRequest) -> str:
    read = Fields()
    user_id = read.text("user_id", request.user_id, most=128)
    read.refuse_bad()
    return user_id


def update_profile(request: profile_pb2.UpdateUserProfileRequest) -> CommandRequest[UpdateProfile]:
    """Output-only fields of the profile, and those that a mask does not name, are ignored."""
    read = Fields()
    request_id = read_request_id(read, request.request_id)
    given = request.profile
    if not request.HasField("profile"):
        read.bad("profile", "is required")
        read.refuse_bad()
    whole = list(request.update_mask.paths) in ([], [ALL])
    named = list(_READERS) if whole else read_mask(read, request.update_mask, _READERS)
    command = UpdateProfile(
        profile_id=uuid4(),
        user_id=read.text("profile.user_id", given.user_id, most=128),
        changes={name: _READERS[name](read, given) for name in named},
        may_create=whole,
        etag=read.text("profile.etag", given.etag, most=MAX_ETAG, required=False),
    )
    read.refuse_bad()
    return CommandRequest(command, request_id, fingerprint(request))


def erase_user(request: profile_pb2.EraseUserRequest) -> str:
    read = Fields()
    user_id = read.text("user_id", request.user_id, most=128)
    read.refuse_bad()
    return user_id


def profile(value: UserProfile) -> profile_pb2.UserProfile:
    return profile_pb2.UserProfile(
        user_id=value.user_id,
        display_name=value.display_name,
        email=value.email,
        locale=value.locale,
        create_time=timestamp(value.create_time),
        update_time=timestamp(value.update_time),
        etag=etag(value.version, value.update_time),
    )


def _display_name(read: Fields, given: profile_pb2.UserProfile) -> str:
    return read.shown_text("profile.display_name", given.display_name)


def _email(read: Fields, given: profile_pb2.UserProfile) -> str:
    return _matching(
        read, "profile.email", given.email, _EMAIL, 254, "must have the form name@domain"
    )


def _locale(read: Fields, given: profile_pb2.UserProfile) -> str:
    return _matching(
        read,
        "profile.locale",
        given.locale,
        _LANGUAGE_TAG,
        35,
        'must be a BCP 47 language tag, such as "pt-BR"',
    )


def _matching(
    read: Fields, field: str, value: str, pattern: re.Pattern[str], most: int, description: str
) -> str:
    """Read an optional text of at most `most` characters that matches `pattern`."""
    read.text(field, value, most=most, required=False)
    if value and len(value) <= most and not pattern.fullmatch(value):
        read.bad(field, description)
    return value


_READERS: Final[Mapping[str, Callable[[Fields, profile_pb2.UserProfile], str]]] = {
    "display_name": _display_name,
    "email": _email,
    "locale": _locale,
}
