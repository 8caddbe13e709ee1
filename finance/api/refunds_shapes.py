"""Refunds as they are told: amounts are strings with their currency. And what bodies may say."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.api.shapes import lines, plain
from finance import money
from finance.api import fields
from finance.models import Refund, RefundPart
from finance.money import MoneyError, text_of
from finance.refund_outcomes import total_of
from mestore.lib import errors
from mestore.lib.errors import FieldError

MOST_ITEMS = 200
_WRONG = _("This must be an amount in plain digits, with no more decimals than its currency has.")


class AmountInvalid(errors.Unprocessable):
    """Some amounts or the currency are wrong; `details` names each."""


@extend_schema_field(fields.AMOUNT)
class RawAmount(serializers.Field):  # type: ignore[type-arg]  # not generic at run time
    """An amount as it was sent: a string, or the digits of a number. It is read with its currency."""

    def to_internal_value(self, data: Any) -> Any:
        if type(data) is not int and not isinstance(data, str):
            raise serializers.ValidationError(_WRONG, code="amount_invalid")
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class RefundItemRequest(serializers.Serializer[Any]):
    """How much of a refund is for which item."""

    item_id = serializers.IntegerField(min_value=1)
    amount = RawAmount()


class RefundRequest(serializers.Serializer[Any]):
    """How much goes back, and why. `provider_reference` names a refund that the provider knows already."""

    amount = RawAmount()
    currency = serializers.RegexField(r"\A[A-Z]{3}\Z")
    reason = lines(500, min_length=1)
    items = RefundItemRequest(many=True, required=False, allow_null=True, default=None)
    provider = serializers.RegexField(
        r"\A[a-z0-9][a-z0-9_-]{0,31}\Z", required=False, allow_blank=True, default=""
    )
    provider_reference = plain(128, required=False, allow_null=True, allow_blank=False, default=None)


class RefundPaidRequest(serializers.Serializer[Any]):
    """The provider's own id of the refund; without a provider, that of the payment."""

    provider = serializers.RegexField(
        r"\A[a-z0-9][a-z0-9_-]{0,31}\Z", required=False, allow_blank=True, default=""
    )
    provider_reference = plain(128)


class RefundFailedRequest(serializers.Serializer[Any]):
    """Why the provider gave it up."""

    failure = lines(500, min_length=1)


def amounts(given: dict[str, Any]) -> tuple[int, list[tuple[int, int]]]:
    """Return amount and items in minor units. Raises `AmountInvalid`, which names each wrong one."""
    wrong: list[FieldError] = []
    currency = given["currency"]
    if currency not in money.EXPONENTS:
        detail = FieldError(
            "body -> currency", _("This must be an ISO 4217 currency code."), "currency_unknown"
        )
        raise AmountInvalid(details=[detail])
    items = given["items"] or []
    if len(items) > MOST_ITEMS:
        wrong.append(FieldError("body -> items", _("These are too many items."), "list_length"))

    def minor(value: Any, field: str) -> int:
        try:
            found = money.parse(value, currency).minor
        except MoneyError as error:
            wrong.append(FieldError(field, _WRONG, error.code))
            return 0
        if found == 0:
            wrong.append(FieldError(field, _("This must be greater than zero."), "greater_than"))
        return found

    amount = minor(given["amount"], "body -> amount")
    pairs = [
        (item["item_id"], minor(item["amount"], f"body -> items -> {number} -> amount"))
        for number, item in enumerate(items[:MOST_ITEMS])
    ]
    if wrong:
        raise AmountInvalid(details=wrong[:50])
    return amount, pairs


def refund(row: Refund) -> dict[str, Any]:
    """One refund with what each vendor's sale gives."""
    return {
        "id": row.pk, "refund_number": row.refund_number, "order_id": row.order_id,
        "order_number": row.order.order_number, "status": row.status, "amount": row.amount.text,
        "currency": row.currency, "reason": row.reason, "provider": row.provider or None,
        "provider_reference": row.provider_reference, "failure": row.failure or None,
        "created_at": row.created_at, "paid_at": row.paid_at,
        "parts": [_part(part, row.currency) for part in row.parts.all()],
    }  # fmt: skip


def _part(part: RefundPart, currency: str) -> dict[str, Any]:
    def text(minor: int) -> str:
        return text_of(minor, currency)

    return {
        "vendor_id": part.vendor_id, "amount": text(total_of(part)), "goods": text(part.goods_minor),
        "tax": text(part.tax_minor), "shipping": text(part.shipping_minor),
        "commission_reversed": text(part.commission_minor), "fee_tax_reversed": text(part.fee_tax_minor),
        "withheld_reversed": text(part.withheld_minor), "owed_by_vendor": text(part.owed_minor),
        "entry_id": part.entry_id,
    }  # fmt: skip


def refund_for_buyer(row: Refund) -> dict[str, Any]:
    """The same without what is between us and the vendors."""
    return {name: value for name, value in refund(row).items() if name != "parts"}
