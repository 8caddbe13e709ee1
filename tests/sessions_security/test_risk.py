"""Positive clearance for every sign-in: what refuses, for how long, and whom it must not keep out."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from accounts.models import LockoutCounter, User
from mestore.lib import ids
from mestore.lib.actor import Actor
from monitoring.models import AuditEvent
from monitoring.signals import Severity, Signal
from sessions_security import attempts, places, risk, risk_rules
from sessions_security.models import NetworkReputation, SignInAttempt, UserSession
from tests.factories import accounts as people

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])

HOME, ELSEWHERE = "190.24.3.4", "91.2.3.4"
PLACES = "91.0.0.0,91.255.255.255,ES,40.41,-3.70\n190.24.0.0,190.24.255.255,CO,4.61,-74.08\n"


@pytest.fixture
def located(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses of two countries."""
    path = tmp_path / "places.csv"
    path.write_text(PLACES)
    monkeypatch.setattr(places, "_provider", places.opened(str(path)))


@pytest.fixture
def buyer() -> User:
    made: User = people.BuyerFactory.create()
    return made


def status_of_guess(email: str) -> int:
    return int(login(email, "x", REMOTE_ADDR=HOME).status_code)


def login(email: str, password: str = people.PASSWORD, *, client: Client | None = None, **extra: Any) -> Any:
    return (client or Client()).post(
        "/api/v1/auth/login", json.dumps({"email": email, "password": password}),
        content_type="application/json", **extra,
    )  # fmt: skip


def think_ill_of(network: str, score: int) -> None:
    now = timezone.now()
    NetworkReputation.objects.create(
        network=network, score=score, updated_at=now, expires_at=now + dt.timedelta(days=30)
    )


def earlier(network: str, outcome: str, count: int, **values: Any) -> None:
    given = {
        "at": timezone.now() - dt.timedelta(minutes=10), "agent_key": bytes(16), "purpose": "api",
        "account_key": bytes(32),
    } | values  # fmt: skip
    SignInAttempt.objects.bulk_create(
        SignInAttempt(id=ids.uuid7(), network=network, outcome=outcome, **given) for _ in range(count)
    )


def test_settings_fill_every_threshold() -> None:
    assert risk.thresholds() == risk_rules.Thresholds(
        network_failures=20, account_failures=10, reputation_medium=40, reputation_high=60,
        reputation_critical=80, device_accounts=3, device_networks=5, attempts_in_five_minutes=10,
        per_good_account=3, travel_kmh=900, travel_km=300, business_hours=(6, 20),
        business_days=frozenset({1, 2, 3, 4, 5, 6}),
    )  # fmt: skip


def test_wrong_attempt_is_kept_without_its_name(buyer: User) -> None:
    typed = "my-secret-password@example.com"
    assert login(typed, "x").status_code == 401

    (row,) = SignInAttempt.objects.all()
    assert (row.outcome, row.user_id, row.network) == ("wrong", None, "127.0.0.1")
    assert bytes(row.account_key) == attempts.account_key(typed)
    assert b"secret" not in bytes(row.account_key)


def test_accepted_attempt_is_one_row_with_its_account(buyer: User) -> None:
    assert login(buyer.email).status_code == 200

    (row,) = SignInAttempt.objects.all()
    assert (row.outcome, row.user_id) == ("accepted", buyer.pk)


@pytest.mark.parametrize("door", ["login", "admin-login"])
def test_half_a_sign_in_says_nothing_of_where_its_owner_is(door: str, buyer: User) -> None:
    device = people.TotpDeviceFactory.create(user=buyer if door == "login" else people.AdminFactory.create())
    body = {"email": device.user.email, "password": people.PASSWORD}
    Client().post(f"/api/v1/auth/{door}", json.dumps(body), content_type="application/json")

    (row,) = SignInAttempt.objects.all()
    assert (row.outcome, row.user_id) == ("accepted", None)


@pytest.mark.parametrize(
    ("score", "level", "seconds"), [(60, "HIGH", 1_800), (79, "HIGH", 1_800), (80, "CRITICAL", 3_600)]
)
def test_bad_network_is_refused_like_a_lock(buyer: User, score: int, level: str, seconds: int) -> None:
    think_ill_of(HOME, score)

    right, wrong, unknown = (
        login(email, password, REMOTE_ADDR=HOME)
        for email, password in (
            (buyer.email, people.PASSWORD),
            ("b@example.com", "x"),
            ("c@example.com", "x"),
        )
    )

    def said(answer: Any) -> Any:
        body = json.loads(answer.content)
        return answer.status_code, answer["Retry-After"], body["error_code"], body["detail"]

    assert said(right) == said(wrong) == said(unknown)
    assert said(right)[:2] == (429, str(seconds))
    assert not UserSession.objects.exists()
    refused = AuditEvent.objects.filter(type="auth.sign_in.risk_refused")
    assert refused.count() == 3
    signal = Signal.objects.get(rule="signin.risk")
    assert (signal.entity_type, signal.entity_id, signal.seen) == ("network", HOME, 3)
    assert signal.severity == Severity[level]


def test_lock_is_of_the_pair_not_of_the_account_nor_the_network(buyer: User) -> None:
    other = people.BuyerFactory.create()
    think_ill_of(HOME, 60)
    assert login(buyer.email, REMOTE_ADDR=HOME).status_code == 429
    NetworkReputation.objects.all().delete()

    assert login(buyer.email, REMOTE_ADDR=HOME).status_code == 429  # locked, not assessed any more
    assert login(buyer.email, REMOTE_ADDR="190.24.3.5").status_code == 200
    assert login(other.email, REMOTE_ADDR=HOME).status_code == 200
    assert [row.kind for row in LockoutCounter.objects.all() if row.locked_until] == ["risk:lane"]


def test_refused_by_a_lock_is_kept_as_refused(buyer: User) -> None:
    think_ill_of(HOME, 60)
    login(buyer.email, REMOTE_ADDR=HOME)
    login(buyer.email, REMOTE_ADDR=HOME)

    assert sorted(SignInAttempt.objects.values_list("outcome", flat=True)) == ["refused", "refused"]


def test_owner_on_a_known_device_comes_in_from_the_worst_network(buyer: User) -> None:
    browser = Client()
    assert login(buyer.email, client=browser, REMOTE_ADDR=HOME).status_code == 200
    think_ill_of(HOME, 100)
    earlier(HOME, "wrong", 300)

    assert login(buyer.email, REMOTE_ADDR=HOME).status_code == 429
    assert login(buyer.email, client=browser, REMOTE_ADDR=HOME).status_code == 200
    assert UserSession.objects.order_by("-created_at")[0].risk == 200


@pytest.mark.parametrize(
    ("failures", "good", "status"), [(19, 0, 200), (20, 0, 429), (22, 1, 200), (23, 1, 429)]
)
def test_office_with_good_accounts_may_err_more(buyer: User, failures: int, good: int, status: int) -> None:
    earlier(HOME, "wrong", failures)
    for number in range(good):
        earlier(HOME, "accepted", 3, account_key=bytes([number + 1]) * 32)

    assert login(buyer.email, REMOTE_ADDR=HOME).status_code == status


def test_failures_of_yesterday_are_over(buyer: User) -> None:
    earlier(HOME, "wrong", 50, at=timezone.now() - dt.timedelta(minutes=61))

    assert login(buyer.email, REMOTE_ADDR=HOME).status_code == 200


def test_guesses_at_an_account_are_told_and_do_not_lock_it(buyer: User) -> None:
    earlier("198.51.100.7", "wrong", 40, account_key=attempts.account_key(buyer.email))

    assert login(buyer.email, REMOTE_ADDR=HOME).status_code == 200
    assert UserSession.objects.get().risk == 200


def test_burst_of_guesses_at_once_is_stopped(
    buyer: User, race: Callable[[Sequence[Callable[[], Any]]], list[Any]]
) -> None:
    names = [f"guess{number}@example.com" for number in range(14)]
    earlier(HOME, "wrong", 9, at=timezone.now() - dt.timedelta(seconds=30))

    answers = race([partial(status_of_guess, name) for name in names])

    assert set(answers) == {401, 429}
    assert login(buyer.email, REMOTE_ADDR=HOME).status_code == 429


def test_wrong_attempts_wear_a_network_down_and_time_mends_it(settings: Any) -> None:
    for number in range(3):
        login(f"guess{number}@example.com", "x", REMOTE_ADDR=HOME)
    known = NetworkReputation.objects.get()
    assert (known.network, known.score) == (HOME, 26)

    attempts.blame(HOME, 2, now=timezone.now() + dt.timedelta(hours=4))
    assert NetworkReputation.objects.get().score == 24
    attempts.blame(HOME, 2, now=timezone.now() + dt.timedelta(days=20))
    assert NetworkReputation.objects.get().score == 22
    attempts.blame(HOME, 1_000)
    assert NetworkReputation.objects.get().score == 100


def test_blame_by_many_at_once_is_counted(
    race: Callable[[Sequence[Callable[[], Any]]], list[Any]],
) -> None:
    race([lambda: attempts.blame(HOME, 2)] * 8)

    assert NetworkReputation.objects.get().score == 36


@pytest.mark.usefixtures("located")
def test_nobody_is_in_two_countries_within_an_hour(buyer: User) -> None:
    assert login(buyer.email, REMOTE_ADDR=HOME).status_code == 200

    assert login(buyer.email, REMOTE_ADDR=ELSEWHERE).status_code == 429
    assert login(buyer.email, REMOTE_ADDR="190.24.9.9").status_code == 200


@pytest.mark.usefixtures("located")
def test_new_country_after_a_flight_goes_on_as_medium(buyer: User) -> None:
    login(buyer.email, REMOTE_ADDR=HOME)
    SignInAttempt.objects.update(at=timezone.now() - dt.timedelta(hours=12))

    assert login(buyer.email, REMOTE_ADDR=ELSEWHERE).status_code == 200
    session = UserSession.objects.order_by("-created_at")[0]
    assert (session.country, session.risk) == ("ES", 200)


def test_without_a_source_no_place_decides(buyer: User) -> None:
    login(buyer.email, REMOTE_ADDR=HOME)

    assert login(buyer.email, REMOTE_ADDR=ELSEWHERE).status_code == 200
    assert set(UserSession.objects.values_list("country", "risk")) == {("", 0)}


@pytest.mark.parametrize("fault", [ValueError("damaged"), KeyError("setting"), RecursionError()])
def test_assessment_that_fails_lets_nobody_in(
    buyer: User, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def broken(*_args: object) -> None:
        raise fault

    monkeypatch.setattr(risk_rules, "judge", broken)
    answer = login(buyer.email, REMOTE_ADDR=HOME)
    monkeypatch.undo()

    assert (answer.status_code, answer["Retry-After"]) == (429, "1800")
    assert login(buyer.email, REMOTE_ADDR=HOME).status_code == 429  # the lane stays locked
    assert login(buyer.email, REMOTE_ADDR=ELSEWHERE).status_code == 200
    signal = Signal.objects.get()
    assert (signal.rule, signal.severity) == ("signin.risk_not_assessed", Severity.CRITICAL)


def test_database_that_is_away_is_503_and_locks_nobody(buyer: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_args: object, **_given: object) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(attempts, "begin", away)
    answer = login(buyer.email)
    monkeypatch.undo()

    assert answer.status_code == 503
    assert not UserSession.objects.exists()
    assert login(buyer.email).status_code == 200


def test_nobody_is_in_without_clearance(buyer: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(risk.Assessment, "__call__", lambda *_args: None)

    assert login(buyer.email).status_code == 503
    assert not UserSession.objects.exists()


def test_browser_that_tries_many_names_is_noticed(buyer: User) -> None:
    who = Actor(kind="anonymous", address=HOME, agent="b", device="ab" * 32)
    for number in range(3):
        attempts.begin(f"n{number}@example.com", purpose="api", place=None, device=None, by=who)

    begun = attempts.begin("n3@example.com", purpose="api", place=None, device=None, by=who)
    plain = attempts.begin(
        "n3@example.com", purpose="api", place=None, device=None, by=Actor(kind="anonymous", address=HOME)
    )

    assert (begun.device_accounts, begun.device_networks) == (4, 1)
    assert (plain.device_accounts, plain.device_networks) == (0, 0)
