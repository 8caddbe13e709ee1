"""Reads what is needed to explain a commission."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import simplejson
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from finance import charging, commission_explanation, selectors
from finance.commission_explanation import Explanation
from finance.models import Commission, CommissionRule
from mestore.lib import errors


class NoTerms(errors.NotFound):
    message = _("The terms of this commission were not kept: it is older than the rules.")


@dataclass(frozen=True, slots=True)
class Explained:
    """A commission and how it came about. `agrees`: terms, hash and amounts are those of the commission."""

    commission: Commission
    told: Explanation
    agrees: bool


def explain(commission_id: UUID, *, reader: User) -> Explained:
    """Explain one commission. Raises `NoTerms` and what `selectors.commission` raises."""
    return of(selectors.commission(commission_id, reader=reader))


def of(row: Commission) -> Explained:
    """Explain a commission that was read. Raises `NoTerms` where its terms were not kept."""
    if not row.rule_snapshot:
        raise NoTerms
    kept: Mapping[str, Any] = simplejson.loads(row.rule_snapshot)
    wanted = {rule_id for group in kept["groups"] for rule_id in group["considered"]}
    rules = {
        str(found.pk): charging.rule_of(found) for found in CommissionRule.objects.filter(pk__in=wanted)
    }  # fmt: skip
    told = commission_explanation.explain(kept, currency=row.currency, rules=rules)
    agrees = (
        told.agrees
        and told.commission == row.commission_amount_minor
        and bytes(row.rule_hash or b"") == charging.snapshot_hash(row.rule_snapshot)
        and kept["fee_tax_minor"] == row.fee_tax_minor
        and sum(part["minor"] for part in kept["withheld"]) == row.withheld_minor
    )
    return Explained(row, told, agrees)
