"""States, sums, approvals and rules of money are the database's own: what `finance/states.py` says, and more."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import migrations

from finance.migrations import _guards_sql

LOCK_TIMEOUT = "SET LOCAL lock_timeout = '5s'"


def restrict(_apps: Any, schema_editor: Any) -> None:
    """Take from the runtime role what it never does: changing approvals, deleting what money hangs on."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(_guards_sql.RUNTIME_ROLE, [settings.DATABASES["default"]["USER"]])
        cursor.execute(_guards_sql.GRANTS)


class Migration(migrations.Migration):
    dependencies = [
        ("finance", "0007_ledger_indexes"),
    ]

    operations = [
        migrations.RunSQL(LOCK_TIMEOUT, LOCK_TIMEOUT),
        migrations.RunSQL(_guards_sql.EXCLUSION, _guards_sql.NO_EXCLUSION),
        migrations.RunSQL(_guards_sql.BOUNDS, _guards_sql.NO_BOUNDS),
        migrations.RunSQL(_guards_sql.GUARDS, _guards_sql.DROP),
        migrations.RunPython(restrict, migrations.RunPython.noop),
    ]
