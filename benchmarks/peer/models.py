"""The row that is read: a commission, as a project with hordak and django-money around would keep it."""

from __future__ import annotations

from auditlog.registry import auditlog
from django.conf import settings
from django.db import models


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


auditlog.register(Commission)
