"""Charging a vendor's part by settings and rules, without a database: what it comes to, and what is kept."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from typing import Any
from uuid import UUID

import pytest
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange

from finance import charging, commission_rules
from finance.charging import DatedRules, Override, Part, PartLine, Policy, Terms
from finance.commission_rules import Rule, Withholding
from finance.models import CommissionRule
from finance.money import MoneyError, Rounding
from mestore.lib import actor

VENDOR, OTHER = UUID(int=7), UUID(int=8)
AT = dt.datetime(2026, 3, 31, 23, 30, tzinfo=dt.UTC)
BY = actor.system("test")
WITHHELD: list[dict[str, Any]] = [
    {"name": "retefuente", "ppm": 25_000, "of": "goods"}, {"name": "reteiva", "ppm": 150_000, "of": "tax"},
]  # fmt: skip


@pytest.fixture(autouse=True)
def money_settings(settings: Any) -> Any:
    """The rates of this module, whatever those of the house become."""
    settings.COMMISSION_RATES_PPM = {"STANDARD": 50_000, "PREMIUM": 30_000}
    settings.COMMISSION_BASE = "goods"
    settings.COMMISSION_TAX_PPM = {"COP": 190_000}
    settings.WITHHOLDINGS = {"COP": WITHHELD}
    settings.ROUNDING = {"COP": "half_up"}
    settings.BUSINESS_TIME_ZONE = "America/Bogota"
    return settings


def line(number: int = 1, goods: int = 10_000, **changes: Any) -> PartLine:
    return PartLine(
        **{
            "number": number,
            "product": f"p{number}",
            "category": "",
            "goods": goods,
            "shipping": 0,
            **changes,
        }
    )


def part(*lines: PartLine, tax: int = 1_900) -> Part:
    return Part(VENDOR, tax, lines or (line(),))


def rule(number: int, **changes: Any) -> Rule:
    given = {"id": UUID(int=number), "name": f"r{number}", "currency": "COP", "rate_ppm": 100_000}
    return Rule(**given | changes)  # type: ignore[arg-type]  # values of several types by name


def earn(one: Part, terms: Terms = charging.NO_TERMS, **changes: Any) -> charging.Earned:
    return charging.earn(one, terms, charging.policy_for("COP"), at=AT, **changes)


# What it comes to


def test_without_rules_the_contracts_rate_the_tax_and_what_is_withheld() -> None:
    earned = earn(part())
    sale = earned.sale

    assert (sale.vendor, sale.currency, sale.goods, sale.shipping, sale.tax) == (
        VENDOR,
        "COP",
        10_000,
        0,
        1_900,
    )
    assert (sale.base, sale.rate_ppm, sale.commission, sale.fee_tax) == (10_000, 50_000, 500, 95)
    assert sale.withheld == (250, 285)
    assert sale.vendor_money == 10_000 - 500 - 95 - 250 - 285
    assert (earned.kind, earned.rule_id, earned.rounding) == ("STANDARD", None, Rounding.HALF_UP)
    assert earned.number.startswith("COM-")
    assert earned.id != earned.entry_id


def test_the_rule_that_matches_is_the_one_that_counts() -> None:
    terms = Terms((rule(1, product="p1"), rule(2, vendor=OTHER, rate_ppm=1)))
    earned = earn(part(), terms)

    assert (earned.sale.commission, earned.rule_id) == (1_000, UUID(int=1))


def test_several_rules_in_one_part_are_none_of_them_alone() -> None:
    terms = Terms((rule(1, product="p1"), rule(2, product="p2", rate_ppm=200_000, kind="PREMIUM")))
    earned = earn(part(line(1), line(2, goods=20_000)), terms)

    assert (earned.sale.commission, earned.rule_id, earned.kind) == (5_000, None, "PREMIUM")
    assert earned.sale.rate_ppm == 166_667


def test_the_order_that_a_rule_is_for_is_the_reference() -> None:
    terms = Terms((rule(1, order="web-1"),))

    assert earn(part(), terms, reference="web-1").sale.commission == 1_000
    assert earn(part(), terms).sale.commission == 500


def test_the_volume_is_the_vendors_own() -> None:
    tiered = rule(1, tiers=((1_000, 20_000),))

    assert earn(part(), Terms((tiered,), {VENDOR: 1_000})).sale.commission == 200
    assert earn(part(), Terms((tiered,), {OTHER: 1_000})).sale.commission == 1_000
    assert earn(part(), Terms((tiered,), None)).sale.commission == 1_000


def test_on_goods_tax_and_shipping_the_base_is_all_three(money_settings: Any) -> None:
    money_settings.COMMISSION_BASE = "total"
    one = part(line(1, shipping=300), line(2, goods=5_000, shipping=200), tax=1_001)
    earned = earn(one)

    assert charging.base_of(one, "total") == 15_000 + 500 + 1_001
    assert charging.base_of(one, "goods") == 15_000
    assert (earned.sale.base, earned.sale.shipping, earned.sale.commission) == (16_501, 500, 825)
    bases = [one.base for group in earned.charge.groups for one in group.lines]
    assert bases == [10_000 + 300 + 667, 5_000 + 200 + 334]


# What somebody asked for


def test_a_rate_given_by_hand_stands_alone_and_says_whose_it_is() -> None:
    earned = earn(part(), Terms((rule(1),)), override=Override("PREMIUM", 10_000, "ana"))

    assert (earned.sale.commission, earned.rule_id, earned.kind) == (100, None, "PREMIUM")
    kept = json.loads(earned.snapshot)
    assert (kept["by_hand"], kept["groups"][0]["rule"]["name"]) == ("ana", "given by hand")
    assert kept["groups"][0]["rule"]["currency"] == "COP"


def test_a_type_asked_for_leaves_its_own_rules_then_its_rate() -> None:
    terms = Terms((rule(1, kind="STANDARD"), rule(2, kind="PREMIUM", rate_ppm=70_000, product="p1")))
    wish = Override("PREMIUM", None, "ana")

    assert earn(part(), terms, override=wish).sale.commission == 700
    other = earn(part(line(product="q")), terms, override=wish)
    assert (other.sale.commission, other.kind, json.loads(other.snapshot)["by_hand"]) == (
        300,
        "PREMIUM",
        "ana",
    )


def test_an_unknown_type_has_no_rate() -> None:
    with pytest.raises(KeyError):
        charging.default_rule("COP", "GIFT")


# Whole pesos


def test_whole_pesos_are_rounded_to_pesos_unless_there_are_centavos(money_settings: Any) -> None:
    money_settings.ROUNDING = {"COP": "half_up_whole"}
    money_settings.WITHHOLDINGS = {}
    assert charging.step_for("COP") == 100
    whole = earn(part(line(goods=999_900), tax=190_000))
    assert (whole.sale.commission, whole.sale.fee_tax, whole.rounding) == (
        50_000, 9_500, Rounding.HALF_UP_WHOLE,
    )  # fmt: skip
    for centavos in (part(line(goods=999_901)), part(line(shipping=1)), part(tax=1)):
        assert earn(centavos).rounding is Rounding.HALF_UP
    assert earn(part(line(goods=999_901))).sale.commission == 49_995


def test_a_policy_without_steps_stays_as_it_is() -> None:
    policy = Policy("COP", Rounding.HALF_UP, 1, "goods", 0, ())

    assert policy.fitting([1, 250]) is policy


def test_a_currency_without_settings_has_no_taxes() -> None:
    assert charging.policy_for("USD") == Policy("USD", Rounding.HALF_UP, 1, "goods", 0, ())
    assert charging.policy_for("COP").withholdings == tuple(Withholding(**one) for one in WITHHELD)
    assert charging.policy_for("COP").fee_tax_ppm == 190_000


def test_a_part_without_goods_is_refused() -> None:
    with pytest.raises(MoneyError):
        earn(part(line(goods=0)))


# When and by which rules


@pytest.mark.parametrize(
    ("moment", "first"),
    [
        (dt.datetime(2026, 4, 1, 4, 59, tzinfo=dt.UTC), dt.date(2026, 3, 1)),  # still March in Bogotá
        (dt.datetime(2026, 4, 1, 5, 0, tzinfo=dt.UTC), dt.date(2026, 4, 1)),
        (dt.datetime(2026, 12, 31, 23, 0, tzinfo=dt.UTC), dt.date(2026, 12, 1)),
    ],
)
def test_a_month_is_one_of_business_time(moment: dt.datetime, first: dt.date) -> None:
    day, since = charging.month_of(moment)

    assert day == first
    assert since == dt.datetime(first.year, first.month, 1, 5, tzinfo=dt.UTC)


def test_rules_hold_from_their_beginning_to_just_before_their_end() -> None:
    hour = dt.timedelta(hours=1)
    dated = DatedRules(((rule(1), AT, AT + hour), (rule(2), AT + hour, None)))

    def at(moment: dt.datetime) -> list[int]:
        return [one.id.int for one in dated.at(moment).rules if one.id]

    instant = dt.timedelta(microseconds=1)
    assert [at(AT - instant), at(AT), at(AT + hour - instant), at(AT + hour)] == [[], [1], [1], [2]]
    assert dated.at(AT).volumes is None
    assert DatedRules().at(AT) is charging.NO_TERMS


def test_a_stored_rule_is_the_pure_one() -> None:
    row = CommissionRule(
        id=UUID(int=3), name="n", currency="COP", rate_ppm=1, commission_type="PREMIUM", vendor_id=VENDOR,
        category="c", product_id="p", order_reference="o", priority=4, fixed_minor=5, floor_minor=6,
        cap_minor=7, tiers=[["8", "9"]], valid=DateTimeTZRange(AT, None),
    )  # fmt: skip

    assert charging.rule_of(row) == Rule(
        UUID(int=3), "n", "COP", 1, "PREMIUM", VENDOR, "c", "p", "o", 4, 5, 6, 7, ((8, 9),), AT
    )


def test_the_database_is_asked_for_what_the_parts_name() -> None:
    lines = (line(2, product="b", category="x"), line(1, product="a"), line(3, product="b", category="x"))
    asked = charging.question([part(*lines)], currency="COP", reference=None, at=AT)

    assert asked == {
        "currency": "COP", "at": AT, "month": dt.date(2026, 3, 1),
        "since": dt.datetime(2026, 3, 1, 5, tzinfo=dt.UTC), "parts": f"{{{VENDOR}}}", "bases": "{30000}",
        "products": '{"a","b"}', "categories": '{"x"}', "reference": "",
    }  # fmt: skip
    assert charging.question([], currency="COP", reference="web-1", at=AT)["reference"] == "web-1"


def test_what_the_database_answers_is_read_as_text_or_as_values() -> None:
    kept = [commission_rules.terms(rule(1))]
    wanted = Terms((rule(1),), {VENDOR: 5})

    assert charging.terms_from(kept, {str(VENDOR): "5"}) == wanted
    assert charging.terms_from(json.dumps(kept), json.dumps({str(VENDOR): 5})) == wanted
    assert charging.terms_from(json.dumps(kept).encode(), None) == Terms((rule(1),), {})
    empty: tuple[Any, ...] = (None, [], "[]")
    assert all(charging.terms_from(one, {str(VENDOR): 5}) is charging.NO_TERMS for one in empty)


# What is kept and told


def test_a_row_tells_the_sale_to_the_last_column() -> None:
    earned = earn(part(), Terms((rule(1),)))

    at = "2026-05-04T12:00:00+00:00"
    assert charging.commission_row(earned, order_id=7, at=at) == {
        "id": str(earned.id), "commission_number": earned.number, "order_id": 7, "vendor_id": str(VENDOR),
        "currency": "COP", "order_amount_minor": 10_000, "rate_ppm": 100_000,
        "commission_amount_minor": 1_000,
        "vendor_amount_minor": 9_000, "commission_type": "STANDARD", "status": "PENDING",
        "entry_id": str(earned.entry_id), "rule_id": str(UUID(int=1)),
        "rule_hash": "\\x" + hashlib.sha256(earned.snapshot.encode()).hexdigest(),
        "rule_snapshot": earned.snapshot, "rounding": "half_up", "fee_tax_minor": 190,
        "withheld_minor": 250 + 285, "calculated_at": at,
    }  # fmt: skip
    assert charging.commission_row(earn(part()), order_id=7, at=at)["rule_id"] is None


def test_the_snapshot_tells_rates_and_what_was_withheld() -> None:
    kept = json.loads(earn(part()).snapshot)

    assert (kept["base"], kept["rounding"]) == ("goods", "half_up")
    assert (kept["fee_tax_ppm"], kept["fee_tax_minor"]) == (190_000, 95)
    assert kept["withheld"] == [WITHHELD[0] | {"minor": 250}, WITHHELD[1] | {"minor": 285}]


def test_each_line_keeps_its_share_and_its_rule() -> None:
    own = rule(1, product="p2")
    earned = earn(part(line(1, goods=101), line(2, goods=99), line(3, goods=100)), Terms((own,)))

    def told(number: int, share: int, rate: int, by: Rule) -> dict[str, Any]:
        return {
            "line": number, "commission": share, "rate_ppm": rate, "rounding": "half_up",
            "rule_hash": commission_rules.rule_hash(by).hex(),
        }  # fmt: skip

    default = charging.default_rule("COP")
    assert charging.line_terms(earned) == [
        told(1, 5, 50_000, default), told(3, 5, 50_000, default), told(2, 10, 100_000, own),
    ]  # fmt: skip


def test_the_event_names_the_commission_and_its_terms() -> None:
    earned = earn(part(), Terms((rule(1),)))
    row = charging.commission_row(earned, order_id=42, at="2026-05-04T12:00:00+00:00")
    event = charging.event_of(earned, 42, BY, row=row)

    assert event.target == ("commission", str(earned.id))
    assert event.by == BY
    assert event.data == {
        "number": earned.number, "order_id": 42, "vendor_id": str(VENDOR), "currency": "COP",
        "base_minor": 10_000, "rate_ppm": 100_000, "commission_minor": 1_000, "fee_tax_minor": 190,
        "withheld_minor": 535, "entry_id": str(earned.entry_id),
        "terms_hash": hashlib.sha256(earned.snapshot.encode()).hexdigest(),
        "row": {name: value for name, value in row.items() if name != "rule_snapshot"}
        | {"created_at": "2026-05-04T12:00:00+00:00", "refunded_minor": 0, "reversed_minor": 0},
    }  # fmt: skip
