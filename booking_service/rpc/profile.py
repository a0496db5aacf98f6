"""booking.v1.ProfileService: translates, calls, translates back."""

from __future__ import annotations

from typing import Any, Final

import grpc

from booking_service.domain.profile import UserProfile
from booking_service.errors import conflict, found
from booking_service.group_commit.erasure import Eraser
from booking_service.mapping import profile
from booking_service.reads.profiles import ProfileQueries
from booking_service.rpc.command_gateway import CommandGateway
from booking_service.storage.driver_errors import Conflict, LockTimeout
from protos.booking.v1 import profile_pb2, profile_pb2_grpc
from servicekit.context import current_call, remaining_s

ERASING_S: Final = 5.0
"""The time in one call, at most, for taking steps; half of what is left before its deadline."""

Context = grpc.aio.ServicerContext[Any, Any]


class ProfileService(profile_pb2_grpc.ProfileServiceServicer):
    """The profiles of users."""

    def __init__(self, gateway: CommandGateway, profiles: ProfileQueries, eraser: Eraser) -> None:
        self._gateway = gateway
        self._profiles = profiles
        self._eraser = eraser

    async def GetUserProfile(
        self, request: profile_pb2.GetUserProfileRequest, context: Context
    ) -> profile_pb2.UserProfile:
        user_id = profile.get_profile(request)
        return profile.profile(found(await self._profiles.get(user_id), "user profile", user_id))

    async def UpdateUserProfile(
        self, request: profile_pb2.UpdateUserProfileRequest, context: Context
    ) -> profile_pb2.UserProfile:
        change = profile.update_profile(request)
        return profile.profile(await self._gateway.carry_out(change, UserProfile))

    async def EraseUser(
        self, request: profile_pb2.EraseUserRequest, context: Context
    ) -> profile_pb2.EraseUserResponse:
        user_id, call = profile.erase_user(request), current_call.get()
        left_s = remaining_s()
        within_s = ERASING_S if left_s is None else min(ERASING_S, left_s / 2)
        try:
            progress = await self._eraser.erase(
                user_id, "" if call is None else call.caller, within_s
            )
        except (Conflict, LockTimeout):
            raise conflict() from None
        return profile_pb2.EraseUserResponse(
            done=progress.done, erasure_id=str(progress.id), bookings=progress.bookings
        )
