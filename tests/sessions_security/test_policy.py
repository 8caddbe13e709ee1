from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from timeit import repeat

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

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


@pytest.mark.parametrize("wrong", [{"idle_seconds": "60"}, {"absolute_seconds": "90"}, {"max_sessions": "5"}])
def test_words_in_place_of_numbers_are_no_policy(wrong: dict[str, str]) -> None:
    with pytest.raises(policy.NoPolicy):
        policy.for_role({"BUYER": {**TABLE["BUYER"], **wrong}}, "BUYER")


# What must have been proved


@pytest.mark.parametrize(
    ("role", "amr", "enough"),
    [
        ("BUYER", [], False),
        ("BUYER", ["otp"], False),
        ("BUYER", ["key"], False),
        ("BUYER", ["mfa"], False),
        ("BUYER", ["pwd"], True),
        ("BUYER", ["pwd", "otp"], True),
        ("BUYER", ["swk", "mfa"], True),
        ("VENDOR", ["impersonation"], False),
        ("VENDOR", ["pwd"], True),
        ("ADMIN", ["pwd"], False),
        ("ADMIN", ["otp"], False),
        ("ADMIN", ["pwd", "pwd"], False),
        ("ADMIN", ["pwd", "mfa"], False),
        ("ADMIN", ["key"], False),
        ("ADMIN", ["impersonation"], False),
        ("ADMIN", ["pwd", "otp"], True),
        ("ADMIN", ["pwd", "hwk"], True),
        ("ADMIN", ["hwk", "mfa"], True),
        ("SUPERUSER", ["pwd"], False),
        ("SUPERUSER", ["swk", "mfa"], True),
        ("SUPERUSER", ["break_glass"], True),
        ("SYSTEM", ["pwd"], False),
        ("SYSTEM", ["pwd", "otp"], False),
        ("SYSTEM", ["hwk"], False),
        ("SYSTEM", ["break_glass"], False),
        ("SYSTEM", ["key"], True),
        ("SYSTEM", ["assertion"], True),
        ("NOBODY", ["pwd", "otp", "hwk", "key"], False),
    ],
)
def test_session_needs_what_its_role_asks_for(role: str, amr: list[str], enough: bool) -> None:
    assert policy.is_assured(settings.SESSION_POLICY, role, amr) is enough


@pytest.mark.parametrize("level", [None, "", "Password", "anything"])
def test_unknown_assurance_is_never_reached(level: str | None) -> None:
    table = {"BUYER": {**TABLE["BUYER"], "assurance": level}}

    assert not policy.is_assured(table, "BUYER", ["pwd", "otp", "hwk", "key", "break_glass"])
    with pytest.raises(policy.NoPolicy):
        policy.rows(table, settings.SESSION_CHANGE_POLICY)


# From elsewhere

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"
CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/131.0 Safari/537.36"
BEGAN = policy.Origin("203.0.113.7", "CO", FIREFOX)
SIX = policy.Origin("2001:db8:1:2::/64", "CO", FIREFOX)


def moved(began: policy.Origin = BEGAN, confirmed: Collection[str] = (), **now: str) -> frozenset[str]:
    values = {"address": began.address, "country": began.country, "agent": began.agent, **now}
    return policy.changes(began, confirmed, policy.Origin(**values))


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("203.0.113.7", set()),
        ("203.0.113.0", set()),
        ("203.0.113.255", set()),
        ("::ffff:203.0.113.9", set()),
        ("203.0.112.255", {"network_near"}),
        ("203.0.114.0", {"network_near"}),
        ("203.0.255.1", {"network_near"}),
        ("203.1.0.0", {"network_near", "network_far"}),
        ("202.255.255.255", {"network_near", "network_far"}),
        ("2001:db8::1", {"network_near", "network_far"}),
        ("", {"network_near", "network_far"}),
        ("nonsense", {"network_near", "network_far"}),
    ],
)
def test_edges_of_networks(address: str, found: set[str]) -> None:
    assert moved(address=address) == found


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("2001:db8:1:2::1", set()),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", set()),
        ("2001:db8:1:3::1", {"network_near"}),
        ("2001:db8:1:ffff::1", {"network_near"}),
        ("2001:db8:2:2::1", {"network_near", "network_far"}),
        ("2001:db8:0:ffff::1", {"network_near", "network_far"}),
    ],
)
def test_edges_of_networks_of_version_six(address: str, found: set[str]) -> None:
    assert moved(SIX, address=address) == found


def test_session_that_does_not_know_where_it_began_is_everywhere_elsewhere() -> None:
    assert moved(policy.Origin("", "", ""), address="203.0.113.7") == {"network_near", "network_far"}
    assert moved(policy.Origin("", "", "")) == {"network_near", "network_far"}


def test_confirmed_network_is_no_change_and_its_neighbour_is() -> None:
    confirmed = ["198.51.100.0/24"]

    assert moved(confirmed=confirmed, address="198.51.100.200", country="PE") == set()
    assert moved(confirmed=confirmed, address="198.51.101.1") == {"network_near", "network_far"}


@pytest.mark.parametrize(
    ("there", "here", "differs"),
    [("CO", "PE", True), ("CO", "CO", False), ("", "PE", False), ("CO", "", False), ("", "", False)],
)
def test_country_that_is_not_known_decides_nothing(there: str, here: str, differs: bool) -> None:
    began = policy.Origin(BEGAN.address, there, FIREFOX)

    assert ("country" in moved(began, address="198.51.100.1", country=here)) is differs


def test_country_is_not_asked_where_the_network_is_the_same() -> None:
    assert moved(country="PE") == set()


@pytest.mark.parametrize(
    ("agent", "family"),
    [
        ("", ("", "")),
        (FIREFOX, ("Firefox", "Linux")),
        (FIREFOX.replace("133", "134"), ("Firefox", "Linux")),
        (CHROME, ("Chrome", "Windows")),
        (CHROME + " Edg/131.0", ("Edge", "Windows")),
        (CHROME + " OPR/115.0", ("Opera", "Windows")),
        (CHROME.replace("Chrome/", "HeadlessChrome/"), ("Headless Chrome", "Windows")),
        ("Mozilla/5.0 (Linux; Android 14; Pixel 8) Chrome/131.0 Mobile Safari/537.36", ("Chrome", "Android")),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) CriOS/131.0 Mobile", ("Chrome", "iOS")),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) FxiOS/131.0 Mobile", ("Firefox", "iOS")),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Version/17.5 Safari/605.1.15",
            ("Safari", "macOS"),
        ),
        ("okhttp/4.12.0", ("okhttp", "")),
        ("okhttp/5.0.0", ("okhttp", "")),
        ("python-requests/2.32", ("python-requests", "")),
        ("MeStore/2.1 (Android 14)", ("mestore", "Android")),
        ("\x00Fire\nfox/1.0", ("Firefox", "")),
        ("curl", ("curl", "")),
    ],
)
def test_programs_are_known_without_their_versions(agent: str, family: tuple[str, str]) -> None:
    assert policy.family(agent) == family


def test_another_program_or_system_is_a_change_a_new_version_is_none() -> None:
    assert moved(agent=CHROME) == {"agent"}
    assert moved(agent=FIREFOX.replace("Linux", "Windows")) == {"agent"}
    assert moved(agent=FIREFOX.replace("133.0", "140.2")) == set()
    assert moved(agent="") == {"agent"}


def test_program_is_compared_as_far_as_a_session_keeps_it() -> None:
    long = "x" * 250 + " Firefox/1" + " Linux" * 1_000

    assert moved(policy.Origin(BEGAN.address, "", long[:256]), agent=long) == set()


@given(st.text(max_size=2_000), st.text(max_size=2_000))
def test_whatever_is_sent_is_compared_and_nothing_raises(address: str, agent: str) -> None:
    assert moved(address=address, agent=agent) <= set(policy.CHANGES)
    assert moved(policy.Origin(address, "", agent), agent=agent[:256]) <= {
        "network_near",
        "network_far",
        "agent",
    }


LINE = {"network_near": "ignore", "network_far": "note", "country": "challenge", "agent": "end"}


@pytest.mark.parametrize(
    ("found", "answer"),
    [
        ([], "ignore"),
        (["network_near"], "ignore"),
        (["network_near", "network_far"], "note"),
        (["network_far", "country"], "challenge"),
        (["agent", "network_near"], "end"),
        (["network_near", "network_far", "country", "agent"], "end"),
    ],
)
def test_strictest_answer_counts(found: list[policy.Change], answer: str) -> None:
    assert policy.answer_to({"BUYER": LINE}, "BUYER", found) == answer


@pytest.mark.parametrize("change", policy.CHANGES)
@pytest.mark.parametrize("word", [None, "", "END", "allow"])
def test_incomplete_line_is_no_policy_whatever_changed(change: str, word: str | None) -> None:
    line = {name: text for name, text in {**LINE, change: word}.items() if text is not None}

    for found in ([], ["network_near"]):
        with pytest.raises(policy.NoPolicy):
            policy.answer_to({"BUYER": line}, "BUYER", found)  # type: ignore[arg-type]  # plain words
    with pytest.raises(policy.NoPolicy):
        policy.answer_to({}, "BUYER", [])


def test_settings_hold_the_published_answers() -> None:
    shown = {row.role: tuple(row.changes.values()) for row in rows()}

    assert shown == {
        "BUYER": ("ignore", "note", "challenge", "challenge"),
        "VENDOR": ("ignore", "note", "challenge", "challenge"),
        "ADMIN": ("note", "challenge", "end", "end"),
        "SUPERUSER": ("note", "challenge", "end", "end"),
        "SYSTEM": ("ignore", "ignore", "ignore", "ignore"),
    }


def test_rows_show_every_role_whole() -> None:
    by_role = {row.role: row for row in rows()}

    assert (by_role["ADMIN"].idle_seconds, by_role["ADMIN"].absolute_seconds) == (900, 43_200)
    assert (by_role["ADMIN"].max_sessions, by_role["ADMIN"].assurance) == (2, "password+factor")
    assert by_role["SYSTEM"].idle_seconds is None
    assert tuple(by_role["ADMIN"].changes) == policy.CHANGES


def rows() -> list[policy.Row]:
    return policy.rows(settings.SESSION_POLICY, settings.SESSION_CHANGE_POLICY)


def test_request_from_where_the_session_began_costs_microseconds() -> None:
    seconds = min(repeat(moved, number=2_000, repeat=5)) / 2_000

    assert seconds < 50e-6  # 1 measured; the rest is for machines under load
