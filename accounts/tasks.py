"""Background work on accounts: deleting failure counters and codes whose time is over."""

from __future__ import annotations

from procrastinate.contrib.django import app

from accounts import lockout, verification

BATCH = 1_000


@app.periodic(cron="*/20 * * * *")
@app.task(name="accounts.purge_counters", queueing_lock="accounts.purge_counters", pass_context=False)
def purge_counters(timestamp: int = 0) -> int:  # noqa: ARG001 - the scheduler passes it
    """Delete what ended, a batch at a time; return how many rows went."""
    gone = 0
    while True:
        deleted = lockout.remove_ended(BATCH)
        gone += deleted
        if deleted < BATCH:
            return gone


@app.periodic(cron="7 * * * *")
@app.task(name="accounts.purge_codes", queueing_lock="accounts.purge_codes", pass_context=False)
def purge_codes(timestamp: int = 0) -> int:  # noqa: ARG001 - the scheduler passes it
    """Delete verification codes that are over, a batch at a time; return how many rows went."""
    gone = 0
    while True:
        deleted = verification.remove_ended(BATCH)
        gone += deleted
        if deleted < BATCH:
            return gone
