"""Filters of the audit explorer that somebody keeps by name, for themselves.

A filter is the query of an address, read again through the explorer's own parameters: one that was put there
by hand is no more than a link that anybody could type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from django.db import IntegrityError, models, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from mestore.lib import errors
from mestore.lib.ids import uuid7

MOST: Final = 20
LONGEST_NAME: Final = 60
LONGEST_QUERY: Final = 1_500
PARAMETERS: Final = (
    "q", "category", "outcome", "actor_kind", "type", "actor_id", "target_type", "target_id", "session_id",
    "window", "since", "until",
)  # fmt: skip


class TooManyFilters(errors.Conflict):
    message = _("You keep 20 filters already. Remove one first.")


class NotAFilter(errors.Unprocessable):
    message = _("Give the filter a name of at most 60 characters, and choose something to filter by.")


class NoSuchFilter(errors.NotFound):
    message = _("There is no such filter.")


class SavedFilter(models.Model):
    """One filter of one person. `slot` makes the bound hold for simultaneous requests too."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner_id = models.UUIDField()
    slot = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=LONGEST_NAME)
    query = models.CharField(max_length=LONGEST_QUERY)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        app_label = "monitoring"
        constraints = [
            models.UniqueConstraint(fields=["owner_id", "slot"], name="saved_filter_slot"),
            models.UniqueConstraint(fields=["owner_id", "name"], name="saved_filter_name"),
            models.CheckConstraint(condition=Q(slot__lt=MOST), name="saved_filter_at_most_twenty"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.pk}"


def of(owner_id: UUID) -> list[SavedFilter]:
    """Return what a person keeps, by name. One statement."""
    return list(SavedFilter.objects.filter(owner_id=owner_id).order_by("name"))


def save(owner_id: UUID, *, name: str, given: Mapping[str, str]) -> SavedFilter:
    """Keep a filter under a name; the same name again replaces it. Raises NotAFilter, TooManyFilters."""
    name = " ".join(name.split())
    chosen = {key: given[key].strip() for key in PARAMETERS if given.get(key, "").strip()}
    query = urlencode(chosen)
    if not name or len(name) > LONGEST_NAME or not chosen or len(query) > LONGEST_QUERY or "\x00" in name:
        raise NotAFilter
    for _attempt in range(MOST):
        kept = of(owner_id)
        for one in kept:
            if one.name == name:
                SavedFilter.objects.filter(pk=one.pk).update(query=query)
                return one
        free = set(range(MOST)) - {one.slot for one in kept}
        if not free:
            raise TooManyFilters
        try:
            with transaction.atomic():
                return SavedFilter.objects.create(owner_id=owner_id, slot=min(free), name=name, query=query)
        except IntegrityError:
            continue  # somebody with the same account was quicker: look again
    raise TooManyFilters


def remove(owner_id: UUID, filter_id: UUID) -> None:
    """Forget one of a person's own filters. Raises NoSuchFilter."""
    gone, _tables = SavedFilter.objects.filter(owner_id=owner_id, pk=filter_id).delete()
    if not gone:
        raise NoSuchFilter


def forget(owner_id: UUID) -> int:
    """Forget everything that a person keeps: their account is erased. Return how many filters there were."""
    gone, _tables = SavedFilter.objects.filter(owner_id=owner_id).delete()
    return gone
