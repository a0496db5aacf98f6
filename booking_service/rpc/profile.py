"""booking.v1.ProfileService: translates, calls, translates back."""

from __future__ import annotations

from typing import Any

import grpc

from booking_service.domain.profile import UserProfile
from booking_service.errors import found
from booking_service.mapping import profile
from booking_service.reads.profiles import ProfileQueries
from booking_service.rpc.command_gateway import CommandGateway
from protos.booking.v1 import profile_pb2, profile_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class ProfileService(profile_pb2_grpc.ProfileServiceServicer):
    """The profiles of users."""

    def __init__(self, gateway: CommandGateway, profiles: ProfileQueries) -> None:
        self._gateway = gateway
        self._profiles = profiles

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
