"""Reads the body of a new order: strict, complete, and naming every field that is wrong.

Nothing is guessed or converted: unknown members are refused (a misspelt amount must not be ignored), numbers
are digits, texts are texts. Amounts that the client sends besides unit prices are compared with ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from finance import cards, charging, money, pricing
from finance.money import MoneyError
from finance.states import PaymentStatus
from mestore.lib import crypto, errors
from mestore.lib.errors import FieldError

if TYPE_CHECKING:
    from mestore.lib.errors import Text

MAX_ITEMS: Final = 200
MAX_QUANTITY: Final = 1_000_000
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CODE: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)
_COUNTRY: Final = re.compile(r"[A-Z]{2}", re.ASCII)
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
#: Members of the address: longest value, and whether it must be there.
SHIPPING_FIELDS: Final[dict[str, tuple[int, bool]]] = {
    "shipping_name": (200, True),
    "shipping_phone": (32, True),
    "shipping_email": (254, False),
    "shipping_address": (300, True),
    "shipping_city": (100, True),
    "shipping_state": (100, True),
    "shipping_postal_code": (20, False),
}
_ORDER_AMOUNTS: Final = (
    "subtotal",
    "tax_amount",
    "shipping_cost",
    "discount_amount",
    "total_amount",
    "total",
)
_LINE_AMOUNTS: Final = ("line_total", "total_price")
_MEMBERS: Final = frozenset(
    {
        "buyer_id",
        "buyer_reference",
        "currency",
        "external_reference",
        "items",
        "shipping_country",
        "notes",
        "payment",
    }
    | set(SHIPPING_FIELDS)
    | set(_ORDER_AMOUNTS)
)
_LINE_MEMBERS: Final = frozenset(
    {"product_id", "vendor_id", "name", "category", "unit_price", "quantity", *_LINE_AMOUNTS}
)
_PAYMENT_STATUSES: Final = frozenset(status.value for status in PaymentStatus)
_APPROVED: Final = PaymentStatus.APPROVED.value
_PAYMENT_MEMBERS: Final = frozenset({"provider", "reference", "status", "method", "installments", "amount"})


class OrderInvalid(errors.Unprocessable):
    """Some fields are wrong; `details` names each."""


class CardDataRefused(errors.Unprocessable):
    code = "CARD_DATA_REFUSED"
    message = _("Card data is not accepted: send the payment provider's reference.")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the order. The price is the storefront's, the arithmetic is ours."""

    product_id: str
    vendor_id: UUID
    name: str
    category: str
    unit_price: int
    quantity: int

    @property
    def total(self) -> int:
        """Unit price times quantity, in minor units."""
        return self.unit_price * self.quantity


@dataclass(frozen=True, slots=True)
class Payment:
    """What a provider said about the payment of the whole order."""

    provider: str
    reference: str
    status: str
    method: str
    installments: int


@dataclass(frozen=True, slots=True)
class OrderForm:
    """A valid order, priced by our rules."""

    buyer_id: UUID | None
    buyer_reference: str
    currency: str
    external_reference: str | None
    lines: tuple[Line, ...]
    shipping: dict[str, str]
    notes: str
    payment: Payment | None
    price: pricing.Price

    @property
    def vendor_ids(self) -> list[UUID]:
        """The vendors, each once, in the order of their first line."""
        return [part.vendor for part in self.price.parts]

    @property
    def is_paid(self) -> bool:
        """Whether the provider approved the payment, so that the order counts as sold."""
        return self.payment is not None and self.payment.status == _APPROVED

    def identity(self) -> bytes:
        """The validated values as unambiguous bytes: what makes two requests the same request."""
        parts: list[str | UUID | int] = [
            self.buyer_id or "", self.buyer_reference, self.currency, self.external_reference or "",
            self.notes, *(self.shipping[name] for name in sorted(self.shipping)), len(self.lines),
        ]  # fmt: skip
        for line in self.lines:
            parts += (
                line.product_id,
                line.vendor_id,
                line.name,
                line.category,
                line.unit_price,
                line.quantity,
            )
        if (payment := self.payment) is not None:
            parts += (
                payment.provider,
                payment.reference,
                payment.status,
                payment.method,
                payment.installments,
            )
        return crypto.row_binding(*parts)


def rules_for(currency: str) -> pricing.Rules:
    """Return tax and shipping of a currency from the settings; a currency that is not named has neither."""
    shipping = settings.SHIPPING.get(currency, {})
    return pricing.Rules(
        settings.IVA_PPM.get(currency, 0), shipping.get("flat_minor", 0), shipping.get("free_from_minor"),
        charging.step_for(currency),
    )  # fmt: skip


def read(body: Any) -> OrderForm:
    """Return the order in a parsed JSON body. Raises `CardDataRefused` and `OrderInvalid`."""
    if place := cards.find(body):
        detail = FieldError(place, CardDataRefused.message, "card_data")
        raise CardDataRefused(details=[detail])
    if not isinstance(body, Mapping):
        raise OrderInvalid(details=[FieldError("body", _("The body must be a JSON object."), "object_type")])
    reader = _Reader(body)
    reader.only(_MEMBERS)
    currency = reader.currency()
    lines = _lines(reader, currency)
    buyer_id = reader.uuid("buyer_id", required=False)
    buyer_reference = reader.text("buyer_reference", 128, required=False)
    external_reference = reader.text("external_reference", 128, required=False) or None
    shipping = _address(reader)
    notes = reader.text("notes", 1000, required=False, multiline=True)
    payment = _payment(reader)
    reader.raise_if_wrong()
    price = pricing.price([(line.vendor_id, line.total) for line in lines], rules_for(currency))
    _compare_amounts(reader, price, currency)
    reader.raise_if_wrong()
    return OrderForm(
        buyer_id, buyer_reference, currency, external_reference, tuple(lines), shipping, notes, payment, price
    )


def _lines(reader: _Reader, currency: str) -> list[Line]:
    items = reader.body.get("items")
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_ITEMS:
        reader.wrong(
            "items", _("The order needs between 1 and %(most)d items.") % {"most": MAX_ITEMS}, "list_length"
        )
        return []
    lines = []
    for index, item in enumerate(items):
        if not isinstance(item, Mapping):
            reader.wrong(f"items -> {index}", _("An item must be a JSON object."), "object_type")
            continue
        line_reader = _Reader(item, f"{reader.path} -> items -> {index}", reader.errors)
        line_reader.only(_LINE_MEMBERS)
        line = Line(
            product_id=line_reader.text("product_id", 128),
            vendor_id=line_reader.uuid("vendor_id") or UUID(int=0),
            name=line_reader.text("name", 200, required=False),
            category=line_reader.text("category", 100, required=False),
            unit_price=line_reader.price("unit_price", currency),
            quantity=line_reader.whole("quantity", 1, MAX_QUANTITY),
        )
        for name in _LINE_AMOUNTS:
            line_reader.equal(name, line.total, currency)
        lines.append(line)
    if sum(line.total for line in lines) > money.MAX_MINOR // 4:
        reader.wrong("items", _("The order is larger than what is accepted."), "amount_too_large")
    return lines


def _address(reader: _Reader) -> dict[str, str]:
    address = {
        name: reader.text(name, longest, required=required)
        for name, (longest, required) in SHIPPING_FIELDS.items()
    }
    country = reader.text("shipping_country", 2, required=False) or "CO"
    if not _COUNTRY.fullmatch(country):
        reader.wrong("shipping_country", _("The country must be two capital letters."), "value_error")
    return address | {"shipping_country": country}


def _payment(reader: _Reader) -> Payment | None:
    payment = reader.body.get("payment")
    if payment is None:
        return None
    if not isinstance(payment, Mapping):
        reader.wrong("payment", _("The payment must be a JSON object."), "object_type")
        return None
    inner = _Reader(payment, f"{reader.path} -> payment", reader.errors)
    inner.only(_PAYMENT_MEMBERS)
    return Payment(
        provider=inner.matching("provider", _CODE),
        reference=inner.text("reference", 128),
        status=inner.one_of("status", _PAYMENT_STATUSES),
        method=inner.text("method", 32, required=False),
        installments=inner.whole("installments", 1, 120) if "installments" in payment else 1,
    )


def _compare_amounts(reader: _Reader, price: pricing.Price, currency: str) -> None:
    ours = (price.subtotal, price.tax, price.shipping, 0, price.total, price.total)
    for name, amount in zip(_ORDER_AMOUNTS, ours, strict=True):
        reader.equal(name, amount, currency)
    payment = reader.body.get("payment")
    if isinstance(payment, Mapping):
        _Reader(payment, f"{reader.path} -> payment", reader.errors).equal("amount", price.total, currency)


class _Reader:
    """Reads members of one JSON object and collects what is wrong with them."""

    def __init__(
        self, body: Mapping[str, Any], path: str = "body", found: list[FieldError] | None = None
    ) -> None:
        self.body = body
        self.path = path
        self.errors: list[FieldError] = [] if found is None else found

    def wrong(self, name: str, message: Text, error_type: str) -> None:
        self.errors.append(FieldError(f"{self.path} -> {name}", message, error_type))

    def raise_if_wrong(self) -> None:
        if self.errors:
            raise OrderInvalid(details=self.errors[:50])

    def only(self, members: frozenset[str]) -> None:
        for name in self.body:
            if name not in members:
                shown = _CONTROL.sub("", name)[:64]
                self.wrong(shown, _("This field is not known here."), "extra_forbidden")

    def text(self, name: str, longest: int, *, required: bool = True, multiline: bool = False) -> str:
        value = self.body.get(name)
        if value is None or value == "":
            if required:
                self.wrong(name, _("This field is required."), "missing")
            return ""
        if type(value) is not str:  # a number literal is a subclass of str
            self.wrong(name, _("This must be a text."), "string_type")
            return ""
        if len(value) > longest:
            message = _("This text is longer than %(most)d characters.") % {"most": longest}
            self.wrong(name, message, "string_too_long")
            return ""
        if not value.strip() or _CONTROL.search(value.replace("\n", "") if multiline else value):
            self.wrong(name, _("This text has characters that are not accepted."), "string_invalid")
            return ""
        return value

    def matching(self, name: str, shape: re.Pattern[str]) -> str:
        value = self.text(name, 255)
        if value and not shape.fullmatch(value):
            message = _("This must be lower-case letters, digits, hyphens or underscores.")
            self.wrong(name, message, "string_pattern_mismatch")
        return value

    def one_of(self, name: str, known: frozenset[str]) -> str:
        value = self.text(name, 32)
        if value and value not in known:
            message = _("This must be one of: %(known)s.") % {"known": ", ".join(sorted(known))}
            self.wrong(name, message, "enum")
        return value

    def uuid(self, name: str, *, required: bool = True) -> UUID | None:
        value = self.text(name, 36, required=required)
        if not value:
            return None
        if not _UUID.fullmatch(value):
            self.wrong(name, _("This must be a UUID."), "uuid_parsing")
            return None
        return UUID(value)

    def whole(self, name: str, least: int, most: int) -> int:
        value = self.body.get(name)
        if value is None:
            self.wrong(name, _("This field is required."), "missing")
        elif type(value) is not int:
            self.wrong(name, _("This must be a whole number."), "int_type")
        elif not least <= value <= most:
            message = _("This must be between %(least)d and %(most)d.") % {"least": least, "most": most}
            self.wrong(name, message, "out_of_range")
        else:
            return value
        return least

    def currency(self) -> str:
        value = self.text("currency", 3)
        if value and value not in money.EXPONENTS:
            self.wrong("currency", _("This must be an ISO 4217 currency code."), "currency_unknown")
        return value if value in money.EXPONENTS else "COP"

    def price(self, name: str, currency: str) -> int:
        minor = self._amount(name, currency)
        if minor == 0:
            self.wrong(name, _("The price must be greater than zero."), "greater_than")
        if minor and money.on_increment(minor, charging.step_for(currency))[1]:
            self.wrong(name, _("This must be a whole amount, without decimals."), "amount_off_increment")
        return minor or 0

    def equal(self, name: str, ours: int, currency: str) -> None:
        """Refuse an amount that the client sent and that is not what we computed."""
        if self.body.get(name) is None:
            return
        minor = self._amount(name, currency)
        if minor is not None and minor != ours:
            message = _("This amount is not the one that was computed: %(ours)s.")
            self.wrong(name, message % {"ours": money.text_of(ours, currency)}, "amount_mismatch")

    def _amount(self, name: str, currency: str) -> int | None:
        value = self.body.get(name)
        if value is None:
            self.wrong(name, _("This field is required."), "missing")
            return None
        try:
            return money.parse(value, currency).minor
        except MoneyError as error:
            message = _(
                "This must be an amount in plain digits, with no more decimals than its currency has."
            )
            self.wrong(name, message, error.code)
            return None
