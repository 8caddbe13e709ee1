"""What tests of passkeys ask and answer."""

from __future__ import annotations

from typing import Any

from accounts import passkeys
from accounts.challenges import Purpose
from accounts.models import Passkey, User
from mestore.lib.actor import Actor
from monitoring.models import AuditEvent
from tests.harness import authenticator as device
from tests.harness.authenticator import Authenticator

BY = Actor(kind="anonymous", address="203.0.113.7")
HERE = "session:1"

LIES: list[dict[str, Any]] = [
    {"origin": "https://evil.example"},
    {"origin": "http://testserver"},
    {"origin": "https://testserver.evil.example"},
    {"origin": "https://testserver:444"},
    {"rp_id": "evil.example"},
    {"flags": device.USER_PRESENT},
    {"flags": device.USER_VERIFIED},
    {"flags": 0},
    {"flags": Authenticator.flags | device.BACKED_UP},
    {"cross_origin": True},
]


def options(user: User, purpose: Purpose = Purpose.STEP_UP, bound_to: str = HERE) -> dict[str, Any]:
    return passkeys.assertion_options(purpose, bound_to=bound_to, user=user)


def prove(user: User, answer: object, purpose: Purpose = Purpose.STEP_UP, bound_to: str = HERE) -> Passkey:
    return passkeys.prove(user, answer, purpose, bound_to=bound_to, by=BY)


def register(user: User, authenticator: Authenticator, **client_data: Any) -> Passkey:
    answer = authenticator.create(passkeys.registration_options(user, bound_to=HERE), **client_data)
    return passkeys.check_registration(user, "laptop", answer, bound_to=HERE, by=BY)


def alone() -> dict[str, Any]:
    return passkeys.assertion_options(Purpose.SIGN_IN, bound_to="api")


def sign_in(answer: object, bound_to: str = "api") -> Passkey:
    return passkeys.sign_in(answer, bound_to=bound_to, by=BY)


def events_of(code: str) -> int:
    return (
        AuditEvent.objects.using("audit").filter(type=code).count()
        + AuditEvent.objects.filter(type=code).count()
    )
