"""Did what must run every night run? What did not run found nothing, and that looks like a good night.

Whether it ran is read from what it leaves: the newest reconciliation that this service made, the newest full
verification of the current log that came to its end. What they found has signals of its own.
Where nothing ran yet, the time counts from the migration that brought it, or from the beginning of the log.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from mestore.lib import sql
from monitoring import alerts, row_reconciliation, row_records

LIMIT: Final = row_reconciliation.OLD
LOOK_BACK: Final = dt.timedelta(days=30)
"""How far back a full run is looked for: between two of them stands a run of the tail for each minute."""

RECONCILIATION: Final = alerts.declare(
    alerts.Rule(
        "audit.reconciliation_overdue",
        _("The rows of watched tables have not been compared with the trail for too long"),
        alerts.Severity.HIGH,
        "audit-reconciliation-overdue",
    )
)
VERIFICATION: Final = alerts.declare(
    alerts.Rule(
        "audit.verification_overdue",
        _("The audit log has not been verified as a whole for too long"),
        alerts.Severity.HIGH,
        "audit-verification-overdue",
    )
)

_SINCE = """
SELECT (SELECT min(applied) FROM django_migrations WHERE app = 'monitoring' AND name = '0017_reconciliation'),
       greatest((SELECT min(applied) FROM django_migrations WHERE app = 'monitoring' AND name = '0005_log'),
                (SELECT max(ended_at) FROM audit_ended_log))
"""
_VERIFIED = """
SELECT max(v.finished_at) FROM audit_verification v
WHERE v.mode = 'full' AND v.epoch = (SELECT epoch FROM audit_tree) AND v.started_at > %s
  AND v.started_at <= v.finished_at AND v.finished_at <= %s
"""


def watch(*, now: dt.datetime | None = None) -> int:
    """Raise a signal for each of the two that has not run for `LIMIT`; return how many.

    For a worker, each hour. Raises django.db.Error.
    """
    now = now or timezone.now()
    to_compare, to_verify = sql.fetch_one(_SINCE) or (None, None)
    told = _tell(RECONCILIATION, "rows", reconciled(), to_compare, now)
    return told + _tell(VERIFICATION, "log", verified(now=now), to_verify, now)


def reconciled() -> dt.datetime | None:
    """Return when rows were last compared with the trail; a record that somebody else made is none."""
    return next((one.taken_at for one in row_records.newest() if one.is_ours), None)


def verified(*, now: dt.datetime) -> dt.datetime | None:
    """Return when a full run over the current log last came to its end; None for none in `LOOK_BACK`.

    One that says it ended before it began, or has yet to end, is none.
    """
    row = sql.fetch_one(_VERIFIED, (now - LOOK_BACK, now))
    last: dt.datetime | None = row[0] if row is not None else None
    return last


def _tell(
    rule: alerts.Rule, which: str, last: dt.datetime | None, since: dt.datetime | None, now: dt.datetime
) -> int:
    begin = last or since
    if begin is not None and now - begin <= LIMIT:
        return 0
    hours = None if begin is None else (now - begin) // dt.timedelta(hours=1)
    evidence = {"last": last, "since": since, "hours": hours}
    told = alerts.raise_signal(rule, entity=("audit_log", which), evidence=evidence, using="audit")
    return int(told is not None)
