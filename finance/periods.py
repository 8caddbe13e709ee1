"""Closing the books up to a moment: nothing that occurred before it is posted any more.

Whoever wants to close asks; a second person's yes carries it out, in the name of both. A close cannot be
undone: what is found out later about a closed time is posted with a moment of now.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

from django.db import IntegrityError, transaction
from django.utils.translation import gettext_lazy as _

from accounts import approvals, hierarchy
from accounts.models import ApprovalRequest
from finance import transactions
from finance.models import PeriodClose
from mestore.lib import errors, sql
from mestore.lib.actor import Actor
from monitoring import audit, events

PROCEDURE: Final = "finance.close_period"
ASKING: Final = "transactions.manage.global"
APPROVING: Final = "transactions.approve.global"
#: For what a fresh factor is asked (the setting STEP_UP).
STEP_UP: Final = "finance.manage"

_CLOSE: Final = "SELECT ledger_close_period(%s, %s, %s)"
_OUT_OF_ORDER: Final = "ledger_period_close_in_order"


class CloseOutOfOrder(errors.Conflict):
    """In the future, or not after the last close."""

    code = "PERIOD_OUT_OF_ORDER"
    message = _("A period ends in the past, and after the last one that was closed.")


def closed_until() -> dt.datetime | None:
    """Return up to when the books are closed, None when they never were."""
    last = PeriodClose.objects.order_by("-closed_until").first()
    return None if last is None else last.closed_until


def posted_at(moment: dt.datetime, *, closed: dt.datetime | None, now: dt.datetime) -> dt.datetime:
    """Return when what occurred at `moment` is posted: then, or now where those books are closed."""
    return now if closed is not None and moment < closed else moment


def ask(until: dt.datetime, *, reason: str, by: Actor) -> ApprovalRequest:
    """Ask a second person to close the books up to `until`.

    Raises hierarchy.NotAllowed, hierarchy.ReasonMissing, CloseOutOfOrder, approvals.AskedAlready.
    """
    hierarchy.demand_right(hierarchy.authority_of(by), ASKING, by)
    last = closed_until()
    if until > dt.datetime.now(dt.UTC) or (last is not None and until <= last):
        raise CloseOutOfOrder
    return approvals.ask(
        PROCEDURE, target=("ledger", "periods"), reason=reason, by=by,
        details={"closed_until": until.astimezone(dt.UTC).isoformat()},
    )  # fmt: skip


def close(until: dt.datetime, *, reason: str, by: Actor) -> int:
    """Close the books up to `until`; return the close's number. It waits for postings that are under way.

    Raises CloseOutOfOrder.
    """
    try:
        with transaction.atomic():
            row = sql.fetch_one(_CLOSE, [until, by.id or by.label or by.kind, reason[:500]])
            number = int(row[0]) if row else 0
            audit.record(
                events.PERIOD_CLOSED, by=by, target=("period", str(number)),
                data={"closed_until": until.isoformat(), "reason": reason},
            )  # fmt: skip
            return number
    except IntegrityError as error:
        if transactions.constraint_of(error) != _OUT_OF_ORDER:
            raise
        raise CloseOutOfOrder from error


def register() -> None:
    """Make the procedure known; called when Django starts."""
    approvals.register(approvals.Procedure(PROCEDURE, approver=APPROVING, carry_out=_carry_out))


def _carry_out(request: ApprovalRequest, by: Actor) -> None:
    """Close what was approved. Raises hierarchy.NotAllowed when who asked may not ask for it any more."""
    asker = request.asker
    hierarchy.demand_right(hierarchy.authority_of(asker), ASKING, asker)
    close(dt.datetime.fromisoformat(request.details["closed_until"]), reason=request.reason, by=by)
