"""`/api/v1/audit/…`: the audit trail, its proofs and its log, for programs of those who may read it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import exports
from accounts.permissions import HasPermission, IsStaff
from mestore.lib import actor, errors
from mestore.lib.http import ExactJSONRenderer, PlainText, text_file
from mestore.lib.shapes import Text, read
from monitoring import (
    checkpoints,
    cosigning,
    events,
    export,
    log_tiles,
    proofs,
    selectors,
    trail_pages,
)
from monitoring.events import Category, Outcome
from monitoring.export import BadPlace, Place
from monitoring.export_batches import Format, Window
from monitoring.trail_pages import Line, Wanted
from sessions_security.second_person_views import ApprovalAnswer

_READER: Any = HasPermission(exports.AUDIT_READING)
_USUAL = 50
_LABEL = 200
_LARGEST_EXPORT = 1_000_000


class NoCheckpoint(errors.NotFound):
    """Nothing was signed yet."""


class EventAnswer(serializers.Serializer[Any]):
    """One event. `personal` says that personal values are kept beside it; they are never in this answer."""

    id = serializers.UUIDField(source="event.id")
    occurred_at = serializers.DateTimeField(source="event.occurred_at")
    code = serializers.CharField(source="event.type")
    category = serializers.SerializerMethodField()
    outcome = serializers.CharField(source="event.outcome")
    actor_kind = serializers.CharField(source="event.actor_kind")
    actor_id = serializers.CharField(source="event.actor_id", allow_null=True)
    actor_role = serializers.CharField(source="event.actor_role", allow_null=True)
    target_type = serializers.CharField(source="event.target_type", allow_null=True)
    target_id = serializers.CharField(source="event.target_id", allow_null=True)
    session_id = serializers.CharField(source="event.session_id", allow_null=True)
    request_id = serializers.CharField(source="event.request_id", allow_null=True)
    personal = serializers.BooleanField(source="has_personal")
    log = serializers.CharField(allow_null=True)
    leaf_index = serializers.IntegerField(allow_null=True)

    def get_category(self, line: Line) -> str | None:
        try:
            return events.get(line.event.type).category
        except events.UnknownEvent:
            return None


class EventsAnswer(serializers.Serializer[Any]):
    """Events, newest first; `next` is the cursor of the next page."""

    results = EventAnswer(many=True)
    next = serializers.CharField(allow_null=True)


class EventDocumentAnswer(serializers.Serializer[Any]):
    """One event's canonical document. `leaf_hash`: SHA-256 of a zero byte and its exact bytes, in hex."""

    document = serializers.JSONField()
    leaf_hash = serializers.CharField()
    personal = serializers.ChoiceField(choices=["none", "hidden"])


class ConsistencyAnswer(serializers.Serializer[Any]):
    """The proof (RFC 9162, 2.1.4), hashes in base64, that one log begins with the other."""

    first = serializers.IntegerField()
    second = serializers.IntegerField()
    proof = serializers.ListField(child=serializers.CharField())


class EventQuery(serializers.Serializer[Any]):
    """What a list may be asked for."""

    cursor = serializers.CharField(required=False, max_length=120)
    limit = serializers.IntegerField(
        required=False, default=_USUAL, min_value=1, max_value=trail_pages.LARGEST
    )
    actor = serializers.CharField(required=False, max_length=_LABEL)
    target_type = serializers.CharField(required=False, max_length=_LABEL)
    target_id = serializers.CharField(required=False, max_length=_LABEL)
    code = serializers.CharField(required=False, max_length=_LABEL)
    outcome = serializers.ChoiceField(required=False, choices=[one.value for one in Outcome])
    category = serializers.ChoiceField(required=False, choices=[one.value for one in Category])
    since = serializers.DateTimeField(required=False)
    until = serializers.DateTimeField(required=False)


class SizesQuery(serializers.Serializer[Any]):
    """Two sizes of the log; the names are words of the language, so they are given here as a table."""

    def get_fields(self) -> dict[str, Any]:
        return {name: serializers.IntegerField(min_value=1, max_value=2**62) for name in ("from", "to")}


class PersonalExportRequest(serializers.Serializer[Any]):
    """`after`: the cursor of an export, as in 1:0."""

    after = Text(max_length=30)
    limit = serializers.IntegerField(min_value=1, max_value=_LARGEST_EXPORT)
    format = serializers.ChoiceField(choices=[one.value for one in Format])
    since = serializers.DateTimeField(required=False, default=None)
    until = serializers.DateTimeField(required=False, default=None)
    reason = Text(max_length=500)


class _Trail(APIView):
    permission_classes = [IsStaff, _READER]


class _Text(_Trail):
    renderer_classes = [PlainText, ExactJSONRenderer]


class Events(_Trail):
    """What happened, newest first."""

    @extend_schema(
        parameters=[
            OpenApiParameter("cursor", str, description="`next` of the page before."),
            OpenApiParameter("limit", int, description="1 to 200; 50 without it."),
            OpenApiParameter("actor", str, description="Id of who acted."),
            OpenApiParameter("target_type", str),
            OpenApiParameter("target_id", str),
            OpenApiParameter("code", str, description="A code of the catalogue of events."),
            OpenApiParameter("outcome", str, enum=[one.value for one in Outcome]),
            OpenApiParameter("category", str, enum=[one.value for one in Category]),
            OpenApiParameter("since", OpenApiTypes.DATETIME, description="First moment."),
            OpenApiParameter("until", OpenApiTypes.DATETIME, description="First moment not wanted."),
        ],
        responses={200: EventsAnswer},
        operation_id="audit_events",
    )
    def get(self, request: Request) -> Response:
        asked = EventQuery(data=request.query_params)
        asked.is_valid(raise_exception=True)
        given = dict(asked.validated_data)
        limit, cursor = given.pop("limit"), given.pop("cursor", None)
        page = trail_pages.read(Wanted(**given), limit=limit, cursor=cursor, by=actor.of(request))
        return Response({"results": EventAnswer(page.lines, many=True).data, "next": page.next})


class Event(_Trail):
    """One event as it is hashed."""

    @extend_schema(responses={200: EventDocumentAnswer}, operation_id="audit_event")
    def get(self, request: Request, event_id: UUID) -> Response:
        try:
            found = selectors.event_detail(event_id, reveal_personal=False)
        except selectors.EventNotFound:
            raise proofs.NoSuchEvent from None
        trail_pages.record_read(event_id, by=actor.of(request))
        leaf_hash = bytes(found.event.leaf_hash).hex()
        return Response(
            {"document": found.document, "leaf_hash": leaf_hash, "personal": found.personal_state}
        )


class EventProof(_Text):
    """The proof that an event is in the log: one text that needs nothing else but the log's public key."""

    @extend_schema(responses={(200, "text/plain"): OpenApiTypes.STR}, operation_id="audit_event_proof")
    def get(self, request: Request, event_id: UUID) -> HttpResponse:
        proof = proofs.of_event(event_id).text()
        trail_pages.record_proof(event_id, by=actor.of(request))
        return text_file(f"{event_id}.tlog-proof", proof)


class Checkpoint(_Text):
    """The newest checkpoint, with the lines of every witness that cosigned it."""

    @extend_schema(responses={(200, "text/plain"): OpenApiTypes.STR}, operation_id="audit_checkpoint")
    def get(self, request: Request) -> HttpResponse:  # noqa: ARG002 - the method's signature
        last = checkpoints.last()
        if last is None:
            raise NoCheckpoint
        return text_file("", cosigning.with_cosignatures(last))


class Consistency(_Trail):
    """The proof that the log of one size begins with that of another."""

    @extend_schema(
        parameters=[OpenApiParameter(name, int, required=True) for name in ("from", "to")],
        responses={200: ConsistencyAnswer}, operation_id="audit_consistency",
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        asked = SizesQuery(data=request.query_params)
        asked.is_valid(raise_exception=True)
        first, second = asked.validated_data["from"], asked.validated_data["to"]
        return Response({"first": first, "second": second, "proof": proofs.consistency(first, second)})


class Tile(_Trail):
    """One tile of the log (C2SP tlog-tiles), for monitors."""

    renderer_classes = [PlainText, ExactJSONRenderer]

    @extend_schema(
        responses={(200, "application/octet-stream"): OpenApiTypes.BINARY}, operation_id="audit_tile"
    )
    def get(self, request: Request, level: int, address: str) -> HttpResponse:  # noqa: ARG002
        response = HttpResponse(log_tiles.read(level, address), content_type="application/octet-stream")
        response["Cache-Control"] = "no-store"
        return response


class PersonalExport(_Trail):
    """Ask a second person for an export with personal values; it is made on the server, by a command."""

    @extend_schema(
        request=PersonalExportRequest, responses={202: ApprovalAnswer}, operation_id="audit_personal_export"
    )
    def post(self, request: Request) -> Response:
        given = read(PersonalExportRequest, request)
        try:
            place = Place.parse(given["after"])
        except BadPlace:
            raise trail_pages.CursorInvalid from None
        window = Window(given["since"], given["until"])
        asked = exports.ask_audit_personal(
            export.Wanted(Format(given["format"]), window, personal=True), place, limit=given["limit"],
            reason=given["reason"], by=actor.of(request),
        )  # fmt: skip
        return Response(ApprovalAnswer(asked).data, status=202)
