"""Background work on accounts: deleting failure counters and codes whose time is over."""

from __future__ import annotations

from uuid import UUID

from procrastinate.contrib.django import app

from accounts import (
    addresses,
    approvals,
    archives,
    break_glass,
    challenges,
    data_requests_due,
    decisions,
    devices,
    factor_resets,
    lockout,
    password_change,
    password_reset,
    recovery,
    totp,
    verification,
)
from mestore.lib import actor

BATCH = 1_000
ARCHIVES_AT_ONCE = 20


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


@app.periodic(cron="* * * * *")
@app.task(name="accounts.factor_resets", queueing_lock="accounts.factor_resets", pass_context=False)
def carry_out_factor_resets(timestamp: int = 0) -> int:  # noqa: ARG001 - the scheduler passes it
    """Carry out the factor resets whose hold is over; return how many."""
    return factor_resets.carry_out_due(by=actor.system("factor resets"))


@app.periodic(cron="13 * * * *")
@app.task(name="accounts.purge_recovery", queueing_lock="accounts.purge_recovery", pass_context=False)
def purge_recovery(timestamp: int = 0) -> int:  # noqa: ARG001 - the scheduler passes it
    """Delete old recovery cases and secrets that nobody confirmed; return how many rows went."""
    gone = 0
    for remove_ended in (recovery.remove_ended, totp.remove_unconfirmed):
        deleted = BATCH
        while deleted == BATCH:
            deleted = remove_ended(BATCH)
            gone += deleted
    return gone


@app.periodic(cron="*/10 * * * *")
@app.task(name="accounts.purge_challenges", queueing_lock="accounts.purge_challenges", pass_context=False)
def purge_challenges(timestamp: int = 0) -> int:  # noqa: ARG001 - the scheduler passes it
    """Delete challenges of passkeys that are over, a batch at a time; return how many rows went."""
    gone = 0
    while True:
        deleted = challenges.remove_ended(BATCH)
        gone += deleted
        if deleted < BATCH:
            return gone


@app.periodic(cron="23 8 * * *")
@app.task(name="accounts.recheck_passwords", queueing_lock="accounts.recheck_passwords", pass_context=False)
def recheck_passwords(timestamp: int = 0) -> int:  # noqa: ARG001 - the scheduler passes it
    """Lift flags that no longer hold and remind people of passwords that must change; return how many."""
    return sum(password_change.recheck(BATCH, by=actor.system("worker")))


@app.periodic(cron="37 * * * *")
@app.task(name="accounts.purge_links", queueing_lock="accounts.purge_links", pass_context=False)
def purge_links(timestamp: int = 0) -> int:  # noqa: ARG001 - the scheduler passes it
    """Delete reset links, wishes for addresses and known devices that are over; return how many rows went."""
    gone = 0
    for remove in (password_reset.remove_ended, addresses.remove_ended, devices.remove_ended):
        deleted = BATCH
        while deleted == BATCH:
            deleted = remove(BATCH)
            gone += deleted
    return gone


@app.periodic(cron="*/5 * * * *")
@app.task(name="accounts.close_emergency", queueing_lock="accounts.close_emergency", pass_context=False)
def close_emergency(timestamp: int = 0) -> int:  # noqa: ARG001 - the scheduler passes it
    """Close the account of emergencies when its hour is over; return how many were closed."""
    return break_glass.close_ended(by=actor.system("worker"))


@app.periodic(cron="17 * * * *")
@app.task(name="accounts.purge_decisions", queueing_lock="accounts.purge_decisions", pass_context=False)
def purge_decisions(timestamp: int = 0) -> int:  # noqa: ARG001 - the scheduler passes it
    """Delete old refusals and mark requests nobody decided about; return how many refusals went."""
    approvals.expire(BATCH)
    gone = 0
    while True:
        deleted = decisions.remove_old(BATCH)
        gone += deleted
        if deleted < BATCH:
            return gone


@app.task(name=archives.JOB, pass_context=False)
def build_archive(request_id: str) -> bool:
    """Make the archive that a person asked for; what fails is tried again by `own_data_archives`."""
    return archives.build(UUID(request_id), by=actor.system("worker"))


@app.periodic(cron="*/5 * * * *")
@app.task(name="accounts.own_data_archives", queueing_lock="accounts.own_data_archives", pass_context=False)
def own_data_archives(timestamp: int = 0) -> int:  # noqa: ARG001 - the scheduler passes it
    """Delete archives whose time is over, make those whose worker died; return how many were touched."""
    by = actor.system("worker")
    return archives.purge(BATCH, by=by) + archives.build_waiting(ARCHIVES_AT_ONCE, by=by)


@app.periodic(cron="29 * * * *")
@app.task(name="accounts.data_requests_due", queueing_lock="accounts.data_requests_due", pass_context=False)
def watch_data_requests(timestamp: int = 0) -> int:  # noqa: ARG001 - the scheduler passes it
    """Raise signals about requests that are due; return how many."""
    return data_requests_due.watch()
