"""What makes an attempt to sign in risky: each rule at its edge, and how they add up."""

from __future__ import annotations

import datetime as dt
import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessions_security import risk_rules
from sessions_security.risk_rules import Facts, Finding, Journey, Level, Point, Thresholds

LIMITS = Thresholds(
    network_failures=20, account_failures=10, reputation_medium=40, reputation_high=60,
    reputation_critical=80, device_accounts=3, device_networks=5, attempts_in_five_minutes=10,
    per_good_account=3, travel_kmh=900, travel_km=300, business_hours=(6, 20),
    business_days=frozenset({1, 2, 3, 4, 5, 6}),
)  # fmt: skip
FRIDAY = dt.datetime(2026, 11, 20, 10, 0, tzinfo=dt.UTC)
QUIET = Facts(
    network_failures=0, network_burst=0, good_accounts=0, account_failures=0, reputation=20,
    device_accounts=1, device_networks=1, journey=None, is_new_country=None, is_staff_door=False,
    local=FRIDAY, is_known_device=False,
)  # fmt: skip
BOGOTA, MEDELLIN, MADRID = Point(4.711, -74.0721), Point(6.2442, -75.5812), Point(40.4168, -3.7038)


def found(**facts: Any) -> dict[str, Level]:
    verdict = risk_rules.judge(replace(QUIET, **facts), LIMITS)
    return {finding.rule: finding.level for finding in verdict.findings}


def at(hour: int, *, day: int = 20) -> dt.datetime:
    return dt.datetime(2026, 11, day, hour, 59, tzinfo=dt.UTC)


def journey(start: Point, end: Point, hours: float) -> Journey:
    return Journey(start, end, hours)


def test_nothing_special_is_low_with_no_score() -> None:
    assert risk_rules.judge(QUIET, LIMITS) == risk_rules.Verdict(Level.LOW, 0, ())


@pytest.mark.parametrize(
    ("facts", "rules"),
    [
        ({"network_failures": 19}, {}),
        ({"network_failures": 20}, {"network_failures": Level.HIGH}),
        ({"network_failures": 22, "good_accounts": 1}, {}),
        ({"network_failures": 23, "good_accounts": 1}, {"network_failures": Level.HIGH}),
        ({"network_burst": 10}, {}),
        ({"network_burst": 11}, {"velocity": Level.HIGH}),
        ({"network_burst": 16, "good_accounts": 2}, {}),
        ({"network_burst": 17, "good_accounts": 2}, {"velocity": Level.HIGH}),
        ({"account_failures": 9}, {}),
        ({"account_failures": 10}, {"account_failures": Level.MEDIUM}),
        ({"account_failures": 10_000, "good_accounts": 9}, {"account_failures": Level.MEDIUM}),
        ({"reputation": 39}, {}),
        ({"reputation": 40}, {"network_reputation": Level.MEDIUM}),
        ({"reputation": 59}, {"network_reputation": Level.MEDIUM}),
        ({"reputation": 60}, {"network_reputation": Level.HIGH}),
        ({"reputation": 79}, {"network_reputation": Level.HIGH}),
        ({"reputation": 80}, {"network_reputation": Level.CRITICAL}),
        ({"reputation": 100}, {"network_reputation": Level.CRITICAL}),
        ({"device_accounts": 3}, {}),
        ({"device_accounts": 4}, {"device_accounts": Level.MEDIUM}),
        ({"device_networks": 5}, {}),
        ({"device_networks": 6}, {"device_networks": Level.MEDIUM}),
        ({"is_new_country": False}, {}),
        ({"is_new_country": None}, {}),
        ({"is_new_country": True}, {"new_country": Level.MEDIUM}),
        ({"local": at(5)}, {}),
        ({"is_staff_door": True, "local": at(5)}, {"unusual_hour": Level.LOW}),
        ({"is_staff_door": True, "local": at(6)}, {}),
        ({"is_staff_door": True, "local": at(19)}, {}),
        ({"is_staff_door": True, "local": at(20)}, {"unusual_hour": Level.LOW}),
        ({"is_staff_door": True, "local": at(10, day=21)}, {}),
        ({"is_staff_door": True, "local": at(10, day=22)}, {"unusual_hour": Level.LOW}),
    ],
)
def test_each_rule_at_its_edge(facts: dict[str, Any], rules: dict[str, Level]) -> None:
    assert found(**facts) == rules


@pytest.mark.parametrize(
    ("start", "end", "kilometres"),
    [
        (BOGOTA, BOGOTA, 0.0),
        (BOGOTA, MEDELLIN, 238.4),
        (BOGOTA, MADRID, 8_026.0),
        (Point(0, 0), Point(0, 180), 20_015.1),
        (Point(90, 0), Point(-90, 0), 20_015.1),
        (Point(0, 179.5), Point(0, -179.5), 111.2),
        (Point(60, 0), Point(60, 1), 55.6),
    ],
)
def test_distance_is_the_great_circle(start: Point, end: Point, kilometres: float) -> None:
    assert risk_rules.distance_km(start, end) == pytest.approx(kilometres, rel=2e-3, abs=0.1)
    assert risk_rules.distance_km(end, start) == pytest.approx(risk_rules.distance_km(start, end))


@pytest.mark.parametrize(
    ("moved", "is_impossible"),
    [
        (journey(BOGOTA, MADRID, 8.8), True),
        (journey(BOGOTA, MADRID, 9.1), False),
        (journey(BOGOTA, MADRID, 0), True),
        (journey(BOGOTA, MADRID, -5), True),  # clocks of two servers
        (journey(BOGOTA, MEDELLIN, 0), False),  # places are wrong by more than that
        (journey(Point(0, 0), Point(0, 2.69), 0.1), False),  # 299 km
        (journey(Point(0, 0), Point(0, 2.71), 0.1), True),  # 301 km
        (journey(Point(0, 0), Point(0, 2.71), 0.34), False),
    ],
)
def test_nobody_is_faster_than_an_airliner(moved: Journey, is_impossible: bool) -> None:
    assert risk_rules.is_impossible(moved, LIMITS) is is_impossible
    assert found(journey=moved) == ({"impossible_travel": Level.HIGH} if is_impossible else {})


@pytest.mark.parametrize(
    ("levels", "level", "score"),
    [
        ([1], Level.LOW, 100),
        ([1, 1], Level.LOW, 100),
        ([2], Level.MEDIUM, 200),
        ([3], Level.HIGH, 300),
        ([4], Level.CRITICAL, 400),
        ([3, 2], Level.HIGH, 285),
        ([4, 2], Level.CRITICAL, 370),
        ([4, 3], Level.CRITICAL, 385),
        ([2, 2, 2], Level.MEDIUM, 200),
        ([4, 2, 2], Level.CRITICAL, 360),
        ([4, 2, 2, 2], Level.CRITICAL, 355),
        ([4, 2, 2, 2, 2], Level.CRITICAL, 352),
        ([4, 2, 2, 2, 2, 2], Level.CRITICAL, 350),  # exactly the bound
        ([4, 1, 1, 1], Level.CRITICAL, 400),  # notes make nothing look better
        ([3, 1], Level.HIGH, 300),
        ([3, 2, 2, 2, 2], Level.HIGH, 276),
    ],
)
def test_worst_and_mean_make_the_whole(levels: list[int], level: Level, score: int) -> None:
    for order in itertools.islice(itertools.permutations(levels), 24):
        verdict = risk_rules.aggregate([Finding(f"rule{n}", Level(one)) for n, one in enumerate(order)])
        assert (verdict.level, verdict.score) == (level, score)


@given(st.lists(st.sampled_from(list(Level)), min_size=1, max_size=6))
def test_whole_is_never_better_than_its_worst_finding(levels: list[Level]) -> None:
    verdict = risk_rules.aggregate([Finding("rule", level) for level in levels])

    assert verdict.level == max(levels)
    assert 100 <= verdict.score <= 400


@given(
    st.builds(
        Facts,
        network_failures=st.integers(0, 2_000), network_burst=st.integers(0, 2_000),
        good_accounts=st.integers(0, 50), account_failures=st.integers(0, 2_000),
        reputation=st.integers(0, 100), device_accounts=st.integers(0, 50),
        device_networks=st.integers(0, 50), journey=st.sampled_from([None, journey(BOGOTA, MADRID, 1)]),
        is_new_country=st.sampled_from([None, True, False]), is_staff_door=st.booleans(),
        local=st.sampled_from([FRIDAY, at(3)]), is_known_device=st.just(value=True),
    )
)  # fmt: skip
def test_nothing_that_others_do_keeps_a_known_device_out(facts: Facts) -> None:
    assert risk_rules.judge(facts, LIMITS).level <= Level.MEDIUM


@pytest.mark.parametrize("facts", [{"reputation": 100}, {"network_failures": 500}])
def test_known_device_is_heard_as_medium(facts: dict[str, Any]) -> None:
    verdict = risk_rules.judge(replace(QUIET, is_known_device=True, **facts), LIMITS)

    assert (verdict.level, verdict.score) == (Level.MEDIUM, 200)


def test_note_stays_a_note_on_a_known_device() -> None:
    assert found(is_known_device=True, is_staff_door=True, local=at(3)) == {"unusual_hour": Level.LOW}
