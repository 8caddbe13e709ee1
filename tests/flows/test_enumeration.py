"""Nobody learns which accounts exist: the same status, the same body, the same time, the same limits.

What makes the time of an answer is counted: Argon2's computations with their parameters, the work of the
processor in this process, and the statements. The clock on the wall would measure the machine's neighbours.
"""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from argon2 import low_level
from django.conf import settings
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import hashers, passwords
from accounts.models import User
from tests.factories import accounts as people

DATABASES = ["default", "audit"]
pytestmark = pytest.mark.django_db(databases=DATABASES)
committed = pytest.mark.django_db(transaction=True, databases=[*DATABASES, "owner"])

NOBODY = "nobody@example.com"
NEW_PASSWORD = "four blue lamps on the river"
PATIENCE_SECONDS = 120
OF_THE_REQUEST = {"request_id", "trace_id", "timestamp", "instance", "recovery_token"}
TOLERANCE = 0.25  # a hash that is not computed is two thirds of the work
STATEMENTS = 3  # more or less, of a dozen: a row that is there is written, one that is not is looked for


def post(path: str, body: Any, **extra: Any) -> Any:
    return Client().post(f"/api/v1/auth/{path}", json.dumps(body), content_type="application/json", **extra)


def said(answer: Any) -> tuple[int, dict[str, Any], dict[str, str]]:
    """What an answer says: without what belongs to the one request."""
    body = {name: value for name, value in answer.json().items() if name not in OF_THE_REQUEST}
    named = ("Content-Type", "WWW-Authenticate", "Retry-After", "Cache-Control")
    return answer.status_code, body, {name: answer[name] for name in named if name in answer}


@pytest.fixture
def _no_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask as often as a measurement needs."""
    many = [(1_000_000, 60)]
    monkeypatch.setattr(settings, "RATE_LIMITS", {**settings.RATE_LIMITS, "anonymous": many})
    monkeypatch.setattr(settings, "SIGN_IN_RATE_LIMITS", {"network": many, "account": many})
    monkeypatch.setattr(settings, "REGISTRATIONS_PER_HOUR", 1_000_000)
    monkeypatch.setattr(settings, "RECOVERY_RATE_LIMITS", {"pair": many, "account": many})
    wide = {"network": 100_000, "account": 100_000, "window_seconds": 60, "lock_seconds": 60}
    monkeypatch.setattr(settings, "LOGIN_LIMITS", dict.fromkeys(settings.LOGIN_LIMITS, wide))


@pytest.fixture
def _real_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash that is much of the work, as in production, and still small."""
    monkeypatch.setattr(settings, "ARGON2_TIME_COST", 2)
    monkeypatch.setattr(settings, "ARGON2_MEMORY_KIB", 16_384)


def sign_in(path: str, email: str) -> Any:
    return post(path, {"email": email, "password": "not the password"})


def forgot(email: str) -> Any:
    return post("forgot-password", {"email": email})


def register(email: str) -> Any:
    return post("register", {"email": email, "password": NEW_PASSWORD})


def recover(email: str) -> Any:
    return post("recovery/begin", {"email": email})


ASKED: dict[str, tuple[Callable[[str], Any], Any]] = {
    "login": (partial(sign_in, "login"), people.BuyerFactory),
    "login as staff": (partial(sign_in, "login"), people.AdminFactory),
    "admin-login": (partial(sign_in, "admin-login"), people.AdminFactory),
    "admin-login as buyer": (partial(sign_in, "admin-login"), people.BuyerFactory),
    "forgot-password": (forgot, people.BuyerFactory),
    "recovery": (recover, people.BuyerFactory),
}


def account(factory: Any, **values: Any) -> User:
    made: User = factory.create(password=passwords.hash_new(people.PASSWORD), **values)
    return made


@pytest.mark.usefixtures("_no_limits")
@pytest.mark.parametrize("what", ASKED)
@pytest.mark.parametrize("is_active", [True, False])
def test_known_and_unknown_get_the_same_answer(what: str, is_active: bool) -> None:
    ask, factory = ASKED[what]
    user = account(factory, is_active=is_active)

    assert said(ask(user.email)) == said(ask(NOBODY))


@committed
@pytest.mark.usefixtures("_no_limits")
def test_hidden_registration_answers_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "REGISTRATION_HIDE_EXISTING", True)
    user = account(people.BuyerFactory)

    taken, free = register(user.email), register("new@example.com")

    assert said(taken) == said(free)
    assert taken.status_code == 202
    assert User.objects.filter(email_key="new@example.com").exists()


@pytest.mark.parametrize(("path", "door"), [("login", "login"), ("admin-login", "admin_login")])
def test_locks_and_limits_read_the_same(path: str, door: str) -> None:
    user = account(people.AdminFactory)
    answers: dict[str, list[Any]] = {user.email: [], NOBODY: []}
    for number in range(settings.LOGIN_LIMITS[door]["account"] + 2):
        for place, (email, seen) in enumerate(answers.items()):
            answer = post(
                path, {"email": email, "password": "wrong"}, REMOTE_ADDR=f"198.51.100.{2 * number + place}"
            )
            status, body, headers = said(answer)
            seen.append((status, body, bool(headers.pop("Retry-After", "")), headers))

    known, unknown = answers.values()
    assert known == unknown
    assert [one[0] for one in known][-2:] == [429, 429]


def gap(ask: Callable[[str], Any], names: list[Callable[[int], str]], rounds: int) -> float:
    """How far the medians of processor time of two kinds of names are apart, asked in turn, as a share."""
    spent: list[list[float]] = [[], []]
    for number in range(rounds):
        for kind in (0, 1) if number % 2 else (1, 0):
            email = names[kind](number)
            begin = time.process_time()
            ask(email)
            spent[kind].append(time.process_time() - begin)
    first, second = (statistics.median(one[2:]) for one in spent)
    return abs(first - second) / max(first, second)


def counted(ask: Callable[[str], Any], email: str) -> tuple[list[tuple[int, int]], int]:
    """The parameters of every hash that was computed, and the number of statements."""
    hashes, compute = [], low_level.hash_secret_raw

    def watched(**given: Any) -> bytes:
        hashes.append((given["time_cost"], given["memory_cost"]))
        return compute(**given)

    with (
        pytest.MonkeyPatch.context() as patch,
        CaptureQueriesContext(connections["default"]) as default,
        CaptureQueriesContext(connections["audit"]) as separate,
    ):
        patch.setattr(hashers, "hash_secret_raw", watched)
        ask(email)
    return hashes, len(default) + len(separate)


def demand_same_work(ask: Callable[[str], Any], names: list[Callable[[int], str]]) -> None:
    """A measurement that was disturbed is made again, with more rounds; what is counted is so each time."""
    for name in names:
        ask(name(1_000))  # what the first request loads
    (hashes, statements), (other_hashes, other_statements) = (counted(ask, name(1_001)) for name in names)
    assert hashes == other_hashes
    assert abs(statements - other_statements) <= STATEMENTS, (statements, other_statements)
    gaps: list[float] = []
    for rounds in (12, 24, 40, 60):
        gaps.append(gap(ask, names, rounds))
        if gaps[-1] <= TOLERANCE:
            return
    pytest.fail(f"known and unknown differ in work, each time measured: {gaps}")


@pytest.mark.usefixtures("_no_limits", "_real_hash")
@pytest.mark.parametrize("what", ["login", "admin-login", "forgot-password", "recovery"])
def test_known_and_unknown_take_the_same_time(what: str) -> None:
    ask, factory = ASKED[what]
    email = account(factory).email

    demand_same_work(ask, [lambda _number: email, lambda _number: NOBODY])


@committed
@pytest.mark.usefixtures("_no_limits", "_real_hash")
def test_hidden_registration_takes_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "REGISTRATION_HIDE_EXISTING", True)
    email = account(people.BuyerFactory).email
    fresh = iter(range(1_000))

    demand_same_work(register, [lambda _number: email, lambda _number: f"new{next(fresh)}@example.com"])


# A burst


class Watched:
    """Argon2 itself, with the most that ran at once. It begins when `others` were answered meanwhile."""

    def __init__(self, others: int) -> None:
        self.most = self._now = 0
        self.answered = threading.Semaphore(0)
        self._wanted = others
        self._lock = threading.Lock()
        self._hash = low_level.hash_secret_raw

    def __call__(self, **given: Any) -> bytes:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            wanted, self._wanted = self._wanted, 0
        for _other in range(wanted):
            assert self.answered.acquire(timeout=PATIENCE_SECONDS), "hashing held up who needs no hash"
        try:
            return self._hash(**given)
        finally:
            with self._lock:
                self._now -= 1


@committed
@pytest.mark.usefixtures("_no_limits")
def test_burst_of_wrong_sign_ins_leaves_the_rest_alive_and_tells_nothing(
    monkeypatch: pytest.MonkeyPatch, race: Callable[..., list[Any]]
) -> None:
    user = account(people.BuyerFactory)
    monkeypatch.setattr(settings, "ARGON2_TIME_COST", 3)
    monkeypatch.setattr(settings, "ARGON2_MEMORY_KIB", 65_536)
    # So many from one network are risky, which is another test's: here it is the hashing that is busy.
    patient = {"attempts_in_five_minutes": 100, "network_failures": 100, "reputation_per_wrong": 0}
    monkeypatch.setattr(settings, "SIGN_IN_RISK", settings.SIGN_IN_RISK | patient)
    only, watched = hashers.Capacity(1), Watched(others=3)
    monkeypatch.setattr(hashers, "capacity", lambda: only)
    monkeypatch.setattr(hashers, "hash_secret_raw", watched)

    def elsewhere() -> int:
        status = Client().get("/.well-known/jwks.json").status_code
        watched.answered.release()
        return status

    burst = [partial(sign_in, "login", user.email), partial(sign_in, "login", NOBODY)] * 12
    outcomes = race([*burst, *[elsewhere] * 3])

    answers, others = outcomes[: len(burst)], outcomes[len(burst) :]
    assert others == [200] * 3
    assert watched.most == 1
    statuses = {one.status_code for one in answers}
    assert statuses == {401, 503}
    assert sum(one.status_code == 401 for one in answers) < len(burst)
    for status in statuses:
        known, unknown = (
            [said(one) for one in answers[place::2] if one.status_code == status] for place in (0, 1)
        )
        assert all(one == (known + unknown)[0] for one in known + unknown)
    assert all(int(one["Retry-After"]) >= 1 for one in answers if one.status_code == 503)
