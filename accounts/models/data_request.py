"""What a person asks about their own data, and the archive that answers them."""

from __future__ import annotations

import datetime as dt
from typing import Any, ClassVar
from uuid import UUID

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Case, F, Q, Value, When
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from mestore.lib.fields import EncryptedField
from mestore.lib.ids import uuid7


class DataRequests(models.QuerySet["DataRequest"]):
    """Requests of people about their own data."""

    def forget(self, person_id: UUID) -> None:
        """Take away what is personal in everything that a person asked for: their account is erased."""
        mine = self.filter(person_id=person_id)
        # Whoever makes an archive holds its row: what they wrote is there once the row is ours.
        list(mine.select_for_update().order_by("pk").values_list("pk"))
        ArchivePart.objects.filter(request__in=mine.values("pk")).delete()
        now, state = timezone.now(), DataRequest.State
        mine.filter(state__in=[state.WAITING, state.BUILDING]).update(state=state.CANCELLED, ended_at=now)
        mine.filter(state=state.READY).update(state=state.DONE, ended_at=now)
        mine.update(reason="", answer="")


class DataRequest(models.Model):
    """One request. Its row stays when the person is erased: it shows, without a name, what was answered."""

    class Kind(models.TextChoices):
        EXPORT = "export", _("copy of own data")
        ERASURE = "erasure", _("to be forgotten")

    class State(models.TextChoices):
        WAITING = "waiting", _("waiting for an answer")
        BUILDING = "building", _("archive is being made")
        READY = "ready", _("archive is ready")
        DONE = "done", _("done")
        REJECTED = "rejected", _("refused")
        CANCELLED = "cancelled", _("cancelled")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    person_id = models.UUIDField(_("account"))  # no foreign key: the row outlives the account
    kind = models.CharField(_("what"), max_length=8, choices=Kind.choices)
    state = models.CharField(_("state"), max_length=10, choices=State.choices, default=State.WAITING)
    reason = models.CharField(_("in the person's words"), max_length=500, blank=True)
    asked_at = models.DateTimeField(_("asked"), default=timezone.now)
    due_on = models.DateField(_("to be answered until"))
    decided_by_id = models.UUIDField(_("decided by"), null=True)
    decided_by_label = models.CharField(_("decided by"), max_length=254, blank=True)
    decided_at = models.DateTimeField(_("decided"), null=True)
    # The last day while it waits, else the end of days: what is due first stands first in the console.
    urgent_on = models.GeneratedField(
        expression=Case(
            When(state__in=["waiting", "building"], then=F("due_on")), default=Value(dt.date(9999, 12, 31))
        ),
        output_field=models.DateField(),
        db_persist=True,
    )
    answer = models.CharField(_("answer"), max_length=500, blank=True)
    # What forbids the erasure: kinds of records ("order"), not the records.
    kept = ArrayField(models.CharField(max_length=64), verbose_name=_("must be kept"), default=list)
    ready_at = models.DateTimeField(_("archive made"), null=True)
    expires_at = models.DateTimeField(_("archive kept until"), null=True)
    ended_at = models.DateTimeField(_("over since"), null=True)
    archive_bytes = models.BigIntegerField(_("size of the archive"), null=True)
    archive_parts = models.IntegerField(_("parts of the archive"), null=True)
    archive_sha256 = models.CharField("SHA-256", max_length=64, blank=True)
    downloads = models.PositiveSmallIntegerField(_("downloads"), default=0)

    # Whose it is, told by who shows it: None for who is gone, "" while nobody asked.
    person_name: str | None = ""

    objects: ClassVar[Any] = DataRequests.as_manager()

    class Meta:
        verbose_name = _("request about own data")
        verbose_name_plural = _("requests about own data")
        constraints = [
            models.UniqueConstraint(
                fields=["person_id", "kind"], condition=Q(state__in=["waiting", "building"]),
                name="data_request_one_open",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["waiting", "building", "ready", "done", "rejected", "cancelled"]),
                name="data_request_state_known",
            ),
            models.CheckConstraint(
                condition=Q(kind="export") | (Q(kind="erasure") & ~Q(state__in=["building", "ready"])),
                name="data_request_kind_known",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["building", "ready", "rejected"]) | Q(decided_at__isnull=False),
                name="data_request_was_decided",
            ),
            models.CheckConstraint(
                condition=~Q(state="ready")
                | Q(expires_at__gt=F("ready_at"), archive_parts__gt=0, archive_bytes__gt=0),
                name="data_request_archive_ends",
            ),
        ]  # fmt: skip
        indexes = [
            models.Index(fields=["person_id", "-id"], name="data_request_of_person"),
            models.Index(fields=["urgent_on", "id"], name="data_request_by_urgency"),
            models.Index(
                fields=["state", "id"], name="data_request_open",
                condition=Q(state__in=["waiting", "building", "ready"]),
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"

    def is_open(self) -> bool:
        """Whether it still waits for an answer or for its archive."""
        return self.state in {self.State.WAITING, self.State.BUILDING}

    def is_overdue(self, today: dt.date) -> bool:
        """Whether the last day to answer has passed without an answer."""
        return self.is_open() and self.due_on < today

    def move(self, *, earlier: str, **changes: Any) -> bool:
        """Write `changes` if the row is still in state `earlier`: true for exactly one caller."""
        if DataRequest.objects.filter(pk=self.pk, state=earlier).update(**changes) != 1:
            return False
        for name, value in changes.items():
            setattr(self, name, value)
        return True


class ArchivePart(models.Model):
    """A piece of a sealed archive, in base64, bound to its request and place: none can be exchanged."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    request = models.ForeignKey(DataRequest, on_delete=models.CASCADE, related_name="+", db_index=False)
    number = models.IntegerField()
    content = EncryptedField(bound_with=("request_id", "number"))

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["request", "number"], name="archive_part_once"),
            models.CheckConstraint(condition=Q(number__gte=0), name="archive_part_numbered"),
        ]

    def __str__(self) -> str:
        return f"part {self.number} of {self.request_id}"
