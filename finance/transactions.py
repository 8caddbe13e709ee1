"""Runs a money transaction, and runs it again when the database says that chance was against it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

import structlog
from django.db import Error, IntegrityError, transaction

from mestore.lib.errors import SecurityServiceFailure

T = TypeVar("T")
log = structlog.get_logger("mestore.finance")

ATTEMPTS: Final = 3
_SERIALIZATION: Final = {"40001", "40P01"}
# Random numbers for people: equal by chance, another draw helps.
_NUMBERS: Final = {
    "finance_order_order_number_key", "finance_commission_commission_number_key",
    "finance_payout_payout_number_key", "finance_payoutbatch_batch_number_key",
    "finance_refund_refund_number_key",
}  # fmt: skip


def run(work: Callable[[], T]) -> T:
    """Run `work` in one transaction, at most three times; it must change nothing but the database.

    Repeats after a serialization failure, a deadlock or a number that was drawn twice. When every attempt met
    one: `SecurityServiceFailure` (503), never a business error. Everything else is raised as it is.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with transaction.atomic():
                return work()
        except Error as error:
            if not _is_chance(error):
                raise
            log.warning("transaction_repeated", attempt=attempt, sqlstate=_sqlstate(error))
            time.sleep(random.uniform(0.005, 0.03) * attempt)  # noqa: S311  # spreads retries, guards nothing
    raise SecurityServiceFailure(retry_after=1)


def constraint_of(error: IntegrityError) -> str | None:
    """Return the name of the constraint that refused, if the database named one."""
    diagnosis = getattr(error.__cause__, "diag", None)
    return getattr(diagnosis, "constraint_name", None)


def _is_chance(error: Error) -> bool:
    if isinstance(error, IntegrityError):
        return constraint_of(error) in _NUMBERS
    return _sqlstate(error) in _SERIALIZATION


def _sqlstate(error: Error) -> str | None:
    return getattr(error.__cause__, "sqlstate", None)
