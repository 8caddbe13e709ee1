"""How money is written in the cells of the console: amounts, rates, books, vendors."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from finance.money import text_of
from finance.postings import PLATFORM_BOOK
from finance.states import CommissionStatus, CommissionType, OrderStatus
from mestore.lib.console import display

ORDER_WORDS = {
    OrderStatus.PENDING: gettext_lazy("pending"),
    OrderStatus.CONFIRMED: gettext_lazy("confirmed"),
    OrderStatus.PROCESSING: gettext_lazy("processing"),
    OrderStatus.SHIPPED: gettext_lazy("shipped"),
    OrderStatus.DELIVERED: gettext_lazy("delivered"),
    OrderStatus.CANCELLED: gettext_lazy("cancelled"),
    OrderStatus.REFUNDED: gettext_lazy("refunded"),
}
COMMISSION_WORDS = {
    CommissionStatus.PENDING: gettext_lazy("pending"),
    CommissionStatus.APPROVED: gettext_lazy("approved"),
    CommissionStatus.PAID: gettext_lazy("paid"),
    CommissionStatus.DISPUTED: gettext_lazy("disputed"),
    CommissionStatus.REFUNDED: gettext_lazy("refunded"),
    CommissionStatus.CANCELLED: gettext_lazy("cancelled"),
}
TYPE_WORDS = {
    CommissionType.STANDARD: gettext_lazy("standard"),
    CommissionType.PREMIUM: gettext_lazy("premium"),
    CommissionType.PROMOTIONAL: gettext_lazy("promotional"),
    CommissionType.CATEGORY_BASED: gettext_lazy("by category"),
}


def amount(minor: int, currency: str) -> SafeString:
    """Minor units as people read them."""
    return display.amount(text_of(minor, currency), currency)


def book(book_id: UUID) -> SafeString | str:
    """Whose book it is: the platform's own, or a vendor's with a link to the account."""
    if book_id == PLATFORM_BOOK:
        return _("platform")
    return display.link(reverse("admin:accounts_user_change", args=[book_id]), display.short_id(book_id))


def entry_link(entry_id: UUID | None) -> SafeString | str:
    if entry_id is None:
        return _("not posted")
    return display.link(reverse("admin:finance_ledgerentry_change", args=[entry_id]), str(entry_id))


def vendor(user: Any) -> SafeString:
    profile = getattr(user, "vendor_profile", None)
    return display.link(reverse("admin:accounts_user_change", args=[user.pk]), profile or user)


def percent(ppm: int) -> str:
    whole, rest = divmod(ppm, 10_000)
    return f"{whole}.{rest:04d}".rstrip("0").rstrip(".") + " %"
