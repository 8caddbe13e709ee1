"""Which pepper keys are still needed. A hash moves to the current key when its owner signs in, unnoticed."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from accounts import backup_codes
from mestore.lib import sql

_COUNT = """
SELECT split_part(password, '$', 2), count(*) FROM accounts_user
 WHERE password LIKE 'argon2id-peppered$%%' AND deleted_at IS NULL GROUP BY 1
"""


@dataclass(frozen=True, slots=True)
class Usage:
    """What stands under one key: `is_held` says whether the ring has the key at all."""

    key_id: str
    is_current: bool
    is_held: bool
    passwords: int
    backup_codes: int

    @property
    def is_needed(self) -> bool:
        return bool(self.passwords or self.backup_codes)


def usage() -> list[Usage]:
    """Return one record per key of the ring, current first, then keys that hashes name and nobody has."""
    ring = list(settings.MESTORE_PEPPER_KEYS)
    counted: dict[str, int] = dict(sql.fetch_all(_COUNT))
    names = [*ring, *sorted(set(counted) - set(ring))]
    return [
        Usage(
            key_id=name,
            is_current=name == ring[0],
            is_held=name in ring,
            passwords=counted.get(name, 0),
            backup_codes=backup_codes.count_under(name),
        )
        for name in names
    ]
