"""The API of passkeys: options for the browser and what it answers, as JSON of the WebAuthn standard."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import passkey_answers
from mestore.lib import actor
from mestore.lib.shapes import Text, read
from sessions_security import device_cookie, dpop, enrolment, limits, own_factors, own_passkeys, signin
from sessions_security.factor_serializers import DeviceResponse, FirstSignInResponse, device
from sessions_security.factor_views import NO_STORE, session_of_person
from sessions_security.serializers import TokenResponse, token_response
from sessions_security.views import Entrance


class PasskeyOptionsResponse(serializers.Serializer[Any]):
    """`PublicKeyCredentialCreationOptionsJSON` or `PublicKeyCredentialRequestOptionsJSON`."""

    challenge = serializers.CharField()


class PasskeyOptionsRequest(serializers.Serializer[Any]):
    """With the token of a pending sign-in: options for its second factor. Without: for a passkey alone."""

    mfa_token = Text(max_length=128, required=False)


class PasskeyRegisterRequest(serializers.Serializer[Any]):
    """What the browser made (`credential.toJSON()`), and what to call it."""

    name = Text(max_length=64, default="Passkey")
    credential = serializers.JSONField(required=False)


class PasskeySignInRequest(serializers.Serializer[Any]):
    """What the browser answered (`credential.toJSON()`)."""

    credential = serializers.JSONField(required=False)


class FirstPasskeyOptionsRequest(serializers.Serializer[Any]):
    """The token of a sign-in that waits for the first factor."""

    mfa_token = Text(max_length=128)


class FirstPasskeyRequest(PasskeyRegisterRequest):
    """What the browser made, with the token of that sign-in."""

    mfa_token = Text(max_length=128)


class PasskeyRegisterResponse(DeviceResponse):
    """The new passkey; the first factor of an account brings backup codes, shown once."""

    backup_codes = serializers.ListField(child=serializers.CharField())


class RegisterOptions(APIView):
    """Begin to add a passkey."""

    @extend_schema(request=None, responses=PasskeyOptionsResponse)
    def post(self, request: Request) -> Response:
        options = own_passkeys.registration_options(session_of_person(request), by=actor.of(request))
        return Response(options, headers=NO_STORE)


class Register(APIView):
    """Add the passkey."""

    @extend_schema(request=PasskeyRegisterRequest, responses={201: PasskeyRegisterResponse})
    def post(self, request: Request) -> Response:
        given = read(PasskeyRegisterRequest, request)
        made = own_passkeys.register(
            session_of_person(request),
            name=given["name"],
            credential=_credential(given, request),
            by=actor.of(request),
        )
        body = device(own_factors.shown_passkey(made.passkey)) | {"backup_codes": made.backup_codes}
        return Response(body, status=201, headers=NO_STORE)


class StepUpOptions(APIView):
    """Begin to confirm with a passkey; the answer goes to `auth/step-up`."""

    @extend_schema(request=None, responses=PasskeyOptionsResponse)
    def post(self, request: Request) -> Response:
        return Response(own_passkeys.step_up_options(session_of_person(request)), headers=NO_STORE)


class SignInOptions(Entrance):
    """Begin to sign in with a passkey: alone, or as the second factor of a sign-in (`auth/mfa/verify`)."""

    @extend_schema(request=PasskeyOptionsRequest, responses=PasskeyOptionsResponse)
    def post(self, request: Request) -> Response:
        limits.limit_anonymous(request)
        mfa_token = read(PasskeyOptionsRequest, request).get("mfa_token")
        if mfa_token is None:
            return Response(own_passkeys.sign_in_options(), headers=NO_STORE)
        options = own_passkeys.second_factor_options(mfa_token, purposes=signin.API_PURPOSES)
        return Response(options, headers=NO_STORE)


class SignIn(Entrance):
    """Sign in with a passkey alone."""

    @extend_schema(request=PasskeySignInRequest, responses=TokenResponse)
    def post(self, request: Request) -> Response:
        limits.limit_anonymous(request)
        given = read(PasskeySignInRequest, request)
        by = actor.of(request)
        done = own_passkeys.sign_in(_credential(given, request), by=by, bound_key=dpop.offered(request))
        response = Response(token_response(done.tokens, done.user), headers=NO_STORE)
        device_cookie.leave(request, response, done.user, by=by, session=done.session)
        return response


class FirstOptions(Entrance):
    """Begin to add a passkey as the first factor of an account of the staff, in the middle of its sign-in."""

    @extend_schema(request=FirstPasskeyOptionsRequest, responses=PasskeyOptionsResponse)
    def post(self, request: Request) -> Response:
        limits.limit_anonymous(request)
        mfa_token = read(FirstPasskeyOptionsRequest, request)["mfa_token"]
        options = enrolment.passkey_options(mfa_token, purposes=signin.API_PURPOSES)
        return Response(options, headers=NO_STORE)


class First(Entrance):
    """Add it, and finish that sign-in."""

    @extend_schema(request=FirstPasskeyRequest, responses=FirstSignInResponse)
    def post(self, request: Request) -> Response:
        limits.limit_anonymous(request)
        given, by = read(FirstPasskeyRequest, request), actor.of(request)
        bound_key = dpop.offered(request)
        enrolled = enrolment.prove_passkey(
            given["mfa_token"],
            name=given["name"],
            credential=given.get("credential"),
            purposes=signin.API_PURPOSES,
            by=by,
        )
        done, codes = enrolment.sign_in(enrolled, by=by, bound_key=bound_key)
        body = token_response(done.tokens, done.user) | {"backup_codes": codes}
        response = Response(body, headers=NO_STORE)
        device_cookie.leave(request, response, done.user, by=by, session=done.session)
        return response


def _credential(given: dict[str, Any], request: Request) -> Any:
    """Return the credential of the body; some clients send it as the body. Raises MalformedPasskey."""
    if "credential" in given:
        return given["credential"]
    if isinstance(request.data, dict) and "rawId" in request.data:
        return request.data
    raise passkey_answers.MalformedPasskey
