"""Access reviews, and why somebody was refused, over the API."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpResponseBase
from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import access_review, decisions, delegation, exports
from accounts.models import AccessReview
from accounts.permissions import HasPermission, IsStaff
from mestore.lib import actor, errors, guard
from mestore.lib.http import attachment
from mestore.lib.shapes import Text, read
from sessions_security.second_person_views import ApprovalAnswer

PAGE = 100
_REVIEWER: Any = HasPermission(delegation.REVOKING)
_READER: Any = HasPermission("permissions.read.read_only")


class ReviewAnswer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    started_at = serializers.DateTimeField()
    started_by = serializers.CharField(source="started_by_label")
    finished_at = serializers.DateTimeField()
    finished_by = serializers.CharField(source="finished_by_label")
    outcome_sha256 = serializers.CharField(source="outcome_digest")


class ItemAnswer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    grant_id = serializers.UUIDField()
    user_id = serializers.UUIDField(source="grant.user_id")
    permission = serializers.CharField(source="grant.permission.name")
    expires_at = serializers.DateTimeField(source="grant.expires_at")
    last_used_at = serializers.DateTimeField()
    outcome = serializers.CharField()
    decided_by = serializers.CharField(source="decided_by_label")
    decided_at = serializers.DateTimeField()


class ItemRequest(serializers.Serializer[Any]):
    outcome = Text(max_length=8)
    reason = Text(max_length=500, required=False, default="", allow_blank=True)


class RefusalAnswer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    at = serializers.DateTimeField()
    user_id = serializers.UUIDField()
    session_id = serializers.CharField()
    asked = serializers.CharField()
    rule = serializers.CharField()
    inputs = serializers.JSONField()
    limits = serializers.JSONField()


class Reviews(APIView):
    """Reviews, newest first; beginning one."""

    permission_classes = [IsStaff, _REVIEWER]

    @extend_schema(operation_id="access_reviews_list", responses={200: ReviewAnswer(many=True)})
    def get(self, _request: Request) -> Response:
        newest = AccessReview.objects.order_by("-pk")[:PAGE]
        return Response({"results": ReviewAnswer(newest, many=True).data, "next": None})

    @extend_schema(request=None, responses={201: ReviewAnswer})
    def post(self, request: Request) -> Response:
        return Response(ReviewAnswer(access_review.start(by=actor.of(request))).data, status=201)


class OneReview(APIView):
    """The grants of one review, after the id `cursor`."""

    permission_classes = [IsStaff, _REVIEWER]

    @extend_schema(
        parameters=[OpenApiParameter("cursor", OpenApiTypes.UUID)], responses={200: ItemAnswer(many=True)}
    )
    def get(self, request: Request, review_id: UUID) -> Response:
        rows = access_review.items(_review(review_id))
        cursor = request.query_params.get("cursor")
        if cursor:
            rows = rows.filter(pk__gt=_id(cursor))
        page = list(rows[: PAGE + 1])
        further = str(page[PAGE - 1].pk) if len(page) > PAGE else None
        return Response({"results": ItemAnswer(page[:PAGE], many=True).data, "next": further})


class ExportRequest(serializers.Serializer[Any]):
    reason = Text(max_length=500, required=False, default="", allow_blank=True)


class Csv(APIView):
    """One review as a CSV file, once, when a second person agreed to exactly this file."""

    permission_classes = [IsStaff, _REVIEWER]

    @extend_schema(
        request=ExportRequest, responses={(200, "text/csv"): OpenApiTypes.STR, 202: ApprovalAnswer}
    )
    def post(self, request: Request, review_id: UUID) -> HttpResponseBase:
        given = read(ExportRequest, request)
        taken = exports.take_access_review(_review(review_id), reason=given["reason"], by=actor.of(request))
        if isinstance(taken, exports.File):
            return attachment(taken.name, taken.content)
        return Response(ApprovalAnswer(taken).data, status=202)


class Finish(APIView):
    """End a review; its outcome is sealed."""

    permission_classes = [IsStaff, _REVIEWER]

    @extend_schema(request=None, responses={200: ReviewAnswer})
    def post(self, request: Request, review_id: UUID) -> Response:
        guard.require("approvals.decide", request)
        return Response(ReviewAnswer(access_review.finish(review_id, by=actor.of(request))).data)


class Item(APIView):
    """Keep or revoke one grant of a review."""

    permission_classes = [IsStaff, _REVIEWER]

    @extend_schema(request=ItemRequest, responses={200: ItemAnswer})
    def post(self, request: Request, item_id: UUID) -> Response:
        given = read(ItemRequest, request)
        guard.require("approvals.decide", request)
        item = access_review.decide(
            item_id, outcome=given["outcome"], reason=given["reason"], by=actor.of(request)
        )
        return Response(ItemAnswer(item).data)


class Refusals(APIView):
    """Why a request was refused, by the request id that its caller was told. For support."""

    permission_classes = [IsStaff, _READER]

    @extend_schema(
        parameters=[OpenApiParameter("request_id", str, required=True)],
        responses={200: RefusalAnswer(many=True)},
    )
    def get(self, request: Request) -> Response:
        wanted = request.query_params.get("request_id", "")[:64].replace("\x00", "")
        found = decisions.of_request(wanted)[:PAGE] if wanted else []
        return Response({"results": RefusalAnswer(found, many=True).data, "next": None})


def _review(review_id: UUID) -> AccessReview:
    review = AccessReview.objects.filter(pk=review_id).first()
    if review is None:
        raise errors.NotFound
    return review


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise errors.Unprocessable(
            details=[errors.FieldError("cursor", _("This cursor is not one of ours."), "invalid")]
        ) from None
