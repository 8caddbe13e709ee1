"""Who did it: the frozen answer that every use case takes as `by` and every audit event records."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from mestore.lib.request import client_address, device_digest

Kind = Literal["user", "machine", "system", "anonymous"]

_AGENT_LENGTH = 400
# Control characters would let an agent string forge lines in a log or break a terminal; NUL breaks
# PostgreSQL.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Actor:
    """One party at one moment: a snapshot in plain text, with no reference to any model."""

    kind: Kind
    id: str | None = None
    label: str = ""
    role: str = ""
    address: str | None = None
    agent: str = ""
    session_id: str | None = None
    request_id: str | None = None
    # Whether the session proved a second factor; None where there is no session to say so.
    second_factor: bool | None = None
    # The administrator who acts as `id` in an impersonated session.
    impersonator: str | None = None
    # SHA-256 (hex) of the cookie of a browser that somebody signed in from before; None without one.
    device: str | None = field(default=None, repr=False)


def system(name: str) -> Actor:
    """The actor of a command or a background job called `name`."""
    return Actor(kind="system", label=name, role="SYSTEM")


def of(request: Any) -> Actor:
    """The actor behind a Django or DRF request; anonymous when nobody is signed in.

    Reads the user from the underlying Django request, which DRF keeps in step: asking DRF's wrapper for its
    user would start authentication again when this is called from inside an authenticator.
    """
    base = getattr(request, "_request", request)
    user = getattr(base, "user", None)
    session = getattr(request, "user_session", None)
    address = getattr(base, "client_address", None) or client_address(base)
    agent = _CONTROL.sub("", base.META.get("HTTP_USER_AGENT", ""))[:_AGENT_LENGTH]
    request_id = getattr(base, "request_id", None)
    session_id = str(session.id) if session is not None else None
    if user is None or not user.is_authenticated:
        return Actor(
            kind="anonymous", address=address, agent=agent, session_id=session_id, request_id=request_id,
            device=device_digest(base),
        )  # fmt: skip
    role = str(getattr(user, "user_type", ""))
    return Actor(
        kind="machine" if role == "SYSTEM" else "user",
        id=str(user.pk),
        label=str(getattr(user, "email", "")),
        role=role,
        address=address,
        agent=agent,
        session_id=session_id,
        request_id=request_id,
        second_factor=session.proved_second_factor() if session is not None else None,
        impersonator=_impersonator(session),
        device=device_digest(base),
    )


def _impersonator(session: Any) -> str | None:
    found = getattr(session, "impersonator_id", None)
    return str(found) if found is not None else None
