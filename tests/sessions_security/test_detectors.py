"""Spraying, stuffing and guessing are found; people who mistype their passwords are not."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import json
from collections.abc import Iterable
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from monitoring import alerts
from monitoring.alerts import Severity
from monitoring.signals import Signal, Watch
from sessions_security import detector_rules, detectors
from sessions_security.detector_rules import Everywhere, Source, Tried
from sessions_security.models import NetworkReputation, SignInAttempt

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
committed = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])

SPRAY, SLOW = settings.DETECTORS["spray"], settings.DETECTORS["slow_spray"]
STUFFING, GUESSING = settings.DETECTORS["stuffing"], settings.DETECTORS["guessing"]
HOME = "203.0.113.7"
WRONG, ACCEPTED, REFUSED = "wrong", "accepted", "refused"


def mac(account: int | str) -> bytes:
    return hashlib.sha256(str(account).encode()).digest()


def attempt(
    account: int | str,
    network: str = HOME,
    outcome: str = WRONG,
    *,
    ago: float = 30,
    agent: str = "a",
    **more: Any,
) -> SignInAttempt:
    return SignInAttempt(
        at=timezone.now() - dt.timedelta(seconds=ago), account_key=mac(account), network=network,
        agent_key=hashlib.sha256(agent.encode()).digest()[:16], purpose="login", outcome=outcome, **more,
    )  # fmt: skip


def keep(rows: Iterable[SignInAttempt]) -> None:
    SignInAttempt.objects.bulk_create(rows)


def spray(accounts: int, network: str = HOME, **more: Any) -> list[SignInAttempt]:
    """One wrong try on each of so many accounts; every program is another."""
    return [attempt(n, network, agent=f"{network} {n}", **more) for n in range(accounts)]


def rules_seen() -> set[str]:
    return set(Signal.objects.values_list("rule", flat=True))


def evidence_of(rule: alerts.Rule) -> dict[str, Any]:
    found: dict[str, Any] = Signal.objects.get(rule=rule.code).evidence[0]
    return found


class TestQuiet:
    def test_nothing_at_all_is_nothing(self) -> None:
        assert detectors.run() == 0
        assert not Signal.objects.exists()

    def test_busy_network_of_people_who_mistype_is_quiet(self) -> None:
        """A carrier's NAT: two hundred people, each fifth of whom needs two tries, five forget entirely."""
        people = range(200)
        keep(attempt(n, outcome=ACCEPTED, agent=f"{n}") for n in people)
        keep(attempt(n, ago=60, agent=f"{n}") for n in people if n % 5 == 0)
        keep(attempt(n, ago=70, agent=f"{n}") for n in range(200, 205) for _ in range(3))

        assert detectors.run() == 0

    def test_program_that_many_people_use_is_quiet(self) -> None:
        keep(attempt(n, f"10.0.{n}.1", ACCEPTED, agent="popular") for n in range(100))
        keep(attempt(n, f"10.0.{n}.1", agent="popular", ago=50) for n in range(0, 100, 4))

        assert detectors.run() == 0

    def test_person_who_forgot_and_moves_about_is_quiet(self) -> None:
        keep(attempt("me", f"10.1.{n}.1", agent="me") for n in range(4) for _ in range(5))

        assert detectors.run() == 0

    def test_rush_of_people_signing_in_everywhere_is_quiet(self) -> None:
        keep(attempt(n, f"10.{n % 200}.0.1", ACCEPTED, agent=f"{n}") for n in range(800))
        keep(attempt(n, f"10.{n % 200}.0.1", ago=40, agent=f"{n}") for n in range(250))

        assert detectors.run() == 0

    def test_usual_share_that_is_high_by_nature_raises_the_bar(self) -> None:
        for hour in range(24):
            keep(attempt(n, ago=3_600 * (hour + 1), network="198.51.100.1", agent=f"{hour} {n}")
                 for n in range(12))  # fmt: skip
            keep(attempt(n, ago=3_600 * (hour + 1), network="198.51.100.1", outcome=ACCEPTED, agent="x")
                 for n in range(100, 108))  # fmt: skip
        keep(attempt(n, f"10.{n % 40}.0.1", agent=f"{n}") for n in range(240))
        keep(attempt(n + 1_000, f"10.{n % 40}.0.1", ACCEPTED, agent=f"{n}") for n in range(60))

        detectors.run()

        assert detectors.STUFFING.code not in rules_seen()


class TestSpray:
    def test_spray_of_one_network_is_found_with_its_evidence(self) -> None:
        keep(spray(SPRAY["accounts"]))

        assert detectors.run() == 1

        signal = Signal.objects.get()
        assert (signal.rule, signal.entity_type, signal.entity_id) == ("detector.spray", "network", HOME)
        assert signal.severity == Severity.HIGH
        evidence = evidence_of(detectors.SPRAY)
        assert evidence["failed_accounts"] == evidence["failures"] == SPRAY["accounts"]
        assert evidence["first"] <= evidence["last"]
        assert set(evidence["account_macs"]) <= {mac(n).hex() for n in range(SPRAY["accounts"])}
        assert evidence["opened_accounts"] == 0

    def test_one_account_fewer_is_quiet(self) -> None:
        keep(spray(SPRAY["accounts"] - 1))

        assert detectors.run() == 0

    def test_refused_attempts_count_as_failed(self) -> None:
        keep(spray(SPRAY["accounts"], outcome=REFUSED))

        assert detectors.run() == 1

    def test_own_account_signed_into_again_and_again_does_not_hide_it(self) -> None:
        keep(spray(SPRAY["accounts"] + 5))
        keep(attempt("mine", outcome=ACCEPTED, ago=20, agent=f"m{n}") for n in range(300))

        detectors.run()

        assert detectors.SPRAY.code in rules_seen()

    def test_older_attempts_are_not_of_the_window(self) -> None:
        keep(spray(SPRAY["accounts"], ago=SPRAY["window"] + 60))
        keep([attempt("last")])

        assert detectors.run() == 0

    def test_spray_that_goes_on_counts_up_and_one_that_is_over_does_not(self) -> None:
        keep(spray(SPRAY["accounts"]))
        detectors.run()
        keep([attempt("one more", ago=0)])
        detectors.run()
        assert Signal.objects.get().seen == 2
        later = timezone.now() + dt.timedelta(seconds=30)
        detectors.run(now=later)

        assert detectors.run(now=later + dt.timedelta(seconds=30)) == 0

    def test_account_it_got_into_is_critical_and_named_by_id(self) -> None:
        victim = "018f0000-0000-7000-8000-000000000001"
        keep(spray(SPRAY["accounts"]))
        keep([attempt("victim", outcome=ACCEPTED, ago=5, user_id=victim, agent="v")])
        keep([attempt("half way", outcome=ACCEPTED, ago=4, agent="w")])

        detectors.run()

        signal = Signal.objects.get(rule=detectors.SPRAY_SUCCESS.code)
        assert signal.severity == Severity.CRITICAL
        assert set(signal.evidence[0]["opened"]) == {victim, mac("half way").hex()}

    def test_who_signed_in_before_it_began_was_not_got_into(self) -> None:
        keep([attempt("early", outcome=ACCEPTED, ago=200, agent="e")])
        keep(spray(SPRAY["accounts"], ago=100))

        detectors.run()

        assert detectors.SPRAY_SUCCESS.code not in rules_seen()

    def test_network_is_distrusted_for_a_day(self) -> None:
        NetworkReputation.objects.create(
            network=HOME, score=50, updated_at=timezone.now(),
            expires_at=timezone.now() + dt.timedelta(days=30),
        )  # fmt: skip
        keep(spray(SPRAY["accounts"]))
        keep(spray(SPRAY["accounts"], "2001:db8::/64"))

        detectors.run()

        kept = {row.network: row for row in NetworkReputation.objects.all()}
        assert [kept[network].score for network in (HOME, "2001:db8::/64")] == [100, 100]
        assert kept[HOME].expires_at > timezone.now() + dt.timedelta(days=29)

    def test_slow_spray_is_found_over_a_day(self) -> None:
        step = (SLOW["window"] - 600) / SLOW["accounts"]
        keep(attempt(n, ago=20 + n * step, agent=f"{n}") for n in range(SLOW["accounts"]))

        detectors.run()

        assert rules_seen() == {"detector.slow_spray"}

    def test_slow_spray_with_one_account_fewer_is_quiet(self) -> None:
        step = (SLOW["window"] - 600) / SLOW["accounts"]
        keep(attempt(n, ago=20 + n * step, agent=f"{n}") for n in range(SLOW["accounts"] - 1))

        assert detectors.run() == 0

    def test_one_program_on_many_networks_is_found(self) -> None:
        keep(attempt(n, f"10.2.{n}.1", agent="tool/1.0") for n in range(SPRAY["accounts"]))

        detectors.run()

        assert rules_seen() == {"detector.agent_spray"}

    def test_attempts_without_a_network_name_none(self) -> None:
        keep(spray(SPRAY["accounts"], ""))

        assert detectors.run() == 0


class TestStuffing:
    @staticmethod
    def _rows(accounts: int, networks: int, ago: float = 30) -> list[SignInAttempt]:
        tries = max(1, -(-STUFFING["failures"] // accounts))
        numbers = itertools.count()
        return [
            attempt(n, f"10.3.{next(numbers) % networks}.1", agent=f"{n} {t}", ago=ago)
            for n in range(accounts)
            for t in range(tries)
        ]

    def test_many_networks_on_many_accounts_are_found(self) -> None:
        keep(self._rows(STUFFING["accounts"], STUFFING["networks"]))

        detectors.run()

        assert detectors.STUFFING.code in rules_seen()
        evidence = evidence_of(detectors.STUFFING)
        assert evidence["failed_networks"] == STUFFING["networks"]
        assert evidence["usual_failed_percent"] == detector_rules.USUAL_WHEN_UNKNOWN

    @pytest.mark.parametrize(("accounts", "networks"), [(-1, 0), (0, -1)])
    def test_fewer_accounts_or_networks_are_quiet(self, accounts: int, networks: int) -> None:
        keep(self._rows(STUFFING["accounts"] + accounts, STUFFING["networks"] + networks))

        detectors.run()

        assert detectors.STUFFING.code not in rules_seen()

    def test_slower_wave_is_found_in_the_hour(self) -> None:
        limits = settings.DETECTORS["stuffing_hour"]
        keep(
            attempt(n % limits["accounts"], f"10.4.{n % limits['networks']}.1", agent=f"{n}", ago=5 + n * 5)
            for n in range(limits["failures"])
        )

        detectors.run()

        assert evidence_of(detectors.STUFFING)["window_seconds"] == limits["window"]


class TestGuessing:
    def _rows(self, networks: int, failures: int) -> list[SignInAttempt]:
        return [attempt("one", f"10.5.{n % networks}.1", agent=f"{n}") for n in range(failures)]

    def test_many_networks_on_one_account_are_found(self) -> None:
        keep(self._rows(GUESSING["networks"], GUESSING["failures"]))

        detectors.run()

        signal = Signal.objects.get()
        assert (signal.rule, signal.entity_id) == ("detector.guessing", mac("one").hex())
        assert signal.severity == Severity.HIGH

    @pytest.mark.parametrize(("networks", "failures"), [(-1, 0), (0, -1)])
    def test_fewer_networks_or_tries_are_quiet(self, networks: int, failures: int) -> None:
        keep(self._rows(GUESSING["networks"] + networks, GUESSING["failures"] + failures))

        assert detectors.run() == 0

    def test_success_from_one_of_them_is_critical(self) -> None:
        keep(self._rows(GUESSING["networks"], GUESSING["failures"]))
        keep([attempt("one", "10.5.0.1", ACCEPTED, ago=3)])

        detectors.run()

        assert Signal.objects.get().severity == Severity.CRITICAL

    def test_owner_who_gets_in_at_home_does_not_make_it_critical(self) -> None:
        keep(self._rows(GUESSING["networks"], GUESSING["failures"]))
        keep([attempt("one", "192.0.2.1", ACCEPTED, ago=3)])

        detectors.run()

        assert Signal.objects.get().severity == Severity.HIGH


class TestWatch:
    def test_run_is_remembered(self) -> None:
        assert detectors.last_ran() is None
        now = timezone.now()

        detectors.run(now=now)

        assert detectors.last_ran() == now

    def test_silence_is_told_once_it_is_over(self) -> None:
        now = timezone.now()
        detectors.run(now=now - dt.timedelta(seconds=settings.DETECTORS_SILENT_SECONDS))
        detectors.run(now=now)
        assert not Signal.objects.exists()

        detectors.run(now=now + dt.timedelta(seconds=settings.DETECTORS_SILENT_SECONDS + 1))

        signal = Signal.objects.get()
        assert (signal.rule, signal.severity) == ("detector.silent", Severity.CRITICAL)
        assert signal.evidence[0]["seconds"] == settings.DETECTORS_SILENT_SECONDS + 1

    @committed
    def test_run_that_fails_says_so_and_is_not_counted_as_one(self, owner_dsn: str) -> None:
        detectors.run()
        before = detectors.last_ran()
        with capture_logs() as logged, psycopg.connect(owner_dsn, autocommit=True) as owner:
            owner.execute("ALTER TABLE sessions_security_signinattempt RENAME TO away")
            try:
                with pytest.raises(DatabaseError):
                    detectors.run()
            finally:
                owner.execute("ALTER TABLE away RENAME TO sessions_security_signinattempt")

        assert ("detectors_failed", "critical") in {(line["event"], line["log_level"]) for line in logged}
        assert detectors.last_ran() == before
        assert Watch.objects.get().last_failed_at is not None
        assert Signal.objects.get().rule == "detector.silent"


@given(
    good=st.integers(0, 400), mistyped=st.integers(0, 400), forgot=st.integers(0, 60), tries=st.integers(1, 9)
)
def test_network_of_people_is_never_a_spray(good: int, mistyped: int, forgot: int, tries: int) -> None:
    """However many people, and however often they mistype: when fewer than four of five fail, it is quiet."""
    accounts = good + mistyped + forgot
    failures = mistyped + forgot * tries
    seen = Source(good + mistyped + failures, failures, accounts, forgot)

    found = detector_rules.is_spray(seen, SPRAY)

    assert not found or forgot * 100 >= SPRAY["failed_percent"] * accounts
    assert not found or forgot >= SPRAY["accounts"]


@given(accounts=st.integers(1, 1_000), more=st.integers(0, 1_000))
def test_spray_on_more_accounts_stays_one(accounts: int, more: int) -> None:
    few, many = (Source(n, n, n, n) for n in (accounts, accounts + more))

    assert detector_rules.is_spray(many, SPRAY) >= detector_rules.is_spray(few, SPRAY)


@given(usual=st.integers(0, 1_000_000), failed=st.integers(0, 1_000_000), times=st.integers(1, 10))
def test_no_past_makes_an_attack_usual(usual: int, failed: int, times: int) -> None:
    seen = Everywhere(1_000, 950, 500, 500, max(usual, failed), min(usual, failed))

    assert detector_rules.alarming_percent(seen, times) <= detector_rules.HIGHEST_SHARE
    assert detector_rules.is_stuffing(seen, {**STUFFING, "times_usual": times})


@pytest.mark.parametrize(
    ("seen", "found"),
    [
        (Source(60, 60, 20, 20), True),
        (Source(61, 61, 20, 20), False),
        (Source(45, 20, 25, 20), True),
        (Source(46, 20, 26, 20), False),
    ],
    ids=["three tries each", "one try more", "four of five fail", "one success more"],
)
def test_spray_begins_exactly_at_its_numbers(seen: Source, found: bool) -> None:
    assert detector_rules.is_spray(seen, SPRAY) is found


def test_guessing_begins_exactly_at_its_numbers() -> None:
    assert detector_rules.is_guessing(Tried(20, 10), GUESSING)
    assert not detector_rules.is_guessing(Tried(19, 10), GUESSING)
    assert not detector_rules.is_guessing(Tried(20, 9), GUESSING)


_MANY = """
INSERT INTO sessions_security_signinattempt
    (id, at, account_key, network, agent_key, country, purpose, outcome, score)
SELECT gen_random_uuid(), now() - n * interval '0.1 seconds', sha256((n %% 300000)::text::bytea),
       host('10.0.0.0'::inet + (n * 7919::bigint) %% 90000), substr(sha256((n %% 5000)::text::bytea), 1, 16),
       '', 'login', CASE WHEN n %% 7 = 0 THEN 'wrong' ELSE 'accepted' END, 0
FROM generate_series(1, %s) AS n
"""


def _plan(query: Any, values: dict[str, Any]) -> str:
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN (FORMAT JSON) " + str(query), values)
        return json.dumps(cursor.fetchone())


def scans() -> int:
    """How often this transaction read the table of attempts from end to end.

    What others did, the emptying after the test before for one, is counted for all whenever it is reported.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'sessions_security_signinattempt'"
        )
        row = cursor.fetchone()
    return int(row[0])


@committed
def test_run_over_many_attempts_uses_indexes_and_few_statements(owner_dsn: str) -> None:
    with psycopg.connect(owner_dsn, autocommit=True) as owner:
        owner.execute(_MANY, [200_000])
        owner.execute("ANALYZE sessions_security_signinattempt")
    keep(spray(SPRAY["accounts"], "192.0.2.99", ago=1))
    now = timezone.now()
    look = detectors.Look(now, now - dt.timedelta(seconds=70))
    for query in (detectors._OF_NETWORKS, detectors._OF_AGENTS, detectors._OF_ACCOUNTS):
        for window in (600, 86_400):
            assert "Seq Scan" not in _plan(query, detectors._bounds(look, window))
    bounds = {"rows": detectors.ROWS_EVERYWHERE, "hourly": detectors.ROWS_AN_HOUR, "listed": 20}
    start = now - dt.timedelta(hours=1)
    assert "Seq Scan" not in _plan(detectors._EVERYWHERE, {"start": start, "now": now, **bounds})
    opened = {"network": HOME, "start": start, "now": now, "each": 2_000, "listed": 20}
    assert "Seq Scan" not in _plan(detectors._OPENED, opened)

    with transaction.atomic():
        before = scans()
        with CaptureQueriesContext(connection) as queries:
            detectors.run(now=now)
        found = scans() - before
        attempt_count = SignInAttempt.objects.count()
        counted = scans() - before

    assert "detector.spray" in rules_seen()
    assert len(queries) < 100  # a question for each candidate would be thousands
    assert attempt_count > 200_000
    assert (found, counted > 0) == (0, True)
