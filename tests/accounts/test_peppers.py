"""Rotating the pepper: nobody is signed out, and what still needs an old key shows."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from accounts import login, passwords
from accounts.models import User
from mestore.environment import Environment
from mestore.lib.actor import Actor
from tests.factories.accounts import PASSWORD, BuyerFactory

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "audit", "owner"])

BY = Actor(kind="anonymous", address="192.0.2.1")


def status(**options: Any) -> tuple[int, dict[str, Any]]:
    out, code = io.StringIO(), 0
    try:
        call_command("rotate_keys", purpose="pepper", json=True, stdout=out, **options)
    except CommandError as error:
        code = error.returncode
    return code, json.loads(out.getvalue())


def counts(answer: dict[str, Any]) -> dict[str, int]:
    return {key["key_id"]: key["passwords"] for key in answer["keys"]}


def test_pepper_is_rotated_without_signing_anybody_out(settings: Any) -> None:
    stored = passwords.hashed(PASSWORD)
    user = BuyerFactory.create(password=stored)
    old_ring = dict(settings.MESTORE_PEPPER_KEYS)
    old = next(iter(old_ring))
    assert status() == (0, {"keys": status()[1]["keys"]})
    assert counts(status()[1]) == {old: 1}

    settings.MESTORE_PEPPER_KEYS = {"fresh": b"f" * 32, **old_ring}
    code, answer = status()
    assert (code, counts(answer)) == (1, {"fresh": 0, old: 1})

    login.check_credentials(user.email, PASSWORD, by=BY, purpose="api")

    code, answer = status()
    assert (code, counts(answer)) == (0, {"fresh": 1, old: 0})
    assert User.objects.get(pk=user.pk).auth_epoch == user.auth_epoch
    settings.MESTORE_PEPPER_KEYS = {"fresh": b"f" * 32}
    assert login.check_credentials(user.email, PASSWORD, by=BY, purpose="api") == user


def test_key_that_was_dropped_too_early_is_named(settings: Any) -> None:
    BuyerFactory.create(password=passwords.hashed(PASSWORD))
    old = next(iter(settings.MESTORE_PEPPER_KEYS))
    settings.MESTORE_PEPPER_KEYS = {"fresh": b"f" * 32}

    code, answer = status()

    assert code == 2
    assert [key["key_id"] for key in answer["keys"] if not key["is_held"]] == [old]
    out = io.StringIO()
    with pytest.raises(CommandError):
        call_command("rotate_keys", purpose="pepper", stdout=out)
    assert old in out.getvalue()


def test_new_key_has_the_form_that_the_settings_take(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    call_command("rotate_keys", purpose="pepper", new="2026b", stdout=out)
    assert status(new="2026c")[1]["entry"].startswith("2026c:")

    monkeypatch.setenv("MESTORE_PEPPER_KEYS", out.getvalue().strip())
    environment = Environment()
    ring = environment.key_ring("MESTORE_PEPPER_KEYS", "test")

    assert [len(key) for key in ring.values()] == [32]
    environment.refuse_if_wrong()


@pytest.mark.parametrize("name", ["", "a:b", "x" * 33, "ñ", "taken"])
def test_unusable_id_is_refused(name: str, settings: Any) -> None:
    settings.MESTORE_PEPPER_KEYS = {"taken": b"t" * 32}

    with pytest.raises(CommandError) as refused:
        call_command("rotate_keys", purpose="pepper", new=name)

    assert refused.value.returncode == 2
