"""What a sale asks of the rules, answered within its own query, and the indexes behind it."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models, transaction

from finance.migrations import _sale_terms_sql


def restrict(_apps: Any, schema_editor: Any) -> None:
    """Let the runtime role call the function, and nobody else besides its owner."""
    with transaction.atomic(schema_editor.connection.alias), schema_editor.connection.cursor() as cursor:
        cursor.execute(_sale_terms_sql.RUNTIME_ROLE, [settings.DATABASES["default"]["USER"]])
        cursor.execute(_sale_terms_sql.GRANTS)


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY works outside of transactions only

    dependencies = [("finance", "0009_money_capture")]

    operations = [
        AddIndexConcurrently(
            "commissionrule",
            models.Index(
                fields=["currency", "product_id", "category", "order_reference"],
                name="commission_rule_in_force",
                condition=models.Q(("status", "ACTIVE"), ("vendor__isnull", True)),
            ),
        ),
        AddIndexConcurrently(
            "commissionrule",
            models.Index(
                fields=["currency", "vendor"],
                name="commission_rule_with_tiers",
                condition=models.Q(("status", "ACTIVE"), models.Q(("tiers", []), _negated=True)),
            ),
        ),
        migrations.RunSQL(_sale_terms_sql.CREATE, _sale_terms_sql.DROP),
        migrations.RunPython(restrict, migrations.RunPython.noop),
    ]
