"""Commission rules over HTTP: hostile terms, who may, four eyes, what stands in the way, and the preview."""

from __future__ import annotations

import datetime as dt
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.utils import timezone

from accounts.models import User
from finance import charging
from finance.models import CommissionRule
from monitoring.models import AuditEvent
from tests.factories.accounts import AdminFactory, BuyerFactory, SuperuserFactory, VendorFactory, grant
from tests.factories.administration import Caller
from tests.harness.racing import race

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
PATH = "commissions/rules/"
PROPOSING, APPROVING = "commissions.configure.global", "commissions.approve.global"
REASON = {"reason": "agreed with the vendor in writing"}


def staff(*permissions: str, fresh: bool = True) -> Caller:
    user = AdminFactory.create(security_clearance_level=5)
    grant(user, *permissions)
    return Caller(user, fresh=fresh)


@pytest.fixture
def ana(db: None) -> Caller:
    return staff(PROPOSING)


@pytest.fixture
def eva(db: None) -> Caller:
    return staff(APPROVING)


def terms(**changes: Any) -> dict[str, Any]:
    body = {"name": "Shoes in December", "currency": "COP", "rate": "0.12345", **REASON, **changes}
    return {name: value for name, value in body.items() if value is not ...}


def proposed(caller: Caller, **changes: Any) -> dict[str, Any]:
    answer = caller.post(PATH, terms(**changes))
    assert answer.status_code == 201, answer.content
    told: dict[str, Any] = answer.json()
    return told


def in_force(ana: Caller, eva: Caller, **changes: Any) -> dict[str, Any]:
    made = proposed(ana, **changes)
    answer = eva.post(f"{PATH}{made['id']}/approve", REASON)
    assert answer.status_code == 200, answer.content
    told: dict[str, Any] = answer.json()
    return told


# What is refused


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"rate": "1.000001"}, "rate"), ({"rate": "-0.1"}, "rate"), ({"rate": True}, "rate"),
        ({"rate": "0.1234567"}, "rate"), ({"rate": ...}, "rate"), ({"rate": "NaN"}, "rate"),
        ({"name": ...}, "name"), ({"name": " "}, "name"), ({"name": "x" * 101}, "name"),
        ({"name": "a\u202eb"}, "name"), ({"currency": "XYZ"}, "currency"), ({"currency": ...}, "currency"),
        ({"commission_type": "CHEAP"}, "commission_type"), ({"vendor_id": "x"}, "vendor_id"),
        ({"fixed": "-1"}, "fixed"), ({"fixed": "1e3"}, "fixed"), ({"fixed": "0.001"}, "fixed"),
        ({"cap": "99999999999999999999"}, "cap"), ({"floor": "10.00", "cap": "9.99"}, "cap"),
        ({"priority": 32_768}, "priority"), ({"priority": "high"}, "priority"),
        ({"tiers": [{"sold_from": "10", "rate": "2"}]}, "tiers"), ({"tiers": "many"}, "tiers"),
        ({"tiers": [{"sold_from": str(n), "rate": "0.1"} for n in range(1, 12)]}, "tiers"),
        ({"tiers": [{"sold_from": "9", "rate": "0.1"}, {"sold_from": "8", "rate": "0.1"}]}, "tiers"),
        ({"starts": "2020-01-01T00:00:00Z"}, "starts"), ({"starts": "tomorrow"}, "starts"),
        ({"ends": "2020-01-01T00:00:00Z"}, "ends"), ({"ends": "0001-01-01T00:00:00+14:00"}, "ends"),
        ({"reason": ...}, "reason"), ({"reason": "short"}, "reason"),
        ({"reason": "<b>bold</b> words"}, "reason"),
    ],
)  # fmt: skip
def test_wrong_terms_are_named_and_nothing_is_written(
    ana: Caller, changes: dict[str, Any], field: str
) -> None:
    answer = ana.post(PATH, terms(**changes))

    assert answer.status_code == 422, answer.content
    assert any(field in detail["field"] for detail in answer.json()["details"]), answer.json()
    assert not CommissionRule.objects.exists()


def test_rule_for_nobody_is_refused(ana: Caller) -> None:
    buyer = BuyerFactory.create()

    for nobody in (uuid4(), buyer.pk):
        answer = ana.post(PATH, terms(vendor_id=str(nobody)))
        assert answer.status_code == 422
        assert "vendor" in answer.json()["details"][0]["field"]


def test_strangers_and_those_without_the_grant_are_refused(ana: Caller, eva: Caller) -> None:
    made = proposed(ana)
    bare = staff()
    one = f"{PATH}{made['id']}"

    for user in (BuyerFactory.create(), VendorFactory.create()):
        assert Caller(user).get(PATH).status_code == 403
        assert Caller(user).post(PATH, terms()).status_code == 403
    assert [bare.get(PATH).status_code, bare.get(one).status_code] == [200, 200]
    for caller, path, body in (
        (bare, PATH, terms()), (eva, PATH, terms()), (eva, f"{PATH}preview", terms(reason=...)),
        (bare, f"{one}/approve", REASON), (ana, f"{one}/approve", REASON), (ana, f"{one}/reject", REASON),
        (eva, f"{one}/withdraw", REASON), (eva, f"{one}/end", REASON),
    ):  # fmt: skip
        assert caller.post(path, body).status_code == 403, path
    assert CommissionRule.objects.get().status == "PROPOSED"


def test_nobody_approves_what_they_proposed_whatever_they_hold() -> None:
    user: User = SuperuserFactory.create(security_clearance_level=5)
    grant(user, PROPOSING, APPROVING)
    both = Caller(user)
    made = proposed(both)
    answer = both.post(f"{PATH}{made['id']}/approve", REASON)

    assert answer.status_code == 403
    assert CommissionRule.objects.get().status == "PROPOSED"


def test_approving_needs_a_fresh_factor(ana: Caller) -> None:
    made = proposed(ana)
    answer = staff(APPROVING, fresh=False).post(f"{PATH}{made['id']}/approve", REASON)

    assert (answer.status_code, answer.json()["error_code"]) == (403, "STEP_UP_REQUIRED")
    assert CommissionRule.objects.get().status == "PROPOSED"


@pytest.mark.parametrize("step", ["approve", "reject", "withdraw", "end"])
def test_rule_that_is_none_is_not_found(step: str) -> None:
    caller = staff(PROPOSING, APPROVING)

    assert caller.get(f"{PATH}{uuid4()}").status_code == 404
    assert caller.get(f"{PATH}{uuid4()}/preview").status_code == 404
    assert caller.post(f"{PATH}{uuid4()}/{step}", REASON).status_code == 404


def test_second_rule_of_one_scope_is_refused_by_name(ana: Caller, eva: Caller) -> None:
    first = in_force(ana, eva, category="shoes")
    second = proposed(ana, category="shoes", rate="0.2")
    answer = eva.post(f"{PATH}{second['id']}/approve", REASON)

    assert (answer.status_code, answer.json()["error_code"]) == (409, "COMMISSION_RULES_OVERLAP")
    assert answer.json()["rule_id"] == first["id"]
    assert in_force(ana, eva, category="Shoes")["status"] == "ACTIVE"


@pytest.mark.parametrize("query", [{"status": "OPEN"}, {"cursor": "x"}, {"limit": 0}, {"limit": 101}])
def test_wrong_parameters_are_named(ana: Caller, query: dict[str, Any]) -> None:
    answer = ana.get(PATH, **query)

    assert answer.status_code == 422
    assert answer.json()["details"][0]["field"] == f"query -> {next(iter(query))}"


# The life of a rule


def test_rule_is_told_as_it_was_proposed(ana: Caller, eva: Caller) -> None:
    vendor = VendorFactory.create()
    ends = timezone.now() + dt.timedelta(days=40)
    made = in_force(
        ana, eva, vendor_id=str(vendor.pk), category="shoes", product_id="p-1", order_reference="o-1",
        priority=-3, fixed="10.50", floor="1", cap="9999999.99", commission_type="PREMIUM",
        tiers=[{"sold_from": "5000000", "rate": "0.1"}, {"sold_from": "9000000.50", "rate": 0}],
        ends=ends.isoformat(),
    )  # fmt: skip
    told = ana.get(f"{PATH}{made['id']}").json()

    assert told == made
    assert (told["rate"], told["fixed"], told["floor"], told["cap"]) == (
        "0.12345", "10.50", "1.00", "9999999.99",
    )  # fmt: skip
    assert told["tiers"] == [
        {"sold_from": "5000000.00", "rate": "0.1"}, {"sold_from": "9000000.50", "rate": "0"},
    ]  # fmt: skip
    row = CommissionRule.objects.get()
    rule = charging.rule_of(row)
    assert (rule.rate_ppm, rule.fixed, rule.tiers) == (
        123_450,
        1_050,
        ((500_000_000, 100_000), (900_000_050, 0)),
    )
    assert (rule.vendor, rule.product, rule.order, rule.priority, rule.kind) == (
        vendor.pk, "p-1", "o-1", -3, "PREMIUM",
    )  # fmt: skip
    assert row.valid.upper == ends
    assert row.proposed_by != row.approved_by is not None


def test_rejected_rule_never_comes_into_force(ana: Caller, eva: Caller) -> None:
    made = proposed(ana)
    first = eva.post(f"{PATH}{made['id']}/reject", REASON)
    again = eva.post(f"{PATH}{made['id']}/reject", REASON)
    late = eva.post(f"{PATH}{made['id']}/approve", REASON)

    assert [answer.status_code for answer in (first, again, late)] == [200, 409, 409]
    assert first.json()["status"] == "WITHDRAWN"
    assert AuditEvent.objects.filter(type="commission_rule.withdrawn", target_id=made["id"]).count() == 1


def test_rule_in_force_is_ended_and_not_withdrawn_nor_rejected(ana: Caller, eva: Caller) -> None:
    made = in_force(ana, eva)
    one = f"{PATH}{made['id']}"

    assert ana.post(f"{one}/withdraw", REASON).status_code == 409
    assert eva.post(f"{one}/reject", REASON).status_code == 409
    past = (timezone.now() - dt.timedelta(days=1)).isoformat()
    ended = ana.post(f"{one}/end", {**REASON, "at": past})
    assert ended.status_code == 200
    assert CommissionRule.objects.get().valid.upper >= dt.datetime.fromisoformat(made["starts"])
    assert ana.post(f"{one}/end", {**REASON, "at": "2999-01-01T00:00:00Z"}).status_code == 409


def test_rule_that_has_not_begun_is_withdrawn_and_not_ended(ana: Caller, eva: Caller) -> None:
    starts = (timezone.now() + dt.timedelta(days=3)).isoformat()
    made = in_force(ana, eva, starts=starts)
    one = f"{PATH}{made['id']}"

    assert ana.post(f"{one}/end", REASON).status_code == 409
    assert ana.post(f"{one}/withdraw", REASON).json()["status"] == "WITHDRAWN"


def test_preview_writes_nothing_and_says_what_it_read(ana: Caller, eva: Caller) -> None:
    before = ana.post(f"{PATH}preview", terms(reason=...)).json()
    assert not CommissionRule.objects.exists()
    stored = eva.get(f"{PATH}{proposed(ana)['id']}/preview").json()

    assert stored == before
    assert (before["sales_read"], before["is_partial"], before["vendors"]) == (0, False, [])
    assert before["affected"]["difference"] == "0.00"
    assert ana.post(f"{PATH}preview", terms(reason=..., floor="2", cap="1")).status_code == 422


def test_list_goes_on_without_losing_or_repeating(ana: Caller, eva: Caller) -> None:
    made = [proposed(ana, name=f"rule {number}")["id"] for number in range(5)]
    eva.post(f"{PATH}{made[0]}/reject", REASON)
    seen: list[str] = []
    cursor: dict[str, Any] = {}
    while True:
        page = ana.get(PATH, limit=2, **cursor).json()
        seen += [row["id"] for row in page["results"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}

    assert seen == made[::-1]
    waiting = ana.get(PATH, status="PROPOSED").json()["results"]
    assert [row["id"] for row in waiting] == made[:0:-1]


@pytest.mark.django_db(transaction=True, databases=["default", "audit"])
def test_of_yes_and_no_at_once_one_counts() -> None:
    ana = staff(PROPOSING)
    for number in range(3):
        made = proposed(ana, category=f"c{number}")
        yes, no = staff(APPROVING), staff(APPROVING)
        outcomes: list[Any] = race(
            [
                partial(yes.post, f"{PATH}{made['id']}/approve", REASON),
                partial(no.post, f"{PATH}{made['id']}/reject", REASON),
            ]
        )
        assert sorted(answer.status_code for answer in outcomes) == [200, 409], outcomes
        row = CommissionRule.objects.get(pk=UUID(made["id"]))
        assert row.status == ("ACTIVE" if outcomes[0].status_code == 200 else "WITHDRAWN")
