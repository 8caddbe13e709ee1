"""Which commission a sale is charged."""

from __future__ import annotations

from django.conf import settings

from finance import postings, pricing
from finance.postings import VendorSale
from finance.states import CommissionType


def rate_of(kind: str) -> int:
    """Return today's rate of a type of commission, in parts per million. Raises KeyError."""
    rate: int = settings.COMMISSION_RATES_PPM[kind]
    return rate


def charge(part: pricing.VendorPart, *, currency: str, kind: str = CommissionType.STANDARD) -> VendorSale:
    """Return one vendor's sale with the commission on it, by the rates and the base of the settings."""
    return postings.vendor_sale(
        vendor=part.vendor,
        currency=currency,
        goods=part.goods,
        shipping=part.shipping,
        tax=part.tax,
        rate_ppm=rate_of(kind),
        base=settings.COMMISSION_BASE,
    )
