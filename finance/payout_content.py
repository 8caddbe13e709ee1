"""What an approval of a payout is bound to. Pure; the database computes the same hash and compares."""

from __future__ import annotations

import hashlib
from uuid import UUID


def content_hash(payout: UUID, vendor: UUID, currency: str, minor: int, fingerprint: bytes) -> bytes:
    """Return SHA-256 over payout, vendor, currency, amount and the account's fingerprint.

    Every part has a fixed shape without the separator in it, so no other contents give the same text.
    """
    text = f"payout/v1|{payout}|{vendor}|{currency}|{minor}|{fingerprint.hex()}"
    return hashlib.sha256(text.encode("ascii")).digest()
