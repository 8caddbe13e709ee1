"""Commission rules and commissions in the console: proposing, a second person, previews, explanations."""

from __future__ import annotations

import datetime as dt
import html
import re
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from accounts.models import User
from finance import charging, orders, rule_changes, rule_preview
from finance.commission_rules import Rule
from finance.models import Commission, CommissionRule
from mestore.lib.ids import uuid7
from sessions_security.models import StepUpProof
from tests.console import house
from tests.console.test_pages import STATEMENTS, _statements
from tests.factories.accounts import VendorFactory
from tests.factories.finance import CommissionFactory
from tests.finance.conftest import ADDRESS, MACHINE, form, item, payment
from tests.finance.test_rule_changes import EVA, in_force, propose

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
RULES, COMMISSIONS = "/admin/finance/commissionrule/", "/admin/finance/commission/"
CONFIGURING, APPROVING = "commissions.configure.global", "commissions.approve.global"
REASON = "agreed with the vendor in writing"
TYPED = {
    "name": "Shoes", "currency": "cop", "category": "shoes", "priority": "3", "kind": "CATEGORY_BASED",
    "rate": "12.345", "fixed": "1.50", "floor": "2", "cap": "9000", "tiers": "5000000 4.5\n20000000 3",
    "reason": REASON,
}  # fmt: skip


def text(answer: Any) -> str:
    return html.unescape(re.sub(r"\s+", " ", answer.content.decode()))


def post(visitor: house.Visitor, path: str, data: dict[str, Any]) -> Any:
    return visitor.client.post(path, data, headers={"Accept-Language": "en"})


def get(visitor: house.Visitor, path: str) -> Any:
    return visitor.client.get(path, headers={"Accept-Language": "en"})


def sell(*items: dict[str, Any], **changes: Any) -> None:
    body = {"currency": "COP", "items": list(items), "payment": payment(), **ADDRESS, **changes}
    orders.place(form(body), key=str(uuid4()), by=MACHINE)


# Who may


def test_who_may_only_look_proposes_and_decides_nothing() -> None:
    visitor, row = house.visitor(), propose()

    assert get(visitor, f"{RULES}{row.pk}/change/").status_code == 200
    assert get(visitor, f"{RULES}propose/").status_code == 403
    assert post(visitor, f"{RULES}propose/", TYPED).status_code == 403
    for action in ("approve", "end", "withdraw"):
        sent = {"action": action, "pk": str(row.pk), "reason": REASON}
        assert post(visitor, f"{RULES}do/", sent).status_code == 403
    row.refresh_from_db()
    assert row.status == "PROPOSED"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("currency", "XXX"), ("vendor", "nobody@example.com"),
        ("vendor", "00000000-0000-4000-8000-000000000001"), ("rate", "100.0001"),
        ("rate", "1e1"), ("rate", "-1"), ("rate", "１"), ("rate", "1.23456"), ("fixed", "1.005"),
        ("cap", "1"),
        ("tiers", "5000000"), ("tiers", "2 1\n1 1"), ("tiers", "x 1"), ("starts", "2020-01-01T00:00"),
        ("ends", "2020-01-01T00:00"), ("name", ""), ("priority", "40000"), ("kind", "FREE"),
        ("reason", "short"),
    ],
)  # fmt: skip
def test_what_was_typed_wrongly_is_said_at_its_field(field: str, value: str) -> None:
    visitor = house.visitor(permissions=(CONFIGURING,))

    answer = post(visitor, f"{RULES}propose/", TYPED | {field: value})

    assert answer.status_code == 400
    assert list(answer.context["form"].errors) == [field]
    assert not CommissionRule.objects.exists()


def test_one_proposes_and_another_approves_with_a_fresh_factor() -> None:
    maker = house.visitor(permissions=(CONFIGURING, APPROVING))
    checker = house.visitor(permissions=(APPROVING,))

    answer = post(maker, f"{RULES}propose/", TYPED)

    row = CommissionRule.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, f"{RULES}{row.pk}/change/")
    assert (row.rate_ppm, row.fixed_minor, row.floor_minor, row.cap_minor) == (123_450, 150, 200, 900_000)
    assert (row.tiers, row.currency) == ([[500_000_000, 45_000], [2_000_000_000, 30_000]], "COP")
    decide = {"action": "approve", "pk": str(row.pk), "reason": REASON}
    own = post(maker, f"{RULES}do/", decide)
    assert (own.status_code, "Another person approves" in text(own)) == (409, True)
    proofs = StepUpProof.objects.filter(session__user=checker.user)
    kept = list(proofs)
    proofs.delete()
    assert post(checker, f"{RULES}do/", decide)["Location"].split("?")[0] == "/admin/confirm/"
    StepUpProof.objects.bulk_create(kept)
    assert post(checker, f"{RULES}do/", decide).status_code == 302
    row.refresh_from_db()
    assert (row.status, row.proposed_by, row.approved_by) == ("ACTIVE", maker.user.pk, checker.user.pk)


def test_an_overlap_is_said_with_the_name_of_the_other_rule() -> None:
    in_force(name="the old one")
    row = propose(name="the new one")
    checker = house.visitor(permissions=(APPROVING,))

    answer = post(checker, f"{RULES}do/", {"action": "approve", "pk": str(row.pk), "reason": REASON})

    assert answer.status_code == 409
    assert "the old one" in text(answer)


def test_a_rule_is_ended_or_withdrawn() -> None:
    running, waiting = in_force(), propose(category="c")
    visitor = house.visitor(permissions=(CONFIGURING,))

    ended = post(visitor, f"{RULES}do/", {"action": "end", "pk": str(running.pk), "reason": REASON})
    gone = post(visitor, f"{RULES}do/", {"action": "withdraw", "pk": str(waiting.pk), "reason": REASON})

    assert (ended.status_code, gone.status_code) == (302, 302)
    running.refresh_from_db()
    waiting.refresh_from_db()
    assert running.valid.upper <= timezone.now()
    assert waiting.status == "WITHDRAWN"
    assert "ended" in text(get(visitor, f"{RULES}{running.pk}/change/"))


# Previews


def last_month(vendor: User, minor: int, **values: Any) -> Commission:
    _first, began = charging.month_of(timezone.now())
    moment = began - dt.timedelta(days=3)
    order_of = house.sale(vendor, moment, total=minor)
    Commission.objects.filter(order=order_of).delete()
    return CommissionFactory.create(
        order=order_of, vendor=vendor, order_amount_minor=minor, commission_amount_minor=minor // 20,
        calculated_at=moment, **values,
    )  # fmt: skip


def candidate(**terms: Any) -> Rule:
    return Rule(uuid7(), "candidate", "COP", terms.pop("rate_ppm", 100_000), **terms)


def test_a_preview_takes_the_lines_it_would_have_won() -> None:
    one, other = VendorFactory.create(), VendorFactory.create()
    for vendor, minor in ((one, 10_000), (one, 20_000), (other, 40_000)):
        last_month(vendor, minor)

    every = rule_preview.of(candidate())
    own = rule_preview.of(candidate(vendor=one.pk, tiers=((10_000, 0),)))
    none = rule_preview.of(candidate(product="nothing"))

    assert (every.read, every.affected.sales, every.affected.before, every.affected.after) == (
        3,
        3,
        3_500,
        7_000,
    )
    assert [(pk, effect.difference) for pk, effect in every.vendors] == [(other.pk, 2_000), (one.pk, 1_500)]
    assert (own.read, own.affected.before, own.affected.after) == (2, 1_500, 1_000)
    assert (none.read, none.affected.sales, none.vendors) == (3, 0, [])
    assert not every.is_partial


def test_a_preview_respects_what_goes_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = VendorFactory.create()
    in_force(name="high", rate_ppm=200_000, priority=5, category="a")
    sell(item(vendor.pk, "100", category="a"), item(vendor.pk, "100", category="b"))
    _first, began = charging.month_of(timezone.now())
    following = (began + dt.timedelta(days=32)).replace(day=1)

    low = rule_preview.of(candidate(), today=following)
    high = rule_preview.of(candidate(priority=9), today=following)

    assert (low.affected.before, low.affected.after) == (2_500, 3_000)
    assert (high.affected.before, high.affected.after) == (2_500, 2_000)
    monkeypatch.setattr(rule_preview, "MOST_SALES", 1)
    sell(item(vendor.pk, "100"))
    cut = rule_preview.of(candidate(), today=following)
    assert (cut.read, cut.is_partial) == (1, True)


def test_the_form_shows_a_preview_and_writes_nothing() -> None:
    vendor = VendorFactory.create()
    last_month(vendor, 10_000)
    visitor = house.visitor(permissions=(CONFIGURING,))

    answer = post(visitor, f"{RULES}propose/", TYPED | {"category": "", "tiers": "", "preview": "1"})

    assert answer.status_code == 200
    assert "Last month with this rule" in text(answer)
    assert not CommissionRule.objects.exists()
    stored = propose(rate_ppm=100_000)
    shown = text(get(visitor, f"{RULES}{stored.pk}/preview/"))
    assert "Vendors with the largest difference" in shown
    assert get(visitor, f"{RULES}{uuid4()}/preview/").status_code == 404


# Commissions


def test_commissions_are_approved_in_bulk_with_a_reason() -> None:
    vendor = VendorFactory.create()
    rows = [CommissionFactory.create(vendor=vendor) for _ in range(3)]
    paid = CommissionFactory.create(vendor=vendor, status="PAID")
    sent: dict[str, Any] = {
        "action": "approve",
        "pk": [str(row.pk) for row in (*rows, paid)],
        "reason": REASON,
    }
    looker, visitor = house.visitor(), house.visitor(permissions=(APPROVING,))

    assert post(looker, f"{COMMISSIONS}do/", sent).status_code == 403
    assert post(visitor, f"{COMMISSIONS}do/", sent | {"reason": ""}).status_code == 400
    assert post(visitor, f"{COMMISSIONS}do/", sent).status_code == 302

    found = Commission.objects.filter(status="APPROVED")
    assert {row.pk for row in found} == {row.pk for row in rows}
    assert {(row.approved_by, row.admin_notes) for row in found} == {(visitor.user.pk, REASON)}


def test_the_page_of_a_commission_explains_it() -> None:
    vendor = VendorFactory.create()
    in_force(name="for all", rate_ppm=10_000)
    in_force(name="for you", vendor=vendor.pk, rate_ppm=123_450)
    sell(item(vendor.pk, "999.99"))
    visitor = house.visitor()
    path = f"{COMMISSIONS}{Commission.objects.get().pk}/change/"

    shown = text(get(visitor, path))

    assert "Charged by “for you”" in shown
    assert "12.345 % × 999.99 = 123.4487655" in shown
    assert "it names the vendor" in shown
    assert "it is what was charged" in shown
    assert _statements(visitor.client, path) <= STATEMENTS


def test_the_list_of_rules_stays_within_its_statements() -> None:
    vendor = VendorFactory.create()
    for number in range(5):
        rule_changes.approve(propose(vendor=vendor.pk, product=str(number)).pk, by=EVA)
    visitor = house.visitor()

    assert _statements(visitor.client, RULES) <= STATEMENTS
