"""A session begins because somebody acted, and what it is known by cannot be guessed."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from sessions_security import store
from sessions_security.models import PendingSignIn, UserSession
from tests.factories import accounts as people

WAYS_IN = (
    "auth-login", "auth-admin-login", "auth-mfa-verify", "auth-mfa-first-confirm", "auth-passkey-first",
    "auth-passkey-login", "auth-refresh-token", "auth-token", "auth-register", "vendors-login",
    "vendedores-login", "console-sign-in", "console-first-factor", "console-emergency",
)  # fmt: skip


@pytest.mark.django_db(databases=["default", "audit"])
@pytest.mark.parametrize("method", ["get", "head", "options"])
@pytest.mark.parametrize("name", WAYS_IN)
def test_looking_at_a_way_in_begins_nothing(name: str, method: str) -> None:
    user = people.BuyerFactory.create()
    client = Client()
    given = {"email": user.email, "password": people.PASSWORD, "username": user.email}

    answer = getattr(client, method)(reverse(name), given, headers={"Purpose": "prefetch"})

    assert answer.status_code < 500
    assert not UserSession.objects.exists()
    assert not PendingSignIn.objects.exists()
    assert "__Host-sessionid" not in client.cookies


def test_secrets_of_cookies_have_256_bits_and_never_repeat() -> None:
    made = {store._new_secret() for _time in range(100_000)}

    assert len(made) == 100_000
    assert {len(secret) for secret in made} == {43}  # 32 bytes in base64
