"""Why somebody was refused: kept for support, never told to the caller.

The caller receives "forbidden" and a request id. With that id support finds here which rule said no, what was
seen, and what the rule asks for. Rows are written on a connection of their own, so that they outlive the
request, and deleted after ninety days.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog
from django.db import Error as DatabaseError
from django.db.models import QuerySet
from django.utils import timezone

from accounts import conditions, grants, roles
from accounts.models import AccessDecision, Grant, Permission, User
from mestore.lib.actor import Actor

KEEP = dt.timedelta(days=90)
log = structlog.get_logger("mestore.decisions")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What decided: the rule's name, what was seen, what the rule asks for."""

    rule: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)

    @property
    def allows(self) -> bool:
        return self.rule in {"role", "granted"}


def explain(user: User, name: str) -> Verdict:
    """Say which rule decides whether `user` has the permission `name` now, as `grants.has_perm` does."""
    seen: dict[str, Any] = {"role": user.user_type, "clearance": user.security_clearance_level}
    wanted = Permission.objects.filter(name=name).first()
    if wanted is None:
        return Verdict("unknown_permission", seen)
    if not user.is_active or user.deleted_at is not None:
        return Verdict("account_closed", {**seen, "active": user.is_active})
    access, limits = grants.seen(user), _limits(wanted)
    seen |= {"address": access.address, "second_factor": access.second_factor}
    if name in roles.inherited(user.user_type):
        within = access.limit is None or name in access.limit
        return Verdict("role" if within else "impersonator", seen, limits)
    line = next((line for line in grants.open_lines(user) if line.name == name), None)
    if line is None:
        return _without_grant(user, wanted, seen, limits)
    now = timezone.now()
    why = grants.obstacle(line, user, access, now)
    seen |= {
        "grant": str(line.grant_id),
        "department": user.department_id,
        "clock": now.astimezone(conditions.BOGOTA).strftime("%a %H:%M"),
    }
    limits["conditions"] = [given for given in line.conditions if given]
    return Verdict(why or "granted", seen, limits)


def record(asked: str, verdict: Verdict, *, by: Actor, **more: Any) -> UUID | None:
    """Keep one refusal and return its id. A refusal stands whether or not it can be explained later."""
    row = AccessDecision(
        request_id=(by.request_id or "")[:64],
        user_id=_uuid(by.id),
        session_id=(by.session_id or "")[:64],
        asked=asked[:100],
        rule=verdict.rule[:32],
        inputs={**verdict.inputs, **more},
        limits=dict(verdict.limits),
    )
    try:
        row.save(using="audit", force_insert=True)
    except DatabaseError as error:
        log.error("decision_not_kept", error=type(error).__name__)  # noqa: TRY400 - the refusal is answered anyway
        return None
    return row.pk


def of_request(request_id: str) -> QuerySet[AccessDecision]:
    """Return what was refused in one request: what support looks for."""
    return AccessDecision.objects.filter(request_id=request_id).order_by("id")


def remove_old(limit: int) -> int:
    """Delete up to `limit` rows whose time is over; return how many. For the worker."""
    old = AccessDecision.objects.filter(at__lt=timezone.now() - KEEP).order_by("id").values("pk")[:limit]
    return AccessDecision.objects.filter(pk__in=old).delete()[0]


def _without_grant(user: User, wanted: Permission, seen: dict[str, Any], limits: dict[str, Any]) -> Verdict:
    last = Grant.objects.filter(user=user, permission=wanted).order_by("-id").first()
    if last is None:
        return Verdict("no_grant", seen, limits)
    seen = {**seen, "grant": str(last.pk)}
    if last.revoked_at is not None:
        return Verdict("grant_revoked", {**seen, "revoked_at": last.revoked_at.isoformat()}, limits)
    ended = last.expires_at.isoformat() if last.expires_at else None
    return Verdict("grant_expired", {**seen, "expired_at": ended}, limits)


def _limits(wanted: Permission) -> dict[str, Any]:
    return {
        "permission": wanted.name,
        "clearance": wanted.required_clearance,
        "second_factor": wanted.requires_mfa,
        "second_person": wanted.requires_approval,
    }


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text or "")
    except ValueError:
        return None
