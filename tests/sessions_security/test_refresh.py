"""Exchanging refresh tokens over HTTP: one living child, whatever happens, and what a reuse sets off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db.models import F
from django.test import Client

from mestore.lib import crypto
from monitoring.outbox import OutboxMessage
from monitoring.signals import Signal
from sessions_security import keys, refresh_reuse, tokens
from sessions_security.models import RefreshToken, UserSession
from tests.factories import accounts as people
from tests.factories import sessions_security as made

DATABASES = ["default", "audit"]
pytestmark = pytest.mark.django_db(databases=DATABASES)
racing = pytest.mark.django_db(transaction=True, databases=[*DATABASES, "owner"])

Race = Callable[[Sequence[Callable[[], Any]]], list[Any]]
REFRESH = "/api/v1/auth/refresh-token"


def exchange(refresh_token: str, *, address: str = "127.0.0.1", agent: str = str(made.HERE.agent)) -> Any:
    return Client(REMOTE_ADDR=address, HTTP_USER_AGENT=agent).post(
        REFRESH, json.dumps({"refresh_token": refresh_token}), "application/json"
    )


def first_tokens() -> tuple[UserSession, str]:
    session, pair = made.tokens_of(people.BuyerFactory.create())
    return session, str(pair.refresh_token)


def age(refresh_token: str, seconds: int) -> None:
    RefreshToken.objects.filter(token_hash=crypto.digest(refresh_token.encode())).update(
        used_at=F("used_at") - timedelta(seconds=seconds)
    )


@racing
def test_twenty_exchanges_at_once_leave_one_living_child(race: Race, settings: Any) -> None:
    settings.REFRESH_REUSE_GRACE_SECONDS = 600  # twenty threads of a busy machine need more than ten
    session, token = first_tokens()

    answers = race([partial(exchange, token)] * 20)

    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 19
    assert RefreshToken.objects.filter(session=session, used_at=None).count() == 1
    (child,) = [answer.json()["refresh_token"] for answer in answers if answer.status_code == 200]
    assert exchange(child).status_code == 200


@racing
def test_used_token_is_still_known_to_a_process_that_was_just_started() -> None:
    session, token = first_tokens()
    assert exchange(token).status_code == 200
    age(token, 11)
    code = (
        "from mestore.lib.actor import Actor\n"
        "from sessions_security import tokens\n"
        "import os\n"
        "try:\n"
        "    tokens.rotate(os.environ['USED'], by=Actor(kind='anonymous', address='203.0.113.9'))\n"
        "except tokens.InvalidToken:\n"
        "    print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "-c", code],
        env={**os.environ, "USED": token},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip

    assert "refused" in done.stdout, done.stderr
    session.refresh_from_db()
    assert session.revoked_why == "refresh_reused"


def test_grace_answers_a_conflict_and_changes_nothing(settings: Any) -> None:
    settings.REFRESH_REUSE_GRACE_SECONDS = 600
    session, token = first_tokens()
    child = exchange(token).json()["refresh_token"]

    again = exchange(token)

    assert (again.status_code, again.json()["error_code"]) == (409, "REFRESH_TOKEN_JUST_USED")
    assert "refresh_token" not in again.json()
    assert RefreshToken.objects.filter(session=session).count() == 2
    assert exchange(child).status_code == 200


def test_reuse_from_elsewhere_ends_all_tells_the_owner_and_raises_a_signal() -> None:
    session, token = first_tokens()
    child = exchange(token).json()["refresh_token"]
    age(token, 11)

    assert exchange(token, address="203.0.113.9", agent="other").status_code == 401

    session.refresh_from_db()
    assert session.revoked_why == "refresh_reused"
    assert exchange(child).status_code == 401
    assert OutboxMessage.objects.filter(template="refresh_reused").count() == 1
    signal = Signal.objects.get(rule=refresh_reuse.RULE)
    assert (signal.entity_type, signal.entity_id) == ("user", str(session.user_id))
    assert token not in json.dumps(signal.evidence)


def test_client_that_kept_its_first_token_is_signed_out_without_an_alarm() -> None:
    session, token = first_tokens()
    exchange(token)
    age(token, 11)

    assert exchange(token).status_code == 401

    session.refresh_from_db()
    assert session.revoked_why == "refresh_reused"
    assert not OutboxMessage.objects.filter(template="refresh_reused").exists()
    assert not Signal.objects.exists()


@racing
def test_reuse_sent_many_times_at_once_is_told_once(race: Race) -> None:
    _session, token = first_tokens()
    exchange(token)
    age(token, 11)

    answers = race([partial(exchange, token, address="203.0.113.9", agent="other")] * 8)

    assert {answer.status_code for answer in answers} == {401}
    assert OutboxMessage.objects.filter(template="refresh_reused").count() == 1
    assert Signal.objects.get(rule=refresh_reuse.RULE).seen == 1


@racing
def test_exchange_that_fails_half_way_leaves_the_token_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    session, token = first_tokens()
    keys.ring()

    def cut(*_args: Any, **_kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("sessions_security.tokens.audit.record", cut)
        with pytest.raises(KeyboardInterrupt):
            tokens.rotate(token, by=made.HERE)

    assert RefreshToken.objects.get(session=session).used_at is None
    assert exchange(token).status_code == 200
