"""Background work on money. `manage.py worker` runs it."""

from __future__ import annotations

from uuid import UUID

from procrastinate.contrib.django import app

from finance import outbound, payout_approvals, payout_ends, payout_outcomes, reconciliation
from finance.money_jobs import (  # noqa: F401 - found here by the worker
    settle,
    take_snapshots,
    verify_money,
)
from mestore.lib import actor

PAYOUTS_AT_ONCE = 500


@app.task(name=outbound.JOB, pass_context=False)
def send_event(event_id: str) -> int:
    """Send one event of the storefront's; what is not taken is tried again by `send_events_due`."""
    return outbound.send_event(UUID(event_id))


@app.periodic(cron="* * * * *", periodic_id="send_events_due")
@app.task(name="finance.send_events_due", queueing_lock="send_events_due", pass_context=False)
def send_events_due(timestamp: int) -> int:  # noqa: ARG001 - the scheduler passes it
    """Send what could not be sent before, and events whose job was lost with its worker."""
    return outbound.send_due()


@app.periodic(cron="41 6 * * *", periodic_id="compare_reports")
@app.task(name="finance.compare_reports", queueing_lock="compare_reports", pass_context=False)
def compare_reports(timestamp: int) -> int:  # noqa: ARG001 - the scheduler passes it
    """Compare the reports of the last days again: what came late ends its case."""
    return reconciliation.compare_recent(by=actor.system("worker"))


@app.periodic(cron="*/5 * * * *", periodic_id="payouts_due")
@app.task(name="finance.payouts_due", queueing_lock="payouts_due", pass_context=False)
def payouts_due(timestamp: int) -> int:  # noqa: ARG001 - the scheduler passes it
    """Give payouts up that are too old, let go on what cooled off, mark what the bank has not answered."""
    by = actor.system("worker")
    steps = (payout_ends.expire, payout_approvals.screen_again, payout_outcomes.without_answer)
    return sum(step(PAYOUTS_AT_ONCE, by=by) for step in steps)
