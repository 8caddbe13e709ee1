"""The entry of one vendor's sale. Pure.

What the buyer paid, split by whom it is owed to: the vendor, the platform, who ships, and the tax offices.
The commission, the tax on it and what is withheld come off the goods' money, each as a transfer of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from finance.money import PPM, MoneyError
from finance.postings import (
    PLATFORM_FEE,
    PSP_CLEARING,
    SALE,
    SHIPPING_PAYABLE,
    TAX_PAYABLE_FEE,
    TAX_PAYABLE_GOODS,
    TAX_PAYABLE_WITHHOLDING,
    VENDOR_PENDING,
    Posting,
    Transfer,
)


@dataclass(frozen=True, slots=True)
class VendorSale:
    """One vendor's part of an order, with the charges on it. All amounts in minor units of `currency`.

    `base` is what the rate applied to: the goods, or goods, shipping and tax. Raises `MoneyError` for amounts
    below zero and for charges beyond the goods.
    """

    vendor: UUID
    currency: str
    goods: int
    shipping: int
    tax: int
    base: int
    rate_ppm: int
    commission: int
    fee_tax: int = 0
    withheld: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.goods <= 0 or self.shipping < 0 or self.tax < 0 or self.base < self.commission:
            raise MoneyError("sale_invalid", "A sale has goods, and no part of it is negative.")
        if not 0 <= self.rate_ppm <= PPM:
            raise MoneyError("rate_invalid", "A commission rate is between 0 and 1.")
        if min(self.commission, self.fee_tax, *self.withheld) < 0 or self.vendor_money < 0:
            raise MoneyError("charges_invalid", "Charges lie between zero and the goods.")

    @property
    def vendor_amount(self) -> int:
        """What remains of the base: base = commission + vendor amount."""
        return self.base - self.commission

    @property
    def withheld_total(self) -> int:
        """All that is withheld."""
        return sum(self.withheld)

    @property
    def vendor_money(self) -> int:
        """What the vendor gets: the goods less commission, the tax on it, and what is withheld."""
        return self.goods - self.commission - self.fee_tax - self.withheld_total


def sale_posting(
    sale: VendorSale, *, entry_id: UUID, order_id: int, occurred_at: datetime, provider: str
) -> Posting:
    """Return the entry of one vendor's sale. Parts that are zero post no row.

    `provider` holds the money until it is settled.
    """
    parts = (
        (VENDOR_PENDING, sale.vendor_money),
        (PLATFORM_FEE, sale.commission),
        (TAX_PAYABLE_FEE, sale.fee_tax),
        *((TAX_PAYABLE_WITHHOLDING, amount) for amount in sale.withheld),
        (SHIPPING_PAYABLE, sale.shipping),
        (TAX_PAYABLE_GOODS, sale.tax),
    )
    transfers = tuple(
        Transfer(PSP_CLEARING, credit, provider, sale.currency, amount) for credit, amount in parts if amount
    )
    return Posting(sale.vendor, entry_id, SALE, occurred_at, sale_source(order_id), transfers)


def sale_source(order_id: int) -> str:
    """The natural key of an order's sale in each vendor's book: a second sale is refused."""
    return f"order/{order_id}/sale"
