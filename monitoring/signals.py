"""What asks for a person's attention: one row per rule and thing while it is open. Written by `alerts`."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from mestore.lib.ids import uuid7


class Severity(models.IntegerChoices):
    """How much it matters; the numbers order, they are not kept in documents."""

    INFO = 1, _("information")
    LOW = 2, _("low")
    MEDIUM = 3, _("medium")
    HIGH = 4, _("high")
    CRITICAL = 5, _("critical")


class SignalState(models.TextChoices):
    """Where the work on a signal stands."""

    OPEN = "open", _("open")
    REVIEWING = "reviewing", _("under review")
    ARCHIVED = "archived", _("archived")


class ArchiveReason(models.TextChoices):
    """What it turned out to be."""

    TRUE_POSITIVE = "true_positive", _("attack or fault, dealt with")
    FALSE_POSITIVE = "false_positive", _("false alarm")
    BENIGN = "benign", _("real, but harmless")
    EXPECTED = "expected", _("expected or planned")
    TEST = "test", _("test or exercise")
    DUPLICATE = "duplicate", _("told by another signal")
    RISK_ACCEPTED = "risk_accepted", _("risk accepted")
    NO_DATA = "no_data", _("cannot be decided any more")


class Signal(models.Model):
    """Something that a rule saw, about one thing, with its evidence. Seen again, it counts up."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    rule = models.CharField(_("rule"), max_length=64)
    entity_type = models.CharField(_("about"), max_length=32)
    entity_id = models.CharField(_("which"), max_length=128)
    severity = models.PositiveSmallIntegerField(_("severity"), choices=Severity.choices)
    state = models.CharField(_("state"), max_length=16, choices=SignalState.choices, default=SignalState.OPEN)
    seen = models.PositiveIntegerField(_("times seen"), default=1)
    first_seen_at = models.DateTimeField(_("first seen"), default=timezone.now)
    last_seen_at = models.DateTimeField(_("last seen"), default=timezone.now)
    evidence = models.JSONField(_("evidence"), default=list)
    owner_id = models.UUIDField(_("owner"), null=True)
    owner_label = models.CharField(_("owner's name"), max_length=254, blank=True)
    acknowledged_until = models.DateTimeField(_("quiet until"), null=True)
    acknowledged_why = models.CharField(_("quiet because"), max_length=500, blank=True)
    triaged_at = models.DateTimeField(_("first looked at"), null=True)
    archived_at = models.DateTimeField(_("archived"), null=True)
    archived_as = models.CharField(_("archived as"), max_length=16, choices=ArchiveReason.choices, blank=True)
    archived_why = models.CharField(_("archived because"), max_length=500, blank=True)
    # The severity that people were told of, 0 before that; a higher one is told again.
    notified_severity = models.PositiveSmallIntegerField(_("told of as"), default=0)
    notified_at = models.DateTimeField(_("told"), null=True)

    class Meta:
        app_label = "monitoring"
        verbose_name = _("signal")
        verbose_name_plural = _("signals")
        indexes = [
            models.Index(fields=["-severity", "-last_seen_at"], name="signal_worst_first",
                         condition=~Q(state="archived")),
            models.Index(fields=["-last_seen_at"], name="signal_newest"),
            models.Index(fields=["rule", "notified_at"], name="signal_told",
                         condition=Q(notified_at__isnull=False)),
            models.Index(fields=["archived_at"], name="signal_archived",
                         condition=Q(state="archived")),
        ]  # fmt: skip
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "entity_type", "entity_id"],
                condition=~Q(state="archived"),
                name="signal_one_open",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["open", "reviewing", "archived"]), name="signal_state_known"
            ),
            models.CheckConstraint(
                condition=Q(severity__gte=1, severity__lte=5), name="signal_severity_known"
            ),
            models.CheckConstraint(
                condition=Q(state="archived", archived_at__isnull=False) & ~Q(archived_as="")
                | ~Q(state="archived") & Q(archived_at=None, archived_as=""),
                name="signal_archived_with_reason",
            ),
            models.CheckConstraint(
                condition=Q(last_seen_at__gte=F("first_seen_at")), name="signal_seen_in_order"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.rule} about {self.entity_type} {self.entity_id}"


class Watch(models.Model):
    """When something that must run again and again last ran: what is silent is not therefore quiet."""

    name = models.CharField(_("name"), primary_key=True, max_length=64)
    last_ran_at = models.DateTimeField(_("last ran"), null=True)
    last_failed_at = models.DateTimeField(_("last failed"), null=True)
    took_ms = models.PositiveIntegerField(_("took (ms)"), default=0)

    class Meta:
        app_label = "monitoring"
        verbose_name = _("watch")
        verbose_name_plural = _("watches")

    def __str__(self) -> str:
        return self.name
