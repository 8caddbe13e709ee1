"""What bodies about commission rules say, and how a rule and its preview are told. Amounts are strings."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.validators import RegexValidator
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from finance import commission_rules
from finance.api.commissions_shapes import Rate
from finance.api.payouts_shapes import Amount, money
from finance.models import CommissionRule
from finance.money import text_of
from finance.rule_changes import Proposal
from finance.rule_preview import Effect, Preview
from finance.states import CommissionType
from mestore.lib.shapes import Text

_LINES = RegexValidator(
    r"\A[^<>\x00-\x09\x0b-\x1f\x7f]*\Z", _("This holds characters that are not allowed."), "malicious"
)
_BUSINESS: Final = ZoneInfo(settings.BUSINESS_TIME_ZONE)


def _reason() -> Text:
    return Text(min_length=10, max_length=500, validators=[_LINES])


class RuleTierRequest(serializers.Serializer[Any]):
    """From so much sold before in the month on, another rate."""

    sold_from = Amount()
    rate = Rate()


class RuleTermsRequest(serializers.Serializer[Any]):
    """The terms of a rule to be. What it does not name it holds for; without `starts` it begins at once."""

    name = Text(max_length=100)
    currency = Text(max_length=3)
    rate = Rate()
    commission_type = serializers.ChoiceField(
        [kind.value for kind in CommissionType], default=CommissionType.STANDARD.value
    )
    vendor_id = serializers.UUIDField(required=False, allow_null=True, default=None)
    category = Text(max_length=100, required=False, allow_blank=True, default="")
    product_id = Text(max_length=128, required=False, allow_blank=True, default="")
    order_reference = Text(max_length=128, required=False, allow_blank=True, default="")
    priority = serializers.IntegerField(min_value=-32_768, max_value=32_767, default=0)
    fixed = Amount(required=False, default="0")
    floor = Amount(required=False, allow_null=True, default=None)
    cap = Amount(required=False, allow_null=True, default=None)
    tiers = serializers.ListField(
        child=RuleTierRequest(), required=False, default=list, max_length=commission_rules.MAX_TIERS
    )
    starts = serializers.DateTimeField(
        required=False, allow_null=True, default=None, default_timezone=_BUSINESS
    )
    ends = serializers.DateTimeField(
        required=False, allow_null=True, default=None, default_timezone=_BUSINESS
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Read the amounts in their currency."""
        code = attrs["currency"]
        fixed, *bounds = (
            None if attrs[name] is None else money(attrs[name], code, name).minor
            for name in ("fixed", "floor", "cap")
        )
        tiers = tuple(
            (money(tier["sold_from"], code, "tiers").minor, tier["rate"]) for tier in attrs["tiers"]
        )
        terms = Proposal(
            name=attrs["name"], currency=code, rate_ppm=attrs["rate"],
            starts=attrs["starts"] or timezone.now(), ends=attrs["ends"], kind=attrs["commission_type"],
            vendor=attrs["vendor_id"], category=attrs["category"], product=attrs["product_id"],
            order=attrs["order_reference"], priority=attrs["priority"], fixed=fixed or 0, floor=bounds[0],
            cap=bounds[1], tiers=tiers,
        )  # fmt: skip
        return {**attrs, "proposal": terms}


class RuleProposalRequest(RuleTermsRequest):
    """A rule to be, and why."""

    reason = _reason()


class RuleDecisionRequest(serializers.Serializer[Any]):
    """Why it was decided so."""

    reason = _reason()


class RuleEndRequest(RuleDecisionRequest):
    """Why a rule ends, and when: at once without a moment."""

    at = serializers.DateTimeField(required=False, allow_null=True, default=None, default_timezone=_BUSINESS)


def rule(row: CommissionRule) -> Mapping[str, Any]:
    """One rule with its terms and the people behind it."""

    def amount(minor: int | None) -> str | None:
        return None if minor is None else text_of(minor, row.currency)

    return {
        "id": row.pk, "name": row.name, "status": row.status, "currency": row.currency,
        "commission_type": row.commission_type, "rate": _rate(row.rate_ppm),
        "vendor_id": row.vendor_id, "category": row.category or None, "product_id": row.product_id or None,
        "order_reference": row.order_reference or None, "priority": row.priority,
        "fixed": amount(row.fixed_minor), "floor": amount(row.floor_minor), "cap": amount(row.cap_minor),
        "tiers": [
            {"sold_from": amount(int(sold)), "rate": _rate(int(rate))}
            for sold, rate in row.tiers
        ],
        "starts": row.valid.lower, "ends": row.valid.upper, "terms_hash": bytes(row.rule_hash).hex(),
        "reason": row.reason or None, "proposed_by": row.proposed_by, "approved_by": row.approved_by,
        "created_at": row.created_at, "updated_at": row.updated_at,
    }  # fmt: skip


def _rate(ppm: int) -> str:
    """A rate as a fraction of 1, as it is sent: 0.12345."""
    return f"{Decimal(ppm).scaleb(-6).normalize():f}"


def preview(found: Preview) -> Mapping[str, Any]:
    """What a rule would have done to last month's sales."""

    def effect(one: Effect) -> dict[str, Any]:
        return {
            "sales": one.sales, "commission_before": text_of(one.before, found.currency),
            "commission_after": text_of(one.after, found.currency),
            "difference": text_of(one.difference, found.currency),
        }  # fmt: skip

    return {
        "month": f"{found.month:%Y-%m}", "currency": found.currency, "sales_read": found.read,
        "is_partial": found.is_partial, "affected": effect(found.affected),
        "vendors": [{"vendor_id": pk, **effect(one)} for pk, one in found.vendors],
    }  # fmt: skip
