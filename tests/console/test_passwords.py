"""The console's pages about passwords, without a script."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts import passwords, users
from accounts.models import User
from monitoring.models import OutboxMessage
from sessions_security.models import StepUpProof
from tests.console import house
from tests.factories.accounts import PASSWORD

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])

NEW = "un caballo que canta boleros"
PAGE = "/admin/password/"


def ready(visitor: house.Visitor) -> house.Visitor:
    """Let the factor count as older than the session and as proved now."""
    StepUpProof.objects.update(proved_at=timezone.now(), bound_at=timezone.now() - dt.timedelta(hours=1))
    return visitor


def send(visitor: house.Visitor, current: str = PASSWORD, new: str = NEW, again: str = NEW) -> Any:
    return visitor.client.post(PAGE, {"current": current, "new": new, "again": again})


def link() -> str:
    message = OutboxMessage.objects.filter(template__startswith="password_reset").latest("created_at")
    found = re.search(r"https://\S+", json.loads(message.payload or "{}")["text"])
    assert found
    return found.group().partition("testserver")[2]


def fields(answer: Any) -> list[str]:
    return re.findall(r'<input type="password"[^>]*>', answer.content.decode())


def test_new_password_ends_the_session_and_opens_the_next() -> None:
    visitor = ready(house.visitor())
    page = visitor.client.get(PAGE)
    assert page.status_code == 200
    assert len(fields(page)) == 3
    assert all("autocomplete=" in field and "onpaste" not in field for field in fields(page))

    done = send(visitor)

    assert done.status_code == 200
    assert "Clear-Site-Data" in done.headers
    assert visitor.client.get("/admin/").status_code == 302
    assert passwords.matches(NEW, User.objects.get(pk=visitor.user.pk).password)


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({"current": "wrong"}, 400),
        ({"again": "different"}, 422),
        ({"new": "short", "again": "short"}, 422),
        ({"new": "passwordpassword", "again": "passwordpassword"}, 422),
        ({"new": "x" * 200, "again": "x" * 200}, 422),
    ],
    ids=str,
)
def test_refused_change_shows_the_reason(values: dict[str, str], status: int) -> None:
    visitor = ready(house.visitor())

    answer = send(visitor, **values)

    assert answer.status_code == status
    assert 'role="alert"' in answer.content.decode()
    assert NEW not in answer.content.decode()
    assert visitor.client.get("/admin/").status_code == 200


def test_change_asks_for_a_fresh_factor() -> None:
    visitor = house.visitor()
    StepUpProof.objects.all().delete()

    for answer in (visitor.client.get(PAGE), send(visitor)):
        assert answer.status_code in {302, 403}
        assert answer.status_code != 302 or "confirm" in answer["Location"]
    assert passwords.matches(PASSWORD, User.objects.get(pk=visitor.user.pk).password)


def test_who_must_change_sees_that_page_alone() -> None:
    visitor = ready(house.visitor())
    User.objects.filter(pk=visitor.user.pk).update(force_password_change=True)

    for path in ("/admin/", "/admin/accounts/user/", "/admin/security/"):
        answer = visitor.client.get(path)
        assert (answer.status_code, answer["Location"]) == (302, PAGE), path
    assert visitor.client.get(PAGE).status_code == 200

    assert send(visitor).status_code == 200
    assert not User.objects.get(pk=visitor.user.pk).force_password_change


def test_forgotten_password_of_a_stranger_looks_like_anybodys() -> None:
    user, _device = house.person()
    assert Client().get("/admin/password/forgotten/").status_code == 200

    answers = [
        Client().post("/admin/password/forgotten/", {"email": email}, REMOTE_ADDR=f"198.51.100.{number}")
        for number, email in enumerate((user.email, "nobody@example.com", ""))
    ]

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1


def test_requests_for_links_are_bounded() -> None:
    codes = [
        Client().post("/admin/password/forgotten/", {"email": f"x{number}@example.com"})
        for number in range(4)
    ]

    assert [answer.status_code for answer in codes] == [200, 200, 200, 429]
    assert "Retry-After" in codes[-1].headers


def test_link_leads_to_a_new_password_and_the_factor_is_still_asked_for() -> None:
    user, _device = house.person()
    browser = Client()
    browser.post("/admin/password/forgotten/", {"email": user.email})
    first = browser.get(link())
    assert link().partition("token=")[2] not in first.content.decode()
    assert browser.get("/admin/password/reset/").status_code == 200

    refused = browser.post("/admin/password/reset/", {"new": "short", "again": "short"})
    done = browser.post("/admin/password/reset/", {"new": NEW, "again": NEW})

    assert refused.status_code == 422
    assert done.status_code == 200
    assert browser.get("/admin/").status_code == 302, "nobody is signed in by it"
    assert users.identifier(user.email)
    answer = browser.post("/admin/login/", {"email": user.email, "password": NEW})
    assert answer.status_code in {200, 302}
    assert browser.get("/admin/").status_code == 302, "the factor is missing"


def test_link_that_is_over_says_so() -> None:
    browser = Client()
    assert browser.get("/admin/password/reset/").status_code == 400
    browser.get("/admin/password/reset/?token=" + "x" * 64)

    assert browser.get("/admin/password/reset/").status_code == 400
    assert browser.post("/admin/password/reset/", {"new": NEW, "again": NEW}).status_code == 400
