"""Background work of the audit trail and of messages. `manage.py worker` runs it."""

from __future__ import annotations

from uuid import UUID

import structlog
from procrastinate.contrib.django import app

from mestore.lib import actor, sql
from monitoring import (
    alert_notices,
    anchors,
    audit,
    delivery,
    guards_seen,
    months_due,
    overdue,
    pipeline,
    row_counts,
    row_reconciliation,
    row_records,
    verifications,
)
from monitoring.push_jobs import audit_push, audit_push_to  # noqa: F401 - found here by the worker
from monitoring.verification_jobs import verify_log  # noqa: F401 - asked for in the console
from monitoring.verifications import Mode, Plan

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


@app.periodic(cron="* * * * *", periodic_id="tell_of_signals")
@app.task(
    name="monitoring.tell_of_signals", queueing_lock="tell_of_signals", lock="tell_of_signals",
    pass_context=False,
)  # fmt: skip
def tell_of_signals(timestamp: int) -> int:  # noqa: ARG001 - the scheduler passes it
    """Open signals whose silence is over, then mail about what nobody was told of yet."""
    alert_notices.wake()
    return alert_notices.tell()


@app.periodic(cron="43 * * * *", periodic_id="forget_signals")
@app.task(name="monitoring.forget_signals", queueing_lock="forget_signals", pass_context=False)
def forget_signals(timestamp: int) -> int:  # noqa: ARG001 - the scheduler passes it
    """Delete what was archived long ago, and old evidence."""
    return alert_notices.forget()


@app.periodic(cron="* * * * *", periodic_id="audit_verify_tail")
@app.task(
    name="monitoring.audit_verify_tail", queueing_lock="audit_verify_tail", lock="audit_verify",
    pass_context=False,
)  # fmt: skip
def audit_verify_tail(timestamp: int) -> None:  # noqa: ARG001 - the scheduler passes it
    """Verify what came to the audit log since the last good run; what is found is signalled."""
    verifications.verify(
        Plan(most=verifications.MOST_AT_ONCE, is_scheduled=True), by=actor.system("audit_verify_tail")
    )


@app.periodic(cron="37 7 * * *", periodic_id="audit_verify_full")
@app.task(name="monitoring.audit_verify_full", queueing_lock="audit_verify_full", pass_context=False)
def audit_verify_full(timestamp: int) -> None:  # noqa: ARG001 - the scheduler passes it
    """Verify the audit log as a whole, at night in Bogota."""
    verifications.forget()
    verifications.verify(Plan(Mode.FULL, is_scheduled=True), by=actor.system("audit_verify_full"))


@app.periodic(cron="13 7 * * *", periodic_id="audit_reconcile")
@app.task(
    name="monitoring.audit_reconcile", queueing_lock="audit_reconcile", lock="audit_reconcile",
    pass_context=False,
)  # fmt: skip
def audit_reconcile(timestamp: int) -> bool:  # noqa: ARG001 - the scheduler passes it
    """Compare the rows of watched tables with the trail, at night in Bogota; what is found is signalled.

    Then records that nobody needs any more are removed. Next to a newer release there is nothing to do here:
    its own worker compares.
    """
    try:
        is_good = row_reconciliation.reconcile(by=actor.system("audit_reconcile")).is_good
    except row_counts.LaterRelease:
        log.warning("audit_reconcile_left_to_a_later_release")
        return False
    log.info("audit_reconciliations_forgotten", many=row_records.forget())
    return is_good


@app.periodic(cron="* * * * *", periodic_id="watch_audit_trail")
@app.task(
    name="monitoring.watch_audit_trail", queueing_lock="watch_audit_trail", lock="watch_audit_trail",
    pass_context=False,
)  # fmt: skip
def watch_audit_trail(timestamp: int) -> int:  # noqa: ARG001 - the scheduler passes it
    """Raise signals about what is late on the way to the signed log and the witnesses."""
    return pipeline.watch()


@app.periodic(cron="* * * * *", periodic_id="replay_spool")
@app.task(name="monitoring.replay_spool", queueing_lock="replay_spool", pass_context=False)
def replay_spool(timestamp: int) -> int:  # noqa: ARG001 - the scheduler passes it
    """Write to the trail what waits on this machine's disk."""
    return audit.replay_spool()


@app.periodic(cron="7 * * * *", periodic_id="anchor_checkpoint")
@app.task(name="monitoring.anchor_checkpoint", queueing_lock="anchor_checkpoint", pass_context=False)
def anchor_checkpoint(timestamp: int) -> bool:  # noqa: ARG001 - the scheduler passes it
    """Keep the newest checkpoint outside of the database; say so when no witness does."""
    pipeline.tell_unwatched()
    return anchors.keep_newest() is not None


@app.periodic(cron="11 * * * *", periodic_id="watch_months")
@app.task(name="monitoring.watch_months", queueing_lock="watch_months", pass_context=False)
def watch_months(timestamp: int) -> int:  # noqa: ARG001 - the scheduler passes it
    """Raise signals about months of the trail that are past their time."""
    return months_due.watch()


@app.periodic(cron="*/10 * * * *", periodic_id="audit_guards_seen")
@app.task(
    name="monitoring.audit_guards_seen", queueing_lock="audit_guards_seen", lock="audit_guards_seen",
    pass_context=False,
)  # fmt: skip
def audit_guards_seen(timestamp: int) -> bool:  # noqa: ARG001 - the scheduler passes it
    """Say in the trail, once each hour, how its guards are; whoever runs at all in an hour says it."""
    return guards_seen.look(by=actor.system("audit_guards_seen")) is not None


@app.periodic(cron="29 * * * *", periodic_id="watch_overdue")
@app.task(name="monitoring.watch_overdue", queueing_lock="watch_overdue", pass_context=False)
def watch_overdue(timestamp: int) -> int:  # noqa: ARG001 - the scheduler passes it
    """Raise signals about nightly runs that did not happen, and an hour in which nobody saw the guards."""
    try:
        told = overdue.watch()
    finally:  # what one cannot read must not silence the other
        told_of_guards = guards_seen.watch()
    return told + told_of_guards
