"""`/api/v1/sessions/…`: where one is signed in, and ending it; for the staff, everybody's.

Ending a session ends what it carries: the next request with its cookie or any of its tokens is refused,
because every request asks the database for the live session.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from accounts.permissions import HasPermission, IsStaff
from mestore.lib import actor, errors, guard
from mestore.lib.errors import FieldError
from mestore.lib.shapes import Text, read
from sessions_security import ending, session_lists, session_words, sessions
from sessions_security.factor_views import NO_STORE, session_of_person
from sessions_security.models import UserSession
from sessions_security.second_person_views import ApprovalAnswer

OWN_STEP_UP = "sessions.revoke"
_READER: Any = HasPermission("users.read.read_only")
_ENDER: Any = HasPermission(ending.PERMISSION)
_PAGING = [
    OpenApiParameter("cursor", OpenApiTypes.UUID, description="`next` of the page before."),
    OpenApiParameter("limit", int, description="1 to 100; 50 without it."),
]
_NARROWING = [
    OpenApiParameter("user", OpenApiTypes.UUID, description="Sessions of this account only."),
    OpenApiParameter("kind", str, enum=[str(kind) for kind in UserSession.Kind]),
]
_USUAL, _LARGEST = 50, session_lists.LARGEST


class SessionAnswer(serializers.Serializer[Any]):
    """One live session. `current` is the one that asks; `bound`: each request must be signed by its key."""

    id = serializers.UUIDField()
    kind = serializers.CharField()
    device = serializers.CharField()
    address = serializers.CharField(allow_null=True)
    country = serializers.CharField(allow_null=True)
    created_at = serializers.DateTimeField()
    last_seen_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    amr = serializers.ListField(child=serializers.CharField())
    current = serializers.BooleanField()
    bound = serializers.BooleanField()


class SessionsAnswer(serializers.Serializer[Any]):
    """Live sessions, newest first; `next` is the cursor of the next page."""

    results = SessionAnswer(many=True)
    next = serializers.UUIDField(allow_null=True)


class SomebodysSessionAnswer(SessionAnswer):
    """A live session as the staff see it: whose it is, too."""

    user_id = serializers.UUIDField()
    email = serializers.CharField(allow_null=True)
    role = serializers.CharField()
    risk = serializers.IntegerField()


class EverybodysSessionsAnswer(serializers.Serializer[Any]):
    """Live sessions of everybody, newest first."""

    results = SomebodysSessionAnswer(many=True)
    next = serializers.UUIDField(allow_null=True)


class EndedAnswer(serializers.Serializer[Any]):
    """How many sessions ended."""

    ended = serializers.IntegerField()


class EndingRequest(serializers.Serializer[Any]):
    reason = Text(max_length=500)


class Sessions(APIView):
    """Where one is signed in."""

    @extend_schema(operation_id="sessions_list", parameters=_PAGING, responses=SessionsAnswer)
    def get(self, request: Request) -> Response:
        session = session_of_person(request)
        after, limit = _page_of(request)
        page = session_lists.own(session.user, after=after, limit=limit)
        rows = [_shown(one, current=session.pk) for one in page.sessions]
        return Response(SessionsAnswer({"results": rows, "next": page.next}).data, headers=NO_STORE)


class OneSession(APIView):
    """One of one's own sessions."""

    @extend_schema(operation_id="sessions_end", responses={204: None})
    def delete(self, request: Request, session_id: UUID) -> Response:
        """End it. The present one needs no fresh factor: that is signing out."""
        session, by = session_of_person(request), actor.of(request)
        if session_id == session.pk:
            sessions.end(session, by=by, why="own_choice")
            return Response(status=204)
        found = sessions.live(session.user).filter(pk=session_id).first()
        if found is None:
            raise errors.NotFound
        guard.require(OWN_STEP_UP, request)
        if not sessions.end(found, by=by, why="own_choice"):
            raise errors.NotFound
        return Response(status=204)


class EndOthers(APIView):
    """End all of one's own sessions but the present one."""

    @extend_schema(operation_id="sessions_revoke_others", request=None, responses=EndedAnswer)
    def post(self, request: Request) -> Response:
        session = session_of_person(request)
        guard.require(OWN_STEP_UP, request)
        ended = sessions.end_everywhere(
            session.user, by=actor.of(request), why="own_choice", keep=session.pk, keep_device=True
        )
        return Response({"ended": ended})


class EndAll(APIView):
    """End all of one's own sessions, the present one too."""

    @extend_schema(operation_id="sessions_revoke_all", request=None, responses=EndedAnswer)
    def post(self, request: Request) -> Response:
        session = session_of_person(request)
        guard.require(OWN_STEP_UP, request)
        ended = sessions.end_everywhere(session.user, by=actor.of(request), why="own_choice")
        return Response({"ended": ended})


class EverybodysSessions(APIView):
    """Live sessions of everybody, for the staff."""

    permission_classes = [IsStaff, _READER]

    @extend_schema(
        operation_id="admin_sessions_list",
        parameters=[*_PAGING, *_NARROWING],
        responses=EverybodysSessionsAnswer,
    )
    def get(self, request: Request) -> Response:
        after, limit = _page_of(request)
        page = session_lists.of_everybody(
            user_id=_uuid(request, "user"), kind=_kind(request), after=after, limit=limit
        )
        mine = session_of_person(request).pk
        rows = [_shown(one, current=mine) | _whose(one) for one in page.sessions]
        return Response(EverybodysSessionsAnswer({"results": rows, "next": page.next}).data, headers=NO_STORE)


class EndOne(APIView):
    """End one session of somebody else, for a reason."""

    permission_classes = [IsStaff, _ENDER]

    @extend_schema(operation_id="admin_sessions_end", request=EndingRequest, responses={204: None})
    def post(self, request: Request, session_id: UUID) -> Response:
        reason = read(EndingRequest, request)["reason"]
        session = UserSession.objects.select_related("user").filter(pk=session_id).first()
        if session is None:
            raise errors.NotFound
        guard.require(ending.STEP_UP, request)
        ending.end_one(session, reason=reason, by=actor.of(request))
        return Response(status=204)


class EndAllOf(APIView):
    """End every session of one account, for a reason."""

    permission_classes = [IsStaff, _ENDER]

    @extend_schema(operation_id="admin_users_end_sessions", request=EndingRequest, responses=EndedAnswer)
    def post(self, request: Request, user_id: UUID) -> Response:
        reason = read(EndingRequest, request)["reason"]
        user = User.objects.filter(pk=user_id).first()
        if user is None:
            raise errors.NotFound
        guard.require(ending.STEP_UP, request)
        return Response({"ended": ending.end_all_of(user, reason=reason, by=actor.of(request))})


class EndEveryone(APIView):
    """Ask a second person to sign everybody out. Nothing ends before they approve."""

    permission_classes = [IsStaff, _ENDER]

    @extend_schema(
        operation_id="admin_sessions_end_everyone", request=EndingRequest, responses={202: ApprovalAnswer}
    )
    def post(self, request: Request) -> Response:
        reason = read(EndingRequest, request)["reason"]
        guard.require(ending.STEP_UP, request)
        asked = ending.ask_end_everyone(reason=reason, by=actor.of(request))
        return Response(ApprovalAnswer(asked).data, status=202)


def _shown(session: UserSession, *, current: UUID) -> dict[str, Any]:
    ends = (session.idle_expires_at, session.absolute_expires_at)
    return {
        "id": session.pk,
        "kind": session.kind,
        "device": session_words.device(session),
        "address": session.address or None,
        "country": session.country or None,
        "created_at": session.created_at,
        "last_seen_at": session.last_seen_at,
        "expires_at": min(moment for moment in ends if moment is not None),
        "amr": session.amr,
        "current": session.pk == current,
        "bound": session.bound_key is not None,
    }


def _whose(session: UserSession) -> dict[str, Any]:
    user = session.user
    return {
        "user_id": user.pk,
        "email": user.email or None,
        "role": user.user_type,
        "risk": session.risk,
    }


def _page_of(request: Request) -> tuple[UUID | None, int]:
    """Return after which session the page begins, and how many it has. Raises errors.Unprocessable."""
    text = request.query_params.get("limit", str(_USUAL))
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= _LARGEST):
        raise _wrong("limit", _("This must be between %(least)d and %(most)d.") % {"least": 1, "most": 100})
    return _uuid(request, "cursor"), int(text)


def _uuid(request: Request, name: str) -> UUID | None:
    text = request.query_params.get(name)
    if not text:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise _wrong(name, _("This must be an id.")) from None


def _kind(request: Request) -> str | None:
    text = request.query_params.get("kind")
    if not text:
        return None
    if text not in {str(kind) for kind in UserSession.Kind}:
        raise _wrong("kind", _("This must be one of: %(known)s.") % {"known": "cookie, token"})
    return text


def _wrong(name: str, message: Any) -> errors.Unprocessable:
    return errors.Unprocessable(details=[FieldError(f"query -> {name}", message, "invalid")])
