"""What a sale asks of the rules, answered within its own query; the indexes behind it; who may decide on rules."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.db import migrations, models, transaction

from finance.migrations import _sale_terms_sql

CREATE = [
    "DROP INDEX CONCURRENTLY IF EXISTS commission_rule_in_force",  # what a build that was stopped left behind
    (
        "CREATE INDEX CONCURRENTLY commission_rule_in_force ON finance_commissionrule"
        " (currency, product_id, category, order_reference) WHERE status = 'ACTIVE' AND vendor_id IS NULL"
    ),
    "DROP INDEX CONCURRENTLY IF EXISTS commission_rule_with_tiers",
    (
        "CREATE INDEX CONCURRENTLY commission_rule_with_tiers ON finance_commissionrule (currency, vendor_id)"
        " WHERE status = 'ACTIVE' AND tiers <> '[]'::jsonb"
    ),
]
DROP = [
    "DROP INDEX CONCURRENTLY IF EXISTS commission_rule_in_force",
    "DROP INDEX CONCURRENTLY IF EXISTS commission_rule_with_tiers",
]
# (name, clearance, risk, second factor, second person, system)
PERMISSIONS: Final = [
    ("commissions.approve.global", 4, "HIGH", True, False, False),
    ("commissions.configure.global", 4, "HIGH", True, False, False),
]


def restrict(_apps: Any, schema_editor: Any) -> None:
    """Let the runtime role call the function, and nobody else besides its owner."""
    with transaction.atomic(schema_editor.connection.alias), schema_editor.connection.cursor() as cursor:
        cursor.execute(_sale_terms_sql.RUNTIME_ROLE, [settings.DATABASES["default"]["USER"]])
        cursor.execute(_sale_terms_sql.GRANTS)


def insert(apps: Any, schema_editor: Any) -> None:
    permission = apps.get_model("accounts", "Permission")
    rows = []
    for name, clearance, risk, mfa, approval, system in PERMISSIONS:
        resource, action, scope = name.upper().split(".")
        rows.append(
            permission(
                name=name, resource=resource, action=action, scope=scope, required_clearance=clearance,
                risk=risk, requires_mfa=mfa, requires_approval=approval, is_system=system,
            )
        )  # fmt: skip
    permission.objects.using(schema_editor.connection.alias).bulk_create(rows, ignore_conflicts=True)


def remove(apps: Any, schema_editor: Any) -> None:
    """Take back what nobody holds; what somebody holds stays, as its grants do."""
    unheld = apps.get_model("accounts", "Permission").objects.using(schema_editor.connection.alias)
    unheld.filter(name__in=[name for name, *_rest in PERMISSIONS], grants__isnull=True).delete()


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY works outside of transactions only

    dependencies = [
        ("finance", "0009_money_capture"),
        ("accounts", "0014_capture"),
    ]

    operations = [
        migrations.RunSQL(
            [*CREATE],
            [*DROP],
            state_operations=[
                migrations.AddIndex(
                    "commissionrule",
                    models.Index(
                        fields=["currency", "product_id", "category", "order_reference"],
                        name="commission_rule_in_force",
                        condition=models.Q(("status", "ACTIVE"), ("vendor__isnull", True)),
                    ),
                ),
                migrations.AddIndex(
                    "commissionrule",
                    models.Index(
                        fields=["currency", "vendor"],
                        name="commission_rule_with_tiers",
                        condition=models.Q(("status", "ACTIVE"), models.Q(("tiers", []), _negated=True)),
                    ),
                ),
            ],
        ),
        migrations.RunSQL(_sale_terms_sql.CREATE, _sale_terms_sql.DROP),
        migrations.RunPython(restrict, migrations.RunPython.noop),
        migrations.RunPython(insert, remove),
    ]
