"""`/admins…`: administrators among themselves. Nobody touches one with as much clearance as their own."""

from __future__ import annotations

from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from accounts import account_changes, bulk, delegation, grant_sets, user_lists
from accounts.api import admin, answers, lists, shapes, superuser
from accounts.api.base import AdministrationView, charge_bulk, describe, person
from accounts.models import User
from accounts.roles import STAFF
from mestore.lib import actor
from mestore.lib.shapes import read

READ, CREATE, UPDATE, MANAGE = (
    "users.read.global", "users.create.global", "users.update.global", "users.manage.global",
)  # fmt: skip


class Admins(AdministrationView):
    """All administrators and superusers."""

    needs = {"GET": READ, "POST": CREATE}

    @describe("admins_list", "List administrators")
    def get(self, request: Request) -> Response:
        wanted = lists.users(request.query_params)
        page = user_lists.page_of_staff(wanted)
        rows = [answers.summary(user) for user in page.rows]
        return Response({"admins": rows, **answers.paging(page, wanted)})

    @describe("admins_create", "Invite an administrator", request=shapes.NewAdminRequest, code=201)
    def post(self, request: Request) -> Response:
        given = read(shapes.NewAdminRequest, request)
        names = [admin.permission_name(name) for name in given.get("initial_permissions", ())]
        done = superuser.invite(request, given | {"initial_permissions": names}, strictly=True)
        return Response(answers.created(done), status=201)


class AdminView(AdministrationView):
    """One administrator."""

    needs = {"GET": READ, "PUT": UPDATE}

    @describe("admins_read", "Read an administrator")
    def get(self, request: Request, user_id: UUID) -> Response:
        _staff(user_id)
        return Response(answers.details(account_changes.read_details(user_id, by=actor.of(request))))

    @describe("admins_change", "Change an administrator", request=shapes.ChangedUserRequest)
    def put(self, request: Request, user_id: UUID) -> Response:
        _staff(user_id)
        return superuser.change(request, user_id, strictly=True)


class Permissions(AdministrationView):
    """What an administrator may do."""

    needs = {"GET": READ}

    @describe("admins_permissions", "List what an administrator may do")
    def get(self, request: Request, user_id: UUID) -> Response:  # noqa: ARG002 - the method's signature
        _staff(user_id)
        return Response(admin.permissions_of(user_id))


class Grant(AdministrationView):
    """Give permissions to an administrator."""

    needs = {"POST": delegation.GRANTING}
    step_up = {"POST": "permissions.grant"}

    @describe("admins_grant", "Give permissions", request=shapes.GrantManyRequest)
    def post(self, request: Request, user_id: UUID) -> Response:
        given = read(shapes.GrantManyRequest, request)
        user = _staff(user_id)
        names = [admin.permission_name(name) for name in given["permission_ids"]]
        done = grant_sets.give(
            user, names, reason=given["reason"], by=actor.of(request), expires_at=given.get("expires_at")
        )
        told = answers.given(user, done)
        return Response(told, status=202 if told["waiting_for_approval"] else 200)


class Revoke(AdministrationView):
    """Take permissions back from an administrator."""

    needs = {"POST": delegation.REVOKING}

    @describe("admins_revoke", "Take permissions back", request=shapes.GrantManyRequest)
    def post(self, request: Request, user_id: UUID) -> Response:
        given = read(shapes.GrantManyRequest, request)
        user = _staff(user_id)
        names = [admin.permission_name(name) for name in given["permission_ids"]]
        rows = grant_sets.revoke(user, names, reason=given["reason"], by=actor.of(request))
        return Response(answers.given(user, rows))


class BulkAction(AdministrationView):
    """One action on up to a hundred administrators."""

    needs = {"POST": MANAGE}

    @describe("admins_bulk", "Act on many administrators", request=shapes.AdminBulkRequest)
    def post(self, request: Request) -> Response:
        given = read(shapes.AdminBulkRequest, request)
        charge_bulk(request)
        result = bulk.run(
            given["action"], given["user_ids"], reason=given["reason"], by=actor.of(request), strictly=True
        )
        return Response(answers.bulk_result(result, person(request)))


def _staff(user_id: UUID) -> User:
    user = account_changes.find(user_id)
    if user.user_type not in STAFF:
        raise account_changes.UserNotFound
    return user
