"""What a settlement looks for and what it paid, as indexes built beside the service; one run at a time; who may.

The new permissions: `transactions.manage.global` begins settlements and asks for closes and journals,
`transactions.approve.global` is the second person's.
"""

from __future__ import annotations

from typing import Any

from django.db import migrations, models

# (name, clearance, risk, second factor).
PERMISSIONS = [
    ("transactions.manage.global", 4, "HIGH", True),
    ("transactions.approve.global", 4, "HIGH", True),
]
TO_SETTLE = [
    "DROP INDEX CONCURRENTLY IF EXISTS commission_to_settle",  # what a build that was stopped left behind
    (
        "CREATE INDEX CONCURRENTLY commission_to_settle ON finance_commission (vendor_id, currency, calculated_at)"
        " WHERE status IN ('PENDING', 'APPROVED')"
    ),
]
BY_SETTLEMENT = [
    "DROP INDEX CONCURRENTLY IF EXISTS commission_by_settlement",
    (
        "CREATE INDEX CONCURRENTLY commission_by_settlement ON finance_commission (settled_entry_id)"
        " WHERE settled_entry_id IS NOT NULL"
    ),
]
ONE_AT_A_TIME = [
    "DROP INDEX CONCURRENTLY IF EXISTS settlement_run_one_at_a_time",
    (
        "CREATE UNIQUE INDEX CONCURRENTLY settlement_run_one_at_a_time ON finance_settlementrun (finished_at)"
        " NULLS NOT DISTINCT WHERE finished_at IS NULL"
    ),
]


def permit(apps: Any, schema_editor: Any) -> None:
    """Insert the permissions on the connection that migrates."""
    permission = apps.get_model("accounts", "Permission")
    rows = []
    for name, clearance, risk, mfa in PERMISSIONS:
        resource, action, scope = name.upper().split(".")
        rows.append(
            permission(
                name=name, resource=resource, action=action, scope=scope, required_clearance=clearance,
                risk=risk, requires_mfa=mfa, requires_approval=False, is_system=False,
            )
        )  # fmt: skip
    permission.objects.using(schema_editor.connection.alias).bulk_create(rows, ignore_conflicts=True)


def forbid(apps: Any, schema_editor: Any) -> None:
    """Take them back, with what was granted of them."""
    alias = schema_editor.connection.alias
    names = [name for name, *_rest in PERMISSIONS]
    apps.get_model("accounts", "Grant").objects.using(alias).filter(permission__name__in=names).delete()
    apps.get_model("accounts", "Permission").objects.using(alias).filter(name__in=names).delete()


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY works outside of transactions only

    dependencies = [
        ("finance", "0010_money_permissions"),
        ("finance", "0010_rules_in_force"),
        ("accounts", "0014_capture"),
    ]

    operations = [
        migrations.RunSQL(
            [*TO_SETTLE],
            ["DROP INDEX CONCURRENTLY IF EXISTS commission_to_settle"],
            state_operations=[
                migrations.AddIndex(
                    "commission",
                    models.Index(
                        fields=["vendor", "currency", "calculated_at"],
                        name="commission_to_settle",
                        condition=models.Q(status__in=["PENDING", "APPROVED"]),
                    ),
                )
            ],
        ),
        migrations.RunSQL(
            [*BY_SETTLEMENT],
            ["DROP INDEX CONCURRENTLY IF EXISTS commission_by_settlement"],
            state_operations=[
                migrations.AddIndex(
                    "commission",
                    models.Index(
                        fields=["settled_entry_id"],
                        name="commission_by_settlement",
                        condition=models.Q(settled_entry_id__isnull=False),
                    ),
                )
            ],
        ),
        migrations.RunSQL(
            [*ONE_AT_A_TIME],
            ["DROP INDEX CONCURRENTLY IF EXISTS settlement_run_one_at_a_time"],
            state_operations=[
                migrations.AddConstraint(
                    "settlementrun",
                    models.UniqueConstraint(
                        fields=["finished_at"],
                        condition=models.Q(finished_at__isnull=True),
                        nulls_distinct=False,
                        name="settlement_run_one_at_a_time",
                    ),
                )
            ],
        ),
        migrations.RunPython(permit, forbid),
    ]
