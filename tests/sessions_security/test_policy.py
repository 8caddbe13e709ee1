from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings

from sessions_security import policy

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TABLE: dict[str, dict[str, int | None]] = {
    "BUYER": {"idle_seconds": 60, "absolute_seconds": 90, "max_sessions": 5},
    "SYSTEM": {"idle_seconds": None, "absolute_seconds": 90, "max_sessions": 5},
}


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"BUYER": {}},
        {"BUYER": {"idle_seconds": 60, "absolute_seconds": 0, "max_sessions": 5}},
        {"BUYER": {"idle_seconds": 60, "absolute_seconds": None, "max_sessions": 5}},
        {"BUYER": {"idle_seconds": 0, "absolute_seconds": 90, "max_sessions": 5}},
        {"BUYER": {"idle_seconds": 60, "absolute_seconds": 90, "max_sessions": 0}},
        {"BUYER": {"idle_seconds": 60, "absolute_seconds": -1, "max_sessions": 1}},
    ],
)
def test_role_without_a_usable_line_gets_no_session(table: dict[str, dict[str, int | None]]) -> None:
    with pytest.raises(policy.NoPolicy):
        policy.for_role(table, "BUYER")


def test_idle_end_never_passes_the_absolute_end() -> None:
    rule = policy.SessionPolicy(idle=timedelta(hours=2), absolute=timedelta(hours=1), max_sessions=1)

    assert rule.ends(NOON) == (NOON + timedelta(hours=1), NOON + timedelta(hours=1))


def test_role_without_idle_ends_only_absolutely() -> None:
    assert policy.for_role(TABLE, "SYSTEM").ends(NOON) == (None, NOON + timedelta(seconds=90))


def test_idle_comes_first_when_it_is_shorter() -> None:
    assert policy.for_role(TABLE, "BUYER").ends(NOON) == (
        NOON + timedelta(seconds=60),
        NOON + timedelta(seconds=90),
    )


@pytest.mark.parametrize(
    ("role", "idle_minutes", "absolute_hours", "sessions"),
    [
        ("BUYER", 60, 24, 5),
        ("VENDOR", 60, 24, 3),
        ("ADMIN", 15, 12, 2),
        ("SUPERUSER", 15, 12, 1),
        ("SYSTEM", None, 24, 20),
    ],
)
def test_settings_hold_the_published_table(
    role: str, idle_minutes: int | None, absolute_hours: int, sessions: int
) -> None:
    rule = policy.for_role(settings.SESSION_POLICY, role)

    assert rule.idle == (timedelta(minutes=idle_minutes) if idle_minutes else None)
    assert rule.absolute == timedelta(hours=absolute_hours)
    assert rule.max_sessions == sessions
