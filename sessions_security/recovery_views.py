"""The API for people who lost a second factor: begin, give two proofs, and stop what somebody else began."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import factor_resets, recovery
from mestore.lib import actor
from mestore.lib.shapes import Text, read
from sessions_security import limits
from sessions_security.views import Entrance

NO_STORE = {"Cache-Control": "no-store"}


class BeginRequest(serializers.Serializer[Any]):
    """The address of the account."""

    email = serializers.EmailField(max_length=254)


class BeginResponse(serializers.Serializer[Any]):
    """The token to go on with; the same for every address."""

    recovery_token = serializers.CharField()
    expires_in = serializers.IntegerField()
    methods = serializers.ListField(child=serializers.CharField())
    message = serializers.CharField()


class ProveRequest(serializers.Serializer[Any]):
    """One proof: a method with its code, or the password with the address it belongs to."""

    recovery_token = Text(max_length=128)
    method = Text(max_length=16)
    code = Text(max_length=64, required=False)
    email = Text(max_length=254, required=False)
    password = Text(required=False)


class ProgressResponse(serializers.Serializer[Any]):
    """The proofs given so far, and with the second one the moment when the factors end."""

    proofs = serializers.ListField(child=serializers.CharField())
    needed = serializers.IntegerField()
    reset_due_at = serializers.DateTimeField(allow_null=True)


class CancelRequest(serializers.Serializer[Any]):
    """The token of the link in the message."""

    token = Text(max_length=128)


class CancelResponse(serializers.Serializer[Any]):
    """That it is done, in words."""

    success = serializers.BooleanField()
    message = serializers.CharField()


class Begin(Entrance):
    """Say that a second factor is lost; a code goes to the account's own address."""

    @extend_schema(request=BeginRequest, responses=BeginResponse)
    def post(self, request: Request) -> Response:
        given = read(BeginRequest, request)
        limits.limit_sign_in(request, given["email"])
        token = recovery.begin(given["email"], by=actor.of(request))
        body = {
            "recovery_token": token,
            "expires_in": settings.RECOVERY_SECONDS,
            "methods": recovery.methods(),
            "message": _("If the account exists and has a second factor, a code is on its way."),
        }
        return Response(body, headers=NO_STORE)


class Prove(Entrance):
    """Give one of the two proofs."""

    @extend_schema(request=ProveRequest, responses=ProgressResponse)
    def post(self, request: Request) -> Response:
        limits.limit_anonymous(request)
        given = read(ProveRequest, request)
        so_far = recovery.prove(
            given["recovery_token"], method=given["method"], answer=given, by=actor.of(request)
        )
        body = {
            "proofs": list(so_far.proofs),
            "needed": recovery.NEEDED,
            "reset_due_at": so_far.reset.due_at if so_far.reset else None,
        }
        return Response(body, headers=NO_STORE)


class Cancel(Entrance):
    """Stop a factor reset with the link that went to its owner."""

    @extend_schema(request=CancelRequest, responses=CancelResponse)
    def post(self, request: Request) -> Response:
        limits.limit_anonymous(request)
        given = read(CancelRequest, request)
        factor_resets.cancel_by_token(given["token"], by=actor.of(request))
        return Response({"success": True, "message": _("The removal of the second factors was stopped.")})
