"""The life of a commission rule: proposed by one person, approved by another, ended or withdrawn.

Terms never change: another rule takes a rule's place from a moment on. That the approver is somebody else,
that rules of one scope do not overlap and that an end lies ahead are the database's own; here they get names.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from accounts.roles import Role
from finance import charging, commission_rules, money, transactions
from finance.commission_rules import Rule
from finance.models import CommissionRule
from finance.states import CommissionType, RuleStatus
from mestore.lib import errors, ids, sql
from mestore.lib.actor import Actor
from mestore.lib.errors import FieldError
from monitoring import audit, events

#: How far back a beginning may lie when it is proposed: the time it takes to fill in the form.
_GRACE: Final = dt.timedelta(minutes=5)

_MESSAGES: Final = {
    "rate_invalid": _("A rate is between 0 and 100 %."),
    "amount_invalid": _("The amount must be plain digits, not below zero, and not larger than accepted."),
    "amount_off_increment": _("This must be a whole amount, without decimals."),
    "cap_below_floor": _("The cap is below the floor."),
    "tiers_too_many": _("A rule has at most 10 tiers."),
    "tiers_not_rising": _("The tiers must rise from one to the next."),
}
_LENGTHS: Final = {"name": 100, "category": 100, "product": 128, "order": 128}
_OVERLAPPING = """
SELECT r.name, r.id FROM finance_commissionrule r
JOIN finance_commissionrule n ON n.id = %s AND r.id <> n.id AND r.currency = n.currency
 AND r.vendor_id IS NOT DISTINCT FROM n.vendor_id AND r.category = n.category AND r.product_id = n.product_id
 AND r.order_reference = n.order_reference AND r.valid && n.valid
WHERE r.status = 'ACTIVE' ORDER BY r.valid LIMIT 1
"""
_END = """
UPDATE finance_commissionrule r
SET valid = tstzrange(lower(r.valid), e.at, '[)'), reason = %(reason)s, updated_at = now()
FROM (SELECT greatest(%(at)s::timestamptz, clock_timestamp()) AS at) e
WHERE r.id = %(id)s AND r.status = 'ACTIVE' AND lower(r.valid) < e.at
RETURNING upper(r.valid)
"""


class RuleUnknown(errors.NotFound):
    message = _("There is no such rule.")


class RuleInvalid(errors.Unprocessable):
    """Some terms of the rule are wrong; `details` names each."""


class RuleDecided(errors.Conflict):
    message = _("This rule is not waiting for a decision any more.")


class RuleOver(errors.Conflict):
    message = _("The time of this rule has passed: propose it anew.")


class RuleInForce(errors.Conflict):
    message = _("This rule has begun: end it instead.")


class RuleNotInForce(errors.Conflict):
    message = _("Only a rule that has begun can be ended: withdraw one that has not.")


class EndRefused(errors.Conflict):
    message = _("A rule ends now or later, and not later than was said.")


class ProposedByYourself(errors.Forbidden):
    message = _("Another person approves what you proposed.")


class RulesOverlap(errors.Conflict):
    code = "COMMISSION_RULES_OVERLAP"
    message = _("Another rule of the same scope is in force at that time.")


@dataclass(frozen=True, slots=True)
class Proposal:
    """The terms of a rule to be, in minor units and parts per million. `ends` None is for ever."""

    name: str
    currency: str
    rate_ppm: int
    starts: dt.datetime
    ends: dt.datetime | None = None
    kind: str = CommissionType.STANDARD
    vendor: UUID | None = None
    category: str = ""
    product: str = ""
    order: str = ""
    priority: int = 0
    fixed: int = 0
    floor: int | None = None
    cap: int | None = None
    tiers: tuple[tuple[int, int], ...] = ()

    def rule(self, rule_id: UUID) -> Rule:
        """The rule that this would be."""
        return Rule(
            id=rule_id, name=self.name, currency=self.currency, rate_ppm=self.rate_ppm, kind=str(self.kind),
            vendor=self.vendor, category=self.category, product=self.product, order=self.order,
            priority=self.priority, fixed=self.fixed, floor=self.floor, cap=self.cap, tiers=self.tiers,
            starts=self.starts,
        )  # fmt: skip


def propose(proposal: Proposal, *, reason: str, by: Actor) -> CommissionRule:
    """Propose a rule; it is in force only when another person approved it. Raises `RuleInvalid`."""
    rule = proposal.rule(ids.uuid7())
    check(proposal, rule)
    with transaction.atomic():
        row = CommissionRule.objects.create(
            id=rule.id, name=rule.name, currency=rule.currency, vendor_id=rule.vendor,
            category=rule.category, product_id=rule.product, order_reference=rule.order,
            priority=rule.priority, commission_type=rule.kind, rate_ppm=rule.rate_ppm,
            fixed_minor=rule.fixed, floor_minor=rule.floor, cap_minor=rule.cap,
            tiers=[list(tier) for tier in rule.tiers], valid=DateTimeTZRange(proposal.starts, proposal.ends),
            status=RuleStatus.PROPOSED, rule_hash=commission_rules.rule_hash(rule), reason=reason,
            proposed_by=by.id,
        )  # fmt: skip
        _record(events.RULE_PROPOSED, row, reason, by)
    return row


def check(proposal: Proposal, rule: Rule) -> None:
    """Raise `RuleInvalid` with every term that is wrong."""
    wrong = [*_wrong_amounts(proposal, rule), *_wrong_texts(proposal)]
    checks: list[tuple[bool, str, errors.Text, str]] = [
        (not -32_768 <= proposal.priority <= 32_767, "priority", _("This must be a whole number."), "range"),
        (proposal.kind not in set(CommissionType), "kind", _("This is not one of the types."), "enum"),
        (proposal.starts < timezone.now() - _GRACE, "starts", _("A rule begins now or later."), "past"),
        (
            proposal.ends is not None and proposal.ends <= proposal.starts,
            "ends", _("The end comes after the beginning."), "ends_before_start",
        ),
        (not _is_vendor(proposal.vendor), "vendor", _("There is no such vendor."), "vendor_unknown"),
    ]  # fmt: skip
    wrong += [FieldError(f"body -> {field}", message, code) for bad, field, message, code in checks if bad]
    if wrong:
        raise RuleInvalid(details=wrong)


def _wrong_amounts(proposal: Proposal, rule: Rule) -> list[FieldError]:
    if proposal.currency not in money.EXPONENTS:
        message = _("This must be an ISO 4217 currency code.")
        return [FieldError("body -> currency", message, "currency_unknown")]
    found = commission_rules.problems(rule, step=charging.step_for(rule.currency))
    return [FieldError(f"body -> {field}", _MESSAGES[code], code) for field, code in found.items()]


def _wrong_texts(proposal: Proposal) -> list[FieldError]:
    message = _("This text has characters that are not accepted.")
    values = {field: str(getattr(proposal, field)) for field in _LENGTHS}
    return [
        FieldError(f"body -> {field}", message, "string_invalid")
        for field, value in values.items()
        if len(value) > _LENGTHS[field] or not value.isprintable() or (field == "name" and not value.strip())
    ]


def _is_vendor(vendor: UUID | None) -> bool:
    return vendor is None or User.objects.filter(pk=vendor, user_type=Role.VENDOR).exists()


def approve(rule_id: UUID, *, reason: str = "", by: Actor) -> CommissionRule:
    """Put a proposed rule in force, as a second person.

    Raises `RuleUnknown`, `RuleDecided`, `RuleOver`, `ProposedByYourself`, and `RulesOverlap` naming the rule
    that stands in the way.
    """
    try:
        return transactions.run(lambda: _approve(rule_id, reason, by))
    except IntegrityError as error:
        constraint = transactions.constraint_of(error)
        if constraint == "commission_rule_two_people":
            raise ProposedByYourself from error
        if constraint == "commission_rule_no_overlap":
            raise _overlap(rule_id) from error
        raise


def _approve(rule_id: UUID, reason: str, by: Actor) -> CommissionRule:
    row = _locked(rule_id)
    if row.status != RuleStatus.PROPOSED:
        raise RuleDecided
    if row.valid.upper is not None and row.valid.upper <= timezone.now():
        raise RuleOver
    row.status, row.approved_by, row.updated_at = RuleStatus.ACTIVE.value, _person(by), timezone.now()
    row.save(update_fields=["status", "approved_by", "updated_at"])
    _record(events.RULE_APPROVED, row, reason, by)
    return row


def find(rule_id: UUID) -> CommissionRule:
    """Return a rule as it is. Raises `RuleUnknown`."""
    row = CommissionRule.objects.filter(pk=rule_id).first()
    if row is None:
        raise RuleUnknown
    return row


def reject(rule_id: UUID, *, reason: str, by: Actor) -> CommissionRule:
    """Refuse a proposed rule, as who might have approved it. Raises `RuleUnknown` and `RuleDecided`."""
    with transaction.atomic():
        if _locked(rule_id).status != RuleStatus.PROPOSED:
            raise RuleDecided
        return withdraw(rule_id, reason=reason, by=by)


def withdraw(rule_id: UUID, *, reason: str, by: Actor) -> CommissionRule:
    """Take back a rule that has not begun. Raises `RuleUnknown`, `RuleDecided` and `RuleInForce`."""
    with transaction.atomic():
        row = _locked(rule_id)
        if row.status == RuleStatus.WITHDRAWN:
            raise RuleDecided
        if row.status == RuleStatus.ACTIVE and row.valid.lower <= timezone.now():
            raise RuleInForce
        row.status, row.reason, row.updated_at = RuleStatus.WITHDRAWN.value, reason, timezone.now()
        row.save(update_fields=["status", "reason", "updated_at"])
        _record(events.RULE_WITHDRAWN, row, reason, by)
    return row


def end(rule_id: UUID, *, reason: str, at: dt.datetime | None = None, by: Actor) -> CommissionRule:
    """End a rule in force at `at`, now without it. Sales of before keep what they were charged.

    Raises `RuleUnknown`, `RuleNotInForce` and `EndRefused`.
    """
    try:
        with transaction.atomic():
            if not sql.fetch_one(_END, {"id": rule_id, "at": at, "reason": reason}):
                raise RuleNotInForce if CommissionRule.objects.filter(pk=rule_id).exists() else RuleUnknown
            row = CommissionRule.objects.get(pk=rule_id)
            _record(events.RULE_ENDED, row, reason, by)
            return row
    except IntegrityError as error:
        if transactions.constraint_of(error) == "commission_rule_end":
            raise EndRefused from error
        raise


def _locked(rule_id: UUID) -> CommissionRule:
    row = CommissionRule.objects.select_for_update(no_key=True).filter(pk=rule_id).first()
    if row is None:
        raise RuleUnknown
    return row


def _overlap(rule_id: UUID) -> RulesOverlap:
    found = sql.fetch_one(_OVERLAPPING, [rule_id])
    if found is None:  # it ended in between: the same request works now
        return RulesOverlap()
    name, other = found
    message = _("The rule “%(name)s” (%(id)s) has the same scope and is in force at that time.")
    return RulesOverlap(message % {"name": name, "id": other}, extra={"rule_id": str(other)})


def _person(by: Actor) -> UUID | None:
    return None if by.id is None else UUID(by.id)


def _record(event: str, row: CommissionRule, reason: str, by: Actor) -> None:
    audit.record(
        event,
        by=by,
        target=("commission_rule", str(row.pk)),
        data={
            "name": row.name, "currency": row.currency, "status": str(row.status), "reason": reason,
            "terms_hash": bytes(row.rule_hash).hex(), "rate_ppm": row.rate_ppm,
            "starts": row.valid.lower, "ends": row.valid.upper,
        },
    )  # fmt: skip
