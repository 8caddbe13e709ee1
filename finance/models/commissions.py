"""What the platform keeps of a vendor's part of an order."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from finance.models.orders import CURRENCY_SHAPE, Order
from finance.money import MAX_MINOR, PPM, Money
from finance.states import CommissionStatus, CommissionType
from mestore.lib.ids import uuid7


class Commission(models.Model):
    """One commission per vendor and order. Amounts never change after the insert; `entry_id` is its posting.

    `rate_ppm` is the rate as it was when the sale counted: a later change of the rules does not touch it.
    The ledger entry lives in the vendor's book, so its full key is `(vendor_id, entry_id)`.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    commission_number = models.CharField(_("number"), max_length=32, unique=True)
    order = models.ForeignKey(
        Order, models.PROTECT, related_name="commissions", db_index=False, verbose_name=_("order")
    )
    vendor = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="+", db_index=False, verbose_name=_("vendor")
    )
    currency = models.CharField(_("currency"), max_length=3)
    order_amount_minor = models.BigIntegerField(_("order amount"))
    rate_ppm = models.IntegerField(_("rate (ppm)"))
    commission_amount_minor = models.BigIntegerField(_("commission"))
    vendor_amount_minor = models.BigIntegerField(_("vendor amount"))
    commission_type = models.CharField(
        _("type"), max_length=16, choices=[(kind.value, kind.value) for kind in CommissionType],
        default=CommissionType.STANDARD.value,
    )  # fmt: skip
    status = models.CharField(
        _("status"), max_length=16, choices=[(status.value, status.value) for status in CommissionStatus],
        default=CommissionStatus.PENDING.value, db_default=CommissionStatus.PENDING.value,
    )  # fmt: skip
    entry_id = models.UUIDField(_("ledger entry"), null=True, blank=True, editable=False)
    # By which rule, as it stood: `rule_snapshot` are its terms, `rule_hash` their SHA-256.
    rule_id = models.UUIDField(_("rule"), null=True, blank=True, editable=False)
    rule_hash = models.BinaryField(max_length=32, null=True, editable=False)
    # Canonical JSON as text: the bytes that were hashed.
    rule_snapshot = models.TextField(_("terms"), blank=True, default="", db_default="", editable=False)
    rounding = models.CharField(_("rounding"), max_length=16, blank=True, default="", db_default="")
    # Value added tax on the commission, and what is withheld of the vendor's money for the tax office.
    fee_tax_minor = models.BigIntegerField(_("tax on commission"), default=0, db_default=0)
    withheld_minor = models.BigIntegerField(_("withheld"), default=0, db_default=0)
    # Kept by the database: how much of the base was refunded, how much commission was given back with it.
    refunded_minor = models.BigIntegerField(_("refunded"), default=0, db_default=0, editable=False)
    reversed_minor = models.BigIntegerField(_("given back"), default=0, db_default=0, editable=False)
    approved_by = models.UUIDField(_("approved by"), null=True, blank=True, editable=False)
    settled_entry_id = models.UUIDField(_("settled by"), null=True, blank=True, editable=False)
    disputed_at = models.DateTimeField(_("disputed"), null=True, blank=True)
    resolved_at = models.DateTimeField(_("dispute ended"), null=True, blank=True)
    admin_notes = models.CharField(_("internal notes"), max_length=500, blank=True, default="", db_default="")
    notes = models.CharField(_("notes"), max_length=500, blank=True, default="", db_default="")
    calculated_at = models.DateTimeField(_("calculated"))
    approved_at = models.DateTimeField(_("approved"), null=True, blank=True)
    paid_at = models.DateTimeField(_("paid"), null=True, blank=True)
    created_at = models.DateTimeField(_("recorded"), db_default=Now())
    updated_at = models.DateTimeField(_("changed"), db_default=Now())

    class Meta:
        verbose_name = _("commission")
        verbose_name_plural = _("commissions")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["order", "vendor"], name="commission_once_per_order_and_vendor"),
            models.CheckConstraint(
                condition=Q(status__in=[status.value for status in CommissionStatus]),
                name="commission_status_known",
            ),
            models.CheckConstraint(
                condition=Q(commission_type__in=[kind.value for kind in CommissionType]),
                name="commission_type_known",
            ),
            models.CheckConstraint(
                condition=Q(currency__regex=CURRENCY_SHAPE), name="commission_currency_code"
            ),
            models.CheckConstraint(
                condition=Q(order_amount_minor__gt=0, order_amount_minor__lte=MAX_MINOR)
                & Q(commission_amount_minor__gte=0, vendor_amount_minor__gte=0),
                name="commission_amounts_in_bounds",
            ),
            models.CheckConstraint(
                condition=Q(rate_ppm__gte=0, rate_ppm__lte=PPM), name="commission_rate_in_bounds"
            ),
            models.CheckConstraint(
                condition=Q(order_amount_minor=F("commission_amount_minor") + F("vendor_amount_minor")),
                name="commission_amounts_add_up",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["vendor", "-calculated_at", "-id"], name="commission_by_vendor"),
            models.Index(fields=["-calculated_at", "-id"], name="commission_by_time"),
            models.Index(fields=["status", "-calculated_at", "-id"], name="commission_by_status"),
            # What a settlement looks for, and what it paid.
            models.Index(
                fields=["vendor", "currency", "calculated_at"], name="commission_to_settle",
                condition=Q(status__in=["PENDING", "APPROVED"]),
            ),
            models.Index(
                fields=["settled_entry_id"], name="commission_by_settlement",
                condition=Q(settled_entry_id__isnull=False),
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        return self.commission_number

    @property
    def rate(self) -> Decimal:
        """The rate as a fraction of 1, exact: 50,000 ppm is 0.05."""
        return rate_as_decimal(self.rate_ppm)

    @property
    def amount(self) -> Money:
        """What the platform keeps."""
        return Money(self.commission_amount_minor, self.currency)


def rate_as_decimal(ppm: int) -> Decimal:
    """Return parts per million as a fraction of 1 with at least four decimals, as rates are written."""
    rate = Decimal(ppm).scaleb(-6)
    short = rate.quantize(Decimal("0.0001"))
    return short if short == rate else rate
