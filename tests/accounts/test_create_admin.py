from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from accounts import login, totp
from accounts.management.commands import create_admin
from accounts.models import Permission, TotpDevice, User
from mestore.lib import actor
from monitoring.models import AuditEvent
from tests.factories.accounts import BuyerFactory

pytestmark = pytest.mark.django_db(databases=["default", "audit"])

EMAIL = "ana@example.com"


def _run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("create_admin", *arguments, stdout=out)
    return out.getvalue()


def _type(monkeypatch: pytest.MonkeyPatch, text: str, *, is_terminal: bool) -> None:
    typed = io.StringIO(text)
    monkeypatch.setattr(typed, "isatty", lambda: is_terminal)
    monkeypatch.setattr(sys, "stdin", typed)


@pytest.mark.parametrize("arguments", [("--json",), ("--password-stdin",), ()])
def test_missing_address_is_refused_where_nobody_can_be_asked(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    _type(monkeypatch, "", is_terminal=False)

    with pytest.raises(CommandError) as refused:
        _run(*arguments)

    assert refused.value.returncode == 2


def test_taken_address_is_refused_and_nothing_is_written() -> None:
    BuyerFactory.create(email=EMAIL)

    with pytest.raises(CommandError) as refused:
        _run("--email", EMAIL, "--json")

    assert refused.value.returncode == 1
    assert not TotpDevice.objects.exists()


@pytest.mark.parametrize("arguments", [("--role", "VENDOR"), ("--clearance", "6"), ("--password", "x" * 20)])
def test_wrong_arguments_are_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        _run("--email", EMAIL, *arguments)


def test_unknown_permission_undoes_everything() -> None:
    with pytest.raises(CommandError, match="permi"):
        _run("--email", EMAIL, "--grant", "cats.pet.global")

    assert not User.objects.exists()


def test_weak_password_is_refused_with_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    _type(monkeypatch, "short\n", is_terminal=False)

    with pytest.raises(CommandError, match="8"):
        _run("--email", EMAIL, "--password-stdin")


def test_empty_password_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _type(monkeypatch, "\n", is_terminal=False)

    with pytest.raises(CommandError):
        _run("--email", EMAIL, "--password-stdin")


def test_unreadable_password_file_is_refused_by_the_variables_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(create_admin.PASSWORD_FILE, str(tmp_path / "absent"))

    with pytest.raises(CommandError, match=create_admin.PASSWORD_FILE):
        _run("--email", EMAIL)


def test_generated_password_and_secret_open_the_account() -> None:
    made = json.loads(_run("--email", EMAIL, "--role", "SUPERUSER", "--name", "Ana", "--json"))

    by = actor.Actor(kind="anonymous", address="203.0.113.7")
    user = login.check_credentials(EMAIL, made["password"], by=by, purpose="console")
    device = totp.verify(user, totp.code_at(made["totp_secret"], totp.current_step()), by=by)
    assert (user.user_type, user.nombre, str(user.pk)) == ("SUPERUSER", "Ana", made["id"])
    assert device.confirmed
    assert made["otpauth_uri"].startswith("otpauth://totp/MeStore:")
    assert AuditEvent.objects.filter(type="user.administrator_created").count() == 1


def test_given_password_is_not_printed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    _type(monkeypatch, "chosen by me\r\n", is_terminal=False)

    made = _run("--email", EMAIL, "--password-stdin", "--json")

    assert "chosen by me" not in made
    assert json.loads(made)["password"] is None
    assert User.objects.by_email(EMAIL).check_password("chosen by me")


def test_password_is_read_from_the_named_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from the file\n")
    monkeypatch.setenv(create_admin.PASSWORD_FILE, str(tmp_path / "password"))

    _run("--email", EMAIL)

    assert User.objects.by_email(EMAIL).check_password("from the file")


def test_person_is_asked_and_shown_a_qr_code(monkeypatch: pytest.MonkeyPatch) -> None:
    _type(monkeypatch, f"{EMAIL}\n", is_terminal=True)
    monkeypatch.setattr("builtins.input", lambda prompt: EMAIL)

    shown = _run()

    secret = TotpDevice.objects.get().secret
    assert EMAIL in shown
    assert str(secret) in shown
    assert shown.count("█") > 50


def test_grants_are_given_by_name_or_all() -> None:
    _run("--email", EMAIL, "--grant", "users.create.global", "--grant", "users.update.global", "--json")
    _run("--email", "all@example.com", "--all-grants", "--json")

    first, second = User.objects.by_email(EMAIL), User.objects.by_email("all@example.com")
    assert set(first.grants.values_list("permission__name", flat=True)) == {
        "users.create.global",
        "users.update.global",
    }
    assert second.grants.count() == Permission.objects.count()
    assert second.has_perm("users.manage.system")


def test_help_has_an_example() -> None:
    shown = subprocess.run(
        [sys.executable, "manage.py", "create_admin", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ.copy(),
    ).stdout

    assert "manage.py create_admin --email" in shown
    assert "exit codes" in shown
