"""Reset links: for whom, how often, how long, how many times, and what they never do."""

from __future__ import annotations

import datetime as dt
import json
import re
from functools import partial
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import hierarchy, lockout, password_reset, passwords, tasks
from accounts.models import PasswordReset, User
from mestore.lib import actor
from mestore.lib.actor import Actor
from monitoring import delivery, events
from monitoring.models import AuditEvent, OutboxMessage
from tests.factories.accounts import (
    PASSWORD,
    AdminFactory,
    BuyerFactory,
    ImportedVendorFactory,
    MachineFactory,
    SuperuserFactory,
)

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])

TABLES = ("accounts_passwordreset", "monitoring_outboxmessage", "procrastinate_jobs", "audit_event")
NEW = "un caballo que canta boleros"
STRANGER = Actor(kind="anonymous", address="192.0.2.1")


def from_address(number: int) -> Actor:
    return Actor(kind="anonymous", address=f"198.51.100.{number}")


def last_link() -> str:
    message = OutboxMessage.objects.latest("created_at")
    found = re.search(r"https://\S+", json.loads(message.payload or "{}")["text"])
    assert found
    return found.group()


def token_for(user: User, **options: Any) -> str:
    password_reset.request(user.email, by=STRANGER, **options)
    return last_link().partition("token=")[2]


def opens(user: User, password: str) -> bool:
    return passwords.matches(password, User.objects.get(pk=user.pk).password)


def refused_events() -> int:
    return AuditEvent.objects.using("audit").filter(type=events.PASSWORD_RESET_REFUSED).count()


# Wrong cases


@pytest.mark.parametrize(
    "token", ["", "x", "x" * 64, "-" * 63 + "=", "x" * 10_000, "\x00", "\ud800", "١" * 64]
)
def test_unknown_token_changes_nothing(token: str) -> None:
    user = BuyerFactory.create()
    token_for(user)

    with pytest.raises(password_reset.InvalidToken) as refused:
        password_reset.reset(token, new=NEW, by=STRANGER)

    assert refused.value.status == 400
    assert not password_reset.is_open(token)
    assert opens(user, PASSWORD)
    assert refused_events() == 1


def test_link_works_once() -> None:
    user = BuyerFactory.create()
    token = token_for(user)
    password_reset.reset(token, new=NEW, by=STRANGER)

    with pytest.raises(password_reset.InvalidToken):
        password_reset.reset(token, new="another password of mine", by=STRANGER)

    assert opens(user, NEW)


def test_of_twenty_at_once_one_wins(race: Any) -> None:
    user = BuyerFactory.create()
    token = token_for(user)

    outcomes = race([partial(password_reset.reset, token, new=f"{NEW} {n}", by=STRANGER) for n in range(20)])

    winners = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, User)]
    assert len(winners) == 1
    assert opens(user, f"{NEW} {winners[0]}")
    assert AuditEvent.objects.filter(type=events.PASSWORD_RESET_DONE).count() == 1


def test_link_lives_at_most_an_hour() -> None:
    assert settings.PASSWORD_RESET_SECONDS <= 3_600
    begin = timezone.now()
    user = BuyerFactory.create()
    token = token_for(user, now=begin)

    assert password_reset.is_open(token, now=begin + dt.timedelta(seconds=3_599))
    with pytest.raises(password_reset.InvalidToken):
        password_reset.reset(token, new=NEW, by=STRANGER, now=begin + dt.timedelta(seconds=3_600))
    assert opens(user, PASSWORD)


@pytest.mark.parametrize(
    "change",
    [{"is_active": False}, {"password": "!other"}, {"user_type": "VENDOR"}, {"security_clearance_level": 4}],
)
def test_link_dies_with_any_change_of_the_account(change: dict[str, Any]) -> None:
    user = BuyerFactory.create()
    token = token_for(user)
    User.objects.filter(pk=user.pk).update(**change)

    with pytest.raises(password_reset.InvalidToken):
        password_reset.reset(token, new=NEW, by=STRANGER)


def test_change_while_the_new_password_is_hashed_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    user = BuyerFactory.create()
    token = token_for(user)
    hashed = passwords.hashed

    def close_while_hashing(password: str) -> str:
        User.objects.filter(pk=user.pk).update(is_active=False)
        return hashed(password)

    monkeypatch.setattr(passwords, "hashed", close_while_hashing)
    with pytest.raises(password_reset.InvalidToken):
        password_reset.reset(token, new=NEW, by=STRANGER)

    assert opens(user, PASSWORD)
    assert not password_reset.is_open(token)


@pytest.mark.parametrize(
    "tampered", [{"user": None}, {"expires_at": dt.timedelta(days=9)}, {"auth_epoch": 1}], ids=str
)
def test_row_that_was_changed_by_sql_opens_nothing(tampered: dict[str, Any]) -> None:
    begin = timezone.now()
    mine, other = BuyerFactory.create(), BuyerFactory.create()
    token = token_for(mine, now=begin)
    if "user" in tampered:
        PasswordReset.objects.update(user=other)
    elif "auth_epoch" in tampered:
        User.objects.filter(pk=mine.pk).update(auth_epoch=7)
        PasswordReset.objects.update(auth_epoch=7)
    else:
        PasswordReset.objects.update(expires_at=begin + tampered["expires_at"])

    with pytest.raises(password_reset.InvalidToken):
        password_reset.reset(token, new=NEW, by=STRANGER, now=begin)

    assert opens(mine, PASSWORD)
    assert opens(other, PASSWORD)


def test_key_of_the_token_may_rotate(settings: Any) -> None:
    user = BuyerFactory.create()
    token = token_for(user)

    settings.MESTORE_MASTER_KEYS = {"next": b"n" * 32, **settings.MESTORE_MASTER_KEYS}

    assert password_reset.is_open(token)


def test_password_that_is_refused_uses_up_nothing() -> None:
    user = BuyerFactory.create(nombre="Restrepo")
    token = token_for(user)

    for new in ("short", "passwordpassword", "restrepo.restrepo.77", "x" * 129, "a" * 20 + "\ud800"):
        with pytest.raises(passwords.UnacceptablePassword):
            password_reset.reset(token, new=new, by=STRANGER)

    password_reset.reset(token, new=NEW, by=STRANGER)
    assert opens(user, NEW)


def test_token_is_nowhere_in_the_database() -> None:
    token = token_for(BuyerFactory.create())
    wanted = {token, token.encode().hex()}

    with connection.cursor() as cursor:
        for table in (
            "accounts_passwordreset",
            "monitoring_outboxmessage",
            "procrastinate_jobs",
            "audit_event",
        ):
            cursor.execute(f"SELECT string_agg(t::text, '') FROM {table} t")  # noqa: S608 # names from above
            text = cursor.fetchone()[0] or ""
            assert not any(form in text for form in wanted), table


# Nobody learns who has an account


def statements(email: str, number: int) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        password_reset.request(email, by=from_address(number))
    return [query["sql"].split("VALUES")[0].split("WHERE")[0][:60] for query in captured.captured_queries]


def test_known_and_unknown_addresses_cost_the_same_statements() -> None:
    user, closed = BuyerFactory.create(), BuyerFactory.create(is_active=False)

    known = statements(user.email, 1)

    assert statements("nobody@example.com", 2) == known
    assert statements(closed.email, 3) == known
    assert statements("x" * 5_000 + "\x00", 4) == known


def test_only_the_owner_of_an_open_account_gets_mail(mailoutbox: Any) -> None:
    user = BuyerFactory.create()
    closed = BuyerFactory.create(is_active=False)
    for number, email in enumerate([user.email.upper(), closed.email, "nobody@example.com"]):
        password_reset.request(email, by=from_address(number))

    for message in OutboxMessage.objects.all():
        delivery.send(message.pk)

    assert [mail.to for mail in mailoutbox] == [[user.email]]
    assert PasswordReset.objects.filter(user=None).count() == 2


def test_link_for_nobody_opens_nothing() -> None:
    password_reset.request("nobody@example.com", by=STRANGER)

    with pytest.raises(password_reset.InvalidToken):
        password_reset.reset(last_link().partition("token=")[2], new=NEW, by=STRANGER)


def test_typed_text_that_is_no_account_is_kept_as_a_mac_only() -> None:
    password_reset.request("my secret password", by=STRANGER)

    event = AuditEvent.objects.get(type=events.PASSWORD_RESET_REQUESTED)
    assert event.target_type == "unknown_name"
    assert "secret" not in str(event.target_id)


def test_address_and_network_have_budgets_alike_for_everybody() -> None:
    user = BuyerFactory.create()
    for email in (user.email, "nobody@example.com"):
        for number in (1, 2):
            password_reset.request(email, by=from_address(number))
        with pytest.raises(lockout.LockedOut):
            password_reset.request(email, by=from_address(3))
    assert OutboxMessage.objects.count() == 4

    for number in range(3):
        password_reset.request(f"other{number}@example.com", by=STRANGER)
    with pytest.raises(lockout.LockedOut):
        password_reset.request("fourth@example.com", by=STRANGER)


def test_requests_at_once_do_not_exceed_the_budget(race: Any) -> None:
    user = BuyerFactory.create()

    outcomes = race([partial(password_reset.request, user.email, by=from_address(n)) for n in range(10)])

    assert sum(outcome is None for outcome in outcomes) == 2
    assert OutboxMessage.objects.count() == 2


def test_reset_budget_locks_nobody_out_of_signing_in() -> None:
    from accounts import login

    user = BuyerFactory.create()
    for number in (1, 2):
        password_reset.request(user.email, by=from_address(number))

    assert login.check_credentials(user.email, PASSWORD, by=STRANGER, purpose="api") == user


# What it is for


def test_new_password_ends_everything_and_the_owner_is_told() -> None:
    user = BuyerFactory.create(force_password_change=True, recovery_email="second@example.org")
    token = token_for(user)
    password_reset.request(user.email, by=from_address(7))

    changed = password_reset.reset(token, new=NEW, by=STRANGER)

    assert opens(user, NEW)
    assert changed.auth_epoch > user.auth_epoch
    assert not changed.force_password_change
    assert not PasswordReset.objects.filter(used_at=None).exists()
    assert OutboxMessage.objects.filter(template="password_changed").count() == 2


def test_link_leads_people_to_the_shop_and_staff_to_the_console() -> None:
    token_for(BuyerFactory.create())
    assert last_link().startswith(f"{settings.FRONTEND_URL}/reset-password?token=")

    token_for(AdminFactory.create())
    assert last_link().startswith(f"{settings.PUBLIC_URL}/admin/password/reset/?token=")


# An administrator starts it


def as_actor(user: User) -> Actor:
    return Actor(kind="user", id=str(user.pk), label=user.email, address="192.0.2.5")


def test_administrator_starts_a_reset_and_learns_nothing() -> None:
    user, admin = BuyerFactory.create(), SuperuserFactory.create()

    password_reset.start(user, reason="asked by telephone", by=as_actor(admin))

    assert opens(user, PASSWORD), "the old one works until the owner chooses"
    token = last_link().partition("token=")[2]
    password_reset.reset(token, new=NEW, by=STRANGER)
    assert opens(user, NEW)
    event = AuditEvent.objects.get(type=events.PASSWORD_RESET_STARTED)
    assert (event.actor_id, event.target_id) == (str(admin.pk), str(user.pk))


def test_who_does_not_stand_above_starts_nothing() -> None:
    buyer, admin, other = BuyerFactory.create(), AdminFactory.create(), AdminFactory.create()

    for acting, target in ((buyer, other), (admin, admin), (admin, SuperuserFactory.create())):
        with pytest.raises(hierarchy.NotAllowed):
            password_reset.start(target, reason="asked by telephone", by=as_actor(acting))
    with pytest.raises(hierarchy.NotAllowed):
        password_reset.start(buyer, reason="asked by telephone", by=STRANGER)
    assert not PasswordReset.objects.exists()


def test_start_needs_a_reason_and_a_mailbox() -> None:
    system = actor.system("test")
    with pytest.raises(hierarchy.ReasonMissing):
        password_reset.start(BuyerFactory.create(), reason="short", by=system)
    for user in (
        ImportedVendorFactory.create(),
        MachineFactory.create(),
        BuyerFactory.create(is_active=False),
    ):
        with pytest.raises(password_reset.NoMailbox):
            password_reset.start(user, reason="asked by telephone", by=system)


def test_old_links_are_deleted_and_open_ones_kept() -> None:
    token_for(BuyerFactory.create(), now=timezone.now() - dt.timedelta(days=2))
    token = token_for(BuyerFactory.create())

    assert tasks.purge_links(0) == 1
    assert password_reset.is_open(token)
