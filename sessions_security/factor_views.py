"""The API of one's own second factors: adding, listing, removing, new backup codes, confirming who one is."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from mestore.lib import actor, errors
from mestore.lib.shapes import read
from sessions_security import (
    console_session,
    continuity,
    device_cookie,
    dpop,
    enrolment,
    limits,
    own_factors,
    serializers,
    signin,
    stepup,
)
from sessions_security import factor_serializers as shapes
from sessions_security.models import UserSession
from sessions_security.permissions import IsPerson
from sessions_security.views import Entrance

NO_STORE = {"Cache-Control": "no-store"}


class TotpEnrolment(APIView):
    """Begin to add an authenticator application; its secret is in this answer only."""

    @extend_schema(request=shapes.EnrolRequest, responses=shapes.EnrolResponse)
    def post(self, request: Request) -> Response:
        given = read(shapes.EnrolRequest, request)
        made = own_factors.enrol_totp(session_of_person(request), name=given["name"], by=actor.of(request))
        return Response(shapes.enrolment(made), status=201, headers=NO_STORE)


class TotpConfirmation(APIView):
    """Make a new authenticator application count; the first one brings backup codes."""

    permission_classes = [IsPerson]

    @extend_schema(request=shapes.ConfirmRequest, responses=shapes.BackupCodesResponse)
    def post(self, request: Request) -> Response:
        given = read(shapes.ConfirmRequest, request)
        codes = own_factors.confirm_totp(
            session_of_person(request), device_id=given["device_id"], code=given["code"], by=actor.of(request)
        )
        return Response({"backup_codes": codes}, headers=NO_STORE)


class Devices(APIView):
    """The factors of the account."""

    @extend_schema(responses=shapes.DevicesResponse)
    def get(self, request: Request) -> Response:
        return Response(shapes.devices(own_factors.overview(session_of_person(request))), headers=NO_STORE)


class OneDevice(APIView):
    """One factor of the account."""

    @extend_schema(responses={204: OpenApiResponse(description="It is removed.")})
    def delete(self, request: Request, device_id: str) -> Response:
        own_factors.remove_device(session_of_person(request), device_id=device_id, by=actor.of(request))
        return Response(status=204)


class BackupCodes(APIView):
    """New backup codes, in this answer only; the earlier ones end."""

    @extend_schema(request=None, responses=shapes.BackupCodesResponse)
    def post(self, request: Request) -> Response:
        codes = own_factors.make_backup_codes(session_of_person(request), by=actor.of(request))
        return Response({"backup_codes": codes}, status=201, headers=NO_STORE)


class StepUp(APIView):
    """Confirm who one is; a backup code that is used here is answered with the one that replaces it."""

    permission_classes = [IsPerson]

    @extend_schema(
        request=shapes.StepUpRequest,
        responses={
            204: OpenApiResponse(description="It is confirmed."),
            200: shapes.ReplacementCodeResponse,
        },
    )
    def post(self, request: Request) -> Response:
        given = read(shapes.StepUpRequest, request)
        session = session_of_person(request)
        proved = stepup.prove(session, method=given["method"], answer=given, by=actor.of(request))
        continuity.confirm(session, request, method=given["method"])
        if session.kind == UserSession.Kind.COOKIE:
            console_session.confirm(request._request, proved.proof)
        if proved.replacement_code:
            return Response({"replacement_code": proved.replacement_code}, headers=NO_STORE)
        return Response(status=204)


class FirstEnrolment(Entrance):
    """Begin to add the first factor of an account of the staff, in the middle of its sign-in."""

    @extend_schema(request=shapes.FirstEnrolRequest, responses=shapes.EnrolResponse)
    def post(self, request: Request) -> Response:
        limits.limit_anonymous(request)
        given = read(shapes.FirstEnrolRequest, request)
        made = enrolment.begin(
            given["mfa_token"],
            name=given["name"],
            purposes=signin.API_PURPOSES,
            by=actor.of(request),
        )
        return Response(shapes.enrolment(made), status=201, headers=NO_STORE)


class FirstConfirmation(Entrance):
    """Finish that sign-in with the first code."""

    @extend_schema(request=shapes.FirstConfirmRequest, responses=shapes.FirstSignInResponse)
    def post(self, request: Request) -> Response:
        limits.limit_anonymous(request)
        given = read(shapes.FirstConfirmRequest, request)
        by, bound_key = actor.of(request), dpop.offered(request)
        enrolled = enrolment.prove(
            given["mfa_token"], code=given["code"], purposes=signin.API_PURPOSES, by=by
        )
        done, codes = enrolment.sign_in(enrolled, by=by, bound_key=bound_key)
        body = serializers.token_response(done.tokens, done.user) | {"backup_codes": codes}
        response = Response(body, headers=NO_STORE)
        device_cookie.leave(request, response, done.user, by=by, session=done.session)
        return response


def session_of_person(request: Request) -> UserSession:
    """Return the session of a person. Raises errors.Forbidden for a machine: it has no factors."""
    session: Any = request.auth
    if session.client_id is not None:
        raise errors.Forbidden
    found: UserSession = session
    return found
