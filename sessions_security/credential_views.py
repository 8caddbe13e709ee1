"""The API of one's own password, addresses and profile: read the input, make one call, answer."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import addresses, factors, password_change, password_reset, profile
from accounts.permissions import IsPerson
from mestore.lib import actor, guard
from mestore.lib.shapes import Text, read
from sessions_security import limits, signin
from sessions_security.registration_views import Name
from sessions_security.serializers import SignOutResponse, TokenResponse, account_summary, token_response
from sessions_security.views import Entrance

NO_STORE = {"Cache-Control": "no-store"}
Done = SignOutResponse


class _Twice(serializers.Serializer[Any]):
    """A new password; whoever sends it twice must send it alike."""

    new_password = Text()
    confirm_password = Text(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs.get("confirm_password", attrs["new_password"]) != attrs["new_password"]:
            message = _("The two passwords are not the same.")
            raise serializers.ValidationError({"confirm_password": [message]}, code="different")
        return attrs


class ChangePasswordRequest(_Twice):
    """The present password and the new one."""

    current_password = Text()


class ChangePasswordResponse(TokenResponse):
    """That it is done, and new tokens in place of those that ended."""

    success = serializers.BooleanField()
    message = serializers.CharField()


class ForgotPasswordRequest(serializers.Serializer[Any]):
    """The address that a link is sent to."""

    email = serializers.EmailField(max_length=254)


class TokenRequest(serializers.Serializer[Any]):
    """What a link in a message carries."""

    token = Text(min_length=1, max_length=100)


class ResetPasswordRequest(_Twice):
    """What the link carries, and the new password."""

    token = Text(min_length=1, max_length=100)


class TokenState(Done):
    """Whether a link still works."""

    valid = serializers.BooleanField()


class AddressRequest(serializers.Serializer[Any]):
    """Another address."""

    email = serializers.EmailField(max_length=254)


class ProfileRequest(serializers.Serializer[Any]):
    """What people say about themselves; what is left out stays as it is."""

    nombre = Name(max_length=100, required=False, allow_blank=True)
    apellido = Name(max_length=100, required=False, allow_blank=True)
    telefono = Name(max_length=32, required=False, allow_blank=True)
    ciudad = Name(max_length=100, required=False, allow_blank=True)
    empresa = Name(max_length=200, required=False, allow_blank=True)
    direccion = Name(max_length=300, required=False, allow_blank=True)
    language = serializers.ChoiceField(choices=[code for code, _name in settings.LANGUAGES], required=False)


class ProfileResponse(serializers.Serializer[Any]):
    """One's own account."""

    id = serializers.UUIDField()
    email = serializers.CharField()
    recovery_email = serializers.CharField()
    user_type = serializers.CharField()
    nombre = serializers.CharField()
    apellido = serializers.CharField()
    telefono = serializers.CharField()
    ciudad = serializers.CharField()
    empresa = serializers.CharField()
    direccion = serializers.CharField()
    language = serializers.CharField()
    email_verified = serializers.BooleanField()
    phone_verified = serializers.BooleanField()
    force_password_change = serializers.BooleanField()


class ChangePassword(APIView):
    """Choose a new password. Every session ends; a program gets new tokens, a browser signs in again.

    Where there is a second factor, it must have been proved just now.
    """

    permission_classes = [IsPerson]

    @extend_schema(request=ChangePasswordRequest, responses=ChangePasswordResponse)
    def post(self, request: Request) -> Response:
        given = read(ChangePasswordRequest, request)
        user: Any = request.user
        session: Any = request.auth
        by = actor.of(request)
        if factors.has_factor(user):
            guard.require("account.change_password", request)
        user = password_change.change(
            user, current=given["current_password"], new=given["new_password"], by=by
        )
        body: dict[str, Any] = {"success": True, "message": _("Password changed")}
        if session.kind == "token":
            opened = signin.open_tokens(user, session.amr, by=by, bound_key=session.bound_key)
            body |= token_response(opened.tokens, user)
        return Response(body, headers=NO_STORE)


class ForgotPassword(Entrance):
    """Ask for a reset link; the answer never says whether the address has an account."""

    @extend_schema(request=ForgotPasswordRequest, responses=Done)
    def post(self, request: Request) -> Response:
        limits.limit_anonymous(request)
        password_reset.request(read(ForgotPasswordRequest, request)["email"], by=actor.of(request))
        message = _("If the e-mail exists, you will receive recovery instructions")
        return Response({"success": True, "message": message})


class ValidateResetToken(Entrance):
    """Say whether a reset link still works, without using it."""

    @extend_schema(
        request=TokenRequest, responses=TokenState, parameters=[OpenApiParameter("token", str, "query")]
    )
    def post(self, request: Request) -> Response:
        limits.limit_anonymous(request)
        # The older page sends it in the address.
        token = request.query_params.get("token") or read(TokenRequest, request)["token"]
        valid = password_reset.is_open(token[:100])
        message = _("The link is valid") if valid else str(password_reset.InvalidToken.message)
        return Response({"success": valid, "valid": valid, "message": message}, headers=NO_STORE)


class ResetPassword(Entrance):
    """Choose a new password through a reset link. Signs nobody in: the second factor is still asked for."""

    @extend_schema(request=ResetPasswordRequest, responses=Done)
    def post(self, request: Request) -> Response:
        limits.limit_anonymous(request)
        given = read(ResetPasswordRequest, request)
        password_reset.reset(given["token"], new=given["new_password"], by=actor.of(request))
        return Response({"success": True, "message": _("Password changed. Sign in with the new one.")})


class ChangeEmail(APIView):
    """Ask for another e-mail address; it counts when its link was used."""

    permission_classes = [IsPerson]
    kind = addresses.Kind.PRIMARY

    @extend_schema(request=AddressRequest, responses={202: Done})
    def post(self, request: Request) -> Response:
        given = read(AddressRequest, request)
        guard.require("account.change_email", request)
        user: Any = request.user
        addresses.request_change(user, given["email"], self.kind, by=actor.of(request))
        message = _("A link was sent to the new address. It counts when the link was used.")
        return Response({"success": True, "message": message}, status=202)


class RecoveryEmail(ChangeEmail):
    """The second address, for messages about security."""

    kind = addresses.Kind.RECOVERY

    @extend_schema(responses=Done)
    def delete(self, request: Request) -> Response:
        guard.require("account.change_email", request)
        user: Any = request.user
        addresses.remove_recovery(user, by=actor.of(request))
        return Response({"success": True, "message": _("The second address was removed")})


class ConfirmEmail(APIView):
    """Prove the new address with the link that was sent there."""

    permission_classes = [IsPerson]

    @extend_schema(request=TokenRequest, responses={200: ProfileResponse})
    def post(self, request: Request) -> Response:
        given = read(TokenRequest, request)
        user: Any = request.user
        return Response(_profile(addresses.confirm(user, given["token"], by=actor.of(request))))


class CancelEmailChange(Entrance):
    """Stop a change of address, with the link that the present address received."""

    @extend_schema(request=TokenRequest, responses=Done)
    def post(self, request: Request) -> Response:
        limits.limit_anonymous(request)
        addresses.cancel(read(TokenRequest, request)["token"], by=actor.of(request))
        return Response({"success": True, "message": _("The change of address was stopped")})


class Profile(APIView):
    """What the account says about its owner."""

    permission_classes = [IsPerson]

    @extend_schema(responses=ProfileResponse)
    def get(self, request: Request) -> Response:
        user: Any = request.user
        return Response(_profile(user))

    @extend_schema(request=ProfileRequest, responses=ProfileResponse)
    def put(self, request: Request) -> Response:
        user: Any = request.user
        changes = read(ProfileRequest, request)
        return Response(_profile(profile.update(user, changes, by=actor.of(request))))

    @extend_schema(request=ProfileRequest, responses=ProfileResponse)
    def patch(self, request: Request) -> Response:
        return self.put(request)


def _profile(user: Any) -> dict[str, Any]:
    return account_summary(user) | {str(name): getattr(user, str(name)) for name in ProfileResponse().fields}
