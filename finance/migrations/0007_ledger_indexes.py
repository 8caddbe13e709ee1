"""Balances read only what is newer than a snapshot: the transaction's id moves into the key of two indexes.

Built while the service runs; the former ones go when the new ones stand. Entries get one by book and moment,
for balances as of a day.
"""

from __future__ import annotations

from django.db import migrations

CREATE = [
    "DROP INDEX CONCURRENTLY IF EXISTS ledger_transfer_debits_since",
    (
        "CREATE INDEX CONCURRENTLY ledger_transfer_debits_since"
        " ON ledger_transfer (book_id, debit, xid) INCLUDE (amount, phase)"
    ),
    "DROP INDEX CONCURRENTLY IF EXISTS ledger_transfer_credits_since",
    (
        "CREATE INDEX CONCURRENTLY ledger_transfer_credits_since"
        " ON ledger_transfer (book_id, credit, xid) INCLUDE (amount, phase)"
    ),
    "DROP INDEX CONCURRENTLY IF EXISTS ledger_entry_by_moment",
    "CREATE INDEX CONCURRENTLY ledger_entry_by_moment ON ledger_entry (book_id, occurred_at)",
    "DROP INDEX CONCURRENTLY IF EXISTS ledger_transfer_debits",
    "DROP INDEX CONCURRENTLY IF EXISTS ledger_transfer_credits",
]
DROP = [
    "DROP INDEX CONCURRENTLY IF EXISTS ledger_transfer_debits",
    (
        "CREATE INDEX CONCURRENTLY ledger_transfer_debits"
        " ON ledger_transfer (book_id, debit) INCLUDE (amount, xid, phase)"
    ),
    "DROP INDEX CONCURRENTLY IF EXISTS ledger_transfer_credits",
    (
        "CREATE INDEX CONCURRENTLY ledger_transfer_credits"
        " ON ledger_transfer (book_id, credit) INCLUDE (amount, xid, phase)"
    ),
    "DROP INDEX CONCURRENTLY IF EXISTS ledger_entry_by_moment",
    "DROP INDEX CONCURRENTLY IF EXISTS ledger_transfer_debits_since",
    "DROP INDEX CONCURRENTLY IF EXISTS ledger_transfer_credits_since",
]


class Migration(migrations.Migration):
    atomic = False  # CONCURRENTLY works outside of transactions only

    dependencies = [("finance", "0006_guarded_ledger")]

    operations = [migrations.RunSQL([*CREATE], [*DROP])]
