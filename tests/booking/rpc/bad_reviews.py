"""Bad requests about reviews and profiles, each with the fields that its refusal names."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from google.protobuf.message import Message

from protos.booking.v1 import profile_pb2, review_pb2

ID = str(uuid4())


def reviewing(**fields: Any) -> review_pb2.CreateReviewRequest:
    good: dict[str, Any] = {"booking_id": ID, "rating": 5}
    return review_pb2.CreateReviewRequest(**(good | fields))


def profiled(**fields: Any) -> profile_pb2.UpdateUserProfileRequest:
    good: dict[str, Any] = {"user_id": "ana", "display_name": "Ana"}
    return profile_pb2.UpdateUserProfileRequest(profile=profile_pb2.UserProfile(**(good | fields)))


def masked(*paths: str, **fields: Any) -> profile_pb2.UpdateUserProfileRequest:
    request = profiled(**fields)
    request.update_mask.paths.extend(paths)
    return request


CASES: list[tuple[str, Message, set[str]]] = [
    ("nothing", review_pb2.CreateReviewRequest(), {"booking_id", "rating"}),
    ("rating 6", reviewing(rating=6), {"rating"}),
    ("rating -1", reviewing(rating=-1), {"rating"}),
    ("a long body", reviewing(body="x" * 4001), {"body"}),
    ("nothing", review_pb2.ListReviewsRequest(), {"package_id"}),
    (
        "both",
        review_pb2.ListReviewsRequest(package_id=ID, user_id="ana"),
        {"user_id"},
    ),
    (
        "a rating of a user",
        review_pb2.ListReviewsRequest(user_id="ana", min_rating=3),
        {"min_rating"},
    ),
    (
        "everything",
        review_pb2.ListReviewsRequest(package_id="1", min_rating=6, page_size=-1),
        {"package_id", "min_rating", "page_size"},
    ),
    ("nothing", profile_pb2.GetUserProfileRequest(), {"user_id"}),
    ("a long user", profile_pb2.GetUserProfileRequest(user_id="x" * 129), {"user_id"}),
    ("nothing", profile_pb2.EraseUserRequest(), {"user_id"}),
    ("a long user", profile_pb2.EraseUserRequest(user_id="x" * 129), {"user_id"}),
    ("nothing", profile_pb2.UpdateUserProfileRequest(), {"profile"}),
    (
        "an empty profile",
        profile_pb2.UpdateUserProfileRequest(
            profile=profile_pb2.UserProfile(), request_id="x" * 129
        ),
        {"profile.user_id", "profile.display_name", "request_id"},
    ),
    (
        "everything",
        profiled(
            user_id="x" * 129,
            display_name="x" * 201,
            email="a@" + "x" * 253,
            locale="e" * 36,
            etag="x" * 101,
        ),
        {f"profile.{name}" for name in ("user_id", "display_name", "email", "locale", "etag")},
    ),
    ("an email without @", profiled(email="ana"), {"profile.email"}),
    ("an email with a space", profiled(email="a na@b"), {"profile.email"}),
    ("an underscore in a locale", profiled(locale="pt_BR"), {"profile.locale"}),
    ("an empty subtag", profiled(locale="pt--BR"), {"profile.locale"}),
    ("paths", masked("email", "user_id", "email"), {f"update_mask.paths[{n}]" for n in (1, 2)}),
    ("* with another", masked("*", "email"), {"update_mask.paths[0]"}),
    ("four paths", masked("email", "email", "email", "email"), {"update_mask.paths"}),
    ("a bad field that is named", masked("email", email="ana", locale="_"), {"profile.email"}),
    (
        "all of them",
        masked("*", display_name="", locale="_"),
        {"profile.display_name", "profile.locale"},
    ),
]


UUID_FIELDS: list[tuple[Message, str]] = [
    (reviewing(), "booking_id"),
    (review_pb2.ListReviewsRequest(), "package_id"),
]


DATE_FIELDS: list[tuple[Message, str]] = []


MONEY_FIELDS: list[tuple[Message, str]] = []
