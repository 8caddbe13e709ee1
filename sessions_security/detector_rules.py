"""When many attempts to sign in are an attack: thresholds on counts. Imports no Django, reads no clock.

A share is of accounts, not of attempts: an attacker cannot dilute failures on many accounts by signing in to
an account of their own again and again. An account that got in during the window is not a failed one, so a
busy network of many people (an office, a carrier's NAT), whose mistyped passwords come right, stays quiet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LOWEST_SHARE, HIGHEST_SHARE = 50, 90
USUAL_WHEN_UNKNOWN = 20
"""Failed attempts in a hundred that are taken for usual where there are too few of the day before."""
FEWEST_TO_KNOW = 200


@dataclass(frozen=True, slots=True)
class Source:
    """What one network or one program did in a window."""

    attempts: int
    failures: int
    accounts: int
    failed_accounts: int
    """Accounts that were tried and never opened in the window."""


@dataclass(frozen=True, slots=True)
class Everywhere:
    """What all networks together did in a window, and on the day before it."""

    attempts: int
    failures: int
    failed_accounts: int
    failed_networks: int
    usual_attempts: int
    usual_failures: int


@dataclass(frozen=True, slots=True)
class Tried:
    """What was done to one account in a window."""

    failures: int
    failed_networks: int


def is_spray(seen: Source, limits: Mapping[str, int]) -> bool:
    """Say whether many accounts were tried a few times each, nearly all of them in vain."""
    return (
        seen.failed_accounts >= limits["accounts"]
        and seen.failures <= limits["tries_per_account"] * seen.failed_accounts
        and percent(seen.failed_accounts, seen.accounts) >= limits["failed_percent"]
    )


def is_stuffing(seen: Everywhere, limits: Mapping[str, int]) -> bool:
    """Say whether many networks failed on many accounts, far more often than usual."""
    return (
        seen.failures >= limits["failures"]
        and seen.failed_accounts >= limits["accounts"]
        and seen.failed_networks >= limits["networks"]
        and percent(seen.failures, seen.attempts) >= alarming_percent(seen, limits["times_usual"])
    )


def is_guessing(seen: Tried, limits: Mapping[str, int]) -> bool:
    """Say whether many networks failed on one account."""
    return seen.failed_networks >= limits["networks"] and seen.failures >= limits["failures"]


def usual_percent(seen: Everywhere) -> float:
    """Return how many of a hundred attempts failed on the day before."""
    if seen.usual_attempts < FEWEST_TO_KNOW:
        return USUAL_WHEN_UNKNOWN
    return percent(seen.usual_failures, seen.usual_attempts)


def alarming_percent(seen: Everywhere, times_usual: int) -> float:
    """Return the share of failures from which on it is not people who mistype.

    Never above `HIGHEST_SHARE`: an attack that lasts for days does not become usual.
    """
    return min(HIGHEST_SHARE, max(LOWEST_SHARE, times_usual * usual_percent(seen)))


def percent(part: int, whole: int) -> float:
    """Return the share of `part` in a hundred of `whole`; none of nothing is 0."""
    return 100 * part / whole if whole else 0.0
