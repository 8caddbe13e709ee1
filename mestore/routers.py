"""Which database alias may do what."""

from __future__ import annotations

from typing import Any


class OwnerMigrates:
    """Only the alias `owner` changes the schema: the runtime role has no right to."""

    def allow_migrate(self, db: str, _app_label: str, **_hints: Any) -> bool:
        return db == "owner"
