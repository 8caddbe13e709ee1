"""Challenges for passkeys: 32 random bytes, for one purpose and one flow, five minutes, one answer.

Whoever answers uses the challenge up, rightly or wrongly, and also when it was made for something else. So a
signature that was made in one place opens nothing in another, and nothing twice.
"""

from __future__ import annotations

import datetime as dt
import secrets
from typing import Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import PasskeyChallenge
from mestore.lib import crypto, errors, sql

Purpose = PasskeyChallenge.Purpose

SIZE: Final = 32


class ChallengeOver(errors.Unauthorized):
    """Unknown, answered before, too old, or made for another purpose or flow: never told apart."""

    code = "PASSKEY_CHALLENGE_OVER"
    message = _("This request for a passkey is over. Begin again.")


_CLAIM = """
UPDATE accounts_passkeychallenge SET used_at = statement_timestamp()
 WHERE challenge_hash = %s AND used_at IS NULL AND expires_at > statement_timestamp()
RETURNING purpose, bound_to
"""
_REMOVE = """
DELETE FROM accounts_passkeychallenge WHERE id IN (
    SELECT id FROM accounts_passkeychallenge WHERE expires_at < statement_timestamp()
     ORDER BY expires_at LIMIT %s FOR UPDATE SKIP LOCKED)
"""


def issue(purpose: Purpose, *, bound_to: str) -> bytes:
    """Return a new challenge for `purpose`, which only the flow `bound_to` may answer."""
    challenge = secrets.token_bytes(SIZE)
    now = timezone.now()
    PasskeyChallenge(
        challenge_hash=crypto.digest(challenge),
        purpose=purpose,
        bound_to=bound_to,
        created_at=now,
        expires_at=now + dt.timedelta(seconds=settings.PASSKEY_CHALLENGE_SECONDS),
    ).save(force_insert=True)
    return challenge


def consume(challenge: bytes, purpose: Purpose, *, bound_to: str) -> None:
    """Use `challenge` up, once, whatever becomes of the answer. Raises ChallengeOver.

    Belongs outside of any transaction (RuntimeError inside of one): a rollback would revive the challenge.
    """
    with transaction.atomic(durable=True):
        row = sql.fetch_one(_CLAIM, [crypto.digest(challenge)])
    if row != (purpose.value, bound_to):
        raise ChallengeOver


def remove_ended(batch: int = 1_000) -> int:
    """Delete challenges whose time is over, a batch at a time. Returns how many went."""
    return sql.execute(_REMOVE, [batch])
