"""Fill the peer: read commissions as JSON lines, print tokens, cookies and refresh tokens.

Run in the peer's own environment: ``.cache/peer/bin/python -m benchmarks.peer.seed REFRESH_TOKENS < ROWS``.
"""

from __future__ import annotations

import json
import os
import sys
from itertools import islice
from typing import Any

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.peer.settings"

import django

BATCH = 2_000


def main() -> None:
    """Create accounts and rows; print what the clients need."""
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    rows = (json.loads(line) for line in sys.stdin)
    users: dict[str, Any] = {}
    wanted: dict[str, str] = {}
    while batch := list(islice(rows, BATCH)):
        _insert(batch, users)
        for row in batch:
            if row["wanted"]:
                wanted[row["vendor"]] = row["id"]
    vendors = [_vendor(users[name], commission) for name, commission in wanted.items()]
    some = [users[name] for name in wanted]
    from rest_framework_simplejwt.tokens import RefreshToken

    from benchmarks.peer import sales

    sales.open_accounts(list(wanted))
    storefront = _vendor(_storefront(), "")["token"]
    refresh = [str(RefreshToken.for_user(some[number % len(some)])) for number in range(int(sys.argv[1]))]
    sys.stdout.write(json.dumps({"vendors": vendors, "storefront": storefront, "refresh": refresh}) + "\n")


def _storefront() -> Any:
    from django.contrib.auth import get_user_model

    return get_user_model().objects.create_user("storefront")


def _insert(batch: list[dict[str, Any]], users: dict[str, Any]) -> None:
    from django.contrib.auth import get_user_model

    from benchmarks.peer.models import Commission

    model = get_user_model()
    missing = {row["vendor"] for row in batch} - users.keys()
    users.update(
        (user.username, user)
        for user in model.objects.bulk_create(model(username=name, password="!") for name in sorted(missing))
    )
    Commission.objects.bulk_create(
        Commission(
            vendor=users[row["vendor"]],
            **{name: value for name, value in row.items() if name not in {"vendor", "wanted"}},
        )
        for row in batch
    )


def _vendor(user: Any, commission: str) -> dict[str, str]:
    """A token and a signed-in browser for an account."""
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.sessions.backends.cached_db import SessionStore

    from benchmarks.peer.tokens import RevocableAccessToken

    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    return {
        "id": user.username,
        "commission": commission,
        "token": str(RevocableAccessToken.for_user(user)),
        "cookie": session.session_key or "",
    }


if __name__ == "__main__":
    main()
