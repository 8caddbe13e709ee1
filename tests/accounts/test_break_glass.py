from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from functools import partial
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts import break_glass, lockout, roles, tasks
from accounts.models import BreakGlass, Permission, User
from mestore.lib import actor
from mestore.lib.actor import Actor
from monitoring.models import AuditEvent
from monitoring.outbox import OutboxMessage
from sessions_security.models import UserSession
from tests.factories.accounts import SuperuserFactory

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

SYSTEM = actor.system("break_glass")
HERE = Actor(kind="anonymous", address="203.0.113.7")


def _account() -> User:
    return User.objects.get(email_key=break_glass.EMAIL)


def test_sealed_account_is_closed_has_no_password_and_no_readable_code() -> None:
    code = break_glass.seal(by=SYSTEM)

    user = _account()
    assert not user.is_active
    assert not user.has_usable_password()
    given = set(user.grants.filter(revoked_at=None).values_list("permission__name", flat=True))
    assert given | roles.inherited("SUPERUSER") == set(Permission.objects.values_list("name", flat=True))
    with connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(g::text, '') FROM accounts_breakglass g")
        assert code not in cursor.fetchone()[0]


@pytest.mark.parametrize("code", ["", "x", "A" * 32, "\x00", "\ud800", "１" * 40, "A" * 100_000])
def test_wrong_code_opens_nothing(code: str) -> None:
    break_glass.seal(by=SYSTEM)

    with pytest.raises(break_glass.CodeRefused):
        break_glass.claim(code, by=HERE)

    assert not _account().is_active
    assert AuditEvent.objects.using("audit").filter(type="break_glass.refused").count() == 1


def test_without_a_seal_every_code_is_wrong() -> None:
    with pytest.raises(break_glass.CodeRefused):
        break_glass.claim("A" * 32, by=HERE)


def test_guessing_is_locked_for_the_network_and_for_nobody_else() -> None:
    code = break_glass.seal(by=SYSTEM)
    for _ in range(3):
        with pytest.raises(break_glass.CodeRefused):
            break_glass.claim("wrong", by=HERE)

    with pytest.raises(lockout.LockedOut):
        break_glass.claim(code, by=HERE)
    break_glass.claim(code, by=Actor(kind="anonymous", address="198.51.100.1"))

    assert _account().is_active


def test_code_works_once_and_everybody_is_told() -> None:
    superuser = SuperuserFactory.create()
    code = break_glass.seal(by=SYSTEM)

    sealed = break_glass.claim("-".join([code[:16].lower(), code[16:]]) + " ", by=HERE)

    assert _account().is_active
    assert sealed.open_until is not None
    assert OutboxMessage.objects.filter(template="break_glass_opened").count() == 1
    assert superuser.email not in str(sealed)
    assert AuditEvent.objects.filter(type="break_glass.opened").count() == 1
    with pytest.raises(break_glass.CodeRefused):
        break_glass.claim(code, by=HERE)


def test_new_seal_voids_the_old_one_and_closes_the_account() -> None:
    first = break_glass.seal(by=SYSTEM)
    second = break_glass.seal(by=SYSTEM)
    with pytest.raises(break_glass.CodeRefused):
        break_glass.claim(first, by=HERE)
    break_glass.claim(second, by=HERE)

    break_glass.seal(by=SYSTEM)

    assert not _account().is_active
    assert BreakGlass.objects.filter(opened_at__isnull=False, closed_at=None).count() == 0


def test_account_closes_when_its_hour_is_over() -> None:
    break_glass.claim(break_glass.seal(by=SYSTEM), by=HERE)
    assert tasks.close_emergency(0) == 0
    BreakGlass.objects.update(open_until=timezone.now() - dt.timedelta(seconds=1))

    assert tasks.close_emergency(0) == 1
    assert tasks.close_emergency(0) == 0
    assert not _account().is_active


def test_command_prints_the_code_once() -> None:
    out, plain, closed = StringIO(), StringIO(), StringIO()

    call_command("break_glass", "--seal", "--json", stdout=out)
    code = json.loads(out.getvalue())["code"]
    break_glass.claim(code, by=HERE)
    call_command("break_glass", "--seal", stdout=plain)
    call_command("break_glass", "--close", "--json", stdout=closed)

    assert code not in plain.getvalue()
    assert json.loads(closed.getvalue()) == {"closed": 0}
    with pytest.raises(CommandError):
        call_command("break_glass")


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_one_of_many_at_once_opens(race: Callable[..., list[Any]]) -> None:
    code = break_glass.seal(by=SYSTEM)

    outcomes = race([partial(break_glass.claim, code, by=HERE)] * 4)

    assert sum(isinstance(outcome, BreakGlass) for outcome in outcomes) == 1


@pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])
def test_page_opens_the_console_for_an_hour_and_no_longer_than_the_account() -> None:
    code = break_glass.seal(by=SYSTEM)
    browser = Client()

    assert browser.get("/admin/emergency/", secure=True).status_code == 200
    wrong = browser.post("/admin/emergency/", {"code": "wrong"}, secure=True)
    assert wrong.status_code == 401
    opened = browser.post("/admin/emergency/", {"code": code}, secure=True)

    assert opened.status_code == 302
    assert browser.get("/admin/", secure=True).status_code == 200
    session = UserSession.objects.get()
    assert session.amr == ["break_glass"]
    assert session.absolute_expires_at <= session.created_at + dt.timedelta(hours=1)
    User.objects.filter(email_key=break_glass.EMAIL).update(is_active=False)
    assert browser.get("/admin/", secure=True).status_code == 302
