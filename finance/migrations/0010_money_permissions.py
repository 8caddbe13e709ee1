"""Permissions for what people do with money: each action needs a grant of its own.

`payments.approve.system` marks the finance lead: permissions of that scope are handed out by a superuser with a
second person's yes only.
"""

from __future__ import annotations

from typing import Any, Final

from django.db import migrations

# (name, clearance, risk, second factor, second person, system)
NAMES: Final = [
    ("payments.approve.global", 4, "CRITICAL", True, False, False),
    ("payments.approve.system", 5, "CRITICAL", True, True, True),
    ("payments.manage.global", 4, "HIGH", True, False, False),
    ("payments.export.global", 4, "CRITICAL", True, False, False),
]


def insert(apps: Any, schema_editor: Any) -> None:
    permission = apps.get_model("accounts", "Permission")
    rows = []
    for name, clearance, risk, mfa, approval, system in NAMES:
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
    unheld.filter(name__in=[name for name, *_rest in NAMES], grants__isnull=True).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("finance", "0009_money_capture"),
        ("accounts", "0014_capture"),
    ]

    operations = [
        migrations.RunPython(insert, remove),
    ]
