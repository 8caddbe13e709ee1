"""What a provider and a bank say, line by line, and where it differs from the ledger."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from finance.states import CaseKind, CaseState, RecordKind, ReportKind
from mestore.lib.ids import uuid7


class ProviderReport(models.Model):
    """One imported report: a provider's transactions, or a bank's statement. The same file is known once."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(
        _("kind"), max_length=16, choices=[(kind.value, kind.value) for kind in ReportKind]
    )
    provider = models.CharField(_("provider"), max_length=32)
    file_name = models.CharField(_("file"), max_length=200)
    file_digest = models.BinaryField(max_length=32, editable=False)
    since = models.DateTimeField(_("from"), null=True, blank=True)
    until = models.DateTimeField(_("until"), null=True, blank=True)
    record_count = models.IntegerField(_("records"), default=0, db_default=0)
    rejected_count = models.IntegerField(_("rejected"), default=0, db_default=0)
    totals = models.JSONField(_("totals"), default=dict, db_default=models.Value({}, models.JSONField()))
    imported_by = models.CharField(_("imported by"), max_length=254, blank=True, default="", db_default="")
    imported_at = models.DateTimeField(_("imported"), db_default=Now())
    matched_at = models.DateTimeField(_("matched"), null=True, blank=True)

    class Meta:
        verbose_name = _("report")
        verbose_name_plural = _("reports")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["provider", "kind", "file_digest"], name="report_known_once"),
            models.CheckConstraint(
                condition=Q(kind__in=[kind.value for kind in ReportKind]), name="report_kind_known"
            ),
        ]

    def __str__(self) -> str:
        return self.file_name


class ProviderRecord(models.Model):
    """One line of a report. `amount_minor` is signed: what came in is positive, what went out negative."""

    id = models.BigAutoField(primary_key=True)
    report = models.ForeignKey(
        ProviderReport, models.PROTECT, related_name="records", db_index=False, verbose_name=_("report")
    )
    line = models.IntegerField(_("line"))
    kind = models.CharField(
        _("kind"), max_length=16, choices=[(kind.value, kind.value) for kind in RecordKind]
    )
    reference = models.CharField(_("reference"), max_length=128)
    currency = models.CharField(_("currency"), max_length=3)
    amount_minor = models.BigIntegerField(_("amount"))
    fee_minor = models.BigIntegerField(_("fee"), default=0, db_default=0)
    occurred_at = models.DateTimeField(_("occurred"))
    # What it was matched with: ("order", id), ("refund", id), ("payout", id); empty as long as nothing was.
    target_type = models.CharField(max_length=16, blank=True, default="", db_default="")
    target_id = models.CharField(max_length=64, blank=True, default="", db_default="")

    class Meta:
        verbose_name = _("record of a report")
        verbose_name_plural = _("records of reports")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["report", "line"], name="report_record_line_once"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["reference"], name="report_record_by_reference"),
            models.Index(
                fields=["target_type", "target_id"], name="report_record_by_target",
                condition=~Q(target_type=""),
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.report_id}/{self.line}"


class ReconciliationCase(models.Model):
    """One difference between two of the three: ledger, provider, bank. It waits for a person, or vanishes."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(_("kind"), max_length=32, choices=[(kind.value, kind.value) for kind in CaseKind])
    state = models.CharField(
        _("state"), max_length=16, choices=[(state.value, state.value) for state in CaseState],
        default=CaseState.OPEN.value,
    )  # fmt: skip
    provider = models.CharField(_("provider"), max_length=32)
    reference = models.CharField(_("reference"), max_length=128)
    currency = models.CharField(_("currency"), max_length=3)
    ledger_minor = models.BigIntegerField(_("in the ledger"), null=True, blank=True)
    provider_minor = models.BigIntegerField(_("in the report"), null=True, blank=True)
    target_type = models.CharField(max_length=16, blank=True, default="", db_default="")
    target_id = models.CharField(max_length=64, blank=True, default="", db_default="")
    report = models.ForeignKey(
        ProviderReport, models.PROTECT, null=True, blank=True, related_name="cases", verbose_name=_("report")
    )
    resolution = models.CharField(_("resolution"), max_length=500, blank=True, default="", db_default="")
    decided_by = models.UUIDField(_("decided by"), null=True, editable=False)
    opened_at = models.DateTimeField(_("opened"), db_default=Now())
    decided_at = models.DateTimeField(_("decided"), null=True, blank=True)
    updated_at = models.DateTimeField(_("changed"), db_default=Now())

    class Meta:
        verbose_name = _("reconciliation case")
        verbose_name_plural = _("reconciliation cases")
        constraints: ClassVar = [
            # One difference is one case, however often it is found.
            models.UniqueConstraint(
                fields=["provider", "kind", "reference", "currency"],
                condition=Q(state=CaseState.OPEN.value), name="reconciliation_case_open_once",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=[kind.value for kind in CaseKind])
                & Q(state__in=[state.value for state in CaseState]),
                name="reconciliation_case_known",
            ),
        ]  # fmt: skip
        indexes: ClassVar = [models.Index(fields=["state", "-id"], name="reconciliation_case_by_state")]

    def __str__(self) -> str:
        return f"{self.kind} {self.reference}"
