"""What the API of second factors reads and answers: shapes only."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from mestore.lib.shapes import Text
from sessions_security.own_factors import Enrolment, OwnFactor, OwnFactors
from sessions_security.serializers import TokenResponse


class EnrolRequest(serializers.Serializer[Any]):
    """What to call the new device."""

    name = Text(max_length=64, default="Authenticator")


class FirstEnrolRequest(EnrolRequest):
    """The same, with the token of a sign-in that waits for the first factor."""

    mfa_token = Text(max_length=128)


class ConfirmRequest(serializers.Serializer[Any]):
    """The first code of a new device."""

    device_id = Text(max_length=19)
    code = Text(max_length=32)


class FirstConfirmRequest(serializers.Serializer[Any]):
    """The first code of the first device, with the token of the sign-in."""

    mfa_token = Text(max_length=128)
    code = Text(max_length=32)


class StepUpRequest(serializers.Serializer[Any]):
    """A method and what it asks for: a code, a password or a credential."""

    method = Text(max_length=16)
    code = Text(max_length=64, required=False)
    password = Text(required=False)
    credential = serializers.JSONField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Something must be there to look at; which of the three a method reads is its own business."""
        if attrs.keys().isdisjoint({"code", "credential", "password"}):
            raise serializers.ValidationError({"code": _("This field is required.")}, code="required")
        return attrs


class EnrolResponse(serializers.Serializer[Any]):
    """A new device that waits for its first code, and its secret in three forms."""

    device_id = serializers.CharField()
    otpauth_uri = serializers.CharField()
    secret = serializers.CharField()
    qr_svg = serializers.CharField()
    expires_at = serializers.DateTimeField()


class BackupCodesResponse(serializers.Serializer[Any]):
    """Backup codes, shown once; empty when the account has some already."""

    backup_codes = serializers.ListField(child=serializers.CharField())


class ReplacementCodeResponse(serializers.Serializer[Any]):
    """The backup code that takes the place of the one just used, shown once."""

    replacement_code = serializers.CharField()


class DeviceResponse(serializers.Serializer[Any]):
    """One factor."""

    id = serializers.CharField()
    type = serializers.CharField()
    name = serializers.CharField()
    created_at = serializers.DateTimeField()
    last_used_at = serializers.DateTimeField(allow_null=True)
    bound_address = serializers.CharField()
    bound_session = serializers.CharField(allow_null=True)
    is_suspended = serializers.BooleanField()
    is_device_bound = serializers.BooleanField()


class DevicesResponse(serializers.Serializer[Any]):
    """All factors of the account."""

    devices = DeviceResponse(many=True)
    backup_codes_left = serializers.IntegerField()
    backup_codes_low = serializers.BooleanField()


class FirstSignInResponse(TokenResponse):
    """Tokens, and the backup codes that came with the first factor."""

    backup_codes = serializers.ListField(child=serializers.CharField())


def enrolment(made: Enrolment) -> dict[str, Any]:
    """Return a new device as the API shows it, once."""
    return {
        "device_id": str(made.device.pk),
        "otpauth_uri": made.otpauth_uri,
        "secret": made.secret,
        "qr_svg": made.qr_svg(),
        "expires_at": made.device.expires_at,
    }


def device(one: OwnFactor) -> dict[str, Any]:
    """Return one factor as the API shows it."""
    return {
        "id": one.id,
        "type": one.type,
        "name": one.name,
        "created_at": one.created_at,
        "last_used_at": one.last_used_at,
        "bound_address": one.bound_address,
        "bound_session": one.bound_session,
        "is_suspended": one.is_suspended,
        "is_device_bound": one.is_device_bound,
    }


def devices(found: OwnFactors) -> dict[str, Any]:
    """Return the factors of an account as the API lists them."""
    return {
        "devices": [device(one) for one in found.devices],
        "backup_codes_left": found.backup_codes_left,
        "backup_codes_low": found.backup_codes_low,
    }
