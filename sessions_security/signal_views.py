"""`/api/v1/alerts/…`: signals and the work on them, as the console's page has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import responders
from accounts.permissions import HasPermission, IsStaff
from mestore.lib import actor, errors, guard
from mestore.lib.actor import Actor
from mestore.lib.shapes import Text, read
from monitoring import alert_lists, alert_notices, triage
from monitoring.signals import ArchiveReason, Severity, Signal, SignalState

_READER: Any = HasPermission(responders.VIEWING)
_ACTOR: Any = HasPermission(responders.ACTING)
_USUAL = 50
_SEVERITIES = {severity.name.lower(): severity for severity in Severity}
_FILTERS = [
    OpenApiParameter("cursor", str, description="`next` of the page before."),
    OpenApiParameter("limit", int, description="1 to 100; 50 without it."),
    OpenApiParameter("state", str, enum=[str(state) for state in SignalState]),
    OpenApiParameter("severity", str, enum=list(_SEVERITIES)),
    OpenApiParameter("rule", str),
    OpenApiParameter("mine", bool, description="Only those whose owner is asking."),
]


class SignalAnswer(serializers.Serializer[Any]):
    """One signal with its evidence, the newest first."""

    id = serializers.UUIDField()
    rule = serializers.CharField()
    title = serializers.SerializerMethodField()
    entity_type = serializers.CharField()
    entity_id = serializers.CharField()
    severity = serializers.SerializerMethodField()
    state = serializers.CharField()
    seen = serializers.IntegerField()
    first_seen_at = serializers.DateTimeField()
    last_seen_at = serializers.DateTimeField()
    evidence = serializers.JSONField()
    owner_id = serializers.UUIDField(allow_null=True)
    acknowledged_until = serializers.DateTimeField(allow_null=True)
    triaged_at = serializers.DateTimeField(allow_null=True)
    archived_at = serializers.DateTimeField(allow_null=True)
    archived_as = serializers.CharField()

    def get_title(self, signal: Signal) -> str:
        return alert_notices.title_of(signal.rule)

    def get_severity(self, signal: Signal) -> str:
        return Severity(signal.severity).name.lower()


class SignalsAnswer(serializers.Serializer[Any]):
    """Signals, the worst first; `next` is the cursor of the next page."""

    results = SignalAnswer(many=True)
    next = serializers.CharField(allow_null=True)


class SignalQuery(serializers.Serializer[Any]):
    """What a list may be asked for."""

    cursor = serializers.CharField(required=False, max_length=120)
    limit = serializers.IntegerField(
        required=False, default=_USUAL, min_value=1, max_value=alert_lists.LARGEST
    )
    state = serializers.ChoiceField(required=False, choices=SignalState.choices)
    severity = serializers.ChoiceField(required=False, choices=list(_SEVERITIES))
    rule = serializers.CharField(required=False, max_length=64)
    mine = serializers.BooleanField(required=False, default=False)


class SignalReviewRequest(serializers.Serializer[Any]):
    reason = Text(max_length=triage.REASON_MAX, required=False, default="", allow_blank=True)


class SignalAssignRequest(SignalReviewRequest):
    to = Text(max_length=254, required=False, default="")


class SignalAcknowledgeRequest(serializers.Serializer[Any]):
    until = serializers.DateTimeField()
    reason = Text(min_length=triage.REASON_MIN, max_length=triage.REASON_MAX)


class SignalArchiveRequest(serializers.Serializer[Any]):
    archived_as = serializers.ChoiceField(choices=ArchiveReason.choices)
    reason = Text(min_length=triage.REASON_MIN, max_length=triage.REASON_MAX)


class SignalBulkRequest(serializers.Serializer[Any]):
    """`to`, `until` and `archived_as` as the one action asks for them."""

    ids = serializers.ListField(child=serializers.UUIDField(), min_length=1, max_length=triage.BULK_MAX)
    action = serializers.ChoiceField(choices=["assign", "review", "acknowledge", "archive"])
    reason = Text(max_length=triage.REASON_MAX, required=False, default="", allow_blank=True)
    to = Text(max_length=254, required=False, default="")
    until = serializers.DateTimeField(required=False)
    archived_as = serializers.ChoiceField(required=False, choices=ArchiveReason.choices)


class SignalResultAnswer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    done = serializers.BooleanField()
    error_code = serializers.CharField(allow_null=True)


class SignalResultsAnswer(serializers.Serializer[Any]):
    results = SignalResultAnswer(many=True)


class Signals(APIView):
    """What asks for a person's attention."""

    permission_classes = [IsStaff, _READER]

    @extend_schema(parameters=_FILTERS, responses={200: SignalsAnswer}, operation_id="alerts_list")
    def get(self, request: Request) -> Response:
        asked = SignalQuery(data=request.query_params)
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        wanted = alert_lists.Wanted(
            state=given.get("state"),
            severity=_SEVERITIES[given["severity"]] if "severity" in given else None,
            rule=given.get("rule"),
            owner=request.user.pk if given["mine"] else None,
        )
        found = alert_lists.page(wanted, limit=given["limit"], cursor=given.get("cursor"))
        return Response({"results": SignalAnswer(found.signals, many=True).data, "next": found.next})


class _Action(APIView):
    permission_classes = [IsStaff, _READER, _ACTOR]

    @staticmethod
    def answer(signal: Signal) -> Response:
        return Response(SignalAnswer(signal).data)


class Assign(_Action):
    """Make somebody the owner: the caller, without `to` (an id or an address)."""

    @extend_schema(request=SignalAssignRequest, responses={200: SignalAnswer}, operation_id="alerts_assign")
    def post(self, request: Request, signal_id: UUID) -> Response:
        given, by = read(SignalAssignRequest, request), actor.of(request)
        signal = _found(signal_id)
        triage.assign(signal, to=given["to"] or by.id or "", reason=given["reason"], by=by)
        return self.answer(signal)


class Review(_Action):
    """Begin to look at an open signal."""

    @extend_schema(request=SignalReviewRequest, responses={200: SignalAnswer}, operation_id="alerts_review")
    def post(self, request: Request, signal_id: UUID) -> Response:
        given, signal = read(SignalReviewRequest, request), _found(signal_id)
        triage.review(signal, reason=given["reason"], by=actor.of(request))
        return self.answer(signal)


class Acknowledge(_Action):
    """Keep a signal quiet until a moment in the coming 30 days."""

    @extend_schema(
        request=SignalAcknowledgeRequest, responses={200: SignalAnswer}, operation_id="alerts_acknowledge"
    )
    def post(self, request: Request, signal_id: UUID) -> Response:
        given, signal = read(SignalAcknowledgeRequest, request), _found(signal_id)
        triage.acknowledge(signal, until=given["until"], reason=given["reason"], by=actor.of(request))
        return self.answer(signal)


class Archive(_Action):
    """Say what a signal was. A critical one asks for a fresh factor."""

    @extend_schema(request=SignalArchiveRequest, responses={200: SignalAnswer}, operation_id="alerts_archive")
    def post(self, request: Request, signal_id: UUID) -> Response:
        given, signal = read(SignalArchiveRequest, request), _found(signal_id)
        if triage.needs_fresh_factor(signal):
            guard.require(triage.ARCHIVE_CRITICAL, request)
        triage.archive(signal, archived_as=given["archived_as"], reason=given["reason"], by=actor.of(request))
        return self.answer(signal)


class Bulk(_Action):
    """Do one thing to up to 100 signals; the answer says what became of each."""

    @extend_schema(
        request=SignalBulkRequest, responses={200: SignalResultsAnswer}, operation_id="alerts_bulk"
    )
    def post(self, request: Request) -> Response:
        given = read(SignalBulkRequest, request)
        may_archive_critical = given["action"] == "archive" and _any_critical(given["ids"])
        if may_archive_critical:
            guard.require(triage.ARCHIVE_CRITICAL, request)
        act = _act(given, actor.of(request), may_archive_critical=may_archive_critical)
        return Response(
            {
                "results": [
                    {
                        "id": result.signal_id,
                        "done": result.error is None,
                        "error_code": result.error.code if result.error else None,
                    }
                    for result in triage.each(given["ids"], act)
                ]
            }
        )


def _found(signal_id: UUID) -> Signal:
    signal = Signal.objects.filter(pk=signal_id).first()
    if signal is None:
        raise errors.NotFound
    return signal


def _any_critical(ids: list[UUID]) -> bool:
    return Signal.objects.filter(pk__in=ids, severity__gte=Severity.CRITICAL).exists()


def _act(given: dict[str, Any], by: Actor, *, may_archive_critical: bool) -> Callable[[Signal], None]:
    """Return what is to be done to each signal. Raises `errors.Unprocessable` when something is missing."""
    reason = given["reason"]
    if given["action"] == "assign":
        return lambda signal: triage.assign(signal, to=given["to"] or by.id or "", reason=reason, by=by)
    if given["action"] == "review":
        return lambda signal: triage.review(signal, reason=reason, by=by)
    needed = "until" if given["action"] == "acknowledge" else "archived_as"
    if needed not in given:
        raise errors.Unprocessable(
            details=[errors.FieldError(f"body -> {needed}", errors.Unprocessable.message, "required")]
        )
    if given["action"] == "acknowledge":
        return lambda signal: triage.acknowledge(signal, until=given["until"], reason=reason, by=by)

    def archive(signal: Signal) -> None:
        # It became critical since the fresh factor was, or was not, asked for.
        if triage.needs_fresh_factor(signal) and not may_archive_critical:
            raise triage.Changed
        triage.archive(signal, archived_as=given["archived_as"], reason=reason, by=by)

    return archive
