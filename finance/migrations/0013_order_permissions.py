"""Permissions for what people do with orders and refunds: each action needs a grant of its own."""

from __future__ import annotations

from typing import Any, Final

from django.db import migrations

# (name, clearance, risk, second factor)
NAMES: Final = [
    ("orders.update.global", 3, "MEDIUM", False),
    ("orders.manage.global", 4, "HIGH", True),
    ("orders.approve.global", 4, "CRITICAL", True),
]


def insert(apps: Any, schema_editor: Any) -> None:
    permission = apps.get_model("accounts", "Permission")
    rows = []
    for name, clearance, risk, mfa in NAMES:
        resource, action, scope = name.upper().split(".")
        rows.append(
            permission(
                name=name, resource=resource, action=action, scope=scope, required_clearance=clearance,
                risk=risk, requires_mfa=mfa,
            )
        )  # fmt: skip
    permission.objects.using(schema_editor.connection.alias).bulk_create(rows, ignore_conflicts=True)


def remove(apps: Any, schema_editor: Any) -> None:
    """Take back what nobody holds; what somebody holds stays, as its grants do."""
    unheld = apps.get_model("accounts", "Permission").objects.using(schema_editor.connection.alias)
    unheld.filter(name__in=[name for name, *_rest in NAMES], grants__isnull=True).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("finance", "0012_settlement"),
        ("accounts", "0014_capture"),
    ]

    operations = [
        migrations.RunPython(insert, remove),
    ]
