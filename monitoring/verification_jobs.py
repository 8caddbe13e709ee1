"""Verifying the log because somebody asked for it: in the background, one at a time."""

from __future__ import annotations

from typing import Any, Final

from django.db import transaction
from django.utils.translation import gettext_lazy as _
from procrastinate.contrib.django import app
from procrastinate.exceptions import AlreadyEnqueued

from mestore.lib import errors
from mestore.lib.actor import Actor
from monitoring import audit, checkpoints, events, log, verifications
from monitoring.verifications import Mode, Plan

STEP_UP: Final = "audit.verify"
"""The action for which a fresh factor is asked (the setting STEP_UP)."""
JOB: Final = "monitoring.verify_log"


class NoSuchLeaves(errors.Unprocessable):
    message = _("The log has no such leaves: the first must come before the last, and the last must exist.")


class AlreadyAsked(errors.Conflict):
    message = _("A verification waits already. Its result will be on this page.")


def ask(mode: Mode, *, begin: int | None = None, end: int | None = None, reason: str, by: Actor) -> None:
    """Put a verification in line and record who asked. Raises NoSuchLeaves, AlreadyAsked, log.LogDamaged."""
    given: dict[str, Any] = {"mode": str(mode), "asked_by": by.id or by.kind}
    if mode is Mode.RANGE:
        size = log.state().size
        first, last = begin or 0, size if end is None else end
        if not 0 <= first < last <= size:
            raise NoSuchLeaves
        given |= {"begin": first, "end": last}
    with transaction.atomic():
        try:
            with transaction.atomic():
                app.configure_task(JOB, queueing_lock=JOB).defer(**given)
        except AlreadyEnqueued as refused:
            raise AlreadyAsked from refused
        audit.record(
            events.AUDIT_VERIFICATION_ASKED,
            by=by,
            target=("audit_log", checkpoints.origin(log.state().epoch)),
            data={**given, "reason": reason},
        )


@app.task(name=JOB, lock=JOB, pass_context=False)
def verify_log(mode: str, asked_by: str, begin: int = 0, end: int | None = None) -> bool:
    """Verify what was asked for; what is found is told by the verifier itself."""
    plan = Plan(mode=Mode(mode), begin=begin, end=end)
    return all(one.is_good for one in verifications.verify(plan, by=Actor(kind="user", id=asked_by)))
