"""The life of a rule, what sales are charged by it, and what stands in the way."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from finance import charging, commission_rules, commissions, ledger, orders, rule_changes, sales, transactions
from finance.models import Commission, CommissionRule, Order, OrderItem, VendorVolume
from finance.postings import TAX_PAYABLE_WITHHOLDING, VENDOR_PENDING
from finance.rule_changes import (
    EndRefused,
    Proposal,
    ProposedByYourself,
    RuleDecided,
    RuleInForce,
    RuleInvalid,
    RuleNotInForce,
    RulesOverlap,
    RuleUnknown,
)
from mestore.lib import sql
from mestore.lib.actor import Actor
from mestore.lib.errors import MeStoreError
from tests.factories.accounts import BuyerFactory, VendorFactory
from tests.finance.conftest import MACHINE, form, item, payment

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
Body = Callable[..., dict[str, Any]]
Race = Callable[[list[Callable[[], Any]]], list[Any]]
ANA, EVA = (Actor(kind="user", id=str(UUID(int=number)), role="ADMIN") for number in (11, 12))
WHY = "agreed with the vendor"


def propose(**terms: Any) -> CommissionRule:
    values: dict[str, Any] = {
        "name": "a rule",
        "currency": "COP",
        "rate_ppm": 123_450,
        "starts": timezone.now(),
    }
    return rule_changes.propose(Proposal(**(values | terms)), reason=WHY, by=ANA)


def in_force(**terms: Any) -> CommissionRule:
    return rule_changes.approve(propose(**terms).pk, by=EVA)


def place(body: dict[str, Any], key: str = "key-1") -> Order:
    answer = json.loads(orders.place(form(body), key=key, by=MACHINE).body)
    return Order.objects.get(pk=answer["data"]["id"])


@contextmanager
def refused_by(constraint: str) -> Iterator[None]:
    """Expect the database's own refusal, by the name that it gives."""
    with pytest.raises(IntegrityError) as refused, transaction.atomic():
        yield
    assert transactions.constraint_of(refused.value) == constraint


def types() -> list[str]:
    rows = sql.fetch_all("SELECT type FROM audit_event WHERE type LIKE 'commission%%' ORDER BY id")
    return [row[0] for row in rows]


# What is refused


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"rate_ppm": 1_000_001}, "rate"), ({"rate_ppm": -1}, "rate"), ({"currency": "XXX"}, "currency"),
        ({"fixed": -1}, "fixed"), ({"cap": 10**15 + 1}, "cap"), ({"floor": 2, "cap": 1}, "cap"),
        ({"tiers": ((5, 1), (5, 1))}, "tiers"), ({"name": " "}, "name"), ({"name": "x" * 101}, "name"),
        ({"name": "a\nb"}, "name"), ({"category": "x" * 101}, "category"), ({"product": "\x00"}, "product"),
        ({"order": "x" * 129}, "order"), ({"priority": 32_768}, "priority"), ({"kind": "FREE"}, "kind"),
        ({"starts": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)}, "starts"),
        ({"ends": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)}, "ends"), ({"vendor": uuid4()}, "vendor"),
    ],
)  # fmt: skip
def test_terms_that_are_none_are_refused_by_name(terms: dict[str, Any], field: str) -> None:
    with pytest.raises(RuleInvalid) as refused:
        propose(**terms)

    assert [detail.field for detail in refused.value.details or ()] == [f"body -> {field}"]
    assert not CommissionRule.objects.exists()


def test_a_rule_is_of_a_vendor_not_of_a_buyer() -> None:
    with pytest.raises(RuleInvalid):
        propose(vendor=BuyerFactory.create().pk)


def test_nobody_approves_their_own_proposal() -> None:
    proposed = propose()

    with pytest.raises(ProposedByYourself):
        rule_changes.approve(proposed.pk, by=ANA)

    proposed.refresh_from_db()
    assert (proposed.status, proposed.approved_by) == ("PROPOSED", None)
    assert types() == ["commission_rule.proposed"]


@pytest.mark.parametrize("approver", [None, ANA.id])
def test_the_database_refuses_one_person_too(approver: str | None) -> None:
    proposed = propose()

    with refused_by("commission_rule_two_people"):
        CommissionRule.objects.filter(pk=proposed.pk).update(status="ACTIVE", approved_by=approver)


def test_what_was_decided_is_decided_once() -> None:
    row = in_force()
    decisions: list[Callable[[], CommissionRule]] = [
        lambda: rule_changes.approve(row.pk, by=EVA),
        lambda: rule_changes.approve(uuid4(), by=EVA),
        lambda: rule_changes.withdraw(uuid4(), reason=WHY, by=ANA),
        lambda: rule_changes.end(uuid4(), reason=WHY, by=ANA),
        lambda: rule_changes.withdraw(row.pk, reason=WHY, by=ANA),
    ]
    for decide in decisions:
        with pytest.raises((RuleDecided, RuleUnknown, RuleInForce)):
            decide()

    assert types() == ["commission_rule.proposed", "commission_rule.approved"]


def test_overlapping_rules_of_one_scope_are_refused_by_name(vendor: User) -> None:  # T18
    first = in_force(vendor=vendor.pk, name="the first", priority=5)
    second = propose(vendor=vendor.pk, name="the second", starts=timezone.now() + dt.timedelta(days=30))

    with pytest.raises(RulesOverlap) as refused:
        rule_changes.approve(second.pk, by=EVA)

    assert refused.value.status == 409
    assert "the first" in str(refused.value.message)
    assert refused.value.extra == {"rule_id": str(first.pk)}
    with refused_by("commission_rule_no_overlap"):
        CommissionRule.objects.filter(pk=second.pk).update(status="ACTIVE", approved_by=EVA.id)


def test_another_scope_currency_or_time_is_no_overlap(vendor: User) -> None:
    until = timezone.now() + dt.timedelta(days=1)
    in_force(ends=until)
    for terms in (
        {"vendor": vendor.pk}, {"category": "c"}, {"product": "p"}, {"order": "o"}, {"currency": "USD"},
        {"starts": until},
    ):  # fmt: skip
        in_force(**terms)

    assert CommissionRule.objects.filter(status="ACTIVE").count() == 7


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_of_ten_rules_of_one_scope_one_is_approved(race: Race) -> None:
    proposed = [propose().pk for _ in range(10)]

    results = race([lambda pk=pk: rule_changes.approve(pk, by=EVA) for pk in proposed])  # type: ignore[misc]  # bound now

    assert sum(isinstance(result, CommissionRule) for result in results) == 1
    assert sum(isinstance(result, RulesOverlap) for result in results) == 9


def test_terms_never_change() -> None:
    row = in_force()
    for change in (
        {"rate_ppm": 1},
        {"name": "x"},
        {"priority": 9},
        {"tiers": [[1, 1]]},
        {"proposed_by": None},
    ):
        with refused_by("commission_rule_frozen"):
            CommissionRule.objects.filter(pk=row.pk).update(**change)


# Ends


def test_a_rule_ends_early_and_not_later() -> None:
    row = in_force(ends=timezone.now() + dt.timedelta(days=30))

    ended = rule_changes.end(row.pk, at=timezone.now() + dt.timedelta(days=3), reason=WHY, by=ANA)

    assert ended.valid.upper < row.valid.upper
    with pytest.raises(EndRefused):
        rule_changes.end(row.pk, at=timezone.now() + dt.timedelta(days=9), reason=WHY, by=ANA)
    assert types()[-1] == "commission_rule.ended"


def test_a_rule_that_has_not_begun_is_withdrawn() -> None:
    row = in_force(starts=timezone.now() + dt.timedelta(days=2))

    with pytest.raises(RuleNotInForce):
        rule_changes.end(row.pk, reason=WHY, by=ANA)
    gone = rule_changes.withdraw(row.pk, reason="changed our mind", by=ANA)

    assert (gone.status, gone.reason) == ("WITHDRAWN", "changed our mind")
    with pytest.raises(RuleDecided):
        rule_changes.withdraw(row.pk, reason=WHY, by=ANA)
    assert types()[-1] == "commission_rule.withdrawn"


# What sales are charged


def test_without_rules_the_contracts_rate_is_charged(order_body: Body) -> None:
    order = place(order_body())

    row, line = Commission.objects.get(), OrderItem.objects.get()
    default = charging.default_rule("COP")
    assert (row.rule_id, row.commission_type, row.rate_ppm, row.rounding) == (
        None,
        "STANDARD",
        50_000,
        "half_up",
    )
    assert bytes(row.rule_hash or b"") == charging.snapshot_hash(row.rule_snapshot)
    assert (line.commission_minor, line.rate_ppm, line.rounding) == (500_000, 50_000, "half_up")
    assert bytes(line.rule_hash or b"") == commission_rules.rule_hash(default)
    assert (row.fee_tax_minor, row.withheld_minor, order.status) == (95_000, 0, "confirmed")


def test_the_narrowest_rule_of_each_line_is_charged_once(order_body: Body, vendor: User) -> None:
    for_all = in_force(name="all", rate_ppm=100_000)
    for_shoes = in_force(name="shoes", rate_ppm=200_000, category="shoes", kind="CATEGORY_BASED")
    for_one = in_force(name="one", rate_ppm=10_000, product="sku-9", vendor=vendor.pk, fixed=100)
    lines = [
        item(vendor.pk, "14.29", category="shoes"), item(vendor.pk, "14.29", category="shoes"),
        item(vendor.pk, "14.29", category="hats"),
        item(vendor.pk, "14.29", category="shoes", product_id="sku-9"),
    ]  # fmt: skip

    place(order_body(items=lines))

    row = Commission.objects.get()
    assert row.order_amount_minor == 5_716
    assert row.commission_amount_minor == 572 + 143 + 114
    kept = OrderItem.objects.order_by("line").values_list("commission_minor", "rate_ppm", "rule_hash")
    assert [(minor, rate) for minor, rate, _hash in kept] == [
        (286, 200_000), (286, 200_000), (143, 100_000), (114, 10_000),
    ]  # fmt: skip
    by_hash = {bytes(one.rule_hash or b""): one.name for one in (for_all, for_shoes, for_one)}
    assert [by_hash[bytes(digest or b"")] for _minor, _rate, digest in kept] == [
        "shoes",
        "shoes",
        "all",
        "one",
    ]
    assert (row.rule_id, row.commission_type) == (None, "CATEGORY_BASED")
    assert ledger.check(signatures=True).is_balanced


def test_rules_count_while_they_are_valid_and_approved_only(order_body: Body, vendor: User) -> None:
    propose(rate_ppm=900_000)
    in_force(rate_ppm=800_000, currency="USD")
    in_force(rate_ppm=700_000, vendor=VendorFactory.create().pk)
    in_force(rate_ppm=600_000, starts=timezone.now() + dt.timedelta(days=1))
    past = in_force(rate_ppm=500_000, vendor=vendor.pk)
    rule_changes.end(past.pk, reason=WHY, by=ANA)

    place(order_body())

    assert Commission.objects.get().rate_ppm == 50_000


def test_an_order_of_its_own_rule(order_body: Body) -> None:
    row = in_force(order="cart-7", rate_ppm=0)

    place(order_body(external_reference="cart-7"))
    place(order_body(), key="key-2")

    assert list(Commission.objects.order_by("rate_ppm").values_list("rate_ppm", "rule_id")) == [
        (0, row.pk), (50_000, None),
    ]  # fmt: skip


def test_withholdings_are_transfers_of_their_own(order_body: Body, vendor: User, settings: Any) -> None:
    settings.WITHHOLDINGS = {
        "COP": [{"name": "retefuente", "ppm": 15_000}, {"name": "ReteICA", "ppm": 4_140}]
    }

    place(order_body())

    row = Commission.objects.get()
    assert row.withheld_minor == 150_000 + 41_400
    found = {balance.kind: balance.net for balance in ledger.balances(vendor.pk)}
    assert (found[TAX_PAYABLE_WITHHOLDING], found[VENDOR_PENDING]) == (191_400, 9_405_000 - 191_400)
    assert sql.fetch_one(
        "SELECT count(*) FROM ledger_transfer t JOIN ledger_account a ON a.book_id = t.book_id"
        " AND a.id = t.credit WHERE a.kind = 'tax_payable:withholding'"
    ) == (2,)


def test_whole_pesos_are_a_setting(order_body: Body, vendor: User, settings: Any) -> None:  # T04, T16
    settings.ROUNDING = {"COP": "half_up_whole"}
    in_force(rate_ppm=123_450)

    place(order_body(items=[item(vendor.pk, "49990")]))

    row = Commission.objects.get()
    assert (row.commission_amount_minor, row.fee_tax_minor) == (617_100, 117_200)
    assert (row.rounding, OrderItem.objects.get().rounding) == ("half_up_whole", "half_up_whole")
    with pytest.raises(MeStoreError) as refused:
        place(order_body(items=[item(vendor.pk, "999.99")]), key="key-2")
    assert [detail.error_type for detail in refused.value.details or ()] == ["amount_off_increment"]


def test_what_was_priced_with_centavos_is_charged_with_them(
    order_body: Body, vendor: User, settings: Any
) -> None:
    order = place(order_body(items=[item(vendor.pk, "999.99")], payment=...))
    settings.ROUNDING = {"COP": "half_up_whole"}

    confirm(order)

    row = Commission.objects.get()
    assert (row.commission_amount_minor, row.rounding) == (5_000, "half_up")


def test_an_edited_rule_leaves_what_was_charged(order_body: Body, vendor: User) -> None:  # T19
    first = in_force(rate_ppm=100_000)
    place(order_body())
    rule_changes.end(first.pk, reason=WHY, by=ANA)
    in_force(rate_ppm=200_000)
    place(order_body(), key="key-2")

    old, new = Commission.objects.order_by("commission_amount_minor")
    assert (old.rate_ppm, new.rate_ppm) == (100_000, 200_000)
    assert json.loads(old.rule_snapshot)["groups"][0]["rule"]["rate_ppm"] == 100_000
    for change in ({"rule_snapshot": "{}"}, {"rule_hash": b""}, {"rounding": ""}, {"fee_tax_minor": 0}):
        with refused_by("commission_terms_frozen"):
            Commission.objects.filter(pk=old.pk).update(**change)


# Sales that count later


def confirm(order: Order, by: Actor = MACHINE) -> list[charging.Earned]:
    with transaction.atomic():
        locked = Order.objects.select_for_update().get(pk=order.pk)
        locked.status, locked.confirmed_at = "confirmed", timezone.now()
        locked.save(update_fields=["status", "confirmed_at"])
        return sales.post_sale(locked, provider="testpay", at=locked.confirmed_at, by=by)


def test_a_pending_order_that_is_confirmed_costs_the_same(order_body: Body, vendor: User) -> None:
    other = VendorFactory.create()
    in_force(category="shoes", rate_ppm=77_777)
    lines = [
        item(vendor.pk, "10.01", category="shoes"),
        item(other.pk, "20.01", 3),
        item(vendor.pk, "30.03", 2),
    ]
    at_once = place(order_body(items=lines))
    later = place(order_body(items=lines, payment=...), key="key-2")

    confirm(later)

    def figures(order: Order) -> list[tuple[Any, ...]]:
        return [
            *order.commissions.order_by("vendor").values_list(
                "vendor", "order_amount_minor", "commission_amount_minor", "fee_tax_minor", "rate_ppm"
            ),
            *order.items.order_by("line").values_list(
                "commission_minor", "rate_ppm", "rule_hash", "rounding"
            ),
        ]

    def hashed(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        return [tuple(bytes(one) if isinstance(one, memoryview) else one for one in row) for row in rows]

    assert hashed(figures(at_once)) == hashed(figures(later))
    assert ledger.check(signatures=True).is_balanced
    with pytest.raises((ledger.AlreadyPosted, IntegrityError)), transaction.atomic():
        sales.post_sale(later, provider="testpay", at=timezone.now(), by=MACHINE)


def test_confirming_takes_five_statements(order_body: Body) -> None:
    order = place(order_body(payment=...))

    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        sales.post_sale(order, provider="testpay", at=timezone.now(), by=MACHINE)

    assert len(queries) == 5


# Tiers


def tiers(vendor: User, boundary: int = 100_000_000) -> CommissionRule:
    return in_force(vendor=vendor.pk, rate_ppm=100_000, tiers=((boundary, 50_000),))


def test_only_vendors_with_tiers_are_counted(order_body: Body, vendor: User) -> None:
    other = VendorFactory.create()
    place(order_body())
    tiers(vendor)

    place(order_body(items=[item(vendor.pk), item(other.pk)]), key="key-2")

    row = VendorVolume.objects.get()
    assert (row.vendor_id, row.currency, row.sold_minor) == (vendor.pk, "COP", 20_000_000)
    assert row.month == charging.month_of(timezone.now())[0]


def test_a_refused_or_unpaid_order_is_not_counted(order_body: Body, vendor: User) -> None:
    tiers(vendor)
    with pytest.raises(orders.VendorRefused):
        place(order_body(items=[item(vendor.pk), item(uuid4())]))
    with pytest.raises(orders.BuyerRefused):
        place(order_body(buyer_id=str(uuid4())), key="key-2")
    place(order_body(payment=payment(status="pending")), key="key-3")

    assert not VendorVolume.objects.exists()


def test_a_sale_with_tiers_takes_two_statements_too(order_body: Body, vendor: User) -> None:
    tiers(vendor)
    ready = form(order_body())

    with CaptureQueriesContext(connection) as queries:
        orders.place(ready, key="key-1", by=MACHINE)

    assert len([query for query in queries if "SAVEPOINT" not in query["sql"]]) == 2


@pytest.mark.parametrize(("sold_before", "rate"), [("999999.99", 100_000), ("1000000.00", 50_000)])
def test_the_tier_is_that_of_what_was_sold_before(
    order_body: Body, vendor: User, sold_before: str, rate: int
) -> None:
    place(order_body(items=[item(vendor.pk, sold_before)]))
    tiers(vendor)

    place(order_body(), key="key-2")

    row = Commission.objects.order_by("-calculated_at")[0]
    assert row.rate_ppm == rate
    group = json.loads(row.rule_snapshot)["groups"][0]
    assert Decimal(group["volume_minor"]) / 100 == Decimal(sold_before)


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_what_is_sold_between_two_rules_with_tiers_counts(order_body: Body, vendor: User) -> None:
    """A month that is counted is counted to its end, whichever rules come and go in it."""
    first = tiers(vendor, boundary=20_000_000)
    place(order_body())
    rule_changes.end(first.pk, reason=WHY, by=EVA)
    place(order_body(), key="key-2")
    tiers(vendor, boundary=20_000_000)

    place(order_body(), key="key-3")

    assert VendorVolume.objects.get().sold_minor == 30_000_000
    assert Commission.objects.order_by("-calculated_at")[0].rate_ppm == 50_000


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_twenty_parallel_sales_cross_a_boundary_exactly_once(
    order_body: Body, vendor: User, race: Race
) -> None:
    tiers(vendor, boundary=100_000_000)  # ten sales of COP 100,000

    def run(number: int) -> Callable[[], Any]:
        ready = form(order_body(payment=payment(reference=f"tx-{number}")))
        return lambda: orders.place(ready, key=f"key-{number}", by=MACHINE)

    results = race([run(number) for number in range(20)])

    assert not [result for result in results if isinstance(result, BaseException)]
    rates = list(Commission.objects.values_list("rate_ppm", flat=True))
    assert (rates.count(100_000), rates.count(50_000)) == (10, 10)
    before = sorted(
        json.loads(text)["groups"][0]["volume_minor"]
        for text in Commission.objects.values_list("rule_snapshot", flat=True)
    )
    assert before == [number * 10_000_000 for number in range(20)]
    assert VendorVolume.objects.get().sold_minor == 200_000_000
    assert ledger.check(signatures=True).is_balanced


def test_a_business_month_begins_in_bogota() -> None:
    moment = dt.datetime(2026, 3, 1, 4, 59, tzinfo=dt.UTC)

    first, since = charging.month_of(moment)
    following, _since = charging.month_of(moment + dt.timedelta(minutes=1))

    assert (first, following) == (dt.date(2026, 2, 1), dt.date(2026, 3, 1))
    assert since.astimezone(dt.UTC) == dt.datetime(2026, 2, 1, 5, tzinfo=dt.UTC)


# Commissions


def test_a_commission_is_approved_once(order_body: Body) -> None:
    place(order_body())
    row = Commission.objects.get()

    approved = commissions.approve(row.pk, notes="checked", by=ANA)

    assert (approved.status, str(approved.approved_by), approved.admin_notes) == (
        "APPROVED",
        ANA.id,
        "checked",
    )
    assert approved.approved_at is not None
    for wrong, error in ((row.pk, commissions.NotPending), (uuid4(), commissions.CommissionUnknown)):
        with pytest.raises(error):
            commissions.approve(wrong, by=EVA)
    assert types().count("commission.approved") == 1


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_of_eight_approvals_one_counts(order_body: Body, race: Race) -> None:
    place(order_body())
    row = Commission.objects.get()

    results = race([lambda: commissions.approve(row.pk, by=ANA)] * 8)

    assert sum(isinstance(result, Commission) for result in results) == 1
    assert sum(isinstance(result, commissions.NotPending) for result in results) == 7
