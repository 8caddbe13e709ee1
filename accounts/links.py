"""Tokens of links in messages: 256 random bits that count for one row as it was written, nothing else.

A token names its row and carries the secret; the row keeps a MAC over the secret and over what the link is
for (account, address, end). So the table gives no token away, and a row that is moved to another account,
extended or made up by SQL opens nothing.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import secrets
from uuid import UUID

from mestore.lib import crypto

LENGTH = 64
_SECRET = 32
_NOWHERE = UUID(int=0)

Bound = str | int | UUID | dt.datetime | None


def make(purpose: str, row_id: UUID, *bound_to: Bound) -> tuple[str, bytes]:
    """Return a new token for a row, and what the row keeps of it."""
    raw = row_id.bytes + secrets.token_bytes(_SECRET)
    token = base64.urlsafe_b64encode(raw).decode("ascii")
    return token, crypto.mac(_covered(token, *bound_to), purpose=purpose)


def row_id_of(token: str) -> UUID:
    """Return the row that a token names; an id that no row has when it is none of ours."""
    if len(token) != LENGTH or not token.isascii():
        return _NOWHERE
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
    except binascii.Error:
        return _NOWHERE
    return UUID(bytes=raw[:-_SECRET]) if len(raw) == 16 + _SECRET else _NOWHERE


def proves(token: str, kept: bytes | memoryview, purpose: str, *bound_to: Bound) -> bool:
    """Say whether `token` is the one that was made for a row with these values."""
    return crypto.verify_mac(_covered(token, *bound_to), kept, purpose=purpose)


def _covered(token: str, *bound_to: Bound) -> bytes:
    return crypto.row_binding(token, *(_plain(part) for part in bound_to))


def _plain(part: Bound) -> str | int | UUID:
    if isinstance(part, dt.datetime):
        return part.astimezone(dt.UTC).isoformat(timespec="microseconds")
    return "" if part is None else part
