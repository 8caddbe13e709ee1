"""Owners are told of sign-ins from somewhere new, and may say that it was not them."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core import mail
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import factor_resets
from accounts.models import FactorFreeze, KnownDevice, User
from mestore.lib import crypto
from mestore.lib.actor import Actor
from monitoring import delivery
from monitoring.outbox import OutboxMessage
from monitoring.signals import Signal
from sessions_security import notices, places, sessions
from sessions_security.models import SignInNotice, UserSession
from tests.factories import accounts as people
from tests.factories import sessions_security as made

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])

STRANGER = Actor(kind="anonymous", address="203.0.113.9", agent="mailbox")


@pytest.fixture
def buyer() -> User:
    user: User = people.BuyerFactory.create(recovery_email="second@example.com")
    User.objects.filter(pk=user.pk).update(created_at=timezone.now() - dt.timedelta(days=30))
    return user


def login(user: User, client: Client | None = None, **extra: Any) -> Any:
    body = json.dumps({"email": user.email, "password": people.PASSWORD})
    answer = (client or Client()).post("/api/v1/auth/login", body, content_type="application/json", **extra)
    assert answer.status_code == 200, answer.content
    return answer.json()


def sent(template: str) -> list[Any]:
    """Send what waits and return the messages of `template`, newest last."""
    names = dict(OutboxMessage.objects.values_list("pk", "template"))
    found = []
    for pk, name in sorted(names.items()):
        before = len(mail.outbox)
        delivery.send(pk)
        found += [one for one in mail.outbox[before:] if name == template]
    return found


def link_of(user: User, **extra: Any) -> str:
    login(user, **extra)
    (message,) = sent("new_device")
    found = re.search(re.escape(settings.PUBLIC_URL) + r"(/security/not-me/[\w-]+/)", message.body)
    assert found is not None
    return found[1]


def test_new_browser_is_told_with_when_where_and_what(buyer: User) -> None:
    login(buyer, REMOTE_ADDR="203.0.113.7", HTTP_USER_AGENT="Firefox/140\n{{ link }}")

    (message,) = sent("new_device")

    assert message.to == [buyer.email]
    assert "203.0.113.7" in message.body
    assert ": Firefox\n" in message.body
    local = timezone.now() - dt.timedelta(hours=5)
    assert local.strftime("%Y-%m-%d") in message.body


@pytest.mark.parametrize(
    "agent", ["https://evil.example/not-me", "evil.example", "www.evil.example (Linux)", "safe:evil.example"]
)
def test_who_signs_in_writes_no_link_into_the_message(buyer: User, agent: str) -> None:
    login(buyer, HTTP_USER_AGENT=agent)

    (message,) = sent("new_device")

    assert "evil" not in message.body.replace(": evil\n", "")
    assert [
        link for link in re.findall(r"https?://\S+", message.body) if "/security/not-me/" not in link
    ] == []


def test_link_is_kept_as_its_hash_only(buyer: User) -> None:
    token = link_of(buyer).split("/")[-2]

    notice = SignInNotice.objects.get()
    assert bytes(notice.token_hash) == crypto.digest(token.encode())
    assert len(token) == 43


def test_known_browser_is_not_told_again(buyer: User) -> None:
    browser = Client()
    login(buyer, browser, REMOTE_ADDR="203.0.113.7")
    login(buyer, browser, REMOTE_ADDR="203.0.113.8")

    assert len(sent("new_device")) == 1


def test_program_that_drops_its_cookies_is_told_once_a_day(buyer: User) -> None:
    for _ in range(3):
        login(buyer, HTTP_USER_AGENT="cron")
    login(buyer, HTTP_USER_AGENT="another program")
    assert len(sent("new_device")) == 1

    login(buyer, REMOTE_ADDR="203.0.113.7", HTTP_USER_AGENT="cron")
    assert len(sent("new_device")) == 1

    long_ago = timezone.now() - dt.timedelta(hours=25)
    SignInNotice.objects.update(created_at=long_ago)
    UserSession.objects.update(created_at=long_ago)
    login(buyer, HTTP_USER_AGENT="cron")
    assert len(sent("new_device")) == 1


def test_first_session_of_a_young_account_surprises_nobody() -> None:
    login(people.BuyerFactory.create())

    assert not SignInNotice.objects.exists()


def test_first_session_of_an_old_account_is_told(buyer: User) -> None:
    login(buyer)

    assert SignInNotice.objects.count() == 1


def test_new_country_is_told_even_on_a_known_browser(
    buyer: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "places.csv"
    path.write_text("190.24.0.0,190.24.255.255,CO,,\n190.25.0.0,190.25.255.255,EC,,\n")
    monkeypatch.setattr(places, "_provider", places.opened(str(path)))
    browser = Client()
    login(buyer, browser, REMOTE_ADDR="190.24.1.1")
    sent("new_device")

    login(buyer, browser, REMOTE_ADDR="190.25.1.1")
    (message,) = sent("new_device")
    login(buyer, browser, REMOTE_ADDR="190.25.1.1")

    assert "EC" in message.body
    assert not sent("new_device")


def test_sign_in_that_is_rolled_back_tells_nobody(buyer: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object, **_given: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("sessions_security.tokens.issue_pair", broken)
    client = Client(raise_request_exception=False)
    body = json.dumps({"email": buyer.email, "password": people.PASSWORD})
    client.post("/api/v1/auth/login", body, content_type="application/json")

    assert not SignInNotice.objects.exists()
    assert not OutboxMessage.objects.filter(template="new_device").exists()


def test_opening_the_link_changes_nothing(buyer: User) -> None:
    link = link_of(buyer)

    for method in (Client().get, Client().head):
        answer = method(link)
        assert answer.status_code == 200
        assert answer["Referrer-Policy"] == "same-origin"  # the address is the credential
        assert answer["Cache-Control"] == "max-age=0, no-cache, no-store, must-revalidate, private"

    assert sessions.live(User.objects.get(pk=buyer.pk)).count() == 1
    assert not FactorFreeze.objects.exists()


def test_button_ends_everything_that_somebody_else_could_have(buyer: User) -> None:
    browser = Client()
    tokens = login(buyer, browser)
    other = login(buyer, REMOTE_ADDR="203.0.113.80")
    link = re.search(r"(/security/not-me/[\w-]+/)", sent("new_device")[0].body)
    assert link is not None

    answer = Client().post(link[1])

    assert answer.status_code == 200
    user = User.objects.get(pk=buyer.pk)
    assert not sessions.live(user).exists()
    for one in (tokens, other):
        bearer = {"Authorization": f"Bearer {one['access_token']}"}
        assert Client().get("/api/v1/auth/me", headers=bearer).status_code == 401
        body = json.dumps({"refresh_token": one["refresh_token"]})
        again = Client().post("/api/v1/auth/refresh-token", body, content_type="application/json")
        assert again.status_code == 401
    assert user.force_password_change
    freeze = FactorFreeze.objects.get(user=user)
    assert freeze.until - freeze.placed_at == dt.timedelta(hours=72)
    assert KnownDevice.objects.filter(user=user).count() == 1  # the other browser's
    signal = Signal.objects.get(rule="signin.disowned")
    assert signal.entity_id == str(user.pk)
    told = sent("sign_in_disowned")
    assert sorted(address for one in told for address in one.to) == sorted([user.email, "second@example.com"])


def test_link_works_once_even_when_pressed_many_times_at_once(
    buyer: User, race: Callable[[Sequence[Callable[[], Any]]], list[Any]]
) -> None:
    link = link_of(buyer)

    answers = race([lambda: Client().post(link).status_code] * 6)

    assert sorted(answers) == [200, 409, 409, 409, 409, 409]
    assert len(sent("sign_in_disowned")) == 2


def test_button_takes_the_account_before_its_sessions_as_a_sign_in_does(buyer: User) -> None:
    token = link_of(buyer).split("/")[-2]

    with CaptureQueriesContext(connection) as queries:
        notices.disown(token, by=STRANGER)

    said = [one["sql"] or "" for one in queries]
    account = next(at for at, text in enumerate(said) if text.startswith('UPDATE "accounts_user"'))
    theirs = next(at for at, text in enumerate(said) if "usersession" in text and "FOR NO KEY UPDATE" in text)
    assert account < theirs


@pytest.mark.parametrize("token", ["x", "A" * 43, "A" * 5_000, "%F0%9F%92%A9"])
def test_link_that_is_none_does_nothing(buyer: User, token: str) -> None:
    login(buyer)

    assert Client().post(f"/security/not-me/{token}/").status_code == 409
    assert sessions.live(User.objects.get(pk=buyer.pk)).exists()


def test_old_link_is_over(buyer: User) -> None:
    link = link_of(buyer)
    SignInNotice.objects.update(expires_at=timezone.now() - dt.timedelta(seconds=1))

    assert Client().post(link).status_code == 409


def test_other_sites_cannot_press_the_button(buyer: User) -> None:
    link = link_of(buyer)

    assert Client(enforce_csrf_checks=True).post(link).status_code == 403
    assert not FactorFreeze.objects.exists()


def test_button_is_counted_as_a_strangers_request(buyer: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "RATE_LIMITS", settings.RATE_LIMITS | {"anonymous": [(2, 86_400)]})

    statuses = [Client().post("/security/not-me/guess/").status_code for _ in range(4)]

    assert statuses == [409, 409, 429, 429]


@pytest.mark.parametrize("trouble", ["moved", "password must change", "another account"])
def test_button_works_whatever_session_the_browser_has(buyer: User, trouble: str) -> None:
    link = link_of(buyer)
    device = people.TotpDeviceFactory.create() if trouble == "another account" else None
    session, cookie = made.cookie_of(device.user if device is not None else buyer)
    if trouble == "moved":
        UserSession.objects.filter(pk=session.pk).update(network="198.51.100.9", agent="curl/8")
    elif trouble == "password must change":
        User.objects.filter(pk=buyer.pk).update(force_password_change=True)
    browser = Client()
    browser.cookies.load(made.cookies(cookie))

    assert browser.get(link).status_code == 200
    assert browser.post(link).status_code == 200
    assert FactorFreeze.objects.get().user_id == buyer.pk
    still = UserSession.objects.get(pk=session.pk).revoked_at is None
    assert still == (trouble == "another account")


def test_waiting_factor_reset_is_stopped_too(buyer: User) -> None:
    from django.db import transaction

    people.TotpDeviceFactory.create(user=buyer)
    session = made.session_of(buyer)
    with transaction.atomic():
        factor_resets.request(buyer, ["mailed_code", "password"], by=STRANGER)
        notices.send(session, ["device"], by=STRANGER)
    token = re.search(r"/not-me/([\w-]+)/", sent("new_device")[0].body)
    assert token is not None

    notices.disown(token[1], by=STRANGER)

    assert factor_resets.open_of(buyer) is None


def test_staff_from_somewhere_new_is_a_signal() -> None:
    from django.db import transaction

    user = people.AdminFactory.create()
    with transaction.atomic():
        notices.send(made.session_of(user), ["device"], by=STRANGER)

    assert Signal.objects.get().rule == "signin.new_for_staff"
