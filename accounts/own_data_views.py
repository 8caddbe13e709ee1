"""The API of one's own data: what one agreed to, and asking for a copy or to be forgotten."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import consents, data_requests
from accounts.consents import Decision
from accounts.models import Consent, DataRequest, User
from accounts.permissions import IsPerson
from mestore.lib import actor, guard, shapes

NO_STORE = {"Cache-Control": "no-store"}


class ConsentRequest(serializers.Serializer[Any]):
    """A decision about one text. To agree, `version` and `sha256` are those of the text that was shown."""

    document = shapes.Text(max_length=32)
    given = serializers.BooleanField()
    version = shapes.Text(max_length=16, required=False, default="", allow_blank=True)
    sha256 = shapes.Text(max_length=64, required=False, default="", allow_blank=True)

    def validate_given(self, value: bool) -> bool:
        """A decision is true or false, not something that looks like it."""
        if not isinstance(self.initial_data.get("given"), bool):
            self.fields["given"].fail("invalid", input=value)
        return value


class DataRequestRequest(serializers.Serializer[Any]):
    """What is asked about one's own data: `export` or `erasure`."""

    kind = serializers.ChoiceField(choices=DataRequest.Kind.values)
    reason = shapes.Text(max_length=500, required=False, default="", allow_blank=True)


class StandingAnswer(serializers.Serializer[Any]):
    """One text and where it stands: `pending` asks to be decided, also after a new version came."""

    document = serializers.CharField(source="document.name")
    version = serializers.CharField(source="document.version")
    purposes = serializers.ListField(source="document.purposes", child=serializers.CharField())
    # A member of the answer, not the option of its name.
    required = serializers.BooleanField(source="document.is_required")  # type: ignore[assignment]
    title = serializers.CharField(source="text.title")
    text = serializers.CharField(source="text.body")
    language = serializers.CharField(source="text.language")
    sha256 = serializers.CharField(source="text.sha256")
    state = serializers.ChoiceField(choices=["pending", "given", "refused"])
    decided_at = serializers.DateTimeField(allow_null=True)
    decided_version = serializers.CharField(source="version", allow_null=True)


class ConsentAnswer(serializers.ModelSerializer[Consent]):
    """One decision."""

    sha256 = serializers.CharField(source="text_sha256")

    class Meta:
        model = Consent
        fields = ["id", "document", "version", "language", "sha256", "purposes", "given", "at", "channel"]


class ConsentsAnswer(serializers.Serializer[Any]):
    """Where every text stands, and the newest 100 decisions."""

    documents = StandingAnswer(many=True)
    decisions = ConsentAnswer(many=True)


class DataRequestAnswer(serializers.ModelSerializer[DataRequest]):
    """One request. `due_on`: answered by then; `kept`: kinds of records that the law makes us keep."""

    class Meta:
        model = DataRequest
        fields = [
            "id", "kind", "state", "reason", "asked_at", "due_on", "decided_at", "answer", "kept", "ready_at",
            "expires_at", "archive_bytes", "archive_sha256", "downloads",
        ]  # fmt: skip


class DataRequestsAnswer(serializers.Serializer[Any]):
    """The newest 50 requests."""

    results = DataRequestAnswer(many=True)


class _Own(APIView):
    permission_classes = [IsPerson]


class Consents(_Own):
    """What the caller agreed to, and what is still asked."""

    @extend_schema(operation_id="me_consents", responses=ConsentsAnswer)
    def get(self, request: Request) -> Response:
        user = _person(request)
        answer = {
            "documents": consents.standing(user),
            "decisions": consents.decisions(user.pk)[: consents.SHOWN],
        }
        return Response(ConsentsAnswer(answer).data, headers=NO_STORE)

    @extend_schema(operation_id="me_consent", request=ConsentRequest, responses={200: ConsentAnswer})
    def post(self, request: Request) -> Response:
        given = shapes.read(ConsentRequest, request)
        decision = Decision(given["document"], given["given"], given["version"], given["sha256"])
        made = consents.decide(_person(request), decision, by=actor.of(request))
        return Response(ConsentAnswer(made).data, headers=NO_STORE)


class OwnDataRequests(_Own):
    """What the caller asked about their own data."""

    @extend_schema(operation_id="me_data_requests", responses=DataRequestsAnswer)
    def get(self, request: Request) -> Response:
        mine = data_requests.of(_person(request).pk)[: data_requests.SHOWN]
        return Response(DataRequestsAnswer({"results": mine}).data, headers=NO_STORE)

    @extend_schema(
        operation_id="me_data_request", request=DataRequestRequest, responses={201: DataRequestAnswer}
    )
    def post(self, request: Request) -> Response:
        given = shapes.read(DataRequestRequest, request)
        guard.require(data_requests.REQUEST_STEP_UP, request)
        made = data_requests.make(
            _person(request), kind=DataRequest.Kind(given["kind"]), reason=given["reason"],
            by=actor.of(request),
        )  # fmt: skip
        return Response(DataRequestAnswer(made).data, status=201, headers=NO_STORE)


class CancelDataRequest(_Own):
    """Take a request back before it is answered."""

    @extend_schema(operation_id="me_data_request_cancel", request=None, responses={200: DataRequestAnswer})
    def post(self, request: Request, request_id: UUID) -> Response:
        ended = data_requests.cancel(_person(request), request_id, by=actor.of(request))
        return Response(DataRequestAnswer(ended).data, headers=NO_STORE)


class OwnArchive(_Own):
    """The archive that answers a request for a copy."""

    @extend_schema(
        operation_id="me_data_request_archive", responses={(200, "application/zip"): OpenApiTypes.BINARY}
    )
    def get(self, request: Request, request_id: UUID) -> StreamingHttpResponse:
        guard.require(data_requests.DOWNLOAD_STEP_UP, request)
        found = data_requests.download(_person(request), request_id, by=actor.of(request))
        response = StreamingHttpResponse(found.content, content_type="application/zip")
        response["Content-Disposition"] = f'attachment; filename="{found.name}"'
        response["Content-Length"] = str(found.size)
        response["Cache-Control"] = "no-store"
        return response


def _person(request: Request) -> User:
    user: Any = request.user
    assert isinstance(user, User)  # noqa: S101 - the permissions of these views let nobody else in
    return user
