"""The rows of a sale, as a project with hordak and django-money around would keep them."""

from __future__ import annotations

from auditlog.registry import auditlog
from django.conf import settings
from django.db import models
from hordak.models import Transaction


class Commission(models.Model):
    """One commission of a vendor."""

    id = models.UUIDField(primary_key=True)
    commission_number = models.CharField(max_length=32, unique=True)
    order_id = models.BigIntegerField(db_index=True)
    vendor = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)
    currency = models.CharField(max_length=3)
    order_amount = models.DecimalField(max_digits=18, decimal_places=2)
    commission_rate = models.DecimalField(max_digits=8, decimal_places=6)
    commission_amount = models.DecimalField(max_digits=18, decimal_places=2)
    vendor_amount = models.DecimalField(max_digits=18, decimal_places=2)
    commission_type = models.CharField(max_length=16)
    status = models.CharField(max_length=16)
    notes = models.TextField(blank=True)
    calculated_at = models.DateTimeField()
    approved_at = models.DateTimeField(null=True)
    paid_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.commission_number


class Order(models.Model):
    """A paid order."""

    order_number = models.CharField(max_length=32, unique=True)
    external_reference = models.CharField(max_length=128, unique=True)
    buyer_reference = models.CharField(max_length=128)
    currency = models.CharField(max_length=3)
    status = models.CharField(max_length=16, db_index=True)
    subtotal = models.DecimalField(max_digits=18, decimal_places=2)
    tax = models.DecimalField(max_digits=18, decimal_places=2)
    shipping = models.DecimalField(max_digits=18, decimal_places=2)
    total = models.DecimalField(max_digits=18, decimal_places=2)
    shipping_name = models.CharField(max_length=200)
    shipping_phone = models.CharField(max_length=32)
    shipping_address = models.CharField(max_length=300)
    shipping_city = models.CharField(max_length=100)
    shipping_state = models.CharField(max_length=100)
    placed_at = models.DateTimeField(db_index=True)
    confirmed_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.order_number


class OrderItem(models.Model):
    """One line of an order."""

    order = models.ForeignKey(Order, on_delete=models.PROTECT)
    line = models.IntegerField()
    product_id = models.CharField(max_length=128)
    vendor = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)
    name = models.CharField(max_length=300)
    unit_price = models.DecimalField(max_digits=18, decimal_places=2)
    quantity = models.IntegerField()
    line_total = models.DecimalField(max_digits=18, decimal_places=2)

    def __str__(self) -> str:
        return self.name


class Payment(models.Model):
    """How an order was paid."""

    order = models.ForeignKey(Order, on_delete=models.PROTECT)
    provider = models.CharField(max_length=32)
    reference = models.CharField(max_length=128, db_index=True)
    status = models.CharField(max_length=16)
    amount = models.DecimalField(max_digits=18, decimal_places=2)

    def __str__(self) -> str:
        return self.reference


class IdempotencyKey(models.Model):
    """What was answered to a request."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)
    key = models.CharField(max_length=255)
    request_hash = models.CharField(max_length=64)
    body = models.TextField(default="")
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["user", "key"], name="peer_key_once"),)

    def __str__(self) -> str:
        return self.key


auditlog.register(Commission)
auditlog.register(Order)
auditlog.register(Transaction)
