"""What bodies about commissions say, and how an explanation is told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from finance import commission_rules, commissions
from finance.api import fields
from finance.commission_explain import Explained
from finance.commission_explanation import GroupExplanation, Step
from finance.money import text_of
from finance.states import CommissionType
from mestore.lib.shapes import Text

_RATE: Final = re.compile(r"(0|1)(\.[0-9]{1,6})?", re.ASCII)
_BIGGEST_ID: Final = 2**63 - 1


@extend_schema_field(fields.RATE)
class Rate(serializers.Field[int, Any, Any, Any]):
    """A fraction of 1 as a string or a plain number, in parts per million; 0 is 0."""

    default_error_messages = {
        "invalid": _("This must be a number between 0 and 1, in plain digits, with at most six decimals.")
    }

    def to_internal_value(self, data: Any) -> int:
        """Read it digit by digit: no float ever sees it."""
        text = str(data) if isinstance(data, str) or type(data) is int else ""
        if not _RATE.fullmatch(text) or Decimal(text) > 1:
            self.fail("invalid")
        return commissions.rate_ppm_of(Decimal(text))

    def to_representation(self, value: Any) -> Any:
        """Never written."""
        return value


class CalculateRequest(serializers.Serializer[Any]):
    """Which commission to calculate."""

    order_id = serializers.IntegerField(min_value=1, max_value=_BIGGEST_ID)
    commission_type = serializers.ChoiceField(
        [kind.value for kind in CommissionType], default=CommissionType.STANDARD.value
    )
    custom_rate = Rate(required=False, allow_null=True)
    vendor_id = serializers.UUIDField(required=False, allow_null=True)


class ApproveRequest(serializers.Serializer[Any]):
    """What the approver notes."""

    notes = Text(required=False, allow_blank=True, allow_null=True, max_length=commissions.LONGEST_NOTES)


def explanation(found: Explained) -> Mapping[str, Any]:
    """A commission step by step. Amounts are texts."""
    row, told = found.commission, found.told

    def text(minor: int) -> str:
        return text_of(minor, row.currency)

    return {
        "commission_id": row.pk, "commission_number": row.commission_number, "order_id": row.order_id,
        "vendor_id": row.vendor_id, "currency": row.currency, "base": told.base, "rounding": told.rounding,
        "given_by": told.by_hand or None, "calculated_at": row.calculated_at,
        "groups": [_group(group, row.currency) for group in told.groups],
        "commission_amount": text(told.commission),
        "deductions": [_step(step, row.currency) for step in told.deductions],
        "vendor_amount": text(row.vendor_amount_minor), "terms_hash": bytes(row.rule_hash or b"").hex(),
        "agrees": found.agrees,
    }  # fmt: skip


def _group(group: GroupExplanation, currency: str) -> Mapping[str, Any]:
    return {
        "rule": commission_rules.terms(group.rule), "rule_hash": group.rule_hash, "why": group.why,
        "considered": [
            {"rule": commission_rules.terms(rival.rule), "lost_by": rival.why} for rival in group.rivals
        ],
        "sold_before": None if group.volume is None else text_of(group.volume, currency),
        "lines": [
            {
                "line": number, "goods": text_of(goods, currency), "base": text_of(base, currency),
                "commission": text_of(share, currency),
            }
            for number, goods, base, share in group.lines
        ],
        "steps": [_step(step, currency) for step in group.steps],
        "commission_amount": text_of(group.minor, currency), "agrees": group.agrees,
    }  # fmt: skip


def _step(step: Step, currency: str) -> Mapping[str, str]:
    return {"step": step.name, "figures": step.figures, "amount": text_of(step.minor, currency)}
