"""The jobs that send the audit trail: each destination has its own, so that a slow one delays no other."""

from __future__ import annotations

from procrastinate.contrib.django import app
from procrastinate.exceptions import AlreadyEnqueued

from monitoring import push

JOB = "monitoring.audit_push_to"
SECONDS = 50.0


@app.periodic(cron="* * * * *", periodic_id="audit_push")
@app.task(name="monitoring.audit_push", queueing_lock="audit_push", pass_context=False)
def audit_push(timestamp: int) -> int:  # noqa: ARG001 - the scheduler passes it
    """Begin to send to every destination, and tell of those that wait for long."""
    for destination in push.configured():
        try:
            audit_push_to.configure(queueing_lock=f"{JOB} {destination.name}").defer(name=destination.name)
        except AlreadyEnqueued:
            continue  # the last minute's has not begun yet
    return push.tell_of_late()


@app.task(name=JOB, pass_context=False)
def audit_push_to(name: str) -> int:
    """Send what waits for one destination; nothing when the settings do not name it any more."""
    return sum(push.push(one, seconds=SECONDS) for one in push.configured() if one.name == name)
