from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import TotpDevice, User
from accounts.roles import Role
from mestore.lib import errors
from monitoring.models import AuditEvent
from sessions_security import policy, purging, selectors, session_check, sessions, tasks, tokens
from sessions_security.models import PendingSignIn, RefreshToken, SessionSecret, UserSession
from tests.factories import accounts as people
from tests.factories import sessions_security as made

DATABASES = ["default", "audit"]
pytestmark = pytest.mark.django_db(databases=DATABASES)

Race = Callable[[Sequence[Callable[[], Any]]], list[Any]]


def is_live(session: UserSession) -> bool:
    return session_check.by_token(session.pk, session.user_id, address="127.0.0.1") is not None


def expire(session: UserSession, **moments: timedelta) -> None:
    """Move ends of `session` into the past, as time would."""
    now = timezone.now()
    start = now - timedelta(days=2)
    ends = {name: now - ago for name, ago in moments.items()}
    UserSession.objects.filter(pk=session.pk).update(created_at=start, last_seen_at=start, **ends)


# What is not alive


def test_unknown_session_is_not_alive() -> None:
    user = people.BuyerFactory.create()

    assert session_check.by_token(UserSession().pk, user.pk, address="127.0.0.1") is None


def test_session_of_somebody_else_is_not_alive_under_my_name() -> None:
    session = made.session_of(people.BuyerFactory.create())

    assert session_check.by_token(session.pk, people.BuyerFactory.create().pk, address="127.0.0.1") is None


def test_idle_session_is_dead() -> None:
    session = made.session_of(people.BuyerFactory.create())

    expire(session, idle_expires_at=timedelta(seconds=1))

    assert not is_live(session)


def test_session_is_dead_at_its_absolute_end_however_busy() -> None:
    session = made.session_of(people.BuyerFactory.create())

    expire(session, absolute_expires_at=timedelta(seconds=1), idle_expires_at=timedelta(seconds=1))

    assert not is_live(session)


@pytest.mark.parametrize(
    "change",
    [
        {"is_active": False},
        {"deleted_at": timezone.now(), "is_active": False},
        {"user_type": str(Role.VENDOR)},
        {"password": "!other"},
        {"security_clearance_level": 1},
        {"auth_epoch": F("auth_epoch") + 1},
    ],
)
def test_change_of_the_account_kills_the_session_however_it_was_written(change: dict[str, Any]) -> None:
    user = people.BuyerFactory.create()
    session = made.session_of(user)

    User.objects.filter(pk=user.pk).update(**change)

    assert not is_live(session)


def test_ended_session_is_dead_and_says_why_and_by_whom() -> None:
    session = made.session_of(people.BuyerFactory.create())

    assert sessions.end(session, by=made.HERE, why="console", reason="lost the telephone")

    session.refresh_from_db()
    assert not is_live(session)
    assert session.revoked_why == "console"
    assert session.is_over(timezone.now())


def test_ending_twice_happens_once() -> None:
    session = made.session_of(people.BuyerFactory.create())
    sessions.end(session, by=made.HERE, why="sign_out")

    assert not sessions.end(session, by=made.HERE, why="console")
    assert AuditEvent.objects.filter(type="session.ended").count() == 1


def test_database_away_is_a_503_not_a_stranger() -> None:
    from django.db import OperationalError

    with pytest.raises(errors.SecurityServiceFailure) as caught, session_check.database_guard():
        raise OperationalError("gone")

    assert caught.value.headers["Retry-After"] == "5"


def test_every_statement_about_live_sessions_has_the_same_words() -> None:
    def words(text: str) -> str:
        return " ".join(text.split())

    for statement in (
        session_check._SELECT_BEARER,
        session_check._SELECT_COOKIE,
        session_check._SELECT_ORIGIN,
        tokens._CLAIM,
        tokens._USED,
    ):
        assert words(session_check.LIVE) in words(statement)


# Starting


def test_account_that_changed_during_sign_in_gets_no_session() -> None:
    user = people.BuyerFactory.create()
    User.objects.filter(pk=user.pk).update(password="!changed")

    with pytest.raises(sessions.AccountChanged), transaction.atomic():
        made.session_of(user)

    assert not UserSession.objects.exists()


def test_role_without_a_policy_gets_no_session(settings: Any) -> None:
    settings.SESSION_POLICY = {}

    with pytest.raises(policy.NoPolicy):
        made.session_of(people.BuyerFactory.create())


def test_session_keeps_who_where_and_which_factors() -> None:
    user = people.AdminFactory.create()
    here = replace(made.HERE, agent="pytest")

    session = made.session_of(user, kind="cookie", amr=("pwd", "otp"), by=here)

    session.refresh_from_db()
    assert (session.address, session.network, session.agent) == ("127.0.0.1", "127.0.0.1", "pytest")
    assert session.proved_second_factor()
    assert not made.session_of(user, amr=("pwd",)).proved_second_factor()
    assert not session.is_over(timezone.now())
    assert str(session.pk) in str(session)


def test_start_records_the_sign_in_in_the_name_of_the_account() -> None:
    user = people.BuyerFactory.create()

    made.session_of(user)

    recorded = {event.type: event for event in AuditEvent.objects.exclude(type__startswith="capture.")}
    assert set(recorded) == {"auth.sign_in.succeeded", "session.started"}
    assert recorded["session.started"].actor_id == str(user.pk)


def test_limit_ends_the_least_recently_seen_and_counts_kinds_apart() -> None:
    user = people.SuperuserFactory.create()
    first = made.session_of(user)
    browser = made.session_of(user, kind="cookie")

    second = made.session_of(user)

    first.refresh_from_db()
    browser.refresh_from_db()
    assert first.revoked_why == "limit"
    assert browser.revoked_at is None
    assert is_live(second)
    assert AuditEvent.objects.filter(type="session.evicted", target_id=str(first.pk)).exists()


def test_limit_spares_what_was_seen_last() -> None:
    user = people.AdminFactory.create()
    busy, quiet = made.session_of(user), made.session_of(user)
    UserSession.objects.filter(pk=quiet.pk).update(last_seen_at=F("last_seen_at") - timedelta(minutes=5))

    made.session_of(user)

    assert is_live(busy)
    assert not is_live(quiet)


def test_end_all_spares_the_one_to_keep_and_other_people() -> None:
    user, stranger = people.BuyerFactory.create(), made.session_of(people.BuyerFactory.create())
    mine = made.session_of(user)
    made.session_of(user)
    made.session_of(user, kind="cookie")

    assert sessions.end_all(user, by=made.HERE, why="revoke_others", keep=mine.pk) == 2
    assert list(sessions.live(user)) == [mine]
    assert sessions.end_all(user, by=made.HERE, why="sign_out") == 1
    assert is_live(stranger)


@pytest.mark.django_db(transaction=True, databases=[*DATABASES, "owner"])
def test_simultaneous_sign_ins_never_exceed_the_limit(race: Race) -> None:
    user = people.VendorFactory.create()

    outcomes = race([partial(made.session_of, user)] * 8)

    assert all(isinstance(outcome, UserSession) for outcome in outcomes)
    assert sessions.live(user).count() == 3


# Being used


def test_use_is_noted_at_most_once_a_minute() -> None:
    session = made.session_of(people.BuyerFactory.create())

    with CaptureQueriesContext(connection) as queries:
        sessions.touch(session)

    assert not queries.captured_queries


def test_use_moves_the_idle_end_but_not_past_the_absolute_one() -> None:
    session = made.session_of(people.BuyerFactory.create())
    long_ago = timezone.now() - timedelta(minutes=30)
    nearly = timezone.now() + timedelta(minutes=10)
    UserSession.objects.filter(pk=session.pk).update(
        last_seen_at=long_ago, absolute_expires_at=nearly, idle_expires_at=nearly - timedelta(minutes=5)
    )
    session.refresh_from_db()

    sessions.touch(session)

    session.refresh_from_db()
    assert session.last_seen_at > long_ago
    assert session.idle_expires_at == session.absolute_expires_at


def test_use_does_not_revive_what_idled_out() -> None:
    session = made.session_of(people.BuyerFactory.create())
    expire(session, idle_expires_at=timedelta(seconds=1))
    session.refresh_from_db()

    sessions.touch(session)

    assert not is_live(session)


def test_machine_sessions_do_not_idle_out() -> None:
    client, _key = made.machine()
    session = sessions.start(client.user, kind="token", amr=("key",), by=made.HERE, client=client)
    long_ago = timezone.now() - timedelta(hours=5)
    UserSession.objects.filter(pk=session.pk).update(last_seen_at=long_ago)
    session.refresh_from_db()

    sessions.touch(session)

    session.refresh_from_db()
    assert session.idle_expires_at is None
    assert session.last_seen_at > long_ago


# Reading and deleting


def test_lists_and_counts_leave_out_what_ended() -> None:
    buyer, admin = people.BuyerFactory.create(), people.AdminFactory.create()
    older, newer = made.session_of(buyer), made.session_of(buyer)
    made.session_of(admin, kind="cookie")
    gone = made.session_of(people.VendorFactory.create())
    User.objects.filter(pk=gone.user_id).update(is_active=False)

    first_page = selectors.live_sessions(limit=2)
    second_page = selectors.live_sessions(before=first_page[-1].pk)

    assert [session.pk for session in first_page][1] == newer.pk
    assert [session.pk for session in second_page] == [older.pk]
    assert {(count.role, count.kind): count.sessions for count in selectors.live_counts()} == {
        ("BUYER", "token"): 2,
        ("ADMIN", "cookie"): 1,
    }


def test_purge_deletes_what_ended_long_ago_and_nothing_else() -> None:
    user = people.BuyerFactory.create()
    alive, _pair = made.tokens_of(user)
    recent, _pair = made.tokens_of(user)
    ancient, _pair = made.tokens_of(user)
    browser, _value = made.cookie_of(user)
    yesterday, last_year = timezone.now() - timedelta(days=1), timezone.now() - timedelta(days=365)
    for session, end in ((recent, yesterday), (ancient, last_year), (browser, yesterday)):
        UserSession.objects.filter(pk=session.pk).update(
            created_at=last_year - timedelta(days=1), absolute_expires_at=end, idle_expires_at=end
        )
        RefreshToken.objects.filter(session=session).update(expires_at=end)
    PendingSignIn.objects.create(
        user=user,
        token_hash=b"x" * 32,
        purpose="api",
        auth_epoch=1,
        created_at=last_year,
        expires_at=yesterday,
    )

    assert tasks.purge(0) == 5

    assert set(UserSession.objects.values_list("pk", flat=True)) == {alive.pk, recent.pk, browser.pk}
    assert RefreshToken.objects.get().session_id == alive.pk
    assert not PendingSignIn.objects.exists()
    assert not SessionSecret.objects.exists()


def test_purge_works_through_more_than_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "BATCH", 2)
    user, past = people.BuyerFactory.create(), timezone.now() - timedelta(days=1)
    for number in range(5):
        PendingSignIn.objects.create(
            user=user,
            token_hash=bytes([number]) * 32,
            purpose="api",
            auth_epoch=1,
            created_at=past,
            expires_at=past,
        )

    assert tasks.purge(0) == 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "paper"},
        {"revoked_why": "no moment"},
        {"absolute_expires_at": timezone.now() - timedelta(days=9)},
    ],
)
def test_database_refuses_impossible_sessions(wrong: dict[str, Any]) -> None:
    session = made.session_of(people.BuyerFactory.create())

    with pytest.raises(Exception, match="session_"), transaction.atomic():
        UserSession.objects.filter(pk=session.pk).update(**wrong)


# What the check makes of a row


def test_account_and_session_of_a_check_are_those_of_the_database() -> None:
    kept = made.session_of(people.VendorFactory.create())

    found = session_check.by_token(kept.pk, kept.user_id, address="127.0.0.1")

    assert found is not None
    for ours, model in ((found, UserSession), (found.user, User)):
        theirs = model._default_manager.get(pk=ours.pk)
        for name in vars(ours).keys() & {field.attname for field in model._meta.concrete_fields}:
            assert getattr(ours, name) == getattr(theirs, name), name
        assert (ours._state.adding, ours._state.db) == (theirs._state.adding, theirs._state.db)
    # What the statement does not read is read when it is asked for.
    assert found.get_deferred_fields()
    assert found.revoked_why == ""
    assert found.user.get_deferred_fields()
    assert found.user.has_usable_password() == User.objects.get(pk=kept.user_id).has_usable_password()


def test_column_that_must_be_decoded_first_is_not_loaded_raw() -> None:
    with pytest.raises(TypeError):
        session_check.load(TotpDevice, ("id", "secret"), (None, b"sealed"))


def test_values_without_a_name_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        session_check.load(UserSession, ("id", "kind"), (None, "token", "left over"))


@pytest.mark.parametrize(
    ("address", "networks", "is_in"),
    [
        ("203.0.113.7", ["203.0.113.0/24"], True),
        ("203.0.114.7", ["203.0.113.0/24"], False),
        ("203.0.113.7", ["198.51.100.0/24", "203.0.113.7/32"], True),
        ("::ffff:203.0.113.7", ["203.0.113.0/24"], True),
        ("2001:db8::1", ["2001:db8::/32"], True),
        ("2001:db8::1", ["0.0.0.0/0"], False),
        ("203.0.113.7", [], False),
        (None, ["0.0.0.0/0"], False),
        ("", ["0.0.0.0/0"], False),
        ("nonsense", ["0.0.0.0/0"], False),
    ],
)
def test_address_lies_in_a_network_or_not(address: str | None, networks: list[str], is_in: bool) -> None:
    for _again in range(2):  # the answer is remembered
        assert session_check.address_allowed(address, networks) is is_in


def test_network_taken_from_a_client_counts_at_its_next_request() -> None:
    client, _key = made.machine()
    session = sessions.start(client.user, kind="token", amr=("key",), by=made.HERE, client=client)
    assert session_check.by_token(session.pk, session.user_id, address="127.0.0.1") is not None

    type(client).objects.filter(pk=client.pk).update(networks=["198.51.100.0/24"])

    assert session_check.by_token(session.pk, session.user_id, address="127.0.0.1") is None
    type(client).objects.filter(pk=client.pk).update(networks=["127.0.0.0/8"])
    assert session_check.by_token(session.pk, session.user_id, address="127.0.0.1") is not None


@pytest.mark.parametrize(
    ("statement", "types"),
    [
        (session_check._SELECT_BEARER, ["uuid", "uuid"]),
        (session_check._SELECT_ORIGIN, ["uuid", "uuid"]),
        (session_check._SELECT_COOKIE, ["bytea"]),
    ],
    ids=["bearer", "origin", "cookie"],
)
@pytest.mark.parametrize("is_counted", [False, True])
def test_check_finds_session_and_account_by_their_keys_alone(
    statement: str, types: list[str], is_counted: bool
) -> None:
    """As the server plans it once for all values, before and after it has counted the rows."""
    user, start = people.BuyerFactory.create(), timezone.now()
    UserSession.objects.bulk_create(
        UserSession(
            user=user, kind="token", created_at=start, last_seen_at=start, auth_epoch=0,
            absolute_expires_at=start + timedelta(hours=1),
        )
        for _ in range(200)
    )  # fmt: skip
    for number in range(1, len(types) + 1):
        statement = statement.replace("%s", f"${number}", 1)
    with transaction.atomic(), connection.cursor() as cursor:
        if is_counted:
            cursor.execute("ANALYZE sessions_security_usersession, accounts_user")
        cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        # Of a table with a few pages every plan is cheap: ask for the one without a scan.
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"PREPARE the_check ({', '.join(types)}) AS {statement}")
        cursor.execute(f"EXPLAIN EXECUTE the_check ({', '.join(['NULL'] * len(types))})")
        plan = [row[0].strip() for row in cursor.fetchall()]
        cursor.execute("DEALLOCATE the_check")

    for table in ("sessions_security_usersession", "accounts_user"):
        found_by = [plan[place + 1] for place, line in enumerate(plan) if f" on {table}" in line]
        assert [line.split(" = ")[0] for line in found_by] == ["Index Cond: (id"], "\n".join(plan)
