"""Requirements on authentication that concern the whole tree rather than one subject."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone
from django.utils.http import http_date

from accounts import totp
from tests.contract.routes import every_route
from tests.contract.test_authorisation import shapes
from tests.factories.accounts import PASSWORD, AdminFactory, TotpDeviceFactory
from tests.factories.sessions_security import HERE

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

ROOT = Path(settings.BASE_DIR)
PACKAGES = ("accounts", "sessions_security", "monitoring", "finance", "mestore")
# Chance where nothing is guarded by it: pauses between retries, invented orders of the demo.
CHANCE = {"finance/transactions.py", "mestore/demo/sample_orders.py", "mestore/servers/ports.py"}
INPUT = re.compile(r"<input\b[^>]*>")
MAKES_ACCOUNTS = re.compile(r"insert into accounts_user\b|create_user|create_superuser|user.objects.create")
PASSWORD_FIELDS = {"password", "current", "new", "again"}


def modules() -> list[Path]:
    return [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]


def imported(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def test_guessable_chance_is_used_for_nothing_secret() -> None:
    using = {str(file.relative_to(ROOT)) for file in modules() if imported(file) & {"random", "numpy.random"}}

    assert using == CHANCE


def test_nobody_can_sign_in_before_somebody_is_made() -> None:
    assert not get_user_model().objects.exists()
    for file in (ROOT / "accounts" / "migrations").glob("*.py"):
        text = file.read_text(encoding="utf-8").lower()
        assert not re.search(
            r"insert into accounts_user\b|create_user|create_superuser|make_password", text
        ), file


def test_password_fields_are_masked_and_open_to_password_managers() -> None:
    fields = []
    for template in (ROOT / "templates").rglob("*.html"):
        for field in INPUT.findall(template.read_text(encoding="utf-8")):
            name = re.search(r'name="(\w+)"', field)
            if (name and name.group(1) in PASSWORD_FIELDS) or "-password" in field:
                fields.append(field)
                assert 'type="password"' in field, (template, field)
                assert re.search(r'autocomplete="(current|new)-password"', field), (template, field)
        assert "onpaste" not in template.read_text(encoding="utf-8"), template
    assert len(fields) >= 5


def test_there_are_no_hints_and_no_secret_questions() -> None:
    names = {
        field.name
        for model in apps.get_models()
        if model.__module__.startswith(PACKAGES)
        for field in model._meta.get_fields()
    }
    names |= {str(field) for shape in shapes().values() for field in shape().fields}  # type: ignore[attr-defined]

    assert {name for name in names if re.search(r"hint|question|security_answer|pregunta", name)} == set()


def test_confirmed_factors_do_not_expire() -> None:
    TotpDeviceFactory.create(confirmed_at=timezone.now().replace(year=2020))
    for name, column in (("passkey", "expires_at"), ("backupcode", "expires_at")):
        assert column not in {field.name for field in apps.get_model("accounts", name)._meta.get_fields()}

    device = apps.get_model("accounts", "TotpDevice").objects.get()
    assert device.expires_at is None
    assert totp.verify(device.user, totp.code_at(device.secret, totp.current_step()), by=HERE) == device


def test_there_is_no_identity_provider_and_no_push_factor() -> None:
    words = re.compile(r"saml|oauth|oidc|openid|\bsso\b|google|push")
    # The token endpoint of machine accounts follows OAuth; it takes nobody's word for who somebody is.
    assert [route for route in every_route() if words.search(route.path + route.name)] == []
    assert {method for rule in settings.STEP_UP.values() for method in rule["methods"]} == {
        "passkey", "totp", "backup_code", "password",
    }  # fmt: skip


@pytest.mark.parametrize("steps", [-10, 10])
def test_what_a_client_says_about_the_time_changes_nothing(steps: int) -> None:
    device = TotpDeviceFactory.create(user=AdminFactory.create())
    moment = timezone.now().timestamp() + steps * totp.STEP_SECONDS
    begun = _post("admin-login", {"email": device.user.email, "password": PASSWORD})

    answer = _post(
        "mfa/verify",
        {
            "mfa_token": begun.json()["mfa_token"],
            "method": "totp",
            "code": totp.code_at(device.secret, totp.current_step() + steps),
            "timestamp": moment,
            "time": moment,
            "now": moment,
        },
        headers={"Date": http_date(moment), "X-Timestamp": str(moment)},
    )

    assert answer.status_code == 401


def _post(path: str, body: dict[str, Any], **more: Any) -> Any:
    return Client().post(f"/api/v1/auth/{path}", json.dumps(body), content_type="application/json", **more)
