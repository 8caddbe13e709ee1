"""The Ed25519 keys that sign access tokens: made on first use, sealed at rest, rotated with an overlap.

Each process keeps the ring for a minute. A token signed under a newer key makes it read again at once (but
not more than once a second, so that invented key ids cannot be used to load the database).
"""

from __future__ import annotations

import base64
import secrets
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from mestore.lib import actor, crypto
from mestore.lib.actor import Actor
from monitoring import audit, events
from sessions_security.models import SigningKey

PURPOSE = "signing-key"
MAX_KID_LENGTH = 32
RING_SECONDS = 60.0
REREAD_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Ring:
    """What one process needs: the key to sign with, and all keys that still verify."""

    current_kid: str
    private_key: Ed25519PrivateKey
    public_keys: dict[str, Ed25519PublicKey]
    read_at: float


@dataclass(frozen=True, slots=True)
class Standing:
    """One signing key as operators may see it; `verify_until` is None for the one that signs."""

    kid: str
    state: str
    created_at: datetime
    verify_until: datetime | None
    master_key: str

    @property
    def is_current(self) -> bool:
        return self.state == SigningKey.State.CURRENT


class _Memory:
    """What this process remembers, behind a name so that it can be replaced in one step."""

    ring: Ring | None = None


_memory = _Memory()


def ring(*, wanted: str | None = None) -> Ring:
    """Return the keys in force, making the first one when there is none.

    `wanted` is the key id of a token that is to be verified: a ring without it is read again.
    """
    found = _memory.ring
    age = time.monotonic() - found.read_at if found else RING_SECONDS
    if (
        found
        and age < RING_SECONDS
        and (wanted is None or wanted in found.public_keys or age < REREAD_SECONDS)
    ):
        return found
    return _read()


def rotate(*, by: Actor, compromised: bool = False) -> str:
    """Put a new key in force and return its id; the previous one verifies until its last token has expired.

    With `compromised` every other key is dropped at once: all access tokens made before are refused by this
    process with the next request and by the others when they read their ring again, within `RING_SECONDS`;
    clients exchange their refresh tokens. Keys whose overlap is over are deleted. Two rotations at the same
    moment are one: both return the key that is then in force.
    """
    # Another process may go on signing with its cached ring for a minute.
    overlap = timedelta(seconds=settings.ACCESS_TOKEN_SECONDS + 2 * RING_SECONDS)
    with transaction.atomic():
        SigningKey.objects.filter(state=SigningKey.State.CURRENT).update(
            state=SigningKey.State.PREVIOUS, verify_until=timezone.now() + overlap
        )
        _create(by=by)
        former = SigningKey.objects.filter(state=SigningKey.State.PREVIOUS)
        _retire(
            former if compromised else former.filter(verify_until__lte=timezone.now()),
            why="compromised" if compromised else "overlap_over",
            by=by,
        )
    forget()
    return ring().current_kid


def retire_old(*, by: Actor) -> int:
    """Delete the keys whose last token has expired; return how many went."""
    over = SigningKey.objects.filter(state=SigningKey.State.PREVIOUS, verify_until__lte=timezone.now())
    with transaction.atomic():
        return _retire(over, why="overlap_over", by=by)


def standing() -> list[Standing]:
    """Return what is known of every stored key, the newest first; nothing is made or read into memory."""
    rows = SigningKey.objects.order_by("-created_at", "-kid")
    return [
        Standing(
            row.kid, row.state, row.created_at, row.verify_until, crypto.key_id_of(row.sealed_private_key)
        )
        for row in rows
    ]


def rewrap(batch: int = 100) -> int:
    """Seal private keys again that are under an older master key, at most `batch`; return how many were.

    Raises `crypto.Unreadable` for a key that no master key of the ring opens: it must be rotated away.
    """
    done = 0
    with transaction.atomic():
        for row in SigningKey.objects.select_for_update().order_by("kid"):
            sealed = crypto.rewrap(row.sealed_private_key, purpose=PURPOSE, bound_to=_binding(row.kid))
            if sealed is not None and done < batch:
                row.sealed_private_key = sealed
                row.save(update_fields=["sealed_private_key"])
                done += 1
    return done


def forget() -> None:
    """Drop what this process remembers; the next use reads the database."""
    _memory.ring = None


def public_jwks() -> dict[str, list[dict[str, str]]]:
    """Return the keys that verify, as a JSON Web Key Set (RFC 7517, RFC 8037)."""
    return {
        "keys": [
            {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": kid, "x": _base64url(key)}
            for kid, key in ring().public_keys.items()
        ]
    }


def _read() -> Ring:
    rows = _usable()
    if not any(row.state == SigningKey.State.CURRENT for row in rows):
        with transaction.atomic():
            _create(by=actor.system("signing keys"))
        rows = _usable()
    current = next(row for row in rows if row.state == SigningKey.State.CURRENT)
    raw = crypto.unseal(bytes(current.sealed_private_key), purpose=PURPOSE, bound_to=_binding(current.kid))
    found = Ring(
        current_kid=current.kid,
        private_key=Ed25519PrivateKey.from_private_bytes(raw),
        public_keys={row.kid: Ed25519PublicKey.from_public_bytes(bytes(row.public_key)) for row in rows},
        read_at=time.monotonic(),
    )
    # What an open transaction has read may still be rolled back: it is used, but not remembered.
    if not connection.in_atomic_block:
        _memory.ring = found
    return found


def _usable() -> list[SigningKey]:
    return list(SigningKey.objects.filter(Q(verify_until=None) | Q(verify_until__gt=timezone.now())))


def _create(*, by: Actor) -> None:
    """Insert a new current key, unless another process was faster."""
    private = Ed25519PrivateKey.generate()
    kid = secrets.token_urlsafe(12)
    key = SigningKey(
        kid=kid,
        state=SigningKey.State.CURRENT,
        sealed_private_key=crypto.seal(private.private_bytes_raw(), purpose=PURPOSE, bound_to=_binding(kid)),
        public_key=private.public_key().public_bytes_raw(),
        created_at=timezone.now(),
    )
    SigningKey.objects.bulk_create([key], ignore_conflicts=True)
    if SigningKey.objects.filter(kid=kid).exists():
        audit.record(events.SIGNING_KEY_CREATED, by=by, target=("signing_key", kid))


def _retire(rows: QuerySet[SigningKey], *, why: str, by: Actor) -> int:
    gone = list(rows.select_for_update().values_list("kid", flat=True))
    SigningKey.objects.filter(kid__in=gone).delete()
    audit.record_many(
        [
            audit.Entry(events.SIGNING_KEY_RETIRED, by=by, target=("signing_key", kid), data={"why": why})
            for kid in gone
        ]
    )
    return len(gone)


def _binding(kid: str) -> bytes:
    return crypto.row_binding(PURPOSE, kid)


def _base64url(key: Ed25519PublicKey) -> str:
    return base64.urlsafe_b64encode(key.public_bytes_raw()).rstrip(b"=").decode()
