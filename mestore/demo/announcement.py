"""What a person at the terminal sees when the demo is ready."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

import segno

ISSUER = "MeStore demo"


def write(description: dict[str, Any], out: TextIO, logs: Path, seconds: float) -> None:
    """Addresses, credentials and the administrator's authenticator code as a QR."""
    url, admin, superuser = description["url"], description["admin"], description["superuser"]
    lines = [
        "",
        f"MeStore is ready at {url} ({seconds:.0f} s)",
        "",
        f"  Console     {url}/admin/",
        f"  API         {url}/api/docs/",
        f"  Health      {url}/health",
        "",
        *_person("Administrator", admin),
        *_person("Finance lead", description["finance_lead"]),
        *_person("Superuser", superuser),
        *(line for vendor in description["vendors"] for line in _person("Vendor", vendor)),
        *(line for buyer in description["buyers"] for line in _person("Buyer", buyer)),
        f"  {'Storefront':<14} client {description['storefront']['client_id']}",
        f"  {'':<14} key    {description['storefront']['key']}",
        "",
        f"  Logs in {logs}; other commands: set -a; . {description['env_file']}; set +a",
        "",
        "  The administrator's second factor, for any authenticator application:",
        "",
    ]
    out.write("\n".join(lines) + "\n")
    segno.make(_address(admin), error="l").terminal(out, border=2, compact=True)
    out.write("\n  Ctrl-C ends everything.\n")


def _person(title: str, person: dict[str, Any]) -> list[str]:
    line = f"  {title:<14} {person['email']}   password {person['password']}"
    return [line, f"  {'':<14} TOTP secret {person['totp_secret']}"] if "totp_secret" in person else [line]


def _address(admin: dict[str, Any]) -> str:
    label = quote(f"{ISSUER}:{admin['email']}")
    return f"otpauth://totp/{label}?secret={admin['totp_secret']}&issuer={quote(ISSUER)}"
