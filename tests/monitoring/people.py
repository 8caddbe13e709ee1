"""Actors for the tests of the audit trail."""

from __future__ import annotations

from typing import Any

from mestore.lib.actor import Actor
from mestore.lib.ids import uuid7

EMAIL = "ana.restrepo@example.com"
ADDRESS = "203.0.113.77"
AGENT = "Firefox on a very particular machine"


def person(**changes: str) -> Actor:
    """Return somebody with an address, an agent and an e-mail address, known to no other test."""
    values: dict[str, Any] = {
        "id": str(uuid7()), "label": EMAIL, "role": "ADMIN", "address": ADDRESS, "agent": AGENT,
        "session_id": str(uuid7()), "request_id": "req_0123abcd",
    } | changes  # fmt: skip
    return Actor(kind="user", **values)
