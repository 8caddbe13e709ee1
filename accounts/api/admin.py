"""`/admin/…` and `/user-management/…`: what administrators do with accounts, each by the own grants."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from accounts import (
    account_changes,
    administration,
    delegation,
    deletion,
    edits,
    grant_sets,
    history,
    password_reset,
    roles,
    user_lists,
)
from accounts.api import answers, lists, shapes, superuser
from accounts.api.base import AdministrationView, describe, stated
from accounts.api.superuser import CREATE, READ, UPDATE
from accounts.models import ApprovalRequest, Permission
from accounts.permissions import IsSuperuser
from mestore.lib import actor
from mestore.lib.shapes import read

AUDIT = "audit_logs.read.read_only"


class Users(AdministrationView):
    """All accounts that are not deleted; superusers open new ones."""

    needs = {"GET": READ, "POST": CREATE}

    def get_permissions(self) -> list[Any]:
        """Only superusers open accounts."""
        extra = [IsSuperuser()] if self.request.method == "POST" else []
        return [*extra, *super().get_permissions()]

    @describe("admin_users_list", "List accounts")
    def get(self, request: Request) -> Response:
        wanted = lists.users(request.query_params)
        page = user_lists.page_of_users(wanted)
        return Response(answers.page_of_users(page, wanted, request.query_params.dict()))

    @describe("admin_users_create", "Invite somebody", request=shapes.NewUserRequest, code=201)
    def post(self, request: Request) -> Response:
        done = superuser.invite_new(request)
        return Response(answers.created(done), status=201)


class UserView(AdministrationView):
    """One account."""

    needs = {"GET": READ, "PUT": UPDATE, "PATCH": UPDATE, "DELETE": deletion.DELETING}

    @describe("admin_users_read", "Read an account")
    def get(self, request: Request, user_id: UUID) -> Response:
        return Response(answers.details(account_changes.read_details(user_id, by=actor.of(request))))

    @describe("admin_users_change", "Change an account", request=shapes.ChangedUserRequest)
    def put(self, request: Request, user_id: UUID) -> Response:
        return superuser.change(request, user_id)

    @describe("admin_users_change_partly", "Change an account", request=shapes.ChangedUserRequest)
    def patch(self, request: Request, user_id: UUID) -> Response:
        return superuser.change(request, user_id)

    @describe("admin_users_delete", "Delete an account; it can be restored")
    def delete(self, request: Request, user_id: UUID) -> Response:
        return superuser.delete(request, user_id)


class Reset(AdministrationView):
    """A new password for somebody: the owner receives a link."""

    needs = {"POST": UPDATE}

    @describe("admin_users_reset", "Have a reset link sent", request=shapes.ReasonRequest)
    def post(self, request: Request, user_id: UUID) -> Response:
        given = read(shapes.ReasonRequest, request)
        user = password_reset.start(
            account_changes.find(user_id), reason=stated(given["reason"]), by=actor.of(request)
        )
        return Response({"success": True, "user_id": user.pk, "reset_link_sent": True})


class Status(AdministrationView):
    """Whether an account is open."""

    needs = {"GET": READ}

    @describe("admin_users_status", "Read whether an account is open")
    def get(self, request: Request, user_id: UUID) -> Response:
        user = account_changes.find(user_id)
        names = (
            "id", "email", "user_type", "is_active", "is_verified", "email_verified", "phone_verified",
            "account_locked_until", "last_login", "deleted_at",
        )  # fmt: skip
        told = answers.details(user)
        return Response({name: told[name] for name in (*names, "force_password_change")})


class Statistics(AdministrationView):
    """How many accounts there are of which kind."""

    needs = {"GET": READ}

    @describe("admin_users_stats", "Count accounts")
    def get(self, request: Request) -> Response:
        return Response(answers.summary_statistics(user_lists.statistics()))


class Permissions(AdministrationView):
    """What somebody may do."""

    needs = {"GET": "permissions.read.read_only"}

    @describe("admin_users_permissions", "List what an account may do")
    def get(self, request: Request, user_id: UUID) -> Response:
        return Response(permissions_of(user_id))


class Grant(AdministrationView):
    """Give one permission."""

    role = IsSuperuser
    needs = {"POST": delegation.GRANTING}
    step_up = {"POST": "permissions.grant"}

    @describe("admin_permissions_grant", "Give a permission", request=shapes.GrantRequest)
    def post(self, request: Request) -> Response:
        given = read(shapes.GrantRequest, request)
        done = delegation.give(
            account_changes.find(given["user_id"]),
            permission_name(given["permission_id"]),
            by=actor.of(request),
            reason=stated(given["reason"]),
            expires_at=given.get("expires_at"),
        )
        if isinstance(done, ApprovalRequest):
            return Response({"success": True, "waiting_for_approval": answers.waiting(done)}, status=202)
        return Response({"success": True, "grant": answers.grant(done)})


class Revoke(AdministrationView):
    """Take one permission back."""

    role = IsSuperuser
    needs = {"POST": delegation.REVOKING}

    @describe("admin_permissions_revoke", "Take a permission back", request=shapes.GrantRequest)
    def post(self, request: Request) -> Response:
        given = read(shapes.GrantRequest, request)
        row = delegation.revoke(
            account_changes.find(given["user_id"]),
            permission_name(given["permission_id"]),
            by=actor.of(request),
            reason=stated(given["reason"]),
        )
        return Response({"success": True, "revoked": row.permission.name, "revoked_at": row.revoked_at})


class AccountAudit(AdministrationView):
    """What happened to an account."""

    needs = {"GET": AUDIT}

    @describe("admin_audit_user", "Read the audit trail of an account")
    def get(self, request: Request, user_id: UUID) -> Response:
        return superuser.audit_of(request, user_id)


class RecentChanges(AdministrationView):
    """What administrators changed lately."""

    needs = {"GET": AUDIT}

    @describe("admin_audit_recent", "List recent changes to accounts and vendors")
    def get(self, request: Request) -> Response:
        limit, _cursor = lists.events(request.query_params)
        return Response({"results": answers.happened(history.recent_changes(limit=limit))})


class OldUsers(AdministrationView):
    """All accounts, for the older user page."""

    needs = {"GET": READ}

    @describe("user_management_users", "List accounts")
    def get(self, request: Request) -> Response:
        wanted = lists.users(request.query_params)
        page = user_lists.page_of_users(wanted)
        return Response(answers.page_of_users(page, wanted, request.query_params.dict()))


class OldStatistics(AdministrationView):
    """How many accounts there are, for the older user page."""

    needs = {"GET": READ}

    @describe("user_management_stats", "Count accounts")
    def get(self, request: Request) -> Response:
        return Response(answers.summary_statistics(user_lists.statistics()))


class Action(AdministrationView):
    """The four actions of the older user page. Superusers are neither suspended nor deleted by it."""

    needs = {"PUT": UPDATE}

    @describe("user_management_action", "Act on an account", request=shapes.UserActionRequest)
    def put(self, request: Request, user_id: UUID) -> Response:
        given = read(shapes.UserActionRequest, request)
        user, by, reason = account_changes.find(user_id), actor.of(request), stated(given["reason"])
        if given["action"] == "activate":
            administration.reactivate(user, reason=reason, by=by)
        elif given["action"] == "suspend":
            edits.suspend(user, reason=reason, by=by)
        elif given["action"] == "verify":
            account_changes.update(user_id, {"account_verified": True}, by=by)
        else:
            deletion.delete(user, reason=reason, by=by)
        return Response(
            {
                "success": True,
                "action": given["action"],
                "user": answers.summary(account_changes.find(user_id)),
            }
        )


def permissions_of(user_id: UUID) -> dict[str, Any]:
    """Tell everything that an account may do: by its role, and by which grant."""
    user = account_changes.find(user_id)
    rows = grant_sets.in_force(user)
    by_grant = [answers.grant(row) for row in rows]
    return {
        "user_id": user.pk,
        "user_type": user.user_type,
        "permissions": by_grant,
        "role_permissions": sorted(roles.inherited(user.user_type)),
        "total": len(by_grant),
    }


def permission_name(wanted: str) -> str:
    """Return the name of a permission that is given by its number or its name.

    Raises delegation.UnknownPermission for a number that nothing has.
    """
    if not wanted.isascii() or not wanted.isdigit():
        return wanted
    if len(wanted) > 18:
        raise delegation.UnknownPermission
    name = Permission.objects.filter(pk=int(wanted)).values_list("name", flat=True).first()
    if name is None:
        raise delegation.UnknownPermission
    return name
