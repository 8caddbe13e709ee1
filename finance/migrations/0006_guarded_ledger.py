"""Reservations, guarded balances, statement numbers, reversals, closed periods and snapshots of the ledger.

`ledger_post` gets two more arguments; the old form stays for processes of the version before and calls the
new one. The wider list of kinds of accounts is validated by a later migration, without keeping writers out.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import migrations

from finance.migrations import _guarded_sql

LOCK_TIMEOUT = "SET LOCAL lock_timeout = '5s'"


def restrict(_apps: Any, schema_editor: Any) -> None:
    """Leave the runtime role SELECT on the tables and the functions that are called from outside."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(_guarded_sql.RUNTIME_ROLE, [settings.DATABASES["default"]["USER"]])
        cursor.execute(_guarded_sql.GRANTS)


class Migration(migrations.Migration):
    dependencies = [
        ("finance", "0005_money_columns"),
    ]

    operations = [
        migrations.RunSQL(LOCK_TIMEOUT, LOCK_TIMEOUT),
        migrations.RunSQL(_guarded_sql.TABLES, _guarded_sql.DROP),
        migrations.RunSQL(_guarded_sql.PROTECTION, _guarded_sql.FORMER_CHECK),
        migrations.RunSQL(_guarded_sql.POSTING, _guarded_sql.FORMER_POSTING),
        migrations.RunSQL(_guarded_sql.SNAPSHOTS, migrations.RunSQL.noop),
        migrations.RunPython(restrict, migrations.RunPython.noop),
    ]
