"""Reconciliations: how many rows each watched table had, and what the trail does not tell of them.

Each is compared with the one before, so nobody may change one, and the service signs what it writes (`mac`):
a row that the owner of the database puts here is not believed.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import migrations

LOCK_TIMEOUT = "SET LOCAL lock_timeout = '5s'"

TABLES = """
CREATE TABLE public.audit_reconciliation (
    id          uuid        PRIMARY KEY,
    taken_at    timestamptz NOT NULL,
    differences int         NOT NULL CHECK (differences >= 0),
    -- What is said of it, as JSON; and rows and digests of each table, compressed, whose hash stands there.
    said        bytea       NOT NULL,
    counted     bytea       NOT NULL,
    mac         bytea       NOT NULL
);
CREATE INDEX audit_reconciliation_newest ON public.audit_reconciliation (taken_at DESC);
"""

PROTECTION = """
CREATE TRIGGER audit_reconciliation_append_only BEFORE UPDATE OR DELETE ON public.audit_reconciliation
    FOR EACH ROW EXECUTE FUNCTION public.audit_refuse_change();
CREATE TRIGGER audit_reconciliation_no_truncate BEFORE TRUNCATE ON public.audit_reconciliation
    FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_change();
ALTER TABLE public.audit_reconciliation ENABLE ALWAYS TRIGGER audit_reconciliation_append_only;
ALTER TABLE public.audit_reconciliation ENABLE ALWAYS TRIGGER audit_reconciliation_no_truncate;
"""

# The role's name is data: it reaches the statement through format('%I') only.
RUNTIME_ROLE = "SELECT set_config('mestore.runtime_role', %s, true)"
GRANTS = """
DO $$
DECLARE runtime constant text := current_setting('mestore.runtime_role');
BEGIN
    EXECUTE format('REVOKE ALL ON public.audit_reconciliation FROM PUBLIC, %I', runtime);
    EXECUTE format('GRANT SELECT, INSERT ON public.audit_reconciliation TO %I', runtime);
END $$
"""

DROP = "DROP TABLE public.audit_reconciliation"


def grant(_apps: Any, schema_editor: Any) -> None:
    """Let the runtime role read and append, and nothing else."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(RUNTIME_ROLE, [settings.DATABASES["default"]["USER"]])
        cursor.execute(GRANTS)


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0016_told")]

    operations = [
        migrations.RunSQL(LOCK_TIMEOUT, LOCK_TIMEOUT),
        migrations.RunSQL(TABLES, DROP),
        migrations.RunSQL(PROTECTION, migrations.RunSQL.noop),
        migrations.RunPython(grant, migrations.RunPython.noop),
    ]
