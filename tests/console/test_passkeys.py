"""Passkeys in the console, without a browser: what its script asks for and what its forms send."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.staticfiles import finders
from django.test import Client

from accounts.models import Passkey, PasskeyChallenge
from sessions_security.models import StepUpProof, UserSession
from tests.console import house
from tests.factories.accounts import PASSWORD, AdminFactory, BuyerFactory
from tests.factories.passkeys import passkey_of
from tests.harness.authenticator import Authenticator

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

LOGIN = "/admin/login/"
OPTIONS = "/admin/login/passkey/"
SECOND = "/admin/login/passkey/second/"


def browser() -> Client:
    """A browser that has seen the sign-in page: it has the cookie that its forms are checked by."""
    client = Client()
    client.get(LOGIN)
    return client


def options(client: Client, path: str, status: int = 200) -> dict[str, Any]:
    answer = client.post(path)
    assert answer.status_code == status, answer.content
    assert "no-store" in answer["Cache-Control"]
    body: dict[str, Any] = json.loads(answer.content)
    return body


def test_a_member_of_the_staff_enters_with_a_passkey_alone() -> None:
    user = AdminFactory.create()
    _passkey, authenticator = passkey_of(user)
    client = browser()

    answer = authenticator.get(options(client, OPTIONS))
    response = client.post(
        LOGIN, {"step": "passkey", "credential": json.dumps(answer), "next": "/admin/security/"}
    )

    assert response.status_code == 302
    assert response["Location"] == "/admin/security/"
    assert client.get("/admin/security/").status_code == 200
    assert UserSession.objects.get(user=user).amr == ["hwk", "mfa"]


def test_people_outside_of_the_staff_get_the_answer_of_an_unknown_passkey() -> None:
    _passkey, authenticator = passkey_of(BuyerFactory.create())
    stranger = Authenticator()
    stranger.create({"challenge": "AA", "user": {"id": "AA"}})
    client = browser()

    answers = [
        client.post(LOGIN, {"step": "passkey", "credential": json.dumps(one.get(options(client, OPTIONS)))})
        for one in (authenticator, stranger)
    ]

    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].content.count(b"sign-in-error") == answers[1].content.count(b"sign-in-error") > 0
    assert not UserSession.objects.exists()


def test_an_answer_that_was_asked_for_in_another_browser_enters_nowhere() -> None:
    _passkey, authenticator = passkey_of(AdminFactory.create())
    answer = authenticator.get(options(browser(), OPTIONS))

    response = browser().post(LOGIN, {"step": "passkey", "credential": json.dumps(answer)})

    assert response.status_code == 401
    assert not UserSession.objects.exists()


@pytest.mark.parametrize("credential", ["", "{", "[]", "x" * 7_000, "\x00"])
def test_junk_is_refused_on_the_page(credential: str) -> None:
    response = browser().post(LOGIN, {"step": "passkey", "credential": credential})

    assert response.status_code == 400
    assert b"sign-in-error" in response.content


@pytest.mark.parametrize("path", [OPTIONS, SECOND, "/admin/first-factor/passkey/"])
def test_options_need_the_token_of_a_form_of_ours(path: str) -> None:
    client = Client(enforce_csrf_checks=True)
    client.get(LOGIN)

    assert client.post(path).status_code == 403
    assert client.get(path).status_code in {403, 405}
    assert not PasskeyChallenge.objects.exists()


@pytest.mark.parametrize("path", ["/admin/confirm/passkey/", "/admin/security/passkey/options/"])
def test_strangers_are_sent_to_the_sign_in(path: str) -> None:
    answer = Client().post(path)

    assert answer.status_code == 302
    assert answer["Location"].startswith(LOGIN)


def test_the_second_step_with_a_passkey() -> None:
    user = AdminFactory.create()
    _passkey, authenticator = passkey_of(user)
    client = browser()
    client.post(LOGIN, {"email": user.email, "password": PASSWORD})

    answer = authenticator.get(options(client, SECOND))
    response = client.post(LOGIN, {"step": "code", "method": "passkey", "credential": json.dumps(answer)})

    assert response.status_code == 302
    assert client.get("/admin/security/").status_code == 200


def test_options_for_a_second_step_that_nobody_began_are_refused() -> None:
    assert options(browser(), SECOND, 401)["error_code"] == "MFA_TOKEN_INVALID"
    assert options(browser(), "/admin/first-factor/passkey/", 401)["error_code"] == "MFA_TOKEN_INVALID"


def test_adding_one_asks_for_a_fresh_proof() -> None:
    visitor = house.visitor()
    StepUpProof.objects.all().delete()

    assert (
        options(visitor.client, "/admin/security/passkey/options/", 403)["error_code"] == "STEP_UP_REQUIRED"
    )


def test_adding_one_and_confirming_with_it_in_the_next_session() -> None:
    visitor, authenticator = house.visitor(), Authenticator()
    made = authenticator.create(options(visitor.client, "/admin/security/passkey/options/"))
    added = visitor.client.post("/admin/security/passkey/", {"name": "key", "credential": json.dumps(made)})
    assert added.status_code in {200, 302}
    assert Passkey.objects.get(user=visitor.user).name == "key"
    client = browser()
    entering = authenticator.get(options(client, OPTIONS))
    client.post(LOGIN, {"step": "passkey", "credential": json.dumps(entering)})
    StepUpProof.objects.all().delete()

    answer = authenticator.get(options(client, "/admin/confirm/passkey/"))
    client.post(
        "/admin/confirm/",
        {
            "method": "passkey",
            "credential": json.dumps(answer),
            "action": "passkeys.register",
            "next": "/admin/",
        },
    )

    assert StepUpProof.objects.get().method == "passkey"


def test_the_first_factor_of_a_new_administrator_may_be_a_passkey() -> None:
    user, authenticator = AdminFactory.create(), Authenticator()
    client = browser()
    client.post(LOGIN, {"email": user.email, "password": PASSWORD})

    made = authenticator.create(options(client, "/admin/first-factor/passkey/"))
    page = client.post(
        "/admin/first-factor/", {"step": "passkey", "name": "key", "credential": json.dumps(made)}
    )

    assert page.status_code == 200
    assert client.get("/admin/security/").status_code == 200
    assert Passkey.objects.get(user=user).name == "key"


def test_a_wrong_first_passkey_leads_back_to_the_page() -> None:
    user = AdminFactory.create()
    client = browser()
    client.post(LOGIN, {"email": user.email, "password": PASSWORD})

    page = client.post("/admin/first-factor/", {"step": "passkey", "name": "key", "credential": "{}"})

    assert page.status_code == 400
    assert b"data-passkey" in page.content


def test_without_a_domain_the_script_is_told() -> None:
    before = settings.WEBAUTHN_RP_ID
    settings.WEBAUTHN_RP_ID = ""
    try:
        assert options(browser(), OPTIONS, 404)["error_code"] == "PASSKEYS_OFF"
    finally:
        settings.WEBAUTHN_RP_ID = before


def test_the_script_is_small_and_writes_no_markup() -> None:
    found = finders.find("console/passkeys.js")
    assert isinstance(found, str)
    script = Path(found).read_text(encoding="utf-8")

    assert len(script) < 6_000
    for forbidden in (
        "innerHTML",
        "eval(",
        "document.write",
        "Function(",
        "http://",
        "https://",
        "insertAdjacent",
    ):
        assert forbidden not in script
