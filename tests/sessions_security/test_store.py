from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.sessions.backends.base import UpdateError
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from mestore.lib import crypto, errors
from monitoring.models import AuditEvent
from sessions_security import sessions
from sessions_security.models import SessionSecret, UserSession
from sessions_security.store import SessionStore
from tests.console import house
from tests.factories import accounts as people
from tests.factories import sessions_security as made

pytestmark = pytest.mark.django_db(databases=["default", "audit"])
committed = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])


def test_visitor_gets_no_row_whatever_is_put_into_the_session() -> None:
    store = SessionStore()

    store["basket"] = ["a"]
    store.save()
    store.create()
    store.cycle_key()

    assert store.is_empty()
    assert store.get_expiry_age() == 0
    assert not SessionSecret.objects.exists()


@pytest.mark.parametrize("cookie", ["", "x", "' OR 1=1 --", "a" * 43, "á" * 43, "a" * 5_000])
def test_invented_cookie_opens_nothing(cookie: str) -> None:
    made.cookie_of(people.AdminFactory.create())

    assert SessionStore(cookie).user_session is None


def test_malformed_cookie_costs_no_statement() -> None:
    with CaptureQueriesContext(connection) as queries:
        assert SessionStore("not a key").user_session is None

    assert not queries.captured_queries


def test_what_the_tables_hold_is_no_cookie() -> None:
    session, cookie = made.cookie_of(people.AdminFactory.create())
    secret = SessionSecret.objects.get(session=session)

    assert bytes(secret.key_hash) == crypto.digest(cookie.encode())
    assert SessionStore(bytes(secret.key_hash).hex()).user_session is None
    assert SessionStore(str(session.pk)).user_session is None


def test_payload_in_the_table_cannot_be_read() -> None:
    session, cookie = made.cookie_of(people.AdminFactory.create())
    store = SessionStore(cookie)
    store["remember"] = "the-needle"
    store.save()

    assert b"the-needle" not in bytes(SessionSecret.objects.get(session=session).payload)
    assert SessionStore(cookie)["remember"] == "the-needle"


def test_payload_swapped_between_sessions_opens_neither() -> None:
    one, cookie_of_one = made.cookie_of(people.AdminFactory.create())
    two, cookie_of_two = made.cookie_of(people.SuperuserFactory.create())
    first, second = SessionSecret.objects.get(session=one), SessionSecret.objects.get(session=two)

    SessionSecret.objects.filter(session=one).update(payload=second.payload)
    SessionSecret.objects.filter(session=two).update(payload=first.payload)

    assert SessionStore(cookie_of_one).user_session is None
    assert SessionStore(cookie_of_two).user_session is None


def test_secret_moved_to_another_session_opens_nothing() -> None:
    weak, cookie = made.cookie_of(people.AdminFactory.create())
    strong, _other = made.cookie_of(people.SuperuserFactory.create())
    SessionSecret.objects.filter(session=strong).delete()

    SessionSecret.objects.filter(session=weak).update(session=strong)

    assert SessionStore(cookie).user_session is None


def test_payload_takes_json_only() -> None:
    _session, cookie = made.cookie_of(people.AdminFactory.create())
    store = SessionStore(cookie)

    store["object"] = object()

    with pytest.raises(TypeError):
        store.save()


@pytest.mark.parametrize("end", ["idle_expires_at", "absolute_expires_at"])
def test_expired_cookie_opens_nothing(end: str) -> None:
    session, cookie = made.cookie_of(people.AdminFactory.create())
    past = timezone.now() - timedelta(seconds=1)
    UserSession.objects.filter(pk=session.pk).update(
        **{"created_at": past - timedelta(days=1), "idle_expires_at": past, end: past}
    )

    assert SessionStore(cookie).user_session is None


def test_token_session_has_no_cookie_door() -> None:
    session, cookie = made.cookie_of(people.AdminFactory.create())

    UserSession.objects.filter(pk=session.pk).update(kind="token")

    assert SessionStore(cookie).user_session is None


def test_ended_session_takes_its_secret_with_it() -> None:
    session, cookie = made.cookie_of(people.AdminFactory.create())

    sessions.end(session, by=made.HERE, why="console")

    assert SessionStore(cookie).user_session is None
    assert not SessionStore(cookie).exists(cookie)


def test_saving_a_session_that_ended_meanwhile_fails() -> None:
    session, cookie = made.cookie_of(people.AdminFactory.create())
    store = SessionStore(cookie)
    store["late"] = True
    sessions.end(session, by=made.HERE, why="console")

    with pytest.raises(UpdateError):
        store.save()
    with pytest.raises(UpdateError):
        store.cycle_key()


def test_new_key_keeps_the_session_and_kills_the_old_cookie() -> None:
    session, cookie = made.cookie_of(people.AdminFactory.create())
    store = SessionStore(cookie)
    store["kept"] = 1
    store.cycle_key()
    new = store.session_key

    assert new != cookie
    assert SessionStore(cookie).user_session is None
    found = SessionStore(new)
    assert found["kept"] == 1
    assert found.user_session == session


def test_unchanged_session_writes_nothing() -> None:
    _session, cookie = made.cookie_of(people.AdminFactory.create())
    store = SessionStore(cookie)
    assert store.user_session is not None

    with CaptureQueriesContext(connection) as queries:
        store["gone"] = 1
        del store["gone"]
        store.save()

    assert not queries.captured_queries


def test_loading_asks_the_database_once_account_included() -> None:
    _session, cookie = made.cookie_of(people.AdminFactory.create())

    with CaptureQueriesContext(connection) as queries:
        found = SessionStore(cookie).user_session
        assert found is not None
        assert found.user.is_active

    assert len(queries.captured_queries) == 1


def test_flush_ends_the_session_even_when_nothing_was_loaded() -> None:
    session, cookie = made.cookie_of(people.AdminFactory.create())

    SessionStore(cookie).flush()

    session.refresh_from_db()
    assert session.revoked_why == "closed"
    SessionStore.clear_expired()


def test_cookie_lives_no_longer_than_the_session() -> None:
    session, cookie = made.cookie_of(people.AdminFactory.create())
    store = SessionStore(cookie)
    store["changed"] = 1

    left = (session.absolute_expires_at - timezone.now()).total_seconds()
    assert left - 60 < store.get_expiry_age() <= left


def test_pickled_payload_is_never_loaded() -> None:
    session, cookie = made.cookie_of(people.AdminFactory.create())
    store = SessionStore(cookie)
    assert store.user_session is not None
    binding: Any = store._binding()
    SessionSecret.objects.filter(session=session).update(
        payload=crypto.seal(b"\x80\x04}\x94.", purpose="session-payload", bound_to=binding)
    )

    assert SessionStore(cookie).get("x") is None
    assert SessionStore(cookie).user_session is None


# What was stored and does not open


def tampered(change: str, payload: bytes, other: bytes) -> bytes:
    return {
        "cut": payload[:-1],
        "empty": b"",
        "header only": payload[:2],
        "one bit": payload[:-1] + bytes([payload[-1] ^ 1]),
        "nonce": payload[:20] + bytes([payload[20] ^ 1]) + payload[21:],
        "longer": payload + b"\0",
        "another account's": other,
        "plain": b'{"_auth_user_id":"1"}',
    }[change]


@pytest.mark.parametrize(
    "change",
    ["cut", "empty", "header only", "one bit", "nonce", "longer", "another account's", "plain"],
)
@committed
def test_payload_that_does_not_open_ends_its_session_and_is_recorded(change: str) -> None:
    session, cookie = made.cookie_of(people.AdminFactory.create())
    other, _cookie = made.cookie_of(people.SuperuserFactory.create())
    secrets = SessionSecret.objects
    payloads = [bytes(secrets.get(session=one).payload) for one in (session, other)]
    secrets.filter(session=session).update(payload=tampered(change, *payloads))

    assert SessionStore(cookie).user_session is None

    session.refresh_from_db()
    assert session.revoked_why == "unreadable"
    assert AuditEvent.objects.filter(type="session.unreadable", target_id=str(session.pk)).count() == 1
    assert not secrets.filter(session=session).exists()


@committed
def test_page_asked_for_with_a_payload_that_does_not_open_is_the_sign_in_not_an_error() -> None:
    visitor = house.visitor()
    SessionSecret.objects.update(payload=_of_this_ring())

    answer = visitor.client.get("/admin/")

    assert answer.status_code == 302
    assert answer["Location"].startswith("/admin/login/")
    assert not UserSession.objects.filter(user=visitor.user, revoked_at=None).exists()


@committed
def test_payload_and_hash_of_one_row_moved_to_another_open_nothing() -> None:
    weak, cookie = made.cookie_of(people.AdminFactory.create())
    strong, _other = made.cookie_of(people.SuperuserFactory.create())
    mine = SessionSecret.objects.get(session=weak)
    SessionSecret.objects.filter(session=weak).update(key_hash=b"x" * 32)

    SessionSecret.objects.filter(session=strong).update(key_hash=mine.key_hash, payload=mine.payload)

    assert SessionStore(cookie).user_session is None
    assert UserSession.objects.get(pk=strong.pk).revoked_why == "unreadable"


def test_session_given_to_another_account_opens_nothing() -> None:
    session, cookie = made.cookie_of(people.AdminFactory.create())
    UserSession.objects.filter(pk=session.pk).update(user=people.SuperuserFactory.create(auth_epoch=1))

    assert SessionStore(cookie).user_session is None


@committed
def test_key_that_this_process_does_not_know_is_a_503_and_ends_nothing(settings: Any) -> None:
    session, cookie = made.cookie_of(people.AdminFactory.create())
    settings.MESTORE_MASTER_KEYS = {"other": b"k" * 32}

    with pytest.raises(errors.SecurityServiceFailure):
        SessionStore(cookie).user_session  # noqa: B018

    session.refresh_from_db()
    assert session.revoked_at is None


def _of_this_ring() -> bytes:
    return crypto.seal(b"{}", purpose="session-payload", bound_to=b"elsewhere")
