"""How risky an attempt to sign in is: pure rules over what was counted, no database, no clock.

Each rule that speaks gives a finding with a level from 1 to 4. The whole is 0.7 times the worst level and 0.3
times the mean of the findings (contract 4.1); from 3.5 it is critical, from 2.5 high, from 1.5 medium. The
mean leaves out notes (level 1): what is no reason for anything must not make a reason look smaller.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

EARTH_RADIUS_KM = 6_371.0088
"""The mean radius (IUGG)."""


class Level(IntEnum):
    """How bad it is; the numbers are what is averaged."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From where on a rule speaks. The values are those of the setting `SIGN_IN_RISK`."""

    network_failures: int
    account_failures: int
    reputation_medium: int
    reputation_high: int
    reputation_critical: int
    device_accounts: int
    device_networks: int
    attempts_in_five_minutes: int
    per_good_account: int
    travel_kmh: int
    travel_km: int
    business_hours: tuple[int, int]
    business_days: frozenset[int]


@dataclass(frozen=True, slots=True)
class Point:
    """Somewhere on earth, in degrees."""

    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True)
class Journey:
    """From the last sign-in of the account to this attempt."""

    start: Point
    end: Point
    hours: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about one attempt when it begins. Counts do not contain the attempt itself."""

    network_failures: int  # wrong credentials from the network in the last hour
    network_burst: int  # the same in the last five minutes, and what is still being answered
    good_accounts: int  # different accounts that the network signed in to in the last hour
    account_failures: int  # wrong credentials for the name in the last hour, from anywhere
    reputation: int  # of the network, 0 to 100
    device_accounts: int  # different names tried with this browser's cookie in the last day, this one too
    device_networks: int  # networks it was used from, this one too
    journey: Journey | None  # None when one of the two places is not known
    is_new_country: bool | None  # None when the country, or any earlier one, is not known
    is_staff_door: bool
    local: dt.datetime  # the moment, on the clock of the business
    is_known_device: bool  # of the very account


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that spoke, and how loud."""

    rule: str
    level: Level


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the findings come to. `score` is in hundredths of a level, 0 when no rule spoke."""

    level: Level
    score: int
    findings: tuple[Finding, ...]


def judge(facts: Facts, limits: Thresholds) -> Verdict:
    """Weigh what is known about one attempt.

    On a known device of the account no finding is worse than medium: what strangers, or neighbours in the
    network, do to an account must not keep its owner out.
    """
    found = [
        finding
        for finding in (
            *_failures(facts, limits),
            _reputation(facts, limits),
            *_device(facts, limits),
            *_geography(facts, limits),
            _hours(facts, limits),
        )
        if finding is not None
    ]
    if facts.is_known_device:
        found = [Finding(one.rule, min(one.level, Level.MEDIUM)) for one in found]
    return aggregate(found)


def aggregate(findings: Sequence[Finding]) -> Verdict:
    """Return 0.7 × worst + 0.3 × mean, and its level. Exact: whole numbers, no rounding before comparing."""
    if not findings:
        return Verdict(Level.LOW, 0, ())
    worst = max(one.level for one in findings)
    heard = [one.level for one in findings if one.level > Level.LOW] or [Level.LOW]
    hundredfold = 70 * worst * len(heard) + 30 * sum(heard)  # times the number of those heard
    score = hundredfold // len(heard)
    level = Level.LOW
    for bound, reached in ((350, Level.CRITICAL), (250, Level.HIGH), (150, Level.MEDIUM)):
        if hundredfold >= bound * len(heard):
            level = reached
            break
    return Verdict(level, score, tuple(findings))


def distance_km(start: Point, end: Point) -> float:
    """Return the great-circle distance (haversine)."""
    lat_a, lat_b = math.radians(start.latitude), math.radians(end.latitude)
    half_lat = (lat_b - lat_a) / 2
    half_lon = math.radians(end.longitude - start.longitude) / 2
    chord = math.sin(half_lat) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin(half_lon) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(chord)))


def is_impossible(journey: Journey, limits: Thresholds) -> bool:
    """Say whether nobody travels that far in that time."""
    distance = distance_km(journey.start, journey.end)
    return distance > limits.travel_km and distance > limits.travel_kmh * max(journey.hours, 0.0)


def _failures(facts: Facts, limits: Thresholds) -> list[Finding | None]:
    # Behind one address there may be a whole office: what it may get wrong grows with the accounts it gets
    # right. Its own accounts buy a guesser little.
    allowance = limits.per_good_account * facts.good_accounts
    return [
        _finding(
            "network_failures", Level.HIGH, facts.network_failures >= limits.network_failures + allowance
        ),
        _finding("velocity", Level.HIGH, facts.network_burst > limits.attempts_in_five_minutes + allowance),
        _finding("account_failures", Level.MEDIUM, facts.account_failures >= limits.account_failures),
    ]


def _reputation(facts: Facts, limits: Thresholds) -> Finding | None:
    if facts.reputation >= limits.reputation_critical:
        return Finding("network_reputation", Level.CRITICAL)
    if facts.reputation >= limits.reputation_high:
        return Finding("network_reputation", Level.HIGH)
    return _finding("network_reputation", Level.MEDIUM, facts.reputation >= limits.reputation_medium)


def _device(facts: Facts, limits: Thresholds) -> list[Finding | None]:
    return [
        _finding("device_accounts", Level.MEDIUM, facts.device_accounts > limits.device_accounts),
        _finding("device_networks", Level.MEDIUM, facts.device_networks > limits.device_networks),
    ]


def _geography(facts: Facts, limits: Thresholds) -> list[Finding | None]:
    flies = facts.journey is not None and is_impossible(facts.journey, limits)
    return [
        _finding("impossible_travel", Level.HIGH, flies),
        _finding("new_country", Level.MEDIUM, facts.is_new_country is True),
    ]


def _hours(facts: Facts, limits: Thresholds) -> Finding | None:
    first, last = limits.business_hours
    at_work = facts.local.isoweekday() in limits.business_days and first <= facts.local.hour < last
    return _finding("unusual_hour", Level.LOW, facts.is_staff_door and not at_work)


def _finding(rule: str, level: Level, speaks: bool) -> Finding | None:
    return Finding(rule, level) if speaks else None
