"""Sessions and tokens for tests, made by the same use cases as real ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from django.conf import settings
from django.db import transaction

from accounts.models import User
from mestore.lib.actor import Actor
from sessions_security import clients, sessions, tokens
from sessions_security.models import MachineClient, UserSession
from sessions_security.store import SessionStore

HERE = Actor(kind="anonymous", address="127.0.0.1", request_id="req_00000000")


def session_of(
    user: User,
    *,
    kind: Literal["cookie", "token"] = "token",
    amr: Sequence[str] | None = None,
    by: Actor = HERE,
) -> UserSession:
    """A live session of `user`, in which its role's least was proved unless `amr` says otherwise."""
    least = ("pwd", "otp") if user.is_staff else ("pwd",)
    return sessions.start(user, kind=kind, amr=least if amr is None else amr, by=by)


def tokens_of(user: User) -> tuple[UserSession, tokens.TokenPair]:
    """A live token session of `user` and its first tokens."""
    with transaction.atomic():
        session = session_of(user)
        return session, tokens.issue_pair(session)


def bearer(user: User) -> dict[str, str]:
    """The header of a request by `user`: `client.get(path, headers=bearer(user))`."""
    return {"Authorization": f"Bearer {tokens_of(user)[1].access_token}"}


def cookie_of(user: User) -> tuple[UserSession, str]:
    """A live browser session of `user` and the value of its cookie."""
    store = SessionStore()
    with transaction.atomic():
        session = session_of(user, kind="cookie", amr=("pwd", "otp"))
        store.open(session)
    assert store.session_key is not None
    return session, store.session_key


def cookies(value: str) -> dict[str, str]:
    """The cookie jar of a browser with that session."""
    return {settings.SESSION_COOKIE_NAME: value}


def machine(*networks: str) -> tuple[MachineClient, str]:
    """A machine account, by default allowed from this machine, and its key."""
    return clients.create("storefront", networks=networks or ("127.0.0.0/8",), by=HERE)


def machine_bearer(client: MachineClient) -> dict[str, str]:
    """The header of a request by a machine account."""
    session = sessions.start(client.user, kind="token", amr=("key",), by=HERE, client=client)
    return {"Authorization": f"Bearer {tokens.issue_access(session).access_token}"}
