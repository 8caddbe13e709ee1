"""What is kept about where a person is signed in and tried to, for the archive that they may ask for."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from django.db.models import Q

from accounts.models import User
from mestore.lib.own_data import Row, Section, register
from sessions_security import attempts
from sessions_security.models import Impersonation, SignInAttempt, UserSession

_SESSION = (
    "id", "kind", "amr", "created_at", "last_seen_at", "absolute_expires_at", "address", "network", "agent",
    "country", "confirmed_networks", "risk", "revoked_at", "revoked_why",
)  # fmt: skip
_ATTEMPT = ("at", "network", "country", "latitude", "longitude", "purpose", "outcome", "score")


def sessions(person_id: UUID) -> Iterator[Row]:
    """Yield every session that is still kept, oldest first."""
    yield from UserSession.objects.filter(user_id=person_id).order_by("id").values(*_SESSION).iterator()


def sign_ins(person_id: UUID) -> Iterator[Row]:
    """Yield attempts to sign in, those by strangers with the account's name too."""
    user = User.objects.filter(pk=person_id).first()
    if user is None:
        return
    mine = Q(user_id=person_id)
    if user.email_key:
        mine |= Q(account_key=attempts.account_key(user.email_key))
    for row in SignInAttempt.objects.filter(mine).order_by("at", "id").values(*_ATTEMPT).iterator():
        places = {name: None if row[name] is None else str(row[name]) for name in ("latitude", "longitude")}
        yield {**row, **places}


def impersonations(person_id: UUID) -> Iterator[Row]:
    """Yield when the staff looked through the person's eyes, and why."""
    rows = Impersonation.objects.filter(user_id=person_id).order_by("started_at", "pk")
    yield from rows.values("started_at", "ends_at", "reason").iterator()


def register_sections() -> None:
    """Make the sections known; called when Django starts."""
    register(Section("sessions", "where the account was signed in", sessions))
    register(Section("sign_ins", "attempts to sign in, of the last two days", sign_ins))
    register(Section("impersonations", "when the staff acted as this account", impersonations))
