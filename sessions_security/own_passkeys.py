"""Passkeys as they meet sessions: adding one, confirming with one, signing in with nothing else.

A challenge belongs to what asked for it: a session, a pending sign-in, or one entrance. Nothing that a
passkey signs for one of them can be used at another.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest

from accounts import backup_codes, factors, passkey_answers, passkeys
from accounts.models import Passkey, User
from mestore.lib import crypto
from mestore.lib.actor import Actor
from sessions_security import factor_proofs, keys, sessions, signin, stepup
from sessions_security.models import UserSession

API: Final = "api"
"""What a sign-in without a password is bound to at the API; the console binds it to the browser."""
_PENDING: Final = "pending:"
_BROWSER: Final = "passkey-browser"


@dataclass(frozen=True, slots=True)
class Registered:
    """A new passkey, and the backup codes that came with a first factor, shown once."""

    passkey: Passkey
    backup_codes: list[str]


def registration_options(session: UserSession, *, by: Actor) -> dict[str, Any]:
    """Begin to add a passkey. Raises stepup.StepUpRequired, passkeys.PasskeysOff."""
    stepup.require_for("passkeys.register", session, by=by)
    return passkeys.registration_options(session.user, bound_to=_bound(session))


def register(session: UserSession, *, name: str, credential: object, by: Actor) -> Registered:
    """Add the passkey that answers the options of this session, and end every other session of the account.

    Belongs outside of a transaction. Raises stepup.StepUpRequired, hashers.HashingBusy, and what
    `passkeys.check_registration` and `passkeys.add` raise.
    """
    stepup.require_for("passkeys.register", session, by=by)
    passkey = passkeys.check_registration(session.user, name, credential, bound_to=_bound(session), by=by)
    prepared = None if backup_codes.remaining(session.user) else backup_codes.prepare(session.user)
    with transaction.atomic():
        passkeys.add(passkey, by=by)
        codes = prepared.store(by=by) if prepared is not None else []
        sessions.end_all(session.user, by=by, why="factor_added", keep=session.pk)
    return Registered(passkey, codes)


def step_up_options(session: UserSession) -> dict[str, Any]:
    """Begin to confirm with a passkey. Raises passkeys.NoPasskey, passkeys.PasskeysOff."""
    return passkeys.assertion_options(passkeys.Purpose.STEP_UP, bound_to=_bound(session), user=session.user)


def second_factor_options(mfa_token: str, *, purposes: Collection[signin.Purpose]) -> dict[str, Any]:
    """Begin to complete a sign-in with a passkey. Raises signin.SignInOver and as `step_up_options` does."""
    pending = signin.pending_of(mfa_token, purposes=purposes)
    return passkeys.assertion_options(
        passkeys.Purpose.SECOND_FACTOR, bound_to=f"{_PENDING}{pending.pk}", user=pending.user
    )


def sign_in_options(*, bound_to: str = API) -> dict[str, Any]:
    """Begin to sign in with a passkey alone. Raises passkeys.PasskeysOff."""
    return passkeys.assertion_options(passkeys.Purpose.SIGN_IN, bound_to=bound_to)


def browser_of(request: HttpRequest) -> str:
    """Return what a sign-in at the console is bound to: the cookie that checks this browser's forms."""
    secret = request.COOKIES.get(settings.CSRF_COOKIE_NAME, "")
    return f"console:{crypto.mac(secret.encode(), purpose=_BROWSER).hex()[:48]}"


def sign_in(credential: object, *, by: Actor, bound_key: bytes | None = None) -> signin.SignedIn:
    """Sign in at the API with a passkey alone. Raises as `prove_sign_in` does."""
    user, proof = prove_sign_in(credential, bound_to=API, by=by)
    keys.ring()  # outside the transaction: a key made on first use must not be rolled back with it
    with transaction.atomic():
        done = signin.open_tokens(user, amr_alone(proof), by=by, bound_key=bound_key)
        stepup.note(done.session, proof)
    return done


def prove_sign_in(credential: object, *, bound_to: str, by: Actor) -> tuple[User, factor_proofs.Proof]:
    """Return whom a passkey alone signs in, and the proof; the caller starts the session.

    Belongs outside of a transaction. Raises what `passkeys.sign_in` raises.
    """
    passkey = passkeys.sign_in(credential, bound_to=bound_to, by=by)
    return passkey.user, proof_of(passkey)


def amr_alone(proof: factor_proofs.Proof) -> tuple[str, ...]:
    """Name what a passkey alone proves: the key, and that its user was verified (RFC 8176)."""
    return (proof.amr, "mfa")


def proof_of(passkey: Passkey) -> factor_proofs.Proof:
    """Return the proof that `passkey` was used."""
    amr = "hwk" if passkey.is_device_bound else "swk"
    return factor_proofs.Proof(factors.PASSKEY, amr, passkey.persistent_id, passkey.created_at, passkey)


def _prove(user: User, answer: factor_proofs.Answer, bound_to: str, by: Actor) -> factor_proofs.Proof:
    is_sign_in = bound_to.startswith(_PENDING)
    purpose = passkeys.Purpose.SECOND_FACTOR if is_sign_in else passkeys.Purpose.STEP_UP
    return proof_of(passkeys.prove(user, answer["credential"], purpose, bound_to=bound_to, by=by))


def _bound(session: UserSession) -> str:
    return f"session:{session.pk}"


PROVER: Final = factor_proofs.Prover(
    check=lambda answer: passkey_answers.read(answer.get("credential")), prove=_prove
)
