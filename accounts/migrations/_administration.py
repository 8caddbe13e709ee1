"""Permissions of the administration of people, and the indexes of its lists, frozen with their migrations."""

from __future__ import annotations

from typing import Any

# (name, clearance, risk, second factor)
_PERMISSIONS = [
    ("users.read.global", 4, "MEDIUM", False),
    ("users.delete.global", 5, "CRITICAL", True),
]

# One index per way to order or narrow the lists of accounts, each ending in the id, so that a page costs the
# same whatever the table's size; deleted accounts have a list, and an index, of their own. Indexes of
# expressions are not partial: the planner takes no statistics from a partial one. CONCURRENTLY:
# nobody who writes waits for them. The expressions are those that `accounts.user_lists` orders by; Django's
# model state does not know them. A build that failed leaves an index that is not valid: a second run begins
# by dropping it.
CREATE_INDEXES = [
    "DROP INDEX CONCURRENTLY IF EXISTS user_list_created",
    (
        "CREATE INDEX CONCURRENTLY user_list_created"
        " ON accounts_user (created_at, id) WHERE deleted_at IS NULL"
    ),
    "DROP INDEX CONCURRENTLY IF EXISTS user_list_email",
    (
        "CREATE INDEX CONCURRENTLY user_list_email"
        " ON accounts_user ((coalesce(email_key, '') COLLATE \"C\"), id)"
    ),
    "DROP INDEX CONCURRENTLY IF EXISTS user_list_last_login",
    (
        "CREATE INDEX CONCURRENTLY user_list_last_login"
        " ON accounts_user (coalesce(last_login, '1970-01-01 00:00:00+00'::timestamptz), id)"
    ),
    "DROP INDEX CONCURRENTLY IF EXISTS user_list_role",
    "CREATE INDEX CONCURRENTLY user_list_role ON accounts_user (user_type, id) WHERE deleted_at IS NULL",
    "DROP INDEX CONCURRENTLY IF EXISTS user_list_active",
    ("CREATE INDEX CONCURRENTLY user_list_active ON accounts_user (is_active, id) WHERE deleted_at IS NULL"),
    "DROP INDEX CONCURRENTLY IF EXISTS user_list_verified",
    (
        "CREATE INDEX CONCURRENTLY user_list_verified"
        " ON accounts_user (account_verified, id) WHERE deleted_at IS NULL"
    ),
    "DROP INDEX CONCURRENTLY IF EXISTS user_list_email_verified",
    (
        "CREATE INDEX CONCURRENTLY user_list_email_verified"
        " ON accounts_user (email_verified, id) WHERE deleted_at IS NULL"
    ),
    "DROP INDEX CONCURRENTLY IF EXISTS user_list_phone_verified",
    (
        "CREATE INDEX CONCURRENTLY user_list_phone_verified"
        " ON accounts_user (phone_verified, id) WHERE deleted_at IS NULL"
    ),
    "DROP INDEX CONCURRENTLY IF EXISTS user_list_clearance",
    (
        "CREATE INDEX CONCURRENTLY user_list_clearance"
        " ON accounts_user (security_clearance_level, id) WHERE deleted_at IS NULL"
    ),
    "DROP INDEX CONCURRENTLY IF EXISTS user_list_department",
    (
        "CREATE INDEX CONCURRENTLY user_list_department"
        " ON accounts_user (department_id, id) WHERE deleted_at IS NULL AND department_id <> ''"
    ),
    "DROP INDEX CONCURRENTLY IF EXISTS user_list_deleted",
    (
        "CREATE INDEX CONCURRENTLY user_list_deleted"
        " ON accounts_user (created_at, id) WHERE deleted_at IS NOT NULL"
    ),
    "DROP INDEX CONCURRENTLY IF EXISTS user_list_first_name",
    (
        "CREATE INDEX CONCURRENTLY user_list_first_name"
        ' ON accounts_user ((upper(nombre) COLLATE "C"), id) WHERE deleted_at IS NULL'
    ),
    "DROP INDEX CONCURRENTLY IF EXISTS user_list_last_name",
    (
        "CREATE INDEX CONCURRENTLY user_list_last_name"
        ' ON accounts_user ((upper(apellido) COLLATE "C"), id) WHERE deleted_at IS NULL'
    ),
    "DROP INDEX CONCURRENTLY IF EXISTS vendor_list_status",
    "CREATE INDEX CONCURRENTLY vendor_list_status ON accounts_vendorprofile (vendor_status, user_id)",
]
DROP_INDEXES = [
    "DROP INDEX CONCURRENTLY IF EXISTS user_list_created",
    "DROP INDEX CONCURRENTLY IF EXISTS user_list_email",
    "DROP INDEX CONCURRENTLY IF EXISTS user_list_last_login",
    "DROP INDEX CONCURRENTLY IF EXISTS user_list_role",
    "DROP INDEX CONCURRENTLY IF EXISTS user_list_active",
    "DROP INDEX CONCURRENTLY IF EXISTS user_list_verified",
    "DROP INDEX CONCURRENTLY IF EXISTS user_list_email_verified",
    "DROP INDEX CONCURRENTLY IF EXISTS user_list_phone_verified",
    "DROP INDEX CONCURRENTLY IF EXISTS user_list_clearance",
    "DROP INDEX CONCURRENTLY IF EXISTS user_list_department",
    "DROP INDEX CONCURRENTLY IF EXISTS user_list_deleted",
    "DROP INDEX CONCURRENTLY IF EXISTS user_list_first_name",
    "DROP INDEX CONCURRENTLY IF EXISTS user_list_last_name",
    "DROP INDEX CONCURRENTLY IF EXISTS vendor_list_status",
]


def insert_permissions(apps: Any, schema_editor: Any) -> None:
    permission = apps.get_model("accounts", "Permission")
    rows = []
    for name, clearance, risk, mfa in _PERMISSIONS:
        resource, action, scope = name.upper().split(".")
        rows.append(
            permission(
                name=name, resource=resource, action=action, scope=scope, required_clearance=clearance,
                risk=risk, requires_mfa=mfa,
            )
        )  # fmt: skip
    permission.objects.using(schema_editor.connection.alias).bulk_create(rows, ignore_conflicts=True)


def remove_permissions(apps: Any, schema_editor: Any) -> None:
    """Take back what nobody holds; what somebody holds stays, as its grants do."""
    names = [name for name, *_rest in _PERMISSIONS]
    unheld = apps.get_model("accounts", "Permission").objects.using(schema_editor.connection.alias)
    unheld.filter(name__in=names, grants__isnull=True).delete()
