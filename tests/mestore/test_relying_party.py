"""Which domain passkeys belong to and which pages may ask for one: settings only, and refused when wrong."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from django.conf import settings

from mestore.environment import Environment

RP, ORIGINS = "RP", "ORIGINS"


def read(
    addresses: list[str], *, loopback: bool = False, **source: str
) -> tuple[tuple[str, list[str]], list[str]]:
    environment = Environment(source)
    found = environment.relying_party(RP, ORIGINS, addresses=addresses, loopback=loopback)
    return found, environment.problems


@pytest.mark.parametrize(
    ("addresses", "rp_id", "origins"),
    [
        (
            ["https://api.shop.example", "https://www.shop.example"],
            "api.shop.example",
            ["https://api.shop.example"],
        ),
        (["https://shop.example", "https://www.shop.example"], "shop.example", None),
        (
            ["https://shop.example:8443", "https://shop.example:8443"],
            "shop.example",
            ["https://shop.example:8443"],
        ),
        (["https://shop.example:443", "-"], "shop.example", ["https://shop.example"]),
        (["https://10.0.0.5", "-"], "", []),
        (["https://server", "-"], "", []),
        (["-", "-"], "", []),
        ([], "", []),
    ],
)
def test_without_values_the_public_address_decides(
    addresses: list[str], rp_id: str, origins: list[str] | None
) -> None:
    found, problems = read(addresses)

    assert found == (rp_id, addresses if origins is None else origins)
    assert problems == []


def test_front_ends_beside_the_api_share_a_domain_that_is_named() -> None:
    addresses = ["https://api.shop.example", "https://www.shop.example"]

    assert read(addresses, RP="shop.example") == (("shop.example", addresses), [])


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_demo_on_this_machine_is_localhost(host: str) -> None:
    found, problems = read([f"http://{host}:8000"], loopback=True, ORIGINS="http://localhost:8000")

    assert found == ("localhost", ["http://localhost:8000"])
    assert problems == []


@pytest.mark.parametrize(
    "rp_id", ["https://shop.example", "shop.example:443", "10.0.0.5", "server", "Shop.example",
              "*.shop.example", "shop..example", "localhost", "x" * 64 + ".example"],
)  # fmt: skip
def test_a_domain_that_is_none_stops_the_start(rp_id: str) -> None:
    _found, problems = read(["https://shop.example"], RP=rp_id, ORIGINS="https://shop.example")

    assert any("must be a domain" in problem for problem in problems)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example", "https://evilshop.example", "http://shop.example", "https://shop.example/",
        "https://shop.example/path", "https://user@shop.example", "https://shop.example:443", "shop.example",
        "https://SHOP.example", "http://localhost:8000", "https://shop.example:port", "https://",
    ],
)  # fmt: skip
def test_an_origin_outside_of_the_domain_stops_the_start(origin: str) -> None:
    _found, problems = read(
        ["https://shop.example"], RP="shop.example", ORIGINS=f"https://shop.example,{origin}"
    )

    assert len(problems) == 1
    assert "must name origins" in problems[0]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"MESTORE_WEBAUTHN_RP_ID": "evil.example"}, "MESTORE_WEBAUTHN_ORIGINS must name origins"),
        (
            {"MESTORE_SUPERUSER_REQUIRES_PASSKEY": "true", "MESTORE_PUBLIC_URL": "https://10.0.0.5"},
            "MESTORE_SUPERUSER_REQUIRES_PASSKEY needs",
        ),
    ],
)
def test_a_mismatch_stops_a_real_start(changes: dict[str, str], sentence: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", "import django; django.setup()"],
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "mestore.settings",
            "MESTORE_WEBAUTHN_ORIGINS": "" if "MESTORE_PUBLIC_URL" in changes else "https://testserver",
            **changes,
        },
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert run.returncode != 0
    assert sentence in run.stderr
