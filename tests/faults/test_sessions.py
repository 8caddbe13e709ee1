"""Bad days: Redis or PostgreSQL gone under load, and two things at the same moment. Nobody slips through."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from django.conf import settings
from django.db import connections
from django.test import Client
from psycopg import sql

from accounts.models import User
from mestore import servers
from monitoring.models import AuditEvent
from sessions_security import policy, session_check, sessions
from sessions_security.models import UserSession
from tests.factories import accounts as people
from tests.factories import sessions_security as made
from tests.harness import patience

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])

ME = "/api/v1/auth/me"
EACH, BEFORE = 12, 8
PATIENCE_SECONDS = 120
_END_CONNECTIONS = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s AND usename = %s
"""
Race = Callable[[Sequence[Callable[[], Any]]], list[Any]]


def me(access_token: str) -> Any:
    return Client().get(ME, headers={"Authorization": f"Bearer {access_token}"})


def is_live(session: UserSession) -> bool:
    return session_check.by_token(session.pk, session.user_id, address="127.0.0.1") is not None


@pytest.fixture(scope="module")
def spare_servers() -> Iterator[servers.Servers]:
    with servers.start() as running:
        yield running


@pytest.fixture
def own_redis(spare_servers: servers.Servers, settings: Any) -> servers.Servers:
    """A Redis that the test may take away."""
    cache = {**settings.CACHES["default"], "LOCATION": spare_servers.redis_url()}
    settings.CACHES = {"default": cache}
    return spare_servers


@pytest.fixture
def outage(app_dsn: str, superuser_dsn: str) -> Iterator[Callable[[bool], None]]:
    """`outage(True)` ends the application's connections to this test's database and refuses new ones."""
    name = urlsplit(app_dsn).path[1:]
    elsewhere = urlunsplit(urlsplit(superuser_dsn)._replace(path="/postgres"))

    def switch(is_away: bool) -> None:
        for alias in ("default", "audit"):  # who asks meanwhile is told soon, as in production
            pool: Any = connections[alias].pool  # type: ignore[attr-defined]  # not in the stubs
            pool.timeout = 1.0 if is_away else float(patience.SECONDS)
        words = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        with psycopg.connect(elsewhere, autocommit=True) as superuser:
            superuser.execute(words.format(sql.Identifier(name), sql.SQL(str(not is_away))))
            if is_away:
                superuser.execute(_END_CONNECTIONS, [name, urlsplit(app_dsn).username])

    try:
        yield switch
    finally:
        switch(False)
        connections.close_all()


# Redis gone


def test_redis_killed_under_load_lets_nobody_through_and_refuses_nobody(
    own_redis: servers.Servers, race: Race
) -> None:
    live = [made.tokens_of(people.BuyerFactory.create())[1].access_token for _number in range(3)]
    ended = []
    for _number in range(2):
        session, pair = made.tokens_of(people.BuyerFactory.create())
        sessions.end(session, by=made.HERE, why="console")
        ended.append(pair.access_token)
    wrong = live[0][:-8] + "AAAAAAAA"
    count, half = itertools.count(1), threading.Event()

    def hammer(token: str) -> set[int]:
        answers = set()
        for _number in range(EACH):
            answers.add(me(token).status_code)
            if next(count) == BEFORE:
                half.set()
        return answers

    def kill() -> None:
        assert half.wait(120)
        own_redis.control("kill", "redis")

    good = [partial(hammer, token) for token in live]
    bad = [partial(hammer, token) for token in [*ended, wrong]]
    outcomes = race([*good, *bad, kill])

    assert outcomes[: len(good)] == [{200}] * len(good)
    assert all(answers <= {401, 429} for answers in outcomes[len(good) : -1])
    assert outcomes[-1] is None


def test_revocation_takes_effect_on_the_next_request_without_redis(own_redis: servers.Servers) -> None:
    if own_redis.control("status", "redis") is not None:
        own_redis.control("kill", "redis")
    session, pair = made.tokens_of(people.BuyerFactory.create())
    assert me(pair.access_token).status_code == 200

    sessions.end(session, by=made.HERE, why="console")

    assert me(pair.access_token).status_code == 401


# PostgreSQL gone


def ask(address: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """One request over a connection of its own: status, headers, body. No redirect is followed."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=300)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_database_gone_is_a_503_for_cookie_and_token_and_ends_by_itself(
    live_api: str, outage: Callable[[bool], None]
) -> None:
    _session, pair = made.tokens_of(people.BuyerFactory.create())
    ended, dead = made.tokens_of(people.BuyerFactory.create())
    sessions.end(ended, by=made.HERE, why="console")
    _browser_session, cookie = made.cookie_of(people.AdminFactory.create())
    good = partial(ask, live_api, ME, Authorization=f"Bearer {pair.access_token}")
    bad = partial(ask, live_api, ME, Authorization=f"Bearer {dead.access_token}")
    console = partial(ask, live_api, "/admin/", Cookie=f"{settings.SESSION_COOKIE_NAME}={cookie}")
    assert (good()[0], bad()[0]) == (200, 401)

    outage(True)
    away = [good(), bad(), good(), console()]
    outage(False)

    assert [status for status, _headers, _body in away] == [503] * 4
    assert json.loads(away[0][2])["error_code"] == "SECURITY_SERVICE_FAILURE"
    assert int(away[0][1]["Retry-After"]) > 0
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (status := good()[0]) != 200:
        assert status == 503
        assert time.monotonic() < deadline, "the service did not notice that its database is back"
    assert bad()[0] == 401


# Two things at the same moment


def test_request_in_flight_may_end_well_and_the_next_one_does_not(race: Race) -> None:
    session, pair = made.tokens_of(people.BuyerFactory.create())

    outcomes = race(
        [*[partial(me, pair.access_token)] * 4, partial(sessions.end, session, by=made.HERE, why="console")]
    )

    assert {answer.status_code for answer in outcomes[:-1]} <= {200, 401}
    assert outcomes[-1] is True
    assert me(pair.access_token).status_code == 401


def test_use_at_the_same_moment_never_revives_what_ended(race: Race) -> None:
    session = made.session_of(people.BuyerFactory.create())
    UserSession.objects.filter(pk=session.pk).update(last_seen_at=session.created_at - policy.TOUCH_EVERY * 2)
    session.refresh_from_db()

    race([partial(sessions.touch, session), partial(sessions.end, session, by=made.HERE, why="console"),
          partial(sessions.touch, session)])  # fmt: skip

    assert not is_live(session)
    assert AuditEvent.objects.filter(type="session.ended").count() == 1


@pytest.mark.parametrize(
    "change", [{"is_active": False}, {"password": "!other"}, {"user_type": "VENDOR"}], ids=str
)
def test_sign_in_while_the_account_changes_leaves_nobody_in(race: Race, change: dict[str, Any]) -> None:
    user = people.BuyerFactory.create()

    race([partial(made.session_of, user), partial(User.objects.filter(pk=user.pk).update, **change),
          partial(made.session_of, user)])  # fmt: skip

    assert not [session for session in UserSession.objects.all() if is_live(session)]


def test_ending_the_same_sessions_from_two_sides_happens_once_each(race: Race) -> None:
    user = people.VendorFactory.create()
    for _number in range(3):
        made.tokens_of(user)
    end_all = partial(sessions.end_all, user, by=made.HERE, why="console")

    outcomes = race([end_all, end_all, end_all])

    assert sum(outcomes) == 3
    assert AuditEvent.objects.filter(type="session.ended").count() == 3
