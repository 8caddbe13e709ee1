"""Deleting an account so that it can come back, bringing it back, and removing it for ever.

A deleted account keeps its row and its address, and is signed in nowhere. Removing the row for ever is only
possible when nothing in the house refers to it that must stay: orders, commissions, grants, approvals. What
refers to accounts is read from the models themselves, so a table that is added later counts at once.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import models, transaction
from django.db.models import IntegerField, OuterRef, ProtectedError, Subquery
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import hierarchy
from accounts.account_changes import UserNotFound
from accounts.models import DataRequest, User
from accounts.roles import Role
from mestore.lib import errors
from mestore.lib.actor import Actor
from monitoring import audit, erasure, events, saved_filters

DELETING = "users.delete.global"
COUNTED = 1_000
"""Dependencies are counted up to here: an account with a million orders costs no more than one with few."""

_goes_along: set[type[models.Model]] = set()


class SuperuserKept(errors.Forbidden):
    """A superuser is made something less first, which needs its own right."""

    message = gettext_lazy("A superuser cannot be deleted. Change the role first.")


class NotDeleted(errors.Conflict):
    message = gettext_lazy("This account is not deleted.")


class StillNeeded(errors.Conflict):
    """Something refers to the account that must stay; `extra` says what and how many."""

    message = gettext_lazy("Other records depend on this account, so it cannot be removed.")


class NotConfirmed(errors.BadRequest):
    message = gettext_lazy("Removing an account for ever must be confirmed: confirm=true.")


@dataclass(frozen=True, slots=True)
class Dependencies:
    """How many rows of which kind refer to an account (counted to COUNTED), and which forbid its removal."""

    counts: Mapping[str, int] = field(default_factory=dict)
    blocking: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deletion:
    """What deleting an account came to."""

    user: User
    deleted_at: dt.datetime
    dependencies: Dependencies
    warnings: list[str]


def may_go_along(model: type[models.Model]) -> None:
    """Say that rows of `model` go with their account although their foreign key protects it."""
    _goes_along.add(model)


def delete(user: User, *, reason: str, by: Actor) -> Deletion:
    """Delete an account; everything it is signed in with ends at once. It can be restored.

    Raises UserNotFound (also for one that is deleted already), hierarchy.NotAllowed, SuperuserKept.
    """
    found = dependencies(user.pk)
    with transaction.atomic():
        held = hierarchy.hold(by, [user.pk])
        row = held.users.get(user.pk)
        if row is None:
            raise UserNotFound
        hierarchy.demand_over(held.authority, row, by)
        hierarchy.demand_right(held.authority, DELETING, by, row)
        if row.user_type == Role.SUPERUSER:
            hierarchy.refused("superuser", by, row)
            raise SuperuserKept
        if row.deleted_at is not None:
            raise UserNotFound
        now = timezone.now()
        User.objects.filter(pk=row.pk).update(is_active=False, deleted_at=now, updated_at=now)
        hierarchy.record(events.USER_DELETED, row, by, data={"reason": reason, "refer": found.counts})
    user.refresh_from_db()
    return Deletion(user, now, found, _warnings(found))


def restore(user: User, *, reason: str, by: Actor) -> User:
    """Bring a deleted account back: it may sign in again, its old sessions stay dead.

    Raises NotDeleted, UserNotFound, hierarchy.NotAllowed.
    """
    with transaction.atomic():
        held = hierarchy.hold(by, [user.pk])
        row = held.users.get(user.pk)
        if row is None:
            raise UserNotFound
        hierarchy.demand_over(held.authority, row, by)
        hierarchy.demand_right(held.authority, DELETING, by, row)
        if row.deleted_at is None:
            raise NotDeleted
        User.objects.filter(pk=row.pk).update(is_active=True, deleted_at=None, updated_at=timezone.now())
        hierarchy.record(events.USER_RESTORED, row, by, data={"reason": reason})
    user.refresh_from_db()
    return user


def erase(
    user_id: UUID, *, reason: str, confirmed: bool, by: Actor, may_be_open: bool = False
) -> Dependencies:
    """Remove a deleted account and all that is its own, for ever. Return what went along.

    What the audit trail knows about the person is erased in the same transaction; its events stay. With
    `may_be_open` (the person asked for it) the account need not have been deleted before.

    Raises NotConfirmed, UserNotFound, NotDeleted, SuperuserKept, StillNeeded, hierarchy.NotAllowed.
    """
    if not confirmed:
        raise NotConfirmed
    with transaction.atomic():
        held = hierarchy.hold(by, [user_id])
        row = held.users.get(user_id)
        if row is None:
            raise UserNotFound
        hierarchy.demand_over(held.authority, row, by)
        hierarchy.demand_right(held.authority, DELETING, by, row)
        if row.deleted_at is None and not may_be_open:
            raise NotDeleted
        if row.deleted_at is None and row.user_type == Role.SUPERUSER:
            hierarchy.refused("superuser", by, row)
            raise SuperuserKept
        found = dependencies(user_id)
        if found.blocking:
            raise StillNeeded(extra={"dependencies": dict(found.blocking)})
        erasure.erase(str(row.pk), by=by, reason=reason)
        data = {"reason": reason, "role": row.user_type, "removed": found.counts}
        # Who did it is sealed under their own key: the person's is gone.
        audit.record(events.USER_ERASED, by=by, target=("user", str(row.pk)), data=data)
        _remove(row)
    return found


def dependencies(user_id: UUID) -> Dependencies:
    """Count what refers to an account, in one statement whatever refers to it. Raises UserNotFound."""
    relations = {f"n{number}": relation for number, relation in enumerate(_relations())}
    counts = {name: _capped(relation) for name, relation in relations.items()}
    row: Any = User.objects.filter(pk=user_id).values(**counts).first()
    if row is None:
        raise UserNotFound
    total: dict[str, int] = {}
    blocking: dict[str, int] = {}
    for name, relation in relations.items():
        if not row[name]:
            continue
        label = f"{relation.related_model._meta.label_lower}.{relation.field.name}"
        total[label] = row[name]
        if _blocks(relation):
            blocking[label] = row[name]
    return Dependencies(total, blocking)


class _CappedCount(Subquery):
    template = "(SELECT count(*) FROM (%(subquery)s) AS capped)"
    output_field = IntegerField()


def _relations() -> list[Any]:
    """Every foreign key of a managed table that points to accounts, hidden ones too."""
    found = User._meta.get_fields(include_hidden=True)
    return [
        relation for relation in found
        if relation.auto_created and not relation.concrete and (relation.one_to_many or relation.one_to_one)
    ]  # fmt: skip


def _capped(relation: Any) -> Subquery:
    rows = relation.related_model._base_manager.filter(**{relation.field.name: OuterRef("pk")})
    return _CappedCount(rows.order_by().values("pk")[:COUNTED])


def _blocks(relation: Any) -> bool:
    protects = relation.on_delete not in {models.CASCADE, models.SET_NULL}
    return protects and relation.related_model not in _goes_along


def _remove(user: User) -> None:
    try:
        for relation in _relations():
            if relation.related_model in _goes_along:
                relation.related_model._base_manager.filter(**{relation.field.name: user}).delete()
        saved_filters.forget(user.pk)
        DataRequest.objects.forget(user.pk)
        user.delete()
    except ProtectedError as error:
        # Something began to refer to the account since it was counted.
        raise StillNeeded from error


def _warnings(found: Dependencies) -> list[str]:
    if not found.blocking:
        return []
    return [_("Orders, permissions or other records refer to this account; they stay as they are.")]
