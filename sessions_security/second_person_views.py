"""What waits for a second person, and deciding about it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import approvals
from accounts.permissions import IsStaff
from mestore.lib import actor, errors, guard
from mestore.lib.shapes import Text, read

PAGE = 100


class ApprovalAnswer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    action = serializers.CharField()
    target_type = serializers.CharField()
    target_id = serializers.CharField()
    details = serializers.JSONField()
    reason = serializers.CharField()
    state = serializers.CharField()
    asked_by = serializers.CharField(source="asked_by_label")
    asked_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    decided_by = serializers.CharField(source="decided_by_label")
    decided_at = serializers.DateTimeField()


class DecisionRequest(serializers.Serializer[Any]):
    reason = Text(max_length=500, required=False, default="", allow_blank=True)


class Approvals(APIView):
    """What waits for the caller's decision, and what the caller asked for."""

    permission_classes = [IsStaff]

    @extend_schema(responses={200: ApprovalAnswer(many=True)})
    def get(self, request: Request) -> Response:
        user: Any = request.user
        waiting, asked = approvals.waiting_for(user)[:PAGE], approvals.asked_by(user)[:PAGE]
        return Response(
            {
                "waiting": ApprovalAnswer(waiting, many=True).data,
                "asked": ApprovalAnswer(asked, many=True).data,
            }
        )


class Decision(APIView):
    """Approve, refuse or withdraw one request."""

    permission_classes = [IsStaff]

    @extend_schema(request=DecisionRequest, responses={200: ApprovalAnswer})
    def post(self, request: Request, request_id: UUID, decision: str) -> Response:
        reason = read(DecisionRequest, request)["reason"]
        by = actor.of(request)
        if decision == "withdraw":
            return Response(ApprovalAnswer(approvals.withdraw(request_id, by=by)).data)
        if decision not in {"approve", "refuse"}:
            raise errors.NotFound
        guard.require("approvals.decide", request)
        decide = approvals.approve if decision == "approve" else approvals.refuse
        return Response(ApprovalAnswer(decide(request_id, reason=reason, by=by)).data)
