"""Background work of the audit trail. `manage.py worker` runs it."""

from __future__ import annotations

import structlog
from procrastinate.contrib.django import app

from mestore.lib import sql

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
