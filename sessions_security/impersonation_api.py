"""Seeing the system as somebody else, for programs of the support: begin and stop."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from accounts.permissions import HasPermission, IsStaff
from mestore.lib import actor, errors, guard
from mestore.lib.shapes import Text, read
from sessions_security import dpop, impersonation, tokens

_SUPPORT: Any = HasPermission(impersonation.PERMISSION)


class ImpersonationRequest(serializers.Serializer[Any]):
    user_id = serializers.UUIDField()
    reason = Text(max_length=500)


class BegunAnswer(serializers.Serializer[Any]):
    access_token = serializers.CharField()
    token_type = serializers.CharField()
    expires_in = serializers.IntegerField()
    session_id = serializers.UUIDField()
    ends_at = serializers.DateTimeField()


class Begin(APIView):
    """Receive a token that reads as another account, for fifteen minutes."""

    permission_classes = [IsStaff, _SUPPORT]

    @extend_schema(request=ImpersonationRequest, responses={201: BegunAnswer})
    def post(self, request: Request) -> Response:
        given = read(ImpersonationRequest, request)
        guard.require("users.impersonate", request)
        session = request.user_session  # type: ignore[attr-defined]  # of our authentication
        # The key that proved itself with this request already, or one that does now.
        bound_key = session.bound_key if session.bound_key is not None else dpop.offered(request)
        with transaction.atomic():
            made = impersonation.begin(
                session,
                _account(given["user_id"]),
                reason=given["reason"],
                by=actor.of(request),
                bound_key=bound_key,
            )
            issued = tokens.issue_access(made)
        answer = {
            "access_token": issued.access_token,
            "token_type": dpop.SCHEME if issued.is_bound else "bearer",
            "expires_in": issued.expires_in,
            "session_id": made.pk,
            "ends_at": made.absolute_expires_at,
        }
        return Response(BegunAnswer(answer).data, status=201)


class Stop(APIView):
    """End the impersonated session that sends this."""

    @extend_schema(request=None, responses={204: None})
    def post(self, request: Request) -> Response:
        session = request.user_session  # type: ignore[attr-defined]  # of our authentication
        impersonation.stop(session, by=actor.of(request))
        return Response(status=204)


def _account(user_id: UUID) -> User:
    user = User.objects.filter(pk=user_id).first()
    if user is None:
        raise errors.NotFound
    return user
