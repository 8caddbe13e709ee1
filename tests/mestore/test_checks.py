"""Each start-up check: silent when all is well, an id and a hint when not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.core.checks import CheckMessage
from django.test import override_settings

from mestore import checks

SAME = b"0123456789abcdef0123456789abcdef"
PLAIN = {alias: {**database, "OPTIONS": {}} for alias, database in settings.DATABASES.items()}
# The framework warns that no connection follows such a change; what is tested here only reads the setting.
pytestmark = pytest.mark.filterwarnings("ignore:Overriding setting DATABASES:UserWarning")

CASES: list[tuple[Callable[..., list[CheckMessage]], dict[str, Any], str]] = [
    (checks.database_is_verified, {"DATABASES": PLAIN}, "mestore.E001"),
    (checks.redis_is_verified, {"REDIS_URL": "redis://localhost"}, "mestore.E002"),
    (checks.redis_is_verified, {"REDIS_URL": ""}, "mestore.E002"),
    (checks.roles_are_separate, {"OWNER_ROLE": settings.RUNTIME_ROLE}, "mestore.E003"),
    (checks.middleware_is_complete, {"MIDDLEWARE": settings.MIDDLEWARE[1:]}, "mestore.E004"),
    (checks.middleware_is_complete, {"MIDDLEWARE": settings.MIDDLEWARE[:1]}, "mestore.E004"),
    (checks.known_passwords_are_there, {"BREACHED_PASSWORDS": "/nowhere/leaked"}, "mestore.E009"),
    (checks.cookies_are_host_bound, {"CSRF_COOKIE_NAME": "csrftoken"}, "mestore.E005"),
    (
        checks.passwords_are_peppered,
        {"PASSWORD_HASHERS": ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]},
        "mestore.E007",
    ),
    (
        checks.secrets_are_distinct,
        {"MESTORE_MASTER_KEYS": {"k1": SAME}, "MESTORE_PEPPER_KEYS": {"k1": SAME}},
        "mestore.W008",
    ),
    (checks.secrets_are_distinct, {"METRICS_TOKEN": settings.SECRET_KEY}, "mestore.W008"),
]


@pytest.mark.parametrize(("check", "change", "identifier"), CASES)
@pytest.mark.filterwarnings("ignore:Overriding setting DATABASES")
def test_check_names_what_is_wrong(
    check: Callable[..., list[CheckMessage]], change: dict[str, Any], identifier: str
) -> None:
    assert check() == []

    with override_settings(**change):
        found = check()

    assert {message.id for message in found} == {identifier}
    assert all(message.hint for message in found)


def test_console_without_a_factor_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.contrib import admin

    assert checks.console_needs_a_factor() == []

    monkeypatch.setattr(admin, "site", admin.AdminSite())

    assert [message.id for message in checks.console_needs_a_factor()] == ["mestore.E006"]


def test_no_message_shows_a_secret() -> None:
    for check, change, _ in CASES:
        with override_settings(**change):
            for message in check():
                assert settings.SECRET_KEY not in f"{message.msg} {message.hint}"
