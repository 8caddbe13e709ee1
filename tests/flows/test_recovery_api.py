"""A lost phone, told over HTTP: two proofs, a hold, then a new factor; and the owner who stops it."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db.models import F
from django.test import Client

from accounts import factor_resets
from accounts.models import FactorReset, User
from mestore.lib import actor
from monitoring import delivery
from monitoring.outbox import OutboxMessage
from tests.factories import accounts as people
from tests.factories import sessions_security as made

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

AUTH = "/api/v1/auth/"


def post(path: str, body: Any) -> Any:
    return Client().post(AUTH + path, json.dumps(body), content_type="application/json")


def posted() -> list[Any]:
    before = len(mail.outbox)
    for message in OutboxMessage.objects.order_by("created_at", "pk"):
        delivery.send(message.pk)
    return mail.outbox[before:]


def begin(email: str) -> Any:
    answer = post("recovery/begin", {"email": email})
    assert answer.status_code == 200, answer.content
    return answer.json()


@pytest.fixture
def user() -> User:
    found: User = people.TotpDeviceFactory.create(user=people.BuyerFactory.create()).user
    return found


def test_lost_phone_from_begin_to_a_new_factor(user: User) -> None:
    bearer = made.bearer(user)
    token = begin(user.email)["recovery_token"]
    (message,) = posted()
    code = re.search(r"\b[A-Z2-7]{8}\b", message.body)
    assert code
    first = post("recovery/prove", {"recovery_token": token, "method": "mailed_code", "code": code[0]})
    assert first.json() == {"proofs": ["mailed_code"], "needed": 2, "reset_due_at": None}

    second = post(
        "recovery/prove",
        {"recovery_token": token, "method": "password", "email": user.email, "password": people.PASSWORD},
    )

    assert second.json()["reset_due_at"]
    assert second["Cache-Control"] == "no-store"
    FactorReset.objects.update(
        due_at=F("due_at") - timedelta(days=2), requested_at=F("requested_at") - timedelta(days=2)
    )
    factor_resets.carry_out_due(by=actor.system("test"))
    assert Client().get(AUTH + "me", headers=bearer).status_code == 401
    signed_in = post("login", {"email": user.email, "password": people.PASSWORD})
    assert signed_in.status_code == 200


def test_owner_stops_it_once(user: User) -> None:
    token = begin(user.email)["recovery_token"]
    code = re.search(r"\b[A-Z2-7]{8}\b", posted()[0].body)
    assert code
    post("recovery/prove", {"recovery_token": token, "method": "mailed_code", "code": code[0]})
    password = {"method": "password", "email": user.email, "password": people.PASSWORD}
    post("recovery/prove", {"recovery_token": token, **password})
    cancel = posted()[0].body.split("token=")[1].split()[0]

    first = post("recovery/cancel", {"token": cancel})
    again = post("recovery/cancel", {"token": cancel})

    assert first.json()["success"] is True
    assert (again.status_code, again.json()["error_code"]) == (409, "RESET_OVER")


def test_begin_answers_every_address_alike(user: User) -> None:
    known, unknown = begin(user.email), begin("nobody@example.com")

    assert known.pop("recovery_token") != unknown.pop("recovery_token")
    assert known == unknown
    assert known["methods"] == ["mailed_code", "backup_code", "password"]


@pytest.mark.parametrize("path", ["recovery/begin", "recovery/prove", "recovery/cancel"])
@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"email": "x"},
        {"email": 5},
        {"recovery_token": ["x"], "method": "mailed_code"},
        {"token": 5},
        {"token": "a" * 129},
    ],
)
def test_malformed_bodies_are_422(path: str, body: Any) -> None:
    assert post(path, body).status_code == 422


@pytest.mark.parametrize("known", [True, False])
def test_stranger_neither_fills_a_mailbox_nor_uses_up_its_owners_share(user: User, known: bool) -> None:
    body = {"email": user.email if known else "nobody@example.com"}

    statuses = [post("recovery/begin", body).status_code for _attempt in range(4)]
    from_elsewhere = Client().post(
        AUTH + "recovery/begin",
        json.dumps(body),
        content_type="application/json",
        REMOTE_ADDR="198.51.100.9",
    )

    assert statuses == [200, 200, 200, 429]
    assert from_elsewhere.status_code == 200
    assert len(posted()) == (4 if known else 0)
