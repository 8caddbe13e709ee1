"""The seeds of authenticator applications move under a binding that names their account too.

Frozen with the migration that uses it: the old binding is table, column and row, the new one adds the account.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mestore.lib import crypto

TABLE, COLUMN, PURPOSE = "accounts_totpdevice", "secret", "field"
SELECT = "SELECT id, user_id, secret FROM accounts_totpdevice ORDER BY id FOR UPDATE"
UPDATE = "UPDATE accounts_totpdevice SET secret = %s WHERE id = %s"

Binding = Callable[[int, Any], bytes]


def to_row_and_account(_apps: Any, schema_editor: Any) -> None:
    """Seal every seed again, bound to its account as well."""
    _seal_again(schema_editor, _row, _row_and_account)


def to_row(_apps: Any, schema_editor: Any) -> None:
    """The way back."""
    _seal_again(schema_editor, _row_and_account, _row)


def _row(device: int, _account: Any) -> bytes:
    return crypto.row_binding(TABLE, COLUMN, device)


def _row_and_account(device: int, account: Any) -> bytes:
    return crypto.row_binding(TABLE, COLUMN, device, account)


def _seal_again(schema_editor: Any, old: Binding, new: Binding) -> None:
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(SELECT)
        for device, account, sealed in cursor.fetchall():
            seed = crypto.unseal(sealed, purpose=PURPOSE, bound_to=old(device, account))
            again = crypto.seal(seed, purpose=PURPOSE, bound_to=new(device, account))
            cursor.execute(UPDATE, [again, device])
