"""Keys that sign access tokens: rotated under load, dropped at once, sealed again, shown without a secret."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from mestore.lib import crypto
from monitoring.models import AuditEvent
from sessions_security import keys, tokens
from sessions_security.models import SigningKey, UserSession
from tests.factories import accounts as people
from tests.factories import sessions_security as made

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])

Race = Callable[[Sequence[Callable[[], Any]]], list[Any]]


@pytest.fixture(autouse=True)
def _fresh_keys() -> None:
    keys.forget()


@pytest.fixture
def session() -> UserSession:
    return made.session_of(people.BuyerFactory.create())


def command(**options: Any) -> tuple[int, dict[str, Any]]:
    out, code = io.StringIO(), 0
    try:
        call_command("rotate_keys", purpose="signing", json=True, stdout=out, **options)
    except CommandError as error:
        code = error.returncode
    return code, json.loads(out.getvalue() or "{}")


def test_tokens_of_both_keys_are_good_while_keys_are_rotated(race: Race, session: UserSession) -> None:
    def sign_and_check() -> bool:
        return all(tokens.verify_access(tokens.issue_access(session).access_token) for _again in range(20))

    outcomes = race([sign_and_check] * 6 + [lambda: bool(keys.rotate(by=made.HERE))] * 2)

    assert outcomes == [True] * 8
    assert SigningKey.objects.filter(state="current").count() == 1


def test_process_that_still_has_the_old_ring_accepts_the_new_key(session: UserSession) -> None:
    old = keys.ring()
    keys.rotate(by=made.HERE)
    token = tokens.issue_access(session).access_token

    keys._memory.ring = keys.Ring(old.current_kid, old.private_key, old.public_keys, old.read_at - 2)

    assert tokens.verify_access(token).kid != old.current_kid


def test_compromised_key_is_dropped_at_once(session: UserSession) -> None:
    token = tokens.issue_access(session).access_token
    old = keys.ring().current_kid

    code, answer = command(rotate=True, compromised=True)

    assert code == 0
    assert [key["kid"] for key in answer["keys"]] == [answer["rotated"]] != [old]
    with pytest.raises(tokens.InvalidToken):
        tokens.verify_access(token)
    assert {key["kid"] for key in keys.public_jwks()["keys"]} == {answer["rotated"]}
    retired = AuditEvent.objects.get(type="key.signing.retired", target_id=old)
    assert json.loads(bytes(retired.canon))["data"] == {"why": "compromised"}


def test_key_whose_overlap_is_over_is_deleted() -> None:
    old = keys.ring().current_kid
    keys.rotate(by=made.HERE)
    SigningKey.objects.filter(kid=old).update(verify_until=timezone.now() - timedelta(seconds=1))

    _code, answer = command()

    assert [key["state"] for key in answer["keys"]] == ["current"]


def test_dry_run_changes_nothing() -> None:
    before = keys.ring().current_kid

    code, answer = command(rotate=True, dry_run=True)

    assert (code, answer["rotated"], answer["keys"][0]["kid"]) == (0, None, before)
    assert SigningKey.objects.count() == 1


def test_drop_without_a_rotation_is_refused() -> None:
    assert command(compromised=True)[0] == 2


def test_private_key_is_sealed_again_under_a_new_master_key(settings: Any, session: UserSession) -> None:
    token = tokens.issue_access(session).access_token
    old_ring = dict(settings.MESTORE_MASTER_KEYS)
    settings.MESTORE_MASTER_KEYS = {"fresh": b"f" * 32, **old_ring}

    code, answer = command(rewrap=True)

    assert (code, answer["rewrapped"], answer["keys"][0]["master_key"]) == (0, 1, "fresh")
    assert keys.rewrap() == 0
    settings.MESTORE_MASTER_KEYS = {"fresh": b"f" * 32}
    keys.forget()
    assert tokens.verify_access(token)


def test_key_that_no_master_key_opens_is_named_and_can_be_rotated_away(settings: Any) -> None:
    keys.ring()
    settings.MESTORE_MASTER_KEYS = {"fresh": b"f" * 32}
    keys.forget()

    assert command(rewrap=True)[0] == 1
    with pytest.raises(crypto.Unreadable):
        keys.ring()
    assert command(rotate=True, compromised=True)[0] == 0
    assert keys.ring().current_kid


def test_listing_shows_no_key(capsys: pytest.CaptureFixture[str]) -> None:
    private = keys.ring().private_key.private_bytes_raw()

    call_command("rotate_keys", purpose="signing")

    printed = capsys.readouterr().out
    assert keys.ring().current_kid in printed
    assert private.hex() not in printed


def test_published_keys_may_be_kept_no_longer_than_a_ring() -> None:
    answer = Client().get("/.well-known/jwks.json")

    assert answer["Cache-Control"] == f"public, max-age={int(keys.RING_SECONDS)}"
    assert {key["kid"] for key in answer.json()["keys"]} == set(keys.ring().public_keys)
    assert all("d" not in key for key in answer.json()["keys"])
