"""What sales are charged: rules with a scope, a time of validity and a priority, and what vendors sold."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.contrib.postgres.fields import DateTimeRangeField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from finance.models.orders import CURRENCY_SHAPE
from finance.money import MAX_MINOR, PPM
from finance.states import CommissionType, RuleStatus
from mestore.lib.ids import uuid7


class CommissionRule(models.Model):
    """One rule. Its terms never change: another rule takes its place, from a moment on.

    The scope is what is set of vendor, category, product and order; what is not set applies to all. Two
    active rules of one scope and currency never overlap in time (an exclusion constraint says so). Of the
    rules that match a line the highest `priority` wins, then the narrower scope.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(_("name"), max_length=100)
    currency = models.CharField(_("currency"), max_length=3)
    vendor = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+", db_index=False,
        verbose_name=_("vendor"),
    )  # fmt: skip
    category = models.CharField(_("category"), max_length=100, blank=True, default="", db_default="")
    product_id = models.CharField(_("product"), max_length=128, blank=True, default="", db_default="")
    order_reference = models.CharField(
        _("order's external reference"), max_length=128, blank=True, default="", db_default=""
    )
    priority = models.SmallIntegerField(_("priority"), default=0, db_default=0)
    commission_type = models.CharField(
        _("type"), max_length=16, choices=[(kind.value, kind.value) for kind in CommissionType],
        default=CommissionType.STANDARD.value,
    )  # fmt: skip
    rate_ppm = models.IntegerField(_("rate (ppm)"))
    fixed_minor = models.BigIntegerField(_("fixed fee"), default=0, db_default=0)
    floor_minor = models.BigIntegerField(_("floor"), null=True, blank=True)
    cap_minor = models.BigIntegerField(_("cap"), null=True, blank=True)
    # [[from which sales of the month, in minor units, rate in ppm], …], rising; empty: `rate_ppm` always.
    tiers = models.JSONField(_("volume tiers"), default=list, db_default=models.Value([], models.JSONField()))
    valid = DateTimeRangeField(_("valid"))
    status = models.CharField(
        _("status"), max_length=16, choices=[(status.value, status.value) for status in RuleStatus],
        default=RuleStatus.PROPOSED.value,
    )  # fmt: skip
    # SHA-256 of the canonical terms: what a line keeps of the rule that it was charged by.
    rule_hash = models.BinaryField(max_length=32, editable=False)
    reason = models.CharField(_("reason"), max_length=500, blank=True, default="", db_default="")
    proposed_by = models.UUIDField(_("proposed by"), null=True, editable=False)
    approved_by = models.UUIDField(_("approved by"), null=True, editable=False)
    created_at = models.DateTimeField(_("recorded"), db_default=Now())
    updated_at = models.DateTimeField(_("changed"), db_default=Now())

    class Meta:
        verbose_name = _("commission rule")
        verbose_name_plural = _("commission rules")
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(rate_ppm__gte=0, rate_ppm__lte=PPM), name="commission_rule_rate_in_bounds"
            ),
            models.CheckConstraint(
                condition=Q(currency__regex=CURRENCY_SHAPE), name="commission_rule_currency_code"
            ),
            models.CheckConstraint(
                condition=Q(fixed_minor__gte=0, fixed_minor__lte=MAX_MINOR)
                & (Q(floor_minor__isnull=True) | Q(floor_minor__gte=0, floor_minor__lte=MAX_MINOR))
                & (Q(cap_minor__isnull=True) | Q(cap_minor__gte=0, cap_minor__lte=MAX_MINOR))
                & (
                    Q(floor_minor__isnull=True)
                    | Q(cap_minor__isnull=True)
                    | Q(floor_minor__lte=F("cap_minor"))
                ),
                name="commission_rule_amounts_in_bounds",
            ),
            models.CheckConstraint(
                condition=Q(status__in=[status.value for status in RuleStatus]),
                name="commission_rule_status_known",
            ),
            models.CheckConstraint(
                condition=~Q(status=RuleStatus.ACTIVE.value)
                | Q(approved_by__isnull=False) & ~Q(approved_by=F("proposed_by")),
                name="commission_rule_two_people",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["vendor", "currency"], name="commission_rule_by_vendor"),
            models.Index(fields=["status", "-id"], name="commission_rule_by_status"),
            # What a sale asks for: the rules of all vendors by their scope, and whether anybody counts.
            models.Index(
                fields=["currency", "product_id", "category", "order_reference"],
                name="commission_rule_in_force",
                condition=Q(status=RuleStatus.ACTIVE.value, vendor__isnull=True),
            ),
            models.Index(
                fields=["currency", "vendor"],
                name="commission_rule_with_tiers",
                condition=Q(status=RuleStatus.ACTIVE.value) & ~Q(tiers=[]),
            ),
        ]

    def __str__(self) -> str:
        return self.name


class VendorVolume(models.Model):
    """What a vendor with tiers sold in a month of business time: counted under the lock of this row."""

    vendor = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="+", db_index=False, verbose_name=_("vendor")
    )
    currency = models.CharField(_("currency"), max_length=3)
    month = models.DateField(_("month"))
    sold_minor = models.BigIntegerField(_("sold"), default=0, db_default=0)

    class Meta:
        verbose_name = _("vendor's volume")
        verbose_name_plural = _("vendors' volumes")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["vendor", "currency", "month"], name="vendor_volume_once"),
            models.CheckConstraint(condition=Q(sold_minor__gte=0), name="vendor_volume_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.vendor_id} {self.month:%Y-%m} {self.currency}"
