"""The first permissions, frozen with the migration that inserts them.

(name, clearance, risk, second factor, second person, system). The first nine are the contract's.
"""

from __future__ import annotations

from typing import Any

_NINE = [
    ("users.create.global", 4, "HIGH", False, False, False),
    ("users.manage.system", 5, "CRITICAL", True, False, True),
    ("vendors.approve.global", 3, "MEDIUM", False, False, False),
    ("vendors.manage.global", 4, "HIGH", False, False, False),
    ("transactions.audit.global", 4, "HIGH", True, False, False),
    ("commissions.manage.global", 4, "HIGH", False, False, False),
    ("settings.configure.system", 5, "CRITICAL", True, True, True),
    ("analytics.read.global", 3, "MEDIUM", False, False, False),
    ("reports.export.global", 4, "HIGH", True, False, False),
]
# Close and open accounts; end sessions and lift locks; give and take back permissions.
_ADMINISTRATION = [
    ("users.update.global", 4, "HIGH", True, False, False),
    ("users.manage.global", 4, "HIGH", True, False, False),
    ("permissions.grant.global", 5, "CRITICAL", True, False, False),
    ("permissions.revoke.global", 5, "CRITICAL", True, False, False),
]
_VIEWS = [
    (f"{resource}.read.read_only", 2, "LOW", False, False, False)
    for resource in (
        "users", "vendors", "orders", "products", "inventory", "transactions", "commissions", "reports",
        "settings", "notifications", "payments", "storage", "analytics", "permissions",
    )
]  # fmt: skip
_AUDIT_VIEW = ("audit_logs.read.read_only", 2, "MEDIUM", True, False, False)


def insert(apps: Any, schema_editor: Any) -> None:
    """Insert them on the connection that migrates."""
    permission = apps.get_model("accounts", "Permission")
    rows = []
    for name, clearance, risk, mfa, approval, system in [*_NINE, *_ADMINISTRATION, *_VIEWS, _AUDIT_VIEW]:
        resource, action, scope = name.upper().split(".")
        rows.append(
            permission(
                name=name,
                resource=resource,
                action=action,
                scope=scope,
                required_clearance=clearance,
                risk=risk,
                requires_mfa=mfa,
                requires_approval=approval,
                is_system=system,
            )
        )
    permission.objects.using(schema_editor.connection.alias).bulk_create(rows)
