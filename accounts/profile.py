"""What people say about themselves: names, telephone, place, language. Nothing that decides what they may."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from django.db import transaction
from django.utils import timezone

from accounts import freezes, phones
from accounts.models import User
from mestore.lib.actor import Actor
from monitoring import audit, events

FIELDS: Final = ("nombre", "apellido", "telefono", "ciudad", "empresa", "direccion", "language")


def update(user: User, changes: Mapping[str, str], *, by: Actor) -> User:
    """Change what `changes` names and return the account. Another telephone is not a verified one.

    Raises phones.InvalidPhone, and KeyError for a column outside FIELDS: a mistake in the calling code.
    """
    if not set(changes) <= set(FIELDS):
        raise KeyError("only what people say about themselves")
    user = User.objects.get(pk=user.pk)
    wanted: dict[str, object] = dict(changes)
    if changes.get("telefono"):
        wanted["telefono"] = phones.international(changes["telefono"], field="telefono")
    changed = {name: value for name, value in wanted.items() if getattr(user, name) != value}
    if not changed:
        return user
    freezes.demand_columns_unfrozen(user, changed, by=by)
    if "telefono" in changed:
        changed["phone_verified"] = False
    with transaction.atomic():
        User.objects.filter(pk=user.pk).update(**changed, updated_at=timezone.now())
        audit.record(
            events.PROFILE_CHANGED, by=by, target=("user", str(user.pk)), data={"fields": sorted(changed)}
        )
    return User.objects.get(pk=user.pk)
