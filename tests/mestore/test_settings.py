"""The settings as a whole: documented, and refused when wrong — in every environment, in a real process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from mestore.settings import env

ROOT = Path(settings.BASE_DIR)
VARIABLE = re.compile(r"^([A-Z][A-Z0-9_]+)=", re.MULTILINE)

START = "import django; django.setup(); print('started')"


def start(**changes: str | None) -> subprocess.CompletedProcess[str]:
    """Start a process with this test's environment and `changes` (None removes a variable)."""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "mestore.settings"}
    for name, value in changes.items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value
    return subprocess.run(
        [sys.executable, "-c", START],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_every_variable_is_documented_and_no_other() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")

    assert set(VARIABLE.findall(text)) == set(env.asked)


def test_each_documented_variable_has_its_line_of_explanation() -> None:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()

    for number, line in enumerate(lines):
        if VARIABLE.match(line):
            above = lines[number - 1]
            assert above.startswith("#") or VARIABLE.match(above), f"line {number + 1} is not explained"


def test_no_secret_has_a_value_in_the_example() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")

    for name in (
        "MESTORE_SECRET_KEY",
        "MESTORE_MASTER_KEYS",
        "MESTORE_PEPPER_KEYS",
        "DATABASE_URL",
        "REDIS_URL",
    ):
        assert re.search(rf"^{name}=$", text, re.MULTILINE), name


@pytest.mark.parametrize("mode", ["demo", "test", "staging", "production"])
def test_missing_secret_stops_the_start_in_every_environment(mode: str) -> None:
    run = start(MESTORE_ENV=mode, MESTORE_SECRET_KEY=None, MESTORE_PUBLIC_URL="https://shop.test")

    assert run.returncode != 0
    assert "MESTORE_SECRET_KEY is missing" in run.stderr


def test_limits_of_time_are_those_of_a_service_and_not_those_of_the_tests() -> None:
    look = (
        "from mestore.settings import CACHES, DATABASES; from accounts import hashers;"
        "options = DATABASES['default']['OPTIONS']; cache = CACHES['default']['OPTIONS'];"
        "import json; print(json.dumps([options['options'], options['connect_timeout'],"
        " options['pool']['timeout'], cache, hashers.WAIT_SECONDS]))"
    )

    said = subprocess.run(
        [sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "mestore.settings"},
    ).stdout  # fmt: skip

    options, *others = json.loads(said)
    assert {
        "lock_timeout=2s", "idle_in_transaction_session_timeout=10s", "plan_cache_mode=force_generic_plan"
    } <= set(options.split(" "))  # fmt: skip
    assert others == ["3", 3.0, {"SOCKET_CONNECT_TIMEOUT": 0.5, "SOCKET_TIMEOUT": 0.5}, 3.0]


def test_unknown_environment_stops_the_start() -> None:
    run = start(MESTORE_ENV=None)

    assert run.returncode != 0
    assert "MESTORE_ENV" in run.stderr


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"MESTORE_DEBUG": "true"}, "MESTORE_DEBUG"),
        ({"DATABASE_URL": "postgresql://u:hunter-two@db/name"}, "DATABASE_URL"),
        ({"REDIS_URL": "redis://:hunter-two@cache:6379/0"}, "REDIS_URL"),
        ({"MESTORE_PUBLIC_URL": "http://shop.test"}, "MESTORE_PUBLIC_URL"),
        ({"MESTORE_ALLOWED_HOSTS": "*"}, "MESTORE_ALLOWED_HOSTS"),
        ({"MESTORE_MAIL_URL": ""}, "MESTORE_MAIL_URL is missing"),
        ({"MESTORE_MAIL_URL": "smtp://me:hunter-two@mail.test"}, "MESTORE_MAIL_URL"),
        ({"MESTORE_SMS_BACKEND": "monitoring.sms.Console"}, "MESTORE_SMS_BACKEND"),
        ({"MESTORE_ALLOWED_HOSTS": "shop.test,.shop.test"}, "MESTORE_ALLOWED_HOSTS"),
        ({"MESTORE_CORS_ORIGINS": "*"}, "MESTORE_CORS_ORIGINS"),
        ({"MESTORE_CORS_ORIGINS": "https://shop.test,null"}, "MESTORE_CORS_ORIGINS"),
        ({"MESTORE_CORS_ORIGINS": "https://shop.test/"}, "MESTORE_CORS_ORIGINS"),
        ({"MESTORE_ARGON2_MEMORY_KIB": "1024", "MESTORE_ARGON2_TIME_COST": "1"}, "MESTORE_ARGON2_MEMORY_KIB"),
    ],
)
def test_unsafe_production_is_refused_without_showing_the_value(changes: dict[str, str], named: str) -> None:
    safe: dict[str, str | None] = {
        "MESTORE_ENV": "production",
        "MESTORE_PUBLIC_URL": "https://shop.test",
        "MESTORE_MAIL_URL": "smtps://mail.test",
        "MESTORE_ARGON2_MEMORY_KIB": "65536",
        "MESTORE_ARGON2_TIME_COST": "3",
    }

    run = start(**{**safe, **changes})

    assert run.returncode != 0
    assert named in run.stderr
    assert "hunter-two" not in run.stderr


def test_production_starts_when_all_is_well() -> None:
    run = start(
        MESTORE_ENV="production",
        MESTORE_PUBLIC_URL="https://shop.test",
        MESTORE_ALLOWED_HOSTS="shop.test",
        MESTORE_MAIL_URL="smtps://mail.test",
        MESTORE_ARGON2_MEMORY_KIB="65536",
        MESTORE_ARGON2_TIME_COST="3",
    )

    assert run.returncode == 0, run.stderr
    assert "started" in run.stdout


def test_deploy_check_is_clean_on_production_settings_with_nothing_silenced() -> None:
    environment = {
        **os.environ,
        "MESTORE_ENV": "production",
        "MESTORE_PUBLIC_URL": "https://shop.test",
        "MESTORE_ALLOWED_HOSTS": "shop.test",
        "MESTORE_MAIL_URL": "smtps://mail.test",
        "MESTORE_ARGON2_MEMORY_KIB": "65536",
        "MESTORE_ARGON2_TIME_COST": "3",
    }

    run = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip

    assert run.returncode == 0, run.stderr
    assert getattr(settings, "SILENCED_SYSTEM_CHECKS", []) == []


def told_rates(**changes: str | None) -> subprocess.CompletedProcess[str]:
    """What a process that starts with `changes` charges by type."""
    program = (
        "import django, json; django.setup(); from django.conf import settings; "
        "print(json.dumps(settings.COMMISSION_RATES_PPM))"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "mestore.settings"}
    environment.update({name: value for name, value in changes.items() if value is not None})
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip


def test_commission_rates_are_read_exactly() -> None:
    """0.29 times a million is 289,999.99… in binary floating point."""
    run = told_rates(
        DEFAULT_COMMISSION_RATE="0.29", PREMIUM_COMMISSION_RATE="0.123457", PROMOTIONAL_COMMISSION_RATE="0",
        HIGH_VOLUME_COMMISSION_RATE="1.000",
    )  # fmt: skip

    assert json.loads(run.stdout) == {
        "STANDARD": 290_000, "PREMIUM": 123_457, "PROMOTIONAL": 0, "CATEGORY_BASED": 1_000_000,
    }  # fmt: skip


def test_commission_rates_of_the_contract_are_the_defaults() -> None:
    assert settings.COMMISSION_RATES_PPM == {
        "STANDARD": 50_000, "PREMIUM": 30_000, "PROMOTIONAL": 20_000, "CATEGORY_BASED": 40_000,
    }  # fmt: skip


def test_wrong_commission_rate_stops_the_start_without_being_repeated() -> None:
    run = told_rates(DEFAULT_COMMISSION_RATE="5.4321")

    assert run.returncode != 0
    assert "DEFAULT_COMMISSION_RATE must be a fraction from 0 to 1" in run.stderr
    assert "5.4321" not in run.stderr
