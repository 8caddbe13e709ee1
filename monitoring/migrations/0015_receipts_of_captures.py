"""What the database itself wrote in a transaction, told to who commits it; and how deep the line of jobs was.

A row of the queue knows its transaction, so that the service can ask just before it commits which events
triggers and `ledger_post` wrote for it, and leave a receipt for those too. The column is added empty and gets
its default afterwards: no row is rewritten. Rows that wait from before have none, and nobody asks for them.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import migrations, models, transaction

from mestore.lib import sql

# A lock that is not had soon makes everybody behind it wait; a concurrent build waits alone, however long.
BRIEFLY = "SET lock_timeout = '5s'"
PATIENTLY = "SET lock_timeout = 0"
AS_BEFORE = "RESET lock_timeout"
COLUMN = (
    "ALTER TABLE public.audit_pending ADD COLUMN IF NOT EXISTS xid xid8",
    "ALTER TABLE public.audit_pending ALTER COLUMN xid SET DEFAULT pg_current_xact_id()",
)
DROP_INDEX = "DROP INDEX CONCURRENTLY IF EXISTS public.audit_pending_transaction"
INDEX = "CREATE INDEX CONCURRENTLY audit_pending_transaction ON public.audit_pending (xid)"
DROP_COLUMN = "ALTER TABLE public.audit_pending DROP COLUMN IF EXISTS xid"

# Never a scan of the trail, whatever statistics say: one probe for each event of this transaction. What the database
# wrote is dated by its own clock within the transaction: a day around that leaves one or two months to open,
# where each month of the trail would cost a tenth of the whole.
FUNCTION = """
CREATE FUNCTION public.audit_captured() RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    v_here  constant xid8 := pg_current_xact_id_if_assigned();
    v_since constant timestamptz := transaction_timestamp() - interval '1 day';
    v_until constant timestamptz := clock_timestamp() + interval '1 day';
    v_found text;
BEGIN
    IF v_here IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT string_agg(found.named, ',' ORDER BY found.named) INTO v_found
    FROM public.audit_pending p CROSS JOIN LATERAL (
        SELECT e.id || ' ' || encode(e.leaf_hash, 'hex') AS named FROM public.audit_event e
        WHERE e.id = p.id AND e.occurred_at = p.occurred_at AND e.writer_mac IS NULL
          AND e.occurred_at >= v_since AND e.occurred_at < v_until OFFSET 0
    ) AS found
    WHERE p.xid = v_here;
    RETURN v_found;
END $$;
REVOKE ALL ON FUNCTION public.audit_captured() FROM PUBLIC;
"""
DROP_FUNCTION = "DROP FUNCTION public.audit_captured()"
# The role's name is data: it reaches the statement through format('%I') only.
RUNTIME_ROLE = "SELECT set_config('mestore.runtime_role', %s, true)"
GRANT = """
DO $$
BEGIN
    EXECUTE format('GRANT EXECUTE ON FUNCTION public.audit_captured() TO %I', current_setting('mestore.runtime_role'));
END $$
"""


def add(_apps: Any, schema_editor: Any) -> None:
    """Add the column and its index; writers wait for no more than a moment."""
    alias = schema_editor.connection.alias
    try:
        sql.execute(BRIEFLY, using=alias)
        for statement in COLUMN:
            sql.execute(statement, using=alias)
        sql.execute(PATIENTLY, using=alias)
        sql.execute(DROP_INDEX, using=alias)
        sql.execute(INDEX, using=alias)
    finally:
        sql.execute(AS_BEFORE, using=alias)


def remove(_apps: Any, schema_editor: Any) -> None:
    """Take both away."""
    alias = schema_editor.connection.alias
    try:
        sql.execute(PATIENTLY, using=alias)
        sql.execute(DROP_INDEX, using=alias)
        sql.execute(BRIEFLY, using=alias)
        sql.execute(DROP_COLUMN, using=alias)
    finally:
        sql.execute(AS_BEFORE, using=alias)


def grant(_apps: Any, schema_editor: Any) -> None:
    """Let the runtime role ask."""
    alias = schema_editor.connection.alias
    with transaction.atomic(using=alias):
        sql.execute(RUNTIME_ROLE, [settings.DATABASES["default"]["USER"]], using=alias)
        sql.execute(GRANT, using=alias)


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY works outside of transactions only

    dependencies = [("monitoring", "0014_faster")]

    operations = [
        migrations.RunPython(add, remove),
        migrations.RunSQL(FUNCTION, DROP_FUNCTION),
        migrations.RunPython(grant, migrations.RunPython.noop),
        migrations.CreateModel(
            name="JobSample",
            fields=[
                ("at", models.DateTimeField(editable=False, primary_key=True, serialize=False)),
                ("waiting", models.PositiveIntegerField()),
                ("running", models.PositiveIntegerField()),
                ("failed", models.PositiveIntegerField()),
                ("oldest_seconds", models.PositiveIntegerField(null=True)),
            ],
        ),
    ]
