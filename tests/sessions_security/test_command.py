"""`manage.py sessions`: listing and ending from the command line."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from accounts.models import User
from monitoring.models import AuditEvent
from monitoring.outbox import OutboxMessage
from sessions_security import everyone, sessions
from sessions_security.management.commands import sessions as command
from sessions_security.models import SessionCutoff, UserSession
from tests.factories import accounts as people
from tests.factories import sessions_security as made

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

REASON = "found in a log of the front end"


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("sessions", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def listed(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run("list", "--json", *arguments).splitlines()]


def exit_code(*arguments: str) -> int:
    with pytest.raises(CommandError) as caught:
        run(*arguments)
    return caught.value.returncode


def boss() -> User:
    user = people.SuperuserFactory.create()
    people.grant(user, everyone.ASKING, everyone.APPROVING)
    return user


# What is refused


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["revoke", "--reason", REASON], 2),
        (["revoke", "--everyone", "--user", "x@example.com", "--reason", REASON], 2),
        (["revoke", "--everyone", "--reason", REASON], 2),
        (["revoke", "--user", "nobody@example.com", "--reason", REASON], 1),
        (["revoke", "--user", "nobody@example.com", "--reason", "short"], 1),
        (["revoke", "0197f0c2-0000-7000-8000-000000000000", "--reason", REASON], 1),
        (["list", "--user", "nobody@example.com"], 1),
    ],
)
def test_wrong_orders_end_nothing_and_say_so(arguments: list[str], code: int) -> None:
    session = made.session_of(people.BuyerFactory.create())

    assert exit_code(*arguments) == code

    assert sessions.live(session.user).exists()


def test_everyone_takes_two_people_who_may_and_a_plain_yes() -> None:
    asker, second, buyer = boss(), boss(), people.BuyerFactory.create()
    session = made.session_of(buyer)

    def order(asked_by: User, approved_by: User, *more: str) -> int:
        return exit_code(
            "revoke", "--everyone", "--asked-by", asked_by.email, "--approved-by", str(approved_by.pk),
            "--reason", REASON, *more,
        )  # fmt: skip

    assert order(asker, second) == 2
    assert order(asker, asker, "--yes-everyone") == 2
    assert order(asker, buyer, "--yes-everyone") == 1
    assert order(asker, people.SuperuserFactory.create(), "--yes-everyone") == 1
    assert sessions.live(buyer).get() == session
    assert not SessionCutoff.objects.exists()


# What is done


def test_everyone_ends_and_both_who_were_named_are_told() -> None:
    asker, second = boss(), boss()
    session = made.session_of(people.BuyerFactory.create())
    names = ("--asked-by", asker.email, "--approved-by", second.email, "--reason", REASON)

    assert json.loads(run("revoke", "--everyone", *names, "--dry-run", "--json"))["sessions"] == 1
    assert sessions.live(session.user).exists()
    run("revoke", "--everyone", *names, "--yes-everyone")

    assert not sessions.live(session.user).exists()
    event = AuditEvent.objects.get(type="session.everyone_ended")
    assert event.actor_kind == "system"
    assert OutboxMessage.objects.count() == 2


def test_one_session_ends_with_its_reason_kept_sealed() -> None:
    user = people.BuyerFactory.create()
    one, other = made.session_of(user), made.session_of(user)

    assert "1" in run("revoke", str(one.pk), "--reason", REASON)

    assert sessions.live(user).get() == other
    event = AuditEvent.objects.get(type="session.ended")
    assert (event.actor_kind, event.target_id) == ("system", str(one.pk))
    assert REASON.encode() not in bytes(event.canon)
    assert exit_code("revoke", str(one.pk), "--reason", REASON) == 1


@pytest.mark.parametrize("by_id", [True, False])
def test_all_of_an_account_end_and_a_dry_run_only_counts(by_id: bool) -> None:
    user, stranger = people.BuyerFactory.create(), made.session_of(people.BuyerFactory.create())
    made.session_of(user)
    made.session_of(user, kind="cookie")
    order = ("revoke", "--user", str(user.pk) if by_id else user.email, "--reason", REASON)

    assert json.loads(run(*order, "--dry-run", "--json")) == {"sessions": 2, "dry_run": True}
    assert sessions.live(user).count() == 2
    run(*order)

    assert not sessions.live(user).exists()
    assert sessions.live(stranger.user).exists()


def test_list_is_newest_first_filtered_and_goes_on_after_an_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "PAGE", 2)
    user = people.VendorFactory.create()
    first, second, third = (made.session_of(user) for _number in range(3))
    browser, _cookie = made.cookie_of(people.AdminFactory.create())
    sessions.end(second, by=made.HERE, why="console")

    assert [row["id"] for row in listed()] == [str(s.pk) for s in (browser, third, second, first)]
    assert [row["id"] for row in listed("--live", "--user", user.email)] == [str(third.pk), str(first.pk)]
    assert [row["id"] for row in listed("--kind", "cookie")] == [str(browser.pk)]
    assert [row["id"] for row in listed("--limit", "3")][-1] == str(second.pk)
    assert [row["id"] for row in listed("--after", str(second.pk))] == [str(first.pk)]
    assert [row["live"] for row in listed()] == [True, True, False, True]


def test_list_shows_nothing_that_opens_a_session() -> None:
    _session, cookie = made.cookie_of(people.AdminFactory.create())
    _token_session, pair = made.tokens_of(people.BuyerFactory.create())

    shown = run("list", "--json") + run("list")

    assert not [secret for secret in (cookie, pair.access_token, pair.refresh_token) if str(secret) in shown]


def test_help_has_examples() -> None:
    parser = command.Command().create_parser("manage.py", "sessions")

    assert "manage.py sessions revoke" in parser.format_help()
    assert "exit codes" in parser.format_help()


def test_cut_off_session_is_listed_as_ended() -> None:
    session = made.session_of(people.BuyerFactory.create())
    sessions.end_everyone(reason=REASON, asked_by="somebody", by=made.HERE)

    assert UserSession.objects.get().revoked_at is None
    assert [(row["id"], row["live"]) for row in listed()] == [(str(session.pk), False)]
