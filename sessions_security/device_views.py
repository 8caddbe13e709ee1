"""The API of one's own known devices: the list, and forgetting one."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import devices
from mestore.lib import actor
from sessions_security.factor_views import NO_STORE, session_of_person


class KnownDeviceResponse(serializers.Serializer[Any]):
    """A browser that the account was signed in from; `current` is the one that asks."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    address = serializers.CharField(allow_null=True)
    created_at = serializers.DateTimeField()
    last_used_at = serializers.DateTimeField(allow_null=True)
    expires_at = serializers.DateTimeField()
    current = serializers.BooleanField()


class KnownDevicesResponse(serializers.Serializer[Any]):
    """All known devices, newest first."""

    devices = KnownDeviceResponse(many=True)


class KnownDevices(APIView):
    """The browsers whose failed sign-ins are counted apart from those of strangers."""

    @extend_schema(responses=KnownDevicesResponse)
    def get(self, request: Request) -> Response:
        session = session_of_person(request)
        current = devices.lane_of(by=actor.of(request), user=session.user)
        rows = [
            {
                "id": device.pk,
                "name": device.name,
                "address": device.address,
                "created_at": device.created_at,
                "last_used_at": device.last_used_at,
                "expires_at": device.expires_at,
                "current": device.pk == current,
            }
            for device in devices.of(session.user)
        ]
        return Response({"devices": rows}, headers=NO_STORE)


class OneKnownDevice(APIView):
    """One known device."""

    @extend_schema(responses={204: OpenApiResponse(description="It is forgotten.")})
    def delete(self, request: Request, device_id: UUID) -> Response:
        devices.revoke(session_of_person(request).user, device_id, by=actor.of(request))
        return Response(status=204)
