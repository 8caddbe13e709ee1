"""The row that is read: the same commission that MeStore's endpoint reads."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class Commission(models.Model):
    """One row of finance_commission, as a bare model."""

    id = models.UUIDField(primary_key=True)
    commission_number = models.CharField(max_length=32)
    order_id = models.BigIntegerField()
    vendor_id = models.UUIDField()
    currency = models.CharField(max_length=3)
    order_amount_minor = models.BigIntegerField()
    commission_amount_minor = models.BigIntegerField()
    vendor_amount_minor = models.BigIntegerField()
    rate_ppm = models.IntegerField()
    status = models.CharField(max_length=16)
    calculated_at = models.DateTimeField()

    objects: ClassVar[models.Manager[Commission]] = models.Manager()

    class Meta:
        managed = False
        db_table = "finance_commission"

    def __str__(self) -> str:
        return self.commission_number
