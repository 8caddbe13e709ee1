"""Identifiers that sort by the time they were made."""

from __future__ import annotations

import uuid

from uuid_utils import compat


def uuid7() -> uuid.UUID:
    """A new time-ordered id (RFC 9562, version 7), as the standard library's type.

    Ids made later by the same process compare greater, so an index on them grows at its right end only.
    """
    return compat.uuid7()
