"""Orders as money: what was bought from whom, and how it was paid. Amounts are minor units (`money.py`)."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from finance.money import MAX_MINOR, Money
from finance.states import ItemStatus, OrderStatus, PaymentStatus

#: `Order.source` of orders that came in through the API.
STOREFRONT = "storefront"
CURRENCY_SHAPE = r"^[A-Z]{3}$"
_LARGEST_QUANTITY = 1_000_000


class Order(models.Model):
    """One order of one buyer, at any number of vendors. Amounts and identity never change afterwards."""

    id = models.BigAutoField(primary_key=True)
    order_number = models.CharField(_("number"), max_length=32, unique=True)
    source = models.CharField(_("source"), max_length=32)
    external_reference = models.CharField(_("external reference"), max_length=128, null=True, blank=True)  # noqa: DJ001
    # Digest of the imported lines: tells a repeated import from one with other contents.
    source_digest = models.BinaryField(max_length=32, null=True, blank=True, editable=False)
    buyer = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+", db_index=False,
        verbose_name=_("buyer"),
    )  # fmt: skip
    buyer_reference = models.CharField(
        _("buyer reference"), max_length=128, blank=True, default="", db_default=""
    )
    currency = models.CharField(_("currency"), max_length=3)
    status = models.CharField(
        _("status"), max_length=16, choices=[(status.value, status.value) for status in OrderStatus]
    )

    subtotal_minor = models.BigIntegerField(_("subtotal"))
    tax_minor = models.BigIntegerField(_("tax"))
    shipping_minor = models.BigIntegerField(_("shipping"))
    discount_minor = models.BigIntegerField(_("discount"), default=0, db_default=0)
    total_minor = models.BigIntegerField(_("total"))

    shipping_name = models.CharField(max_length=200, blank=True, default="", db_default="")
    shipping_phone = models.CharField(max_length=32, blank=True, default="", db_default="")
    shipping_email = models.CharField(max_length=254, blank=True, default="", db_default="")
    shipping_address = models.CharField(max_length=300, blank=True, default="", db_default="")
    shipping_city = models.CharField(max_length=100, blank=True, default="", db_default="")
    shipping_state = models.CharField(max_length=100, blank=True, default="", db_default="")
    shipping_postal_code = models.CharField(max_length=20, blank=True, default="", db_default="")
    shipping_country = models.CharField(max_length=2, default="CO", db_default="CO")
    notes = models.CharField(max_length=1000, blank=True, default="", db_default="")

    # Kept by the database: what was refunded so far.
    refunded_minor = models.BigIntegerField(_("refunded"), default=0, db_default=0, editable=False)
    # What the buyer is still to get and no refund is under way for: a cancellation says it, refunds take it
    # on, and a provider that gives one up brings it back (the database counts; `refund_claims`).
    refund_due_minor = models.BigIntegerField(
        _("still to be refunded"), default=0, db_default=0, editable=False
    )
    tracking_number = models.CharField(
        _("tracking number"), max_length=64, blank=True, default="", db_default=""
    )
    courier = models.CharField(_("courier"), max_length=64, blank=True, default="", db_default="")
    estimated_delivery = models.DateField(_("estimated delivery"), null=True, blank=True)
    # What happened to the parcel: [{"at", "status", "note"}, …], oldest first.
    shipping_events = models.JSONField(
        _("shipping events"), default=list, db_default=models.Value([], models.JSONField()), blank=True
    )
    cancellation_reason = models.CharField(
        _("reason of the cancellation"), max_length=500, blank=True, default="", db_default=""
    )

    placed_at = models.DateTimeField(_("placed"))
    confirmed_at = models.DateTimeField(_("confirmed"), null=True, blank=True)
    shipped_at = models.DateTimeField(_("shipped"), null=True, blank=True)
    delivered_at = models.DateTimeField(_("delivered"), null=True, blank=True)
    cancelled_at = models.DateTimeField(_("cancelled"), null=True, blank=True)
    created_at = models.DateTimeField(_("recorded"), db_default=Now())
    updated_at = models.DateTimeField(_("changed"), db_default=Now())

    class Meta:
        verbose_name = _("order")
        verbose_name_plural = _("orders")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["source", "external_reference"], name="order_known_once_per_source"
            ),
            models.CheckConstraint(
                condition=Q(status__in=[status.value for status in OrderStatus]), name="order_status_known"
            ),
            models.CheckConstraint(condition=Q(currency__regex=CURRENCY_SHAPE), name="order_currency_code"),
            models.CheckConstraint(
                condition=Q(
                    subtotal_minor__gte=0, tax_minor__gte=0, shipping_minor__gte=0, discount_minor__gte=0
                )
                & Q(total_minor__gte=0, total_minor__lte=MAX_MINOR),
                name="order_amounts_in_bounds",
            ),
            models.CheckConstraint(
                condition=Q(
                    total_minor=F("subtotal_minor")
                    + F("tax_minor")
                    + F("shipping_minor")
                    - F("discount_minor")
                ),
                name="order_total_adds_up",
            ),
            # Other marketplaces' files hold orders without items (unavailable, cancelled); ours never do.
            models.CheckConstraint(
                condition=Q(total_minor__gt=0) | (Q(subtotal_minor=0) & ~Q(source=STOREFRONT)),
                name="order_total_positive",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["-placed_at", "-id"], name="order_by_day"),
            models.Index(fields=["status", "-id"], name="order_by_status"),
            models.Index(fields=["buyer", "-id"], name="order_by_buyer", condition=Q(buyer__isnull=False)),
            models.Index(fields=["-id"], name="order_refund_due", condition=Q(refund_due_minor__gt=0)),
        ]

    def __str__(self) -> str:
        return self.order_number

    @property
    def total(self) -> Money:
        """What the buyer pays."""
        return Money(self.total_minor, self.currency)


class OrderItem(models.Model):
    """One line of an order: a product of one vendor. `line` counts from 1 in the order's own sequence."""

    order = models.ForeignKey(
        Order, models.PROTECT, related_name="items", db_index=False, verbose_name=_("order")
    )
    line = models.IntegerField(_("line"))
    product_id = models.CharField(_("product"), max_length=128)
    vendor = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="+", db_index=False, verbose_name=_("vendor")
    )
    name = models.CharField(_("name"), max_length=200, blank=True, default="", db_default="")
    category = models.CharField(_("category"), max_length=100, blank=True, default="", db_default="")
    unit_price_minor = models.BigIntegerField(_("unit price"))
    quantity = models.IntegerField(_("quantity"))
    line_total_minor = models.BigIntegerField(_("line total"))
    shipping_minor = models.BigIntegerField(_("shipping"), default=0, db_default=0)
    # The line's share of the vendor's commission (rounded once, on the whole) and the terms of the charge.
    commission_minor = models.BigIntegerField(_("commission"), null=True, blank=True)
    rate_ppm = models.IntegerField(_("rate (ppm)"), null=True, blank=True)
    rule_hash = models.BinaryField(max_length=32, null=True, editable=False)
    rounding = models.CharField(_("rounding"), max_length=16, blank=True, default="", db_default="")
    vendor_status = models.CharField(
        _("vendor's progress"), max_length=16, choices=[(s.value, s.value) for s in ItemStatus],
        default=ItemStatus.PENDING.value, db_default=ItemStatus.PENDING.value,
    )  # fmt: skip

    class Meta:
        verbose_name = _("order item")
        verbose_name_plural = _("order items")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["order", "line"], name="order_item_line_once"),
            models.CheckConstraint(
                condition=Q(
                    line__gt=0, quantity__gt=0, quantity__lte=_LARGEST_QUANTITY, shipping_minor__gte=0
                ),
                name="order_item_counts_in_bounds",
            ),
            models.CheckConstraint(
                condition=Q(
                    unit_price_minor__gt=0, unit_price_minor__lte=MAX_MINOR, line_total_minor__lte=MAX_MINOR
                ),
                name="order_item_amounts_in_bounds",
            ),
            models.CheckConstraint(
                condition=Q(line_total_minor=F("unit_price_minor") * F("quantity")),
                name="order_item_total_adds_up",
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["vendor", "-order"], name="order_item_by_vendor")]

    def __str__(self) -> str:
        return f"{self.order_id}/{self.line}"


class OrderPayment(models.Model):
    """What a provider reported for an order; an order may be paid in several parts. Holds no card data."""

    order = models.ForeignKey(
        Order, models.PROTECT, related_name="payments", db_index=False, verbose_name=_("order")
    )
    sequence = models.IntegerField(_("sequence"))
    method = models.CharField(_("method"), max_length=32, blank=True, default="", db_default="")
    installments = models.IntegerField(_("installments"), default=1, db_default=1)
    amount_minor = models.BigIntegerField(_("amount"))
    provider = models.CharField(_("provider"), max_length=32)
    reference = models.CharField(_("reference"), max_length=128, blank=True, default="", db_default="")
    status = models.CharField(
        _("status"), max_length=16, choices=[(status.value, status.value) for status in PaymentStatus]
    )

    class Meta:
        verbose_name = _("order payment")
        verbose_name_plural = _("order payments")
        # Not unique: a cart that the storefront splits is paid once, and its orders share the reference.
        indexes: ClassVar = [
            models.Index(
                fields=["provider", "reference"],
                name="order_payment_by_reference",
                condition=~Q(reference=""),
            )
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["order", "sequence"], name="order_payment_sequence_once"),
            models.CheckConstraint(
                condition=Q(
                    sequence__gt=0, installments__gte=0, amount_minor__gte=0, amount_minor__lte=MAX_MINOR
                ),
                name="order_payment_numbers_in_bounds",
            ),
            models.CheckConstraint(
                condition=Q(status__in=[status.value for status in PaymentStatus]),
                name="order_payment_status_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.order_id}/{self.sequence}"
