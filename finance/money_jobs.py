"""What the worker does about settlements, snapshots and verification, and when."""

from __future__ import annotations

from procrastinate.contrib.django import app

from finance import settlement, snapshots, verification
from mestore.lib import actor


@app.periodic(cron="17 6 * * *", periodic_id="settle")
@app.task(name="finance.settle", queueing_lock="settle", lock="settle", pass_context=False)
def settle(timestamp: int) -> int:  # noqa: ARG001 - the scheduler passes it
    """Settle what is due, early in the morning in Bogota; return how many vendors."""
    return sum(result.vendors for result in settlement.settle(by=actor.system("settle")))


@app.periodic(cron="23 * * * *", periodic_id="take_snapshots")
@app.task(name="finance.take_snapshots", queueing_lock="take_snapshots", pass_context=False)
def take_snapshots(timestamp: int) -> int:  # noqa: ARG001 - the scheduler passes it
    """Sum up what ended; after a restore nothing, until they are rebuilt."""
    return 0 if snapshots.from_another_cluster() else snapshots.take()


@app.periodic(cron="7 8 * * *", periodic_id="verify_money")
@app.task(name="finance.verify_money", queueing_lock="verify_money", lock="verify_money", pass_context=False)
def verify_money(timestamp: int) -> bool:  # noqa: ARG001 - the scheduler passes it
    """Recompute everything from zero, at night in Bogota; what is found is signalled."""
    return verification.verify(by=actor.system("verify_money")).is_good
