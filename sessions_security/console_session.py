"""Giving a browser its session, whichever way its owner signed in to the console."""

from __future__ import annotations

from typing import Any

import django_otp
from django.contrib import auth
from django.http import HttpRequest

from accounts.models import User
from mestore.lib.actor import Actor
from sessions_security import arrivals, factor_proofs, sessions
from sessions_security.models import UserSession

BACKEND = "accounts.backends.GrantBackend"


def start(
    request: HttpRequest, user: User, *, amr: tuple[str, ...], proof: factor_proofs.Proof, by: Actor
) -> UserSession:
    """Begin a session for `user` in this browser; whatever it had before ends.

    Runs in the transaction that uses the sign-in up. `proof` is the factor that was proved last: it counts as
    fresh, and its device is what the framework takes the person for verified by.
    """
    store: Any = request.session
    session = sessions.start(user, kind="cookie", amr=amr, by=by, proof=proof)
    arrivals.note(session, by=by)
    store.flush()
    auth.login(request, user, backend=BACKEND)
    remember(request, proof)
    store.open(session)
    request.user_session = session  # type: ignore[attr-defined]  # part of what a request carries here
    return session


def confirm(request: HttpRequest, proof: factor_proofs.Proof) -> None:
    """After a step-up: the browser gets a new cookie, and verified is who proved this factor."""
    remember(request, proof)
    request.session.cycle_key()


def remember(request: HttpRequest, proof: factor_proofs.Proof) -> None:
    """Take the person for verified by the factor of `proof`, as long as the account has it."""
    if proof.device is not None:
        django_otp.login(request, proof.device)
