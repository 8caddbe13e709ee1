"""Background work on sessions: deleting what ended, and marking what everybody's end ended."""

from __future__ import annotations

from procrastinate.contrib.django import app

from sessions_security import detectors, everyone, purging


@app.periodic(cron="*/10 * * * *")
@app.task(name="sessions_security.purge", queueing_lock="sessions_security.purge", pass_context=False)
def purge(timestamp: int = 0) -> int:  # noqa: ARG001  # the scheduler passes it
    """Delete what ended; return how many rows went."""
    return sum(done.rows for done in purging.run())


@app.periodic(cron="* * * * *", periodic_id="sessions_security.detect")
@app.task(
    name="sessions_security.detect", queueing_lock="sessions_security.detect",
    lock="sessions_security.detect", pass_context=False,
)  # fmt: skip
def detect(timestamp: int = 0) -> int:  # noqa: ARG001  # the scheduler passes it
    """Look for attacks among the attempts to sign in; return how many signals were raised."""
    return detectors.run()


@app.task(name=everyone.JOB, pass_context=False)
def mark_ended_with_everyone() -> int:
    """Mark the sessions that everybody's end has ended; return how many."""
    return everyone.mark()


@app.periodic(cron="*/10 * * * *")
@app.task(
    name="sessions_security.mark_what_was_left", queueing_lock="sessions_security.mark", pass_context=False
)
def mark_what_was_left(timestamp: int = 0) -> int:  # noqa: ARG001  # the scheduler passes it
    """Mark what an interrupted worker left, or a session that was put back; return how many."""
    return everyone.mark()
