"""Who may act on signals: the staff who hold the permission for it now. `monitoring` asks through here."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db.models import QuerySet

from accounts import grants, selectors, users
from accounts.models import User
from accounts.roles import STAFF, Role
from monitoring import responders
from monitoring.delivery import Mailbox
from monitoring.responders import Responder

VIEWING = "settings.read.read_only"
ACTING = "users.update.global"
"""Acting on a signal is deciding whether accounts are attacked: the permission to lock and unlock them."""


class Staff:
    """The directory that this application registers."""

    def everybody(self, most: int) -> Sequence[Responder]:
        """Return who may act; where nobody does, the superusers: an alarm must reach somebody."""
        holders = [person for person in _granted()[:most] if ACTING in grants.held(person)]
        if not holders:
            holders = list(_staff().filter(user_type=Role.SUPERUSER).order_by("pk")[:most])
        return [_responder(person) for person in holders]

    def one(self, person: str) -> Responder | None:
        """Return the member of the staff with this id or address, if they may act."""
        found = _find(person)
        return _responder(found) if found is not None and ACTING in grants.held(found) else None


def register() -> None:
    """Let `monitoring` ask here, and open the console's page for those who may see and act."""
    responders.register(Staff())
    grants.register_model_permission("monitoring.signal", view=VIEWING, change=ACTING)


def _staff() -> QuerySet[User]:
    return User.objects.filter(user_type__in=STAFF, is_active=True, deleted_at=None)


def _granted() -> QuerySet[User]:
    holding = selectors.open_grants().filter(permission__name=ACTING).values("user_id")
    return _staff().filter(pk__in=holding).order_by("pk")


def _find(person: str) -> User | None:
    try:
        return _staff().filter(pk=UUID(person)).first()
    except ValueError:
        return _staff().filter(email_key=users.identifier(person)).first()


def _responder(person: User) -> Responder:
    language = str(getattr(person, "language", "") or "")
    mailbox = Mailbox(str(person.pk), person.email, language) if person.email else None
    return Responder(str(person.pk), person.email or str(person.pk), mailbox)
