"""The verification API: read the input, make one call, answer."""

from __future__ import annotations

import dataclasses
from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import verification
from accounts.permissions import IsPerson
from accounts.verification import Kind
from mestore.lib import actor, shapes


class OtpSendRequest(serializers.Serializer[Any]):
    """Which address is to be verified; each path has its own."""

    otp_type = serializers.ChoiceField(choices=Kind.values, required=False)


class OtpVerifyRequest(serializers.Serializer[Any]):
    """The code that was sent."""

    otp_type = serializers.ChoiceField(choices=Kind.values, required=False)
    otp_code = shapes.Text(max_length=32)


class VerificationStatus(serializers.Serializer[Any]):
    """Where verification stands."""

    email_verified = serializers.BooleanField()
    phone_verified = serializers.BooleanField()
    has_active_otp = serializers.BooleanField()
    otp_type = serializers.CharField()
    otp_expires_at = serializers.DateTimeField(allow_null=True)
    can_request_new_otp = serializers.BooleanField()
    is_otp_blocked = serializers.BooleanField()
    otp_attempts = serializers.IntegerField()


class OtpResponse(serializers.Serializer[Any]):
    """That it is done, in words, and where verification stands."""

    success = serializers.BooleanField()
    message = serializers.CharField()
    verification_status = VerificationStatus()


class _Verification(APIView):
    """A view for one kind of address; `kind` None lets the body say which."""

    permission_classes = [IsPerson]
    kind: Kind | None = None

    def kind_of(self, given: dict[str, Any]) -> Kind:
        """Return the kind of this path, or the body's. Raises ValidationError where the two differ."""
        asked = given.get("otp_type")
        if self.kind is None:
            return Kind(asked or Kind.EMAIL)
        if asked is not None and asked != self.kind:
            raise serializers.ValidationError({"otp_type": [_("This address verifies something else.")]})
        return self.kind

    def answer(self, message: str, status: verification.Status) -> Response:
        return Response(
            {"success": True, "message": message, "verification_status": dataclasses.asdict(status)}
        )


class SendCode(_Verification):
    """Send a code to the account's own e-mail address or telephone."""

    @extend_schema(request=OtpSendRequest, responses=OtpResponse)
    def post(self, request: Request) -> Response:
        user: Any = request.user
        kind = self.kind_of(shapes.read(OtpSendRequest, request))
        status = verification.send_code(user, kind, by=actor.of(request))
        return self.answer(_("Verification code sent"), status)


class VerifyCode(_Verification):
    """Prove an address with the code that was sent there."""

    @extend_schema(request=OtpVerifyRequest, responses=OtpResponse)
    def post(self, request: Request) -> Response:
        user: Any = request.user
        given = shapes.read(OtpVerifyRequest, request)
        kind = self.kind_of(given)
        status = verification.verify(user, kind, given["otp_code"], by=actor.of(request))
        return self.answer(_("Verified"), status)
