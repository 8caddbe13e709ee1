"""Background work of the audit trail and of messages. `manage.py worker` runs it."""

from __future__ import annotations

from uuid import UUID

import structlog
from procrastinate.contrib.django import app

from mestore.lib import sql
from monitoring import delivery

MONTHS_AHEAD = 12

log = structlog.get_logger("mestore.audit")


@app.periodic(cron="17 3 * * *", periodic_id="audit_ensure_partitions")
@app.task(
    name="monitoring.audit_ensure_partitions", queueing_lock="audit_ensure_partitions", pass_context=False
)
def audit_ensure_partitions(timestamp: int) -> None:
    """Make the partitions of the coming year: a worker may be away for long before it matters."""
    row = sql.fetch_one("SELECT audit_ensure_partitions(%s)", [MONTHS_AHEAD])
    log.info("audit_partitions_ensured", made=row[0] if row else 0, scheduled_at=timestamp)


@app.task(name=delivery.JOB, pass_context=False)
def deliver(message_id: str) -> bool:
    """Send one message; what fails is tried again by `deliver_due`."""
    return delivery.send(UUID(message_id))


@app.periodic(cron="* * * * *", periodic_id="deliver_due")
@app.task(name="monitoring.deliver_due", queueing_lock="deliver_due", pass_context=False)
def deliver_due(timestamp: int) -> int:  # noqa: ARG001 - the scheduler passes it
    """Send what could not be sent before, and messages whose job was lost with its worker."""
    return delivery.send_due()
