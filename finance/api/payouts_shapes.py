"""What bodies about payouts say, and how a payout is told. Amounts are strings with their currency."""

from __future__ import annotations

from typing import Any

from django.core.validators import RegexValidator
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError

from finance import payout_reads
from finance.api import fields
from finance.models import Payout, PayoutApproval, PayoutChange
from finance.money import MAX_MINOR, Money, MoneyError, exponent, parse
from finance.payout_screening import FOUND
from mestore.lib.shapes import Text

_LINES = RegexValidator(
    r"\A[^<>\x00-\x09\x0b-\x1f\x7f]*\Z", _("This holds characters that are not allowed."), "malicious"
)
_HASH = RegexValidator(r"\A[0-9a-f]{64}\Z", _("This must be a SHA-256 digest in hexadecimal."), "digest")


@extend_schema_field(fields.AMOUNT)
class Amount(serializers.Field[Any, Any, Any, Any]):
    """An amount as it was sent: a string or the digits of a JSON number, never through a float."""

    def to_internal_value(self, data: Any) -> str:
        if type(data) is int:
            data = str(data) if abs(data) <= MAX_MINOR else ""
        if not isinstance(data, str) or len(data) > 32:
            message = _("The amount must be a string or a plain number.")
            raise ValidationError(message, "amount_invalid")
        return str(data)

    def to_representation(self, value: Any) -> Any:
        return value


class PayoutRequest(serializers.Serializer[Any]):
    """A payout to one of the own bank accounts."""

    amount = Amount()
    currency = Text(max_length=3)
    bank_account_id = serializers.UUIDField()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Read the amount in its currency."""
        return {**attrs, "money": money(attrs["amount"], attrs["currency"])}


class PayoutDecisionRequest(serializers.Serializer[Any]):
    """Why, and what was seen: `content_hash` of the detail, so that nobody agrees to something else."""

    reason = Text(max_length=500, validators=[_LINES], required=False, allow_blank=True, default="")
    content_hash = Text(max_length=64, validators=[_HASH], required=False, default="")


class PayoutRejectRequest(serializers.Serializer[Any]):
    """Why not; the vendor reads it."""

    reason = Text(min_length=10, max_length=500, validators=[_LINES])


class PayoutCancelRequest(serializers.Serializer[Any]):
    """Why, if the vendor says so."""

    reason = Text(max_length=500, validators=[_LINES], required=False, allow_blank=True, default="")


def money(text: str, currency: str, field: str = "amount") -> Money:
    """Read an amount; a wrong one is named by its field."""
    try:
        exponent(currency)
    except MoneyError as refused:
        raise _wrong("currency", refused) from refused
    try:
        return parse(text, currency)
    except MoneyError as refused:
        raise _wrong(field, refused) from refused


def _wrong(field: str, refused: MoneyError) -> ValidationError:
    return ValidationError({field: [ErrorDetail(str(refused), refused.code)]})


def payout(row: Payout) -> dict[str, Any]:
    """One payout, as its vendor may read it: what screening found is not told."""
    account = row.bank_account
    return {
        "id": row.pk, "payout_number": row.payout_number, "vendor_id": row.vendor_id,
        "amount": row.amount.text, "currency": row.currency, "state": row.state,
        "reason": None if row.state_reason.startswith(FOUND) else row.state_reason or None,
        "bank_account": {"id": account.pk, "bank_name": account.bank_name, "last_four": account.last_four},
        "requested_at": row.requested_at, "expires_at": row.expires_at, "approved_at": row.approved_at,
        "submitted_at": row.submitted_at, "paid_at": row.paid_at, "closed_at": row.closed_at,
    }  # fmt: skip


def for_staff(row: Payout, *, missing: int) -> dict[str, Any]:
    """One payout, as who decides about it reads it."""
    return {
        **payout(row), "reason": row.state_reason or None, "origin": row.origin,
        "content_hash": bytes(row.content_hash).hex(), "requested_by": row.requested_by,
        "approvals_needed": row.approvals_needed, "needs_lead": row.needs_lead, "approvals_missing": missing,
        "observations": row.observations or None, "bank_reference": row.provider_reference or None,
    }  # fmt: skip


def change(row: PayoutChange, *, staff: bool) -> dict[str, Any]:
    """One step of a payout."""
    is_found = row.reason.startswith(FOUND)
    return {
        "before": row.before or None, "after": row.after, "changed_at": row.changed_at,
        "reason": None if is_found and not staff else row.reason or None,
        **({"changed_by": row.changed_by} if staff else {}),
    }  # fmt: skip


def approval(row: PayoutApproval) -> dict[str, Any]:
    """Who agreed, when and as what."""
    return {"approver_id": row.approver_id, "approver": row.approver.email, "as_lead": row.as_lead,
            "approved_at": row.approved_at, "reason": row.reason or None}  # fmt: skip


def old_change(row: PayoutChange, *, reader_id: str) -> dict[str, Any]:
    """One change in the words of the first system."""
    return {
        "id": row.pk, "payout_request_id": row.payout_id,
        "estado_anterior": payout_reads.legacy_word(row.before) or None,
        "estado_nuevo": payout_reads.legacy_word(row.after), "fecha_cambio": row.changed_at,
        "observaciones": None if row.reason.startswith(FOUND) else row.reason or None,
        "usuario_responsable": row.changed_by if row.changed_by == reader_id else "MeStore",
    }  # fmt: skip
