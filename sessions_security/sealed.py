"""Where this app's sealed values stand, for `rotate_keys`: what sessions remember, and signing keys."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from mestore.lib import crypto, resealing, sql
from sessions_security import keys, store

# With the session's account, which the payload is bound to.
_PAYLOADS = """
    SELECT k.session_id, k.payload, k.key_hash, s.user_id FROM sessions_security_sessionsecret k
    JOIN sessions_security_usersession s ON s.id = k.session_id
    WHERE k.session_id > %s ORDER BY k.session_id LIMIT %s
"""
_SIGNING_KEYS = """
    SELECT kid, sealed_private_key FROM sessions_security_signingkey WHERE kid > %s ORDER BY kid LIMIT %s
"""


def register() -> None:
    """Make both places known; called when Django starts."""
    resealing.register(PAYLOADS)
    resealing.register(SIGNING_KEYS)


def _payloads(after: Any, limit: int) -> list[resealing.Value]:
    return [
        resealing.Value(session_id, bytes(payload), store.binding(bytes(key_hash), session_id, user_id))
        for session_id, payload, key_hash, user_id in sql.fetch_all(_PAYLOADS, (after or UUID(int=0), limit))
    ]


def _signing_keys(after: Any, limit: int) -> list[resealing.Value]:
    return [
        resealing.Value(kid, bytes(sealed), crypto.row_binding(keys.PURPOSE, kid))
        for kid, sealed in sql.fetch_all(_SIGNING_KEYS, (after or "", limit))
    ]


PAYLOADS = resealing.Place(
    name="sessions_security_sessionsecret.payload",
    table="sessions_security_sessionsecret",
    key="session_id",
    column="payload",
    purpose=store.PURPOSE,
    page=_payloads,
)
SIGNING_KEYS = resealing.Place(
    name="sessions_security_signingkey.sealed_private_key",
    table="sessions_security_signingkey",
    key="kid",
    column="sealed_private_key",
    purpose=keys.PURPOSE,
    page=_signing_keys,
)
