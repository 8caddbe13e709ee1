"""One data key per person for what the audit trail keeps about them.

Personal values of an event are sealed under the key of the person they are about. Destroying that key
makes them unreadable while the event, its hash and its proofs stay as they were.

Keys are made on the autocommit connection: a key that vanished with a rolled-back transaction while this
process still held it would make everything sealed under it unreadable.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping

from mestore.lib import crypto, resealing, sql

KEY_BYTES = 32
CACHE_SIZE = 4096  # about 12 MB with their ciphers; a key that falls out costs one SELECT

_PURPOSE = "subject-key"

_SELECT = "SELECT subject, wrapped FROM subject_key WHERE subject = ANY(%s)"
# ON CONFLICT: two processes meeting a person at the same moment must end with the same key.
_INSERT = """
INSERT INTO subject_key (subject, wrapped)
SELECT * FROM unnest(%s::text[], %s::bytea[]) AS new(subject, wrapped) ORDER BY subject
ON CONFLICT (subject) DO NOTHING
"""


def keys_for(subjects: Iterable[str]) -> dict[str, crypto.DataKey]:
    """Return the data key of each subject, making those that are missing; destroyed ones are left out.

    In the common case (all known to this process) no statement is sent. A key of this process may have been
    destroyed meanwhile: whoever writes asks again. Raise `django.db.Error` when the database is away.
    """
    wanted = set(subjects)
    keys = _cache.take(wanted)
    missing = wanted - keys.keys()
    if missing:
        found = _read(missing)
        absent = sorted(missing - found.keys())
        if absent:
            wrapped = [_wrap(subject, os.urandom(KEY_BYTES)) for subject in absent]
            sql.execute(_INSERT, [absent, wrapped], using="audit")
            found |= _read(absent)
        living = {subject: key for subject, key in found.items() if key is not None}
        _cache.put(living)
        keys |= living
    return keys


def read_keys(subjects: Iterable[str]) -> dict[str, crypto.DataKey]:
    """Return the keys that exist and were not destroyed, always as the database has them now."""
    rows = sql.fetch_all(_SELECT, [sorted(set(subjects))], using="audit")
    return {subject: _unwrap(subject, bytes(wrapped)) for subject, wrapped in rows if wrapped is not None}


def forget_cached_keys() -> None:
    """Empty this process's cache of keys."""
    _cache.clear()


def forget(subject: str) -> None:
    """Take one person's key out of this process's cache."""
    _cache.drop(subject)


def _read(subjects: Iterable[str]) -> dict[str, crypto.DataKey | None]:
    """The keys that the table knows; None for a destroyed one."""
    rows = sql.fetch_all(_SELECT, [sorted(subjects)], using="audit")
    return {
        subject: None if wrapped is None else _unwrap(subject, bytes(wrapped)) for subject, wrapped in rows
    }


def _wrap(subject: str, key: bytes) -> bytes:
    return crypto.seal(key, purpose=_PURPOSE, bound_to=crypto.row_binding("subject_key", subject))


def _unwrap(subject: str, wrapped: bytes) -> crypto.DataKey:
    bound_to = crypto.row_binding("subject_key", subject)
    return crypto.DataKey(crypto.unseal(wrapped, purpose=_PURPOSE, bound_to=bound_to))


_PAGE = """
SELECT subject, wrapped FROM subject_key
 WHERE subject > %s AND wrapped IS NOT NULL ORDER BY subject LIMIT %s
"""


def _page(after: str | None, limit: int) -> list[resealing.Value]:
    return [
        resealing.Value(subject, bytes(wrapped), crypto.row_binding("subject_key", subject))
        for subject, wrapped in sql.fetch_all(_PAGE, [after or "", limit], using="owner")
    ]


# The application itself may add keys, not change them: moving them to another master key is the owner's.
SEALED = resealing.Place(
    name="subject_key.wrapped",
    table="subject_key",
    key="subject",
    column="wrapped",
    purpose=_PURPOSE,
    page=_page,
    using="owner",
)
"""Where people's data keys stand, for `rotate_keys`."""


class _Cache:
    """The keys used last, bounded, safe for threads.

    It may hold a key destroyed elsewhere: whoever writes an event asks the database in the same statement.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._keys: OrderedDict[str, crypto.DataKey] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, subjects: Iterable[str]) -> dict[str, crypto.DataKey]:
        found = {}
        with self._lock:
            for subject in subjects:
                if (key := self._keys.get(subject)) is not None:
                    self._keys.move_to_end(subject)
                    found[subject] = key
        return found

    def put(self, keys: Mapping[str, crypto.DataKey]) -> None:
        with self._lock:
            self._keys.update(keys)
            while len(self._keys) > self._size:
                self._keys.popitem(last=False)

    def drop(self, subject: str) -> None:
        with self._lock:
            self._keys.pop(subject, None)

    def clear(self) -> None:
        with self._lock:
            self._keys.clear()


_cache = _Cache(CACHE_SIZE)
