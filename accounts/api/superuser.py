"""`/superuser-admin/…`: the user administration of superusers."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import account_changes, bulk, deletion, edits, history, user_lists
from accounts.administration import EmailTaken
from accounts.api import answers, lists, shapes
from accounts.api.base import (
    SuperuserView,
    charge_bulk,
    confirmation,
    describe,
    person,
    query_reason,
    stated,
)
from accounts.models import User
from accounts.roles import Role
from mestore.lib import actor, errors
from mestore.lib.shapes import read
from monitoring import health

READ, CREATE, UPDATE = "users.read.read_only", "users.create.global", "users.update.global"


class Users(SuperuserView):
    """All accounts that are not deleted."""

    needs = {"GET": READ, "POST": CREATE}

    @describe("superuser_users_list", "List accounts")
    def get(self, request: Request) -> Response:
        wanted = lists.users(request.query_params)
        page = user_lists.page_of_users(wanted)
        told = answers.page_of_users(page, wanted, request.query_params.dict())
        return Response(told | {"summary_stats": answers.summary_statistics(user_lists.statistics())})

    @describe("superuser_users_create", "Invite somebody", request=shapes.NewUserRequest, code=201)
    def post(self, request: Request) -> Response:
        done = invite_new(request)
        return Response(answers.created(done), status=201)


class UserView(SuperuserView):
    """One account."""

    needs = {"GET": READ, "PUT": UPDATE, "PATCH": UPDATE, "DELETE": deletion.DELETING}

    @describe("superuser_users_read", "Read an account")
    def get(self, request: Request, user_id: UUID) -> Response:
        return Response(answers.details(account_changes.read_details(user_id, by=actor.of(request))))

    @describe("superuser_users_change", "Change an account", request=shapes.ChangedUserRequest)
    def put(self, request: Request, user_id: UUID) -> Response:
        return change(request, user_id)

    @describe("superuser_users_change_partly", "Change an account", request=shapes.ChangedUserRequest)
    def patch(self, request: Request, user_id: UUID) -> Response:
        return change(request, user_id)

    @describe("superuser_users_delete", "Delete an account; it can be restored")
    def delete(self, request: Request, user_id: UUID) -> Response:
        return delete(request, user_id)


class Statistics(SuperuserView):
    """How many accounts there are of which kind."""

    needs = {"GET": READ}

    @describe("superuser_users_stats", "Count accounts")
    def get(self, request: Request) -> Response:  # noqa: ARG002 - the method's signature
        return Response(answers.statistics(user_lists.statistics()))


class BulkAction(SuperuserView):
    """One action on up to a hundred accounts."""

    needs = {"POST": bulk.UPDATING}

    @describe("superuser_users_bulk", "Act on many accounts", request=shapes.UserBulkRequest)
    def post(self, request: Request) -> Response:
        given = read(shapes.UserBulkRequest, request)
        charge_bulk(request)
        if given["action"] == "update_clearance":
            confirmation(request)(edits.RANK)
        result = bulk.run(
            given["action"],
            given["user_ids"],
            reason=stated(given["reason"]),
            by=actor.of(request),
            parameters=given,
        )
        return Response(answers.bulk_result(result, person(request)))


class Deleted(SuperuserView):
    """Deleted accounts."""

    needs = {"GET": READ}

    @describe("superuser_users_deleted", "List deleted accounts")
    def get(self, request: Request) -> Response:
        wanted = lists.users(request.query_params, deleted=True)
        page = user_lists.page_of_users(wanted)
        return Response(answers.page_of_users(page, wanted, request.query_params.dict()))


class Dependencies(SuperuserView):
    """What refers to an account."""

    needs = {"GET": READ}

    @describe("superuser_users_dependencies", "Count what refers to an account")
    def get(self, request: Request, user_id: UUID) -> Response:  # noqa: ARG002 - the method's signature
        return Response(answers.dependencies(user_id, deletion.dependencies(user_id)))


class Permanent(SuperuserView):
    """The end of a deleted account."""

    needs = {"DELETE": deletion.DELETING}
    step_up = {"DELETE": "users.erase"}

    @describe("superuser_users_erase", "Remove a deleted account for ever")
    def delete(self, request: Request, user_id: UUID) -> Response:
        reader = lists.Reader(request.query_params)
        confirmed = reader.truth("confirm") is True
        reader.raise_if_wrong()
        reason = query_reason(request)
        found = deletion.erase(user_id, reason=reason, confirmed=confirmed, by=actor.of(request))
        return Response(
            {"success": True, "user_id": user_id, "removed": dict(found.counts), "reason": reason}
        )


class Restore(SuperuserView):
    """The way back for a deleted account."""

    needs = {"POST": deletion.DELETING}

    @describe("superuser_users_restore", "Restore a deleted account", request=shapes.ReasonRequest)
    def post(self, request: Request, user_id: UUID) -> Response:
        given = read(shapes.ReasonRequest, request)
        user = deletion.restore(User(pk=user_id), reason=stated(given["reason"]), by=actor.of(request))
        return Response({"success": True, "user": answers.details(user)})


class Audit(SuperuserView):
    """What happened to an account."""

    needs = {"GET": "audit_logs.read.read_only"}

    @describe("superuser_users_audit", "Read the audit trail of an account")
    def get(self, request: Request, user_id: UUID) -> Response:
        return audit_of(request, user_id)


class Health(SuperuserView):
    """Whether the user administration can work."""

    @describe("superuser_health", "State of the user administration")
    def get(self, request: Request) -> Response:  # noqa: ARG002 - the method's signature
        report = health.current_report()
        body = {
            "status": "healthy" if report.is_ready else "unhealthy",
            "service": "superuser-admin",
            "timestamp": timezone.now(),
            "version": health.API_VERSION,
        }
        return Response(body, status=report.status)


class AddressInUse(errors.BadRequest):
    """The first system's clients of these two families read 400 where others answer 409."""

    message = EmailTaken.message


def invite_new(request: Request) -> edits.Invited:
    """Invite whom the body describes. Raises AddressInUse and what `edits.invite` raises."""
    try:
        return invite(request, read(shapes.NewUserRequest, request))
    except EmailTaken as error:
        raise AddressInUse from error


def invite(request: Request, given: dict[str, Any], *, strictly: bool = False) -> edits.Invited:
    """Invite whom `given` describes."""
    columns = (*account_changes.PERSON, *account_changes.MARKS)
    invitation = edits.Invitation(
        email=given["email"],
        role=Role(given["user_type"]),
        clearance=given.get("security_clearance_level", 3),
        fields={name: given[name] for name in columns if name in given},
        permissions=given.get("initial_permissions", ()),
        strictly=strictly,
    )
    return edits.invite(
        invitation, reason=stated(given["reason"]), by=actor.of(request), confirm=confirmation(request)
    )


def change(request: Request, user_id: UUID, *, strictly: bool = False) -> Response:
    """Read what is to change and change it; 202 when a part waits for a second person."""
    given = read(shapes.ChangedUserRequest, request)
    edited = edits.apply(
        user_id,
        given,
        reason=stated(given["reason"]),
        by=actor.of(request),
        confirm=confirmation(request),
        strictly=strictly,
    )
    waiting = [answers.waiting(asked) for asked in edited.waiting]
    told = answers.details(edited.user) | ({"waiting_for_approval": waiting} if waiting else {})
    return Response(told, status=202 if waiting else 200)


def delete(request: Request, user_id: UUID) -> Response:
    """Delete an account for the reason in the query."""
    reason = query_reason(request)
    done = deletion.delete(User(pk=user_id), reason=reason, by=actor.of(request))
    return Response(answers.deleted(done, reason, person(request)))


def audit_of(request: Request, user_id: UUID) -> Response:
    """Tell a page of the trail of an account, deleted and removed ones too."""
    limit, cursor = lists.events(request.query_params)
    return Response(answers.history(history.of_account(user_id, limit=limit, cursor=cursor)))
