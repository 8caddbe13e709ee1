"""`/commissions/rules/…`: what sales are charged by. Proposed by one person, put in force by another."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.base import AdministrationView
from finance import charging, list_query, rule_changes, rule_preview
from finance.api import rules_shapes as shapes
from finance.models import CommissionRule
from finance.states import RuleStatus
from mestore.lib import actor, ids
from mestore.lib.shapes import read

READING: Final = "commissions.read.read_only"
PROPOSING: Final = "commissions.configure.global"
APPROVING: Final = "commissions.approve.global"
#: What putting one in force asks to be confirmed freshly; the console asks the same.
APPROVE_ACTION: Final = "commission_rules.approve"


class RulesView(AdministrationView):
    """All rules, and proposing one."""

    needs = {"GET": READING, "POST": PROPOSING}

    @extend_schema(
        operation_id="commission_rules_list", summary="List commission rules",
        parameters=[
            OpenApiParameter("status", OpenApiTypes.STR, enum=[status.value for status in RuleStatus]),
            OpenApiParameter("cursor", OpenApiTypes.UUID), OpenApiParameter("limit", OpenApiTypes.INT),
        ],
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        """List rules, newest first."""
        reader = list_query.Reader(request.query_params)
        status = reader.one_of("status", {one.value for one in RuleStatus})
        before, limit = reader.uuid("cursor"), reader.whole("limit", 50, 1, 100)
        reader.raise_if_wrong()
        rows = CommissionRule.objects.order_by("-id")
        if status:
            rows = rows.filter(status=status)
        if before:
            rows = rows.filter(pk__lt=before)
        found = list(rows[: limit + 1])
        following = found[limit - 1].pk if len(found) > limit else None
        return Response({"results": [shapes.rule(row) for row in found[:limit]], "next": following})

    @extend_schema(
        operation_id="commission_rules_propose", summary="Propose a commission rule",
        request=shapes.RuleProposalRequest, responses={201: OpenApiTypes.OBJECT},
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        """Propose a rule: it is in force when another person has approved it."""
        given = read(shapes.RuleProposalRequest, request)
        row = rule_changes.propose(given["proposal"], reason=given["reason"], by=actor.of(request))
        return Response(shapes.rule(row), status=201)


class RuleView(AdministrationView):
    """One rule."""

    needs = {"GET": READING}

    @extend_schema(
        operation_id="commission_rules_read", summary="Read a commission rule", responses=OpenApiTypes.OBJECT
    )
    def get(self, request: Request, rule_id: UUID) -> Response:  # noqa: ARG002 - the method's signature
        """Return one rule with its terms."""
        return Response(shapes.rule(rule_changes.find(rule_id)))


class RulePreviewView(AdministrationView):
    """What a stored rule would have done."""

    needs = {"GET": READING}

    @extend_schema(
        operation_id="commission_rules_preview", summary="What a rule would have done last month",
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def get(self, request: Request, rule_id: UUID) -> Response:  # noqa: ARG002 - the method's signature
        """Return what a rule would have done to last month's sales, at most the first 20,000 of them."""
        found = rule_preview.of(charging.rule_of(rule_changes.find(rule_id)))
        return Response(shapes.preview(found))


class TermsPreviewView(AdministrationView):
    """What terms would have done, before anybody proposes them."""

    needs = {"POST": PROPOSING}

    @extend_schema(
        operation_id="commission_rules_preview_terms", summary="What terms would have done last month",
        request=shapes.RuleTermsRequest, responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        """Return what a rule of these terms would have done to last month's sales; nothing is written."""
        proposal = read(shapes.RuleTermsRequest, request)["proposal"]
        rule = proposal.rule(ids.uuid7())
        rule_changes.check(proposal, rule)
        return Response(shapes.preview(rule_preview.of(rule)))


class RuleApproveView(AdministrationView):
    """Another person's yes."""

    needs = {"POST": APPROVING}
    step_up = {"POST": APPROVE_ACTION}

    @extend_schema(
        operation_id="commission_rules_approve", summary="Put a commission rule in force",
        request=shapes.RuleDecisionRequest, responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def post(self, request: Request, rule_id: UUID) -> Response:
        """Put a proposed rule in force, as somebody else than who proposed it."""
        given = read(shapes.RuleDecisionRequest, request)
        row = rule_changes.approve(rule_id, reason=given["reason"], by=actor.of(request))
        return Response(shapes.rule(row))


class RuleRejectView(AdministrationView):
    """Another person's no."""

    needs = {"POST": APPROVING}

    @extend_schema(
        operation_id="commission_rules_reject", summary="Reject a proposed commission rule",
        request=shapes.RuleDecisionRequest, responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def post(self, request: Request, rule_id: UUID) -> Response:
        """Reject a rule that waits for a decision: it never comes into force."""
        given = read(shapes.RuleDecisionRequest, request)
        row = rule_changes.reject(rule_id, reason=given["reason"], by=actor.of(request))
        return Response(shapes.rule(row))


class RuleWithdrawView(AdministrationView):
    """Taking a rule back before it begins."""

    needs = {"POST": PROPOSING}

    @extend_schema(
        operation_id="commission_rules_withdraw", summary="Withdraw a commission rule that has not begun",
        request=shapes.RuleDecisionRequest, responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def post(self, request: Request, rule_id: UUID) -> Response:
        """Take back a rule that waits, or that was approved and has not begun."""
        given = read(shapes.RuleDecisionRequest, request)
        row = rule_changes.withdraw(rule_id, reason=given["reason"], by=actor.of(request))
        return Response(shapes.rule(row))


class RuleEndView(AdministrationView):
    """The end of a rule in force."""

    needs = {"POST": PROPOSING}

    @extend_schema(
        operation_id="commission_rules_end", summary="End a commission rule", request=shapes.RuleEndRequest,
        responses=OpenApiTypes.OBJECT,
    )  # fmt: skip
    def post(self, request: Request, rule_id: UUID) -> Response:
        """End a rule in force, now or at a moment to come; what was charged by it stays."""
        given: dict[str, Any] = read(shapes.RuleEndRequest, request)
        row = rule_changes.end(rule_id, reason=given["reason"], at=given["at"], by=actor.of(request))
        return Response(shapes.rule(row))
