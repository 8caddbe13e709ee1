"""What is stored about sessions and tokens.

`UserSession` is the one authority for cookies and tokens alike: public, listed, named in the audit
trail. Everything that could open a session lives beside it in models that no console page registers
(`SessionSecret`, `RefreshToken`, `PendingSignIn`, `SigningKey`), and only as a hash or sealed.
"""

from __future__ import annotations

from sessions_security.models.attempt import NetworkReputation, SignInAttempt, SignInNotice
from sessions_security.models.client import ClientKey, MachineClient, UsedProof
from sessions_security.models.session import (
    Impersonation,
    PendingSignIn,
    RefreshToken,
    SessionCutoff,
    SessionSample,
    SessionSecret,
    SigningKey,
    StepUpProof,
    UserSession,
)

__all__ = [
    "ClientKey",
    "Impersonation",
    "MachineClient",
    "NetworkReputation",
    "PendingSignIn",
    "RefreshToken",
    "SessionCutoff",
    "SessionSample",
    "SessionSecret",
    "SignInAttempt",
    "SignInNotice",
    "SigningKey",
    "StepUpProof",
    "UsedProof",
    "UserSession",
]
