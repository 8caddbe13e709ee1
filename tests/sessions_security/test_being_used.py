"""What counts as use of a session, what does not, and that noting it never makes anybody wait."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction
from django.db.models import F
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from sessions_security import background, tokens
from sessions_security.models import UserSession
from tests.factories import accounts as people
from tests.factories import sessions_security as made

DATABASES = ["default", "audit"]
pytestmark = pytest.mark.django_db(databases=DATABASES)

ME = "/api/v1/auth/me"
REFRESH = "/api/v1/auth/refresh-token"
SELF_MADE = {"X-Background": "1"}


def later(session: UserSession, minutes: int) -> None:
    """Let time pass for one session: everything that it remembers lies `minutes` further back."""
    step = timedelta(minutes=minutes)
    UserSession.objects.filter(pk=session.pk).update(
        created_at=F("created_at") - step,
        last_seen_at=F("last_seen_at") - step,
        idle_expires_at=F("idle_expires_at") - step,
        absolute_expires_at=F("absolute_expires_at") - step,
    )


def seen(session: UserSession) -> Any:
    return UserSession.objects.values_list("last_seen_at", flat=True).get(pk=session.pk)


def token_of(user: User) -> tuple[UserSession, dict[str, str]]:
    session, pair = made.tokens_of(user)
    return session, {"Authorization": f"Bearer {pair.access_token}"}


def test_session_that_only_a_program_polls_ends_when_it_idles_out() -> None:
    session, headers = token_of(people.BuyerFactory.create())

    for _minute in range(11):
        later(session, 5)
        assert Client().get(ME, headers={**headers, **SELF_MADE}).status_code == 200
    later(session, 5)

    assert Client().get(ME, headers={**headers, **SELF_MADE}).status_code == 401


def test_session_that_somebody_uses_does_not() -> None:
    session, headers = token_of(people.BuyerFactory.create())

    for _minute in range(13):
        later(session, 5)
        assert Client().get(ME, headers=headers).status_code == 200


def test_page_of_the_console_that_loads_itself_again_prolongs_nothing() -> None:
    session, cookie = made.cookie_of(people.AdminFactory.create())
    client = Client()
    client.cookies.load(made.cookies(cookie))
    later(session, 5)
    before = seen(session)

    for path in ("/admin/?refresh=30", "/admin/?page=2&refresh=60", "/admin/?refresh="):
        client.get(path)
    assert seen(session) == before

    client.get("/admin/?refreshed=30")
    assert seen(session) > before


def test_refresh_in_the_background_gives_tokens_and_prolongs_nothing() -> None:
    session, pair = made.tokens_of(people.BuyerFactory.create())
    later(session, 30)
    before = seen(session)

    given = Client().post(
        REFRESH, {"refresh_token": pair.refresh_token}, content_type="application/json", headers=SELF_MADE
    )
    assert given.status_code == 200
    assert seen(session) == before

    body = {"refresh_token": given.json()["refresh_token"]}
    assert Client().post(REFRESH, body, content_type="application/json").status_code == 200
    assert seen(session) > before


@pytest.mark.parametrize(
    ("path", "headers", "is_one"),
    [
        ("/", {"X-Background": "1"}, True),
        ("/", {"X-Background": " 1 "}, True),
        ("/", {"X-Background": "0"}, False),
        ("/", {"X-Background": ""}, False),
        ("/admin/?refresh=30", {}, True),
        ("/admin/?a=%00&refresh=30", {}, True),
        ("/admin/?xrefresh=30", {}, False),
        ("/api/v1/auth/me?refresh=30", {}, False),
    ],
)
def test_what_counts_as_made_by_itself(path: str, headers: dict[str, str], is_one: bool) -> None:
    request = RequestFactory().get(path, headers=headers)

    assert background.is_background(request) is is_one


def test_listed_routes_prolong_nothing(settings: Any) -> None:
    session, headers = token_of(people.BuyerFactory.create())
    settings.BACKGROUND_ROUTES = frozenset({"auth-me"})
    later(session, 5)
    before = seen(session)

    assert Client().get(ME, headers=headers).status_code == 200

    assert seen(session) == before


def test_browsers_may_send_the_header_from_the_front_ends(settings: Any) -> None:
    assert "x-background" in settings.CORS_ALLOW_HEADERS


@pytest.mark.parametrize("lock", ["FOR UPDATE", "FOR NO KEY UPDATE"])
@pytest.mark.django_db(transaction=True, databases=[*DATABASES, "owner"])
def test_row_that_somebody_holds_keeps_no_request_waiting(lock: str, app_dsn: str) -> None:
    session, headers = token_of(people.BuyerFactory.create())
    later(session, 5)
    before = seen(session)
    statement = {
        "FOR UPDATE": "SELECT FROM sessions_security_usersession WHERE id = %s FOR UPDATE",
        "FOR NO KEY UPDATE": "SELECT FROM sessions_security_usersession WHERE id = %s FOR NO KEY UPDATE",
    }[lock]

    with psycopg.connect(app_dsn) as other:
        other.execute(statement, [session.pk])
        # Whoever waited would fail after this.
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', '50ms', false)")
        with CaptureQueriesContext(connection) as queries:
            assert Client().get(ME, headers=headers).status_code == 200
        assert any("SKIP LOCKED" in (one["sql"] or "") for one in queries)
        assert seen(session) == before
        other.rollback()
    with connection.cursor() as cursor:
        cursor.execute("RESET lock_timeout")

    assert Client().get(ME, headers=headers).status_code == 200
    assert seen(session) > before


@pytest.mark.django_db(transaction=True, databases=[*DATABASES, "owner"])
def test_refresh_does_not_wait_for_the_row_either(app_dsn: str) -> None:
    session, pair = made.tokens_of(people.BuyerFactory.create())
    later(session, 5)

    with psycopg.connect(app_dsn) as other:
        other.execute(
            "SELECT FROM sessions_security_usersession WHERE id = %s FOR NO KEY UPDATE", [session.pk]
        )
        with transaction.atomic():
            given = tokens.rotate(pair.refresh_token or "", by=made.HERE)
        other.rollback()

    assert given.refresh_token
