"""The first second factor of staff who may not sign in without one: on their first day, or after a reset.

The right password gave a pending sign-in. With it, and only as long as the account has no factor at all, an
authenticator application or a passkey can be added; its first proof completes the sign-in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from accounts import backup_codes, factors, passkey_answers, passkeys, totp
from accounts.models import TotpDevice, User
from mestore.lib.actor import Actor
from sessions_security import factor_proofs, keys, own_passkeys, signin, stepup
from sessions_security.models import PendingSignIn
from sessions_security.own_factors import Enrolment


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A first proof that was right. `complete` makes it count, in the transaction that starts the session."""

    pending: PendingSignIn
    proof: factor_proofs.Proof  # what the new session has proved
    codes: backup_codes.Prepared
    finish: Callable[[Actor], object]

    @property
    def user(self) -> User:
        return self.pending.user

    def complete(self, *, by: Actor) -> list[str]:
        """Make the factor count and return the backup codes, shown this once.

        Raises signin.SignInOver when the account got a factor meanwhile, and totp.EnrolmentOver.
        """
        factors.lock_account(self.user)
        _demand_no_factor(self.user)
        signin.claim(self.pending)
        self.finish(by)
        return self.codes.store(by=by)


def begin(mfa_token: str, *, name: str, purposes: Collection[signin.Purpose], by: Actor) -> Enrolment:
    """Begin to add the first authenticator application. Raises signin.SignInOver, totp.InvalidName."""
    user = signin.pending_of(mfa_token, purposes=purposes).user
    _demand_no_factor(user, adding=factors.TOTP)
    device, secret = totp.enrol(user, name, by=by)
    return Enrolment(device, secret, totp.otpauth_uri(device))


def prove(mfa_token: str, *, code: str, purposes: Collection[signin.Purpose], by: Actor) -> Enrolled:
    """Return the enrolment that `code` is the first code of; an attempt of the sign-in is used up.

    Raises totp.MalformedCode (nothing used), signin.SignInOver, totp.WrongCode, totp.EnrolmentOver,
    hashers.HashingBusy. Belongs outside of a transaction.
    """
    totp.six_digits(code)
    pending = signin.take_attempt(mfa_token, purposes=purposes)
    _demand_no_factor(pending.user, adding=factors.TOTP)
    device = TotpDevice.objects.filter(user=pending.user, confirmed=False).first()
    if device is None:
        raise totp.EnrolmentOver
    step = totp.try_enrolment(device, code, by=by)
    proof = factor_proofs.Proof(factors.TOTP, "otp", device.persistent_id, device.created_at, device)

    def finish(by: Actor) -> None:
        totp.finish_enrolment(device, step, by=by)

    return Enrolled(pending, proof, backup_codes.prepare(pending.user), finish)


def passkey_options(mfa_token: str, *, purposes: Collection[signin.Purpose]) -> dict[str, Any]:
    """Begin to add a passkey as the first factor. Raises signin.SignInOver, passkeys.PasskeysOff."""
    pending = signin.pending_of(mfa_token, purposes=purposes)
    _demand_no_factor(pending.user)
    return passkeys.registration_options(pending.user, bound_to=f"pending:{pending.pk}")


def prove_passkey(
    mfa_token: str, *, name: str, credential: object, purposes: Collection[signin.Purpose], by: Actor
) -> Enrolled:
    """Return the enrolment of the passkey that answers those options; an attempt of the sign-in is used up.

    Raises signin.SignInOver, hashers.HashingBusy and what `passkeys.check_registration` raises. Belongs
    outside of a transaction.
    """
    passkey_answers.read(credential)  # what is no answer at all costs no attempt
    pending = signin.take_attempt(mfa_token, purposes=purposes)
    _demand_no_factor(pending.user)
    bound_to = f"pending:{pending.pk}"
    passkey = passkeys.check_registration(pending.user, name, credential, bound_to=bound_to, by=by)

    def finish(by: Actor) -> None:
        passkeys.add(passkey, by=by)

    return Enrolled(pending, own_passkeys.proof_of(passkey), backup_codes.prepare(pending.user), finish)


def sign_in(
    enrolled: Enrolled, *, by: Actor, bound_key: bytes | None = None
) -> tuple[signin.SignedIn, list[str]]:
    """Complete the sign-in at the API with a first proof; return it with the backup codes. Raises as
    `Enrolled.complete` does.
    """
    keys.ring()
    with transaction.atomic():
        codes = enrolled.complete(by=by)
        amr = (signin.PASSWORD, enrolled.proof.amr)
        done = signin.open_tokens(enrolled.user, amr, by=by, bound_key=bound_key)
        stepup.note(done.session, enrolled.proof)
    return done, codes


def _demand_no_factor(user: User, *, adding: str = factors.PASSKEY) -> None:
    if factors.has_factor(user):
        raise signin.SignInOver
    if not factors.acceptable(user, [adding]):
        raise signin.PasskeyRequired
