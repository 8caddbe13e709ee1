"""The API's entrances and exits: read the input, make one call, answer."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework.parsers import FormParser
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.views import APIView

from mestore.lib import actor, errors, http
from sessions_security import (
    background,
    clients,
    device_cookie,
    dpop,
    keys,
    limits,
    serializers,
    signin,
    tokens,
)


class Entrance(APIView):
    """A view for strangers: nothing they send along can sign them in by the way."""

    authentication_classes = []
    permission_classes = [AllowAny]

    def handle_exception(self, exc: Exception) -> Response:
        """Answer `exc`, having counted the request: a malformed one is not free."""
        try:
            limits.limit_anonymous(self.request)
        except errors.TooManyRequests as limited:
            return super().handle_exception(limited)
        return super().handle_exception(exc)


class SignIn(Entrance):
    """Sign in with e-mail address and password."""

    purpose: signin.Purpose = "api"

    @extend_schema(request=serializers.SignInRequest, responses=serializers.TokenResponse)
    def post(self, request: Request) -> Response:
        given = _read(serializers.SignInRequest, request)
        limits.limit_sign_in(request, given["email"])
        by = actor.of(request)
        done = signin.with_password(
            given["email"],
            given["password"],
            purpose=self.purpose,
            by=by,
            bound_key=dpop.offered(request),
        )
        response = Response(serializers.token_response(done.tokens, done.user))
        device_cookie.leave(request, response, done.user, by=by, session=done.session)
        return response


class AdminSignIn(SignIn):
    """Sign in as an administrator; the answer asks for the second factor."""

    purpose = "admin"


class SecondStep(Entrance):
    """Finish a sign-in with the second factor."""

    @extend_schema(request=serializers.SecondStepRequest, responses=serializers.TokenResponse)
    def post(self, request: Request) -> Response:
        limits.limit_anonymous(request)
        given = _read(serializers.SecondStepRequest, request)
        by = actor.of(request)
        done = signin.with_factor(
            given["mfa_token"],
            method=given["method"],
            answer=given,
            by=by,
            bound_key=dpop.offered(request),
        )
        body = serializers.token_response(done.tokens, done.user)
        if done.replacement_code:
            body["replacement_code"] = done.replacement_code
        response = Response(body)
        device_cookie.leave(request, response, done.user, by=by, session=done.session)
        return response


class RefreshTokens(Entrance):
    """Exchange a refresh token for new tokens."""

    @extend_schema(request=serializers.RefreshRequest, responses=serializers.TokenResponse)
    def post(self, request: Request) -> Response:
        limits.limit_anonymous(request)
        given = _read(serializers.RefreshRequest, request)
        pair = tokens.rotate(
            given["refresh_token"],
            by=actor.of(request),
            bound_key=dpop.offered(request),
            in_background=background.is_background(request),
        )
        return Response(serializers.token_response(pair, None))


class ClientToken(Entrance):
    """Give a machine account an access token (OAuth 2.0 client credentials, HTTP Basic or an assertion)."""

    parser_classes = [FormParser, http.StrictJSONParser]

    @extend_schema(request=serializers.ClientTokenRequest, responses=serializers.ClientTokenResponse)
    def post(self, request: Request) -> Response:
        has_key = "HTTP_AUTHORIZATION" in request.META
        client_id, key = _basic_credentials(request) if has_key else ("", "")
        limits.limit_sign_in(request, client_id)
        given = _read(serializers.ClientTokenRequest, request)
        assertion = given.get("client_assertion")
        # One proof, and only one: two could name two clients.
        if has_key == (assertion is not None):
            raise clients.InvalidClient
        by, bound_key = actor.of(request), dpop.offered(request)
        if assertion is None:
            done = signin.with_client_key(client_id, key, by=by, bound_key=bound_key)
        else:
            named = given.get("client_id")
            done = signin.with_client_assertion(assertion, by=by, client_id=named, bound_key=bound_key)
        return Response(serializers.token_response(done.tokens, None))


class SignOut(APIView):
    """End this session, or with `revoke_all` every session of the account."""

    @extend_schema(request=serializers.SignOutRequest, responses=serializers.SignOutResponse)
    def post(self, request: Request) -> Response:
        given = _read(serializers.SignOutRequest, request)
        session: Any = request.auth
        signin.sign_out(session, everywhere=given["revoke_all"], by=actor.of(request))
        response = Response({"success": True, "message": _("Signed out")})
        if session.kind == "cookie":
            request._request.session.flush()
            response["Clear-Site-Data"] = signin.CLEAR_SITE_DATA
        return response


class Me(APIView):
    """The account behind the request."""

    @extend_schema(responses=serializers.MeResponse)
    def get(self, request: Request) -> Response:
        user: Any = request.user
        return Response(serializers.me(user))


def jwks(request: HttpRequest) -> HttpResponse:
    """Publish the keys that verify access tokens."""
    if request.method not in {"GET", "HEAD"}:
        return http.problem(errors.MethodNotAllowed(headers={"Allow": "GET, HEAD"}), request=request)
    body = http.dumps(keys.public_jwks())
    return HttpResponse(
        body, content_type="application/jwk-set+json", headers={"Cache-Control": "public, max-age=60"}
    )


def _read(shape: type[Serializer[Any]], request: Request) -> dict[str, Any]:
    serializer = shape(data=request.data)
    serializer.is_valid(raise_exception=True)
    given: dict[str, Any] = serializer.validated_data
    return given


def _basic_credentials(request: Request) -> tuple[str, str]:
    """Return client id and key of the Basic header. Raises `clients.InvalidClient`."""
    scheme, _space, encoded = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "basic":
        raise clients.InvalidClient
    try:
        client_id, colon, key = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise clients.InvalidClient from None
    if not colon or not client_id or not key or "\x00" in client_id:
        raise clients.InvalidClient
    return client_id, key
