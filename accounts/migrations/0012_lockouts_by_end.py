"""An index of what is refused now, by when it ends, built while the service runs."""

from __future__ import annotations

from django.db import migrations, models

CREATE = [
    "DROP INDEX CONCURRENTLY IF EXISTS lockout_by_lock",  # what a build that was stopped left behind
    (
        "CREATE INDEX CONCURRENTLY lockout_by_lock"
        " ON accounts_lockoutcounter (locked_until DESC, key DESC) WHERE locked_until IS NOT NULL"
    ),
]
DROP = ["DROP INDEX CONCURRENTLY IF EXISTS lockout_by_lock"]


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY works outside of transactions only

    dependencies = [("accounts", "0011_backup_code_successor")]

    operations = [
        migrations.RunSQL(
            [*CREATE],
            [*DROP],
            state_operations=[
                migrations.AddIndex(
                    model_name="lockoutcounter",
                    index=models.Index(
                        fields=["-locked_until", "-key"],
                        condition=models.Q(locked_until__isnull=False),
                        name="lockout_by_lock",
                    ),
                )
            ],
        ),
    ]
