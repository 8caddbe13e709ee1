"""Asking a second person: what one person may not do alone.

Somebody asks; within 24 hours another person, who is neither who asked nor whom it is about, and who holds
the permission that the procedure names, approves or refuses. A procedure that has a `carry_out` happens in
the approving transaction, in the name of who asked. For one that has none, who asked repeats the action, and
`mestore.lib.guard.require_second_person` uses the approval up: once, for exactly what was approved.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import grants, hierarchy
from accounts.models import ApprovalRequest, User
from mestore.lib import canonical, errors, guard
from mestore.lib.actor import Actor
from monitoring import audit, events

LIVES = dt.timedelta(hours=24)
LARGEST_DETAILS = 8_192
State = ApprovalRequest.State
CarryOut = Callable[[ApprovalRequest, Actor], None]


class SecondPersonRequired(errors.Forbidden):
    """Nobody else has approved this. It can be asked for."""

    code = "SECOND_PERSON_REQUIRED"
    message = _("A second person has to approve this.")

    def __init__(self, action: str) -> None:
        super().__init__(extra={"action": action})


class NoSuchRequest(errors.NotFound):
    message = _("There is no such request.")


class AskedAlready(errors.Conflict):
    """The same person waits for an answer to the same question."""

    message = _("You have asked for this already; it waits for a second person.")


class DecidedAlready(errors.Conflict):
    """Somebody was first, it was withdrawn, or its time is over."""

    message = _("This request does not wait for a decision any more.")


class NotYours(errors.Forbidden):
    """The one who asks and the one whom it is about do not decide; nor does who lacks the permission."""

    message = _("You may not decide about this request.")


class BadDetails(errors.Unprocessable):
    message = _("The details of the request cannot be kept.")


@dataclass(frozen=True, slots=True)
class Procedure:
    """What needs a second person. `approver` is the permission that the second person holds."""

    name: str
    approver: str
    carry_out: CarryOut | None = None


_procedures: dict[str, Procedure] = {}


def register(procedure: Procedure) -> None:
    """Make a procedure known; called when Django starts. Raises RuntimeError for a second of its name."""
    if _procedures.setdefault(procedure.name, procedure) != procedure:
        raise RuntimeError(f"the procedure {procedure.name!r} is registered already")


def procedure_of(action: str) -> Procedure:
    """Return the procedure called `action`. Raises `guard.NothingRegistered`: nobody may do what it names."""
    try:
        return _procedures[action]
    except KeyError:
        raise guard.NothingRegistered from None


def ask(
    action: str,
    *,
    target: tuple[str, str],
    reason: str,
    by: Actor,
    about: User | None = None,
    details: Mapping[str, Any] | None = None,
) -> ApprovalRequest:
    """Ask a second person for `action`. Secrets do not belong in `details`: approvers read them.

    That `by` may ask is the caller's check. Raises AskedAlready, BadDetails, hierarchy.ReasonMissing,
    hierarchy.NotAllowed for who is nobody, guard.NothingRegistered.
    """
    procedure_of(action)
    hierarchy.demand_reason(reason)
    asker = _person(by)
    kept = _kept(details or {})
    now = timezone.now()
    request = ApprovalRequest(
        action=action, target_type=target[0], target_id=target[1], about=about, details=kept,
        fingerprint=ApprovalRequest.fingerprint_of(action, target, kept), reason=reason[:500],
        asked_by=asker, asked_by_label=asker.email, asked_at=now, expires_at=now + LIVES,
    )  # fmt: skip
    request.seal = request.make_seal()
    try:
        with transaction.atomic():
            # One that expired keeps its place in the history and frees the one open slot.
            ApprovalRequest.objects.filter(
                fingerprint=request.fingerprint, asked_by=asker, state=State.OPEN, expires_at__lte=now
            ).update(state=State.EXPIRED)
            request.save(force_insert=True)
            _record(events.APPROVAL_ASKED, request, by)
    except IntegrityError as error:
        if "approval_one_open" in str(error):
            raise AskedAlready from error
        raise
    return request


def approve(request_id: UUID | str, *, by: Actor, reason: str = "") -> ApprovalRequest:
    """Approve a request and, where its procedure says how, carry it out in the same transaction.

    Raises NoSuchRequest, NotYours, DecidedAlready, and whatever carrying out raises: then nothing is
    decided and the request goes on waiting.
    """
    request = _found(request_id)
    procedure = procedure_of(request.action)
    decider = _decider(request, procedure, by)
    with transaction.atomic():
        _move(request, State.APPROVED, decider, reason)
        _record(events.APPROVAL_GIVEN, request, by)
        if procedure.carry_out is not None:
            procedure.carry_out(request, by)
            _use_up(request)
            _record(events.APPROVAL_USED, request, by)
    return request


def refuse(request_id: UUID | str, *, reason: str, by: Actor) -> ApprovalRequest:
    """Refuse a request. Raises as `approve` does, and hierarchy.ReasonMissing."""
    hierarchy.demand_reason(reason)
    request = _found(request_id)
    decider = _decider(request, procedure_of(request.action), by)
    with transaction.atomic():
        _move(request, State.REFUSED, decider, reason)
        _record(events.APPROVAL_REFUSED, request, by)
    return request


def withdraw(request_id: UUID | str, *, by: Actor) -> ApprovalRequest:
    """Take one's own request back. Raises NoSuchRequest (also for those of others), DecidedAlready."""
    request = _found(request_id)
    if str(request.asked_by_id) != by.id:
        raise NoSuchRequest
    with transaction.atomic():
        if not request.move(earlier=State.OPEN, state=State.WITHDRAWN):
            raise DecidedAlready
        request.state = State.WITHDRAWN
        _record(events.APPROVAL_WITHDRAWN, request, by)
    return request


def require(
    action: str,
    *,
    by: Actor,
    target: tuple[str, str],
    details: Mapping[str, Any] | None = None,
) -> None:
    """Use up the approval that `by` received for exactly this; what `guard.require_second_person` asks.

    Belongs inside the transaction of the action: if that rolls back, the approval is not used. Raises
    SecondPersonRequired, guard.NothingRegistered.
    """
    procedure_of(action)
    asker = _person(by)
    fingerprint = ApprovalRequest.fingerprint_of(action, target, _kept(details or {}))
    approved = ApprovalRequest.objects.filter(
        fingerprint=fingerprint, asked_by=asker, state=State.APPROVED, expires_at__gt=timezone.now()
    )
    for request in approved.select_related("decided_by").order_by("id"):
        if request.is_intact() and _decider_is_still_there(request):
            with transaction.atomic():
                if request.move(earlier=State.APPROVED, state=State.DONE):
                    _record(events.APPROVAL_USED, request, by)
                    return
    audit.record_refusal(events.APPROVAL_MISSING, by=by, target=target, data={"action": action})
    raise SecondPersonRequired(action)


def standing(
    action: str, *, by: Actor, target: tuple[str, str], details: Mapping[str, Any] | None = None
) -> ApprovalRequest | None:
    """Return the request of `by` for exactly this that is approved and not used up, else the one that waits.

    Uses nothing up. Raises hierarchy.NotAllowed for who is nobody, guard.NothingRegistered.
    """
    procedure_of(action)
    asker = _person(by)
    fingerprint = ApprovalRequest.fingerprint_of(action, target, _kept(details or {}))
    living = ApprovalRequest.objects.filter(
        fingerprint=fingerprint,
        asked_by=asker,
        state__in=[State.APPROVED, State.OPEN],
        expires_at__gt=timezone.now(),
    )
    # "approved" comes before "open"; within each, the oldest ends first.
    rows = living.select_related("asked_by", "about", "decided_by").order_by("state", "id")
    return next(
        (row for row in rows if row.is_intact() and (row.waits() or _decider_is_still_there(row))), None
    )


def waiting_for(user: User) -> QuerySet[ApprovalRequest]:
    """Return the open requests that `user` may decide about, oldest first."""
    names = [name for name, found in _procedures.items() if grants.has_perm(user, found.approver)]
    return (
        _open()
        .filter(action__in=names)
        .exclude(asked_by=user)
        .exclude(Q(about__isnull=False) & Q(about=user))
        .order_by("id")
    )


def asked_by(user: User) -> QuerySet[ApprovalRequest]:
    """Return what `user` asked for, newest first."""
    return ApprovalRequest.objects.filter(asked_by=user).select_related("about").order_by("-id")


def may_decide(request: ApprovalRequest, user: User) -> bool:
    """Whether `user` may decide about `request` now."""
    return request.waits() and not _obstacle(request, procedure_of(request.action), user)


def expire(limit: int) -> int:
    """Mark up to `limit` requests whose time is over; return how many. For the worker."""
    over = ApprovalRequest.objects.filter(state=State.OPEN, expires_at__lte=timezone.now())
    return ApprovalRequest.objects.filter(pk__in=over.values("pk")[:limit]).update(state=State.EXPIRED)


def _open() -> QuerySet[ApprovalRequest]:
    rows = ApprovalRequest.objects.filter(state=State.OPEN, expires_at__gt=timezone.now())
    return rows.select_related("asked_by", "about")


def _found(request_id: UUID | str) -> ApprovalRequest:
    try:
        wanted = UUID(str(request_id))
    except ValueError:
        raise NoSuchRequest from None
    rows = ApprovalRequest.objects.select_related("asked_by", "about")
    request = rows.filter(pk=wanted).first()
    if request is None:
        raise NoSuchRequest
    return request


def _person(by: Actor) -> User:
    user = hierarchy.authority_of(by).user
    # A command has no second person to be different from.
    if user is None:
        raise hierarchy.refused("no_person", by)
    return user


def _decider(request: ApprovalRequest, procedure: Procedure, by: Actor) -> User:
    user = _person(by)
    why = _obstacle(request, procedure, user)
    if why:
        audit.record_refusal(
            events.APPROVAL_NOT_ALLOWED,
            by=by,
            target=("approval", str(request.pk)),
            data={"action": request.action, "why": why},
        )
        raise NotYours
    return user


def _obstacle(request: ApprovalRequest, procedure: Procedure, user: User) -> str:
    """Return in one word why `user` may not decide; an empty text when they may."""
    if user.pk == request.asked_by_id:
        return "asked"
    if user.pk == request.about_id:
        return "target"
    if not grants.has_perm(user, procedure.approver):
        return "permission"
    if request.about is not None and hierarchy.obstacle_over(hierarchy.Authority(user), request.about):
        return "rank"
    if not request.asked_by.is_active or request.asked_by.deleted_at is not None:
        return "asker_gone"
    if not request.is_intact():
        return "seal"
    return ""


def _decider_is_still_there(request: ApprovalRequest) -> bool:
    decided_by = request.decided_by
    return decided_by is not None and decided_by.is_active and decided_by.deleted_at is None


def _move(request: ApprovalRequest, state: State, decider: User, reason: str) -> None:
    changes: dict[str, Any] = {
        "state": state,
        "decided_by": decider,
        "decided_by_label": decider.email,
        "decided_at": timezone.now(),
        "decided_why": reason.strip()[:500],
    }
    seal = request.make_seal(**changes)
    if not request.move(earlier=State.OPEN, **changes):
        raise DecidedAlready
    for name, value in changes.items():
        setattr(request, name, value)
    request.seal = seal


def _use_up(request: ApprovalRequest) -> None:
    seal = request.make_seal(state=State.DONE)
    if not request.move(earlier=State.APPROVED, state=State.DONE):
        raise DecidedAlready
    request.state, request.seal = State.DONE, seal


def _kept(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return `details` as JSON gives them back, bounded: what is compared later is what was written."""
    try:
        written = canonical.dumps(dict(details))
    except canonical.NotCanonical as error:
        raise BadDetails from error
    if len(written) > LARGEST_DETAILS or b"\\u0000" in written:
        raise BadDetails
    kept: dict[str, Any] = json.loads(written)
    return kept


def _record(event: str, request: ApprovalRequest, by: Actor) -> None:
    audit.record(
        event,
        by=by,
        target=("approval", str(request.pk)),
        subject=str(request.about_id) if request.about_id else None,
        data={
            "action": request.action,
            "target_type": request.target_type,
            "target": request.target_id,
            "asked_by": str(request.asked_by_id),
            "fingerprint": bytes(request.fingerprint).hex(),
        },
    )
