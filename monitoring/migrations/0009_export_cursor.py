"""How far each place that events are sent to has come. A new table: nothing waits for it."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import migrations

TABLE = """
CREATE TABLE public.audit_export_cursor (
    destination  text        PRIMARY KEY CHECK (length(destination) BETWEEN 1 AND 200),
    epoch        int         NOT NULL CHECK (epoch > 0),
    next_index   bigint      NOT NULL CHECK (next_index >= 0),
    created_at   timestamptz NOT NULL DEFAULT now(),
    delivered_at timestamptz,
    failures     int         NOT NULL DEFAULT 0 CHECK (failures >= 0),
    last_error   text        NOT NULL DEFAULT '' CHECK (length(last_error) <= 200),
    holder       uuid,
    held_until   timestamptz NOT NULL DEFAULT '-infinity'
);
"""
RUNTIME_ROLE = "SELECT set_config('mestore.runtime_role', %s, true)"
GRANTS = """
DO $$
DECLARE runtime constant text := current_setting('mestore.runtime_role');
BEGIN
    EXECUTE format('REVOKE ALL ON public.audit_export_cursor FROM PUBLIC, %I', runtime);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE ON public.audit_export_cursor TO %I', runtime);
END $$
"""
DROP = "DROP TABLE public.audit_export_cursor"


def grant(_apps: Any, schema_editor: Any) -> None:
    """Give the runtime role what it needs: it moves cursors and never removes one."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(RUNTIME_ROLE, [settings.DATABASES["default"]["USER"]])
        cursor.execute(GRANTS)


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0006_capture")]

    operations = [
        migrations.RunSQL(TABLE, DROP),
        migrations.RunPython(grant, migrations.RunPython.noop),
    ]
