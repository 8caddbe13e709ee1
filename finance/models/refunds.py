"""Money that goes back to a buyer."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from finance.models.commissions import Commission
from finance.models.orders import CURRENCY_SHAPE, Order
from finance.money import MAX_MINOR, Money
from finance.states import RefundStatus
from mestore.lib.ids import uuid7


class Refund(models.Model):
    """One refund of an order, whole or in part. Amounts never change; a trigger keeps the order's sum."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    refund_number = models.CharField(_("number"), max_length=32, unique=True)
    order = models.ForeignKey(
        Order, models.PROTECT, related_name="refunds", db_index=False, verbose_name=_("order")
    )
    currency = models.CharField(_("currency"), max_length=3)
    amount_minor = models.BigIntegerField(_("amount"))
    reason = models.CharField(_("reason"), max_length=500)
    status = models.CharField(
        _("status"), max_length=16, choices=[(status.value, status.value) for status in RefundStatus],
        default=RefundStatus.POSTED.value,
    )  # fmt: skip
    provider = models.CharField(_("provider"), max_length=32, blank=True, default="", db_default="")
    # The provider's own id of the refund: known once for ever, whichever of us heard of it first.
    provider_reference = models.CharField(_("provider's reference"), max_length=128, null=True, blank=True)  # noqa: DJ001
    requested_by = models.UUIDField(_("requested by"), null=True, editable=False)
    failure = models.CharField(_("why it failed"), max_length=500, blank=True, default="", db_default="")
    paid_at = models.DateTimeField(_("paid"), null=True, blank=True)
    created_at = models.DateTimeField(_("recorded"), db_default=Now())
    updated_at = models.DateTimeField(_("changed"), db_default=Now())

    class Meta:
        verbose_name = _("refund")
        verbose_name_plural = _("refunds")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["provider", "provider_reference"], name="refund_known_once_per_provider"
            ),
            models.CheckConstraint(condition=Q(currency__regex=CURRENCY_SHAPE), name="refund_currency_code"),
            models.CheckConstraint(
                condition=Q(amount_minor__gt=0, amount_minor__lte=MAX_MINOR), name="refund_amount_in_bounds"
            ),
            models.CheckConstraint(
                condition=Q(status__in=[status.value for status in RefundStatus]), name="refund_status_known"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["order", "-id"], name="refund_by_order"),
            models.Index(fields=["status", "-id"], name="refund_by_status"),
        ]

    def __str__(self) -> str:
        return self.refund_number

    @property
    def amount(self) -> Money:
        """What the buyer gets back."""
        return Money(self.amount_minor, self.currency)


class RefundPart(models.Model):
    """One vendor's part of a refund: which money of the sale goes back, and how much commission with it."""

    refund = models.ForeignKey(
        Refund, models.PROTECT, related_name="parts", db_index=False, verbose_name=_("refund")
    )
    vendor = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="+", db_index=False, verbose_name=_("vendor")
    )
    commission = models.ForeignKey(
        Commission, models.PROTECT, null=True, blank=True, related_name="refund_parts", db_index=False,
        verbose_name=_("commission"),
    )  # fmt: skip
    goods_minor = models.BigIntegerField(_("goods"))
    tax_minor = models.BigIntegerField(_("tax"))
    shipping_minor = models.BigIntegerField(_("shipping"))
    # Of the commission's base, and of the commission itself: what `commission.refunded_minor` counts up.
    base_minor = models.BigIntegerField(_("base"))
    commission_minor = models.BigIntegerField(_("commission given back"))
    fee_tax_minor = models.BigIntegerField(_("tax on commission given back"), default=0, db_default=0)
    withheld_minor = models.BigIntegerField(_("withholding given back"), default=0, db_default=0)
    # What the vendor could not give from its balances: owed to the platform.
    owed_minor = models.BigIntegerField(_("owed by the vendor"), default=0, db_default=0)
    entry_id = models.UUIDField(_("ledger entry"), editable=False)

    class Meta:
        verbose_name = _("part of a refund")
        verbose_name_plural = _("parts of refunds")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["refund", "vendor"], name="refund_part_once_per_vendor"),
            models.CheckConstraint(
                condition=Q(goods_minor__gte=0, tax_minor__gte=0, shipping_minor__gte=0, base_minor__gte=0)
                & Q(commission_minor__gte=0, fee_tax_minor__gte=0, withheld_minor__gte=0, owed_minor__gte=0)
                & Q(goods_minor__gte=F("owed_minor")),
                name="refund_part_amounts_in_bounds",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["vendor", "-id"], name="refund_part_by_vendor"),
            models.Index(fields=["commission"], name="refund_part_by_commission"),
        ]

    def __str__(self) -> str:
        return f"{self.refund_id}/{self.vendor_id}"
