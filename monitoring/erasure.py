"""Erasing a person from the audit trail: what is known about them goes, that something happened stays.

Destroying a person's data key makes what is sealed under it unreadable, in every copy of the table too; what
triggers kept beside their events is deleted. Events, hashes, proofs and the signed log are left alone: they
carry commitments, and nobody finds a value from one, because the random nonce goes with the value.
"""

from __future__ import annotations

from django.db import connections, transaction

from mestore.lib import sql
from mestore.lib.actor import Actor
from monitoring import audit, events, subjects

_ERASE = "SELECT audit_erase(%s)"


def erase(subject: str, *, by: Actor, reason: str) -> int:
    """Erase the person `subject` (an account's id) in the current transaction, and record it.

    Return how many values beside events went; those sealed inside of events are not counted, they lost their
    key. Once more returns 0. Call it before what else the transaction changes of the person: nothing personal
    about them is kept from here on, and two erasures that each wrote before would wait for each other.

    Raise `audit.NotInTransaction`, ValueError for no subject, and `django.db.Error`.
    """
    if subject in {"", "*"}:
        raise ValueError("whose data is to be erased?")
    if not connections["default"].in_atomic_block:
        raise audit.NotInTransaction("erasing belongs inside the transaction that removes the person")
    # The row must be committed before this transaction touches it: whoever else wants a key for this person
    # then reads it, and does not wait for a row that this transaction has not committed yet.
    subjects.keys_for([subject])
    values = int(sql.fetch_all(_ERASE, [subject])[0][0])
    subjects.forget(subject)
    transaction.on_commit(lambda: subjects.forget(subject))
    audit.record(
        events.AUDIT_SUBJECT_ERASED,
        by=by,
        target=("person", subject),
        data={"values": values, "reason": reason},
    )
    return values
