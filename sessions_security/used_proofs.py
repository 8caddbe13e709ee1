"""Remembering signed proofs (assertions, DPoP) that were accepted, so that none is accepted twice."""

from __future__ import annotations

from datetime import UTC, datetime

from mestore.lib import crypto, sql
from sessions_security import session_check

_USE = """
    INSERT INTO sessions_security_usedproof (proof_hash, expires_at) VALUES (%s, %s)
    ON CONFLICT (proof_hash) DO NOTHING
"""


def use(kind: str, signer: bytes, token_id: str, *, until: int) -> bool:
    """Use a proof up; say whether this call was the first. One statement: of many at once, one is the first.

    `signer` and `token_id` (its `jti`) name the proof; it is remembered `until` that moment (seconds since
    1970), when its own time must be over. Belongs outside of a transaction: an error later in the request
    must not make the proof fresh again. Raises `SecurityServiceFailure`.
    """
    name = crypto.digest(crypto.row_binding(kind, signer, token_id))
    with session_check.database_guard():
        return sql.execute(_USE, (name, datetime.fromtimestamp(until, UTC))) == 1
