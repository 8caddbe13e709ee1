"""The first second factor of staff who may not sign in without one: on their first day, or after a reset.

The right password gave a pending sign-in. With it, and only as long as the account has no factor at all, an
authenticator application can be added; its first code completes the sign-in.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from django.db import transaction

from accounts import backup_codes, factors, totp
from accounts.models import TotpDevice, User
from mestore.lib.actor import Actor
from sessions_security import factor_proofs, keys, signin, stepup
from sessions_security.models import PendingSignIn
from sessions_security.own_factors import Enrolment


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A first code that was right. `complete` makes it count, in the transaction that starts the session."""

    pending: PendingSignIn
    device: TotpDevice
    step: int
    codes: backup_codes.Prepared

    @property
    def user(self) -> User:
        return self.pending.user

    @property
    def proof(self) -> factor_proofs.Proof:
        """What the new session has proved."""
        return factor_proofs.Proof(
            factors.TOTP, "otp", self.device.persistent_id, self.device.created_at, self.device
        )

    def complete(self, *, by: Actor) -> list[str]:
        """Make the device count and return the backup codes, shown this once.

        Raises signin.SignInOver when the account got a factor meanwhile, totp.EnrolmentOver.
        """
        factors.lock_account(self.user)
        _demand_no_factor(self.user)
        signin.claim(self.pending)
        totp.finish_enrolment(self.device, self.step, by=by)
        return self.codes.store(by=by)


def begin(mfa_token: str, *, name: str, purposes: Collection[signin.Purpose], by: Actor) -> Enrolment:
    """Begin to add the first authenticator application. Raises signin.SignInOver, totp.InvalidName."""
    user = signin.pending_of(mfa_token, purposes=purposes).user
    _demand_no_factor(user)
    device, secret = totp.enrol(user, name, by=by)
    return Enrolment(device, secret, totp.otpauth_uri(device))


def prove(mfa_token: str, *, code: str, purposes: Collection[signin.Purpose], by: Actor) -> Enrolled:
    """Return the enrolment that `code` is the first code of; an attempt of the sign-in is used up.

    Raises totp.MalformedCode (nothing used), signin.SignInOver, totp.WrongCode, totp.EnrolmentOver,
    hashers.HashingBusy. Belongs outside of a transaction.
    """
    totp.six_digits(code)
    pending = signin.take_attempt(mfa_token, purposes=purposes)
    _demand_no_factor(pending.user)
    device = TotpDevice.objects.filter(user=pending.user, confirmed=False).first()
    if device is None:
        raise totp.EnrolmentOver
    step = totp.try_enrolment(device, code, by=by)
    return Enrolled(pending, device, step, backup_codes.prepare(pending.user))


def sign_in(mfa_token: str, *, code: str, by: Actor) -> tuple[signin.SignedIn, list[str]]:
    """Complete the sign-in at the API with the first code; return it with the backup codes. Raises as `prove`
    and `Enrolled.complete` do.
    """
    enrolled = prove(mfa_token, code=code, purposes=signin.API_PURPOSES, by=by)
    keys.ring()
    with transaction.atomic():
        codes = enrolled.complete(by=by)
        done = signin.open_tokens(enrolled.user, (signin.PASSWORD, enrolled.proof.amr), by=by)
        stepup.note(done.session, enrolled.proof)
    return done, codes


def _demand_no_factor(user: User) -> None:
    if factors.has_factor(user):
        raise signin.SignInOver
