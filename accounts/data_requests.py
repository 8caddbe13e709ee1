"""What a person asks about their own data: a copy of it, or to be forgotten. The staff answers in time.

Ley 1581 de 2012: a copy is a "consulta" (art. 14), answered within ten working days from the day it came in;
being forgotten is a "reclamo" (art. 15), within fifteen from the day after. One request of each kind is open
at a time. A copy is granted by one person, who never sees it (`archives.py`). Being forgotten takes two, and
is refused while orders or money of the person must be kept by law: then the answer says so.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import approvals, archives, deletion, hierarchy, working_days
from accounts.account_changes import UserNotFound
from accounts.models import ApprovalRequest, DataRequest, User
from mestore.lib import errors, throttle
from mestore.lib.actor import Actor
from monitoring import audit, delivery, events

Kind, State = DataRequest.Kind, DataRequest.State

PROCEDURE: Final = "users.forget"
DECIDING: Final = "users.manage.global"
REQUEST_STEP_UP: Final = "own_data.request"
DOWNLOAD_STEP_UP: Final = "own_data.download"
DECIDE_STEP_UP: Final = "data_requests.decide"
# Working days to answer, and whether the day it came in counts as the first.
TERMS: Final = {Kind.EXPORT: (10, True), Kind.ERASURE: (15, False)}
LIMIT: Final = throttle.Limit("data-requests", 5, 86_400)
SHOWN: Final = 50


class NotOneself(errors.Forbidden):
    """Whoever looks through another person's eyes asks for nothing in their name."""

    message = _("Only the person can ask for this.")


class AskedAlready(errors.Conflict):
    code = "DATA_REQUEST_OPEN"
    message = _("You have asked for this already; the answer is on its way.")


class NoSuchRequest(errors.NotFound):
    message = _("There is no such request.")


class DecidedAlready(errors.Conflict):
    """It was answered, taken back, or somebody else was first."""

    message = _("This request does not wait for an answer any more.")


class AccountGone(errors.Conflict):
    """The account was deleted after it asked."""

    message = _("The account is deleted: nobody could fetch a copy. Refuse the request.")


class KeptByLaw(errors.Conflict):
    """Records that must stay refer to the account."""

    message = _(
        "Orders or other records that must be kept refer to this account. Refuse the request: the person is"
        " told what is kept."
    )


def make(user: User, *, kind: DataRequest.Kind, reason: str = "", by: Actor) -> DataRequest:
    """Ask for a copy of one's own data, or to be forgotten. That a factor is fresh is the caller's check.

    Raise NotOneself, AskedAlready, errors.TooManyRequests.
    """
    _demand_self(user, by)
    allowed = throttle.hit([(LIMIT, str(user.pk))])
    if not allowed.allowed:
        raise errors.TooManyRequests(retry_after=allowed.retry_after)
    now = timezone.now()
    try:
        with transaction.atomic():
            if not User.objects.select_for_update(no_key=True).filter(pk=user.pk, deleted_at=None).exists():
                raise NotOneself
            request: DataRequest = DataRequest.objects.create(
                person_id=user.pk,
                kind=kind,
                reason=reason.strip()[:500],
                asked_at=now,
                due_on=due_on(kind, now),
            )
            _record(events.DATA_REQUEST_MADE, request, by, {"due_on": request.due_on})
            delivery.notify(user, "data_request_made", _told(request), by=by, second_address=True)
    except IntegrityError as error:
        if "data_request_one_open" in str(error):
            raise AskedAlready from error
        raise
    return request


def due_on(kind: DataRequest.Kind, asked_at: dt.datetime) -> dt.date:
    """Return the last day to answer what came in at a moment, by the calendar of Colombia."""
    days, counting_first = TERMS[kind]
    received = asked_at.astimezone(ZoneInfo(settings.BUSINESS_TIME_ZONE)).date()
    return working_days.last_day(received, days, counting_first=counting_first)


def today() -> dt.date:
    """Return the day it is in Colombia."""
    return timezone.now().astimezone(ZoneInfo(settings.BUSINESS_TIME_ZONE)).date()


def of(person_id: UUID) -> QuerySet[DataRequest]:
    """Return what a person asked for, newest first."""
    found: QuerySet[DataRequest] = DataRequest.objects.filter(person_id=person_id).order_by("-id")
    return found


def cancel(user: User, request_id: UUID, *, by: Actor) -> DataRequest:
    """Take back what nobody has answered yet. Raise NoSuchRequest (also for others'), DecidedAlready."""
    _demand_self(user, by)
    request = _own(user, request_id)
    with transaction.atomic():
        if not request.move(earlier=State.WAITING, state=State.CANCELLED, ended_at=timezone.now()):
            raise DecidedAlready
        _record(events.DATA_REQUEST_CANCELLED, request, by, {"why": "own_choice"})
    return request


def download(user: User, request_id: UUID, *, by: Actor) -> archives.Download:
    """Return the archive of one's own request. That a factor is fresh is the caller's check.

    Raise NoSuchRequest (also for others'), NotOneself, and what `archives.download` raises.
    """
    _demand_self(user, by)
    return archives.download(_own(user, request_id), by=by)


def approve(request: DataRequest, *, reason: str, by: Actor) -> DataRequest | ApprovalRequest:
    """Grant a request: a copy is made by the worker; to forget somebody, a second person is asked.

    Raise hierarchy.NotAllowed, hierarchy.ReasonMissing, DecidedAlready, AccountGone, KeptByLaw, and
    approvals.AskedAlready.
    """
    hierarchy.demand_reason(reason)
    with transaction.atomic():
        user = _decidable(request, by)
        if request.kind == Kind.ERASURE:
            return _ask_second_person(request, reason=reason, by=by)
        if user is None or user.deleted_at is not None:
            raise AccountGone
        _decide(request, by, state=State.BUILDING, answer="")
        _record(events.DATA_REQUEST_APPROVED, request, by, {"reason": reason})
        archives.order(request)
    return request


def reject(request: DataRequest, *, reason: str, by: Actor) -> DataRequest:
    """Refuse a request; the person reads `reason` and, of an erasure, which kinds of records must be kept.

    Raise hierarchy.NotAllowed, hierarchy.ReasonMissing, DecidedAlready.
    """
    hierarchy.demand_reason(reason)
    with transaction.atomic():
        user = _decidable(request, by)
        kept = kept_by_law(request.person_id) if request.kind == Kind.ERASURE else []
        now = timezone.now()
        _decide(request, by, state=State.REJECTED, answer=reason.strip()[:500], kept=kept, ended_at=now)
        _record(events.DATA_REQUEST_REJECTED, request, by, {"kept": kept})
        if user is not None:
            delivery.notify(user, "data_request_rejected", _told(request), by=by)
    return request


def carry_out(approval: ApprovalRequest, by: Actor) -> None:
    """Forget the person, in the name of who asked for the second person; `by` is the second.

    Runs in the transaction of the approval. Both must stand above the person. The last message is written
    before the address goes. Raise DecidedAlready, KeptByLaw, hierarchy.NotAllowed.
    """
    person_id = UUID(approval.details["person"])
    # Accounts first, the request after, as everybody does who decides: nobody waits in a circle.
    held = hierarchy.hold(by, [person_id, approval.asked_by_id])
    found = DataRequest.objects.select_for_update(no_key=True).filter(pk=UUID(approval.target_id)).first()
    user = held.users.get(person_id)
    if user is None or found is None or (found.person_id, found.state) != (person_id, State.WAITING):
        raise DecidedAlready
    hierarchy.demand_over(held.authority, user, by)
    delivery.notify(user, "data_erased", {}, by=by)
    try:
        deletion.erase(user.pk, reason=approval.reason, confirmed=True, by=approval.asker, may_be_open=True)
    except deletion.StillNeeded as error:
        raise KeptByLaw from error
    # `erase` ended what was open: this one was not taken back, it was done.
    DataRequest.objects.filter(pk=found.pk).update(
        state=State.DONE, decided_at=timezone.now(), decided_by_id=approval.asked_by_id,
        decided_by_label=approval.asked_by_label,
    )  # fmt: skip
    _record(events.DATA_REQUEST_ERASED, found, by, {"approval": str(approval.pk)})


def kept_by_law(person_id: UUID) -> list[str]:
    """Return which kinds of records forbid that a person is forgotten ("order"); none for who is gone."""
    try:
        blocking = deletion.dependencies(person_id).blocking
    except UserNotFound:
        return []
    return sorted({label.split(".")[1] for label in blocking})


def register() -> None:
    """Make the procedure known; called when Django starts."""
    approvals.register(approvals.Procedure(PROCEDURE, approver=deletion.DELETING, carry_out=carry_out))


def _ask_second_person(request: DataRequest, *, reason: str, by: Actor) -> ApprovalRequest:
    user = User.objects.filter(pk=request.person_id).first()
    if user is None:
        raise NoSuchRequest
    hierarchy.demand_right(hierarchy.authority_of(by), deletion.DELETING, by, user)
    if kept_by_law(request.person_id):
        raise KeptByLaw
    # Not `about` the person: a row that refers to the account would forbid its removal for ever.
    return approvals.ask(
        PROCEDURE, target=("data_request", str(request.pk)), details={"person": str(request.person_id)},
        reason=reason, by=by,
    )  # fmt: skip


def _decidable(request: DataRequest, by: Actor) -> User | None:
    """Return the person, held, if `by` may decide about their requests; None when there is no account."""
    held = hierarchy.hold(by, [request.person_id])
    user = held.users.get(request.person_id)
    hierarchy.demand_right(held.authority, DECIDING, by, user)
    if user is not None:
        hierarchy.demand_over(held.authority, user, by)
    if not DataRequest.objects.filter(pk=request.pk, state=State.WAITING).exists():
        raise DecidedAlready
    return user


def _decide(request: DataRequest, by: Actor, **changes: Any) -> None:
    decided = {"decided_at": timezone.now(), "decided_by_label": by.label[:254]}
    if by.id is not None:
        decided["decided_by_id"] = UUID(by.id)
    if not request.move(earlier=State.WAITING, **decided, **changes):
        raise DecidedAlready


def _demand_self(user: User, by: Actor) -> None:
    if by.id != str(user.pk) or by.impersonator is not None:
        raise NotOneself


def _own(user: User, request_id: UUID) -> DataRequest:
    found = of(user.pk).filter(pk=request_id).first()
    if found is None:
        raise NoSuchRequest
    return found


def _told(request: DataRequest) -> dict[str, Any]:
    return {"kind": request.kind, "due_on": request.due_on.isoformat()}


def _record(event: str, request: DataRequest, by: Actor, data: dict[str, Any]) -> None:
    audit.record(
        event, by=by, target=("user", str(request.person_id)), subject=by.id or str(request.person_id),
        data={"request": str(request.pk), "kind": request.kind, **data},
    )  # fmt: skip
