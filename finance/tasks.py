"""Background work on money. `manage.py worker` runs it."""

from __future__ import annotations

from uuid import UUID

from procrastinate.contrib.django import app

from finance import outbound, reconciliation
from mestore.lib import actor


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
