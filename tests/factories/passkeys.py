"""Passkeys for tests, registered by the same use case as real ones."""

from __future__ import annotations

from accounts import passkeys
from accounts.models import Passkey, User
from mestore.lib.actor import Actor
from tests.harness.authenticator import Authenticator

HERE = Actor(kind="anonymous", address="203.0.113.7")


def passkey_of(
    user: User, authenticator: Authenticator | None = None, name: str = "laptop"
) -> tuple[Passkey, Authenticator]:
    """A passkey of `user` and the authenticator that has its private key."""
    authenticator = authenticator or Authenticator()
    answer = authenticator.create(passkeys.registration_options(user, bound_to="test"))
    passkey = passkeys.check_registration(user, name, answer, bound_to="test", by=HERE)
    passkeys.add(passkey, by=HERE)
    return passkey, authenticator
