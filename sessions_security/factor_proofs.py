"""How one factor is proved: the same for signing in and for confirming an action later.

`check` looks at the form of an answer and spends nothing; `verify` looks whether it is right and counts
failures; `Proof.use` uses it up, in the transaction of what it opens. A kind of factor that lives elsewhere
joins by `register`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.utils.translation import gettext_lazy as _

from accounts import backup_codes, factors, login, totp
from accounts.models import User
from mestore.lib import errors
from mestore.lib.actor import Actor

PASSWORD: Final = "password"  # noqa: S105 - the name of a method
Answer = Mapping[str, Any]


class UnknownMethod(errors.Unprocessable):
    message = _("There is no such way to confirm who you are.")

    def __init__(self) -> None:
        super().__init__(details=[errors.FieldError("body -> method", self.message, "invalid_choice")])


class PasswordIsNotEnough(errors.Forbidden):
    """An account with a second factor confirms with that."""

    code = "FACTOR_REQUIRED"
    message = _("Confirm with a second factor: this account has one.")


def _nothing_more(_by: Actor) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Proof:
    """A factor that was proved."""

    method: str
    amr: str  # the name for the session's list (RFC 8176)
    factor: str  # the device's own name in the framework; "password"
    bound_at: dt.datetime  # since when the account has it
    device: Any = None  # for django-otp's login
    # Uses up what is single-use and returns what takes its place, shown once; "" for most methods.
    use: Callable[[Actor], str] = _nothing_more


@dataclass(frozen=True, slots=True)
class Proved:
    """A proof that was used, and what takes the place of a code that works once ("" for most methods)."""

    proof: Proof
    replacement_code: str


@dataclass(frozen=True, slots=True)
class Prover:
    """One method. `check(answer)` raises for a malformed answer; `prove(user, answer, bound_to, by)` decides.

    `bound_to` names the sign-in or session in which the proof is asked for (`"pending:<id>"`,
    `"session:<id>"`).
    """

    check: Callable[[Answer], object]
    prove: Callable[[User, Answer, str, Actor], Proof]


def register(method: str, prover: Prover) -> None:
    """Make `method` one that can be proved."""
    _PROVERS[method] = prover


def second_factors() -> tuple[str, ...]:
    """Return the methods that complete a sign-in."""
    return tuple(method for method in _PROVERS if method != PASSWORD)


def methods() -> tuple[str, ...]:
    """Return every method."""
    return tuple(_PROVERS)


def check(method: str, answer: Answer) -> None:
    """Accept the form of an answer. Raises UnknownMethod and what the method says of a malformed one."""
    _prover(method).check(answer)


def verify(user: User, method: str, answer: Answer, *, bound_to: str, by: Actor) -> Proof:
    """Return the proof that `answer` is, not used up yet. Belongs outside of a transaction.

    Raises UnknownMethod, what `check` raises, and the method's own refusals.
    """
    check(method, answer)
    return _prover(method).prove(user, answer, bound_to, by)


def _prover(method: str) -> Prover:
    try:
        return _PROVERS[method]
    except KeyError:
        raise UnknownMethod from None


def _prove_totp(user: User, answer: Answer, _bound_to: str, by: Actor) -> Proof:
    device = totp.verify(user, answer["code"], by=by)
    bound_at = device.confirmed_at or device.created_at
    return Proof(factors.TOTP, "otp", device.persistent_id, bound_at, device)


def _prove_backup_code(user: User, answer: Answer, _bound_to: str, by: Actor) -> Proof:
    match = backup_codes.check(user, answer["code"], by=by)
    code_set = match.code.code_set

    def use(by: Actor) -> str:
        return match.use(by=by)

    return Proof(factors.BACKUP_CODE, "otp", code_set.persistent_id, code_set.created_at, code_set, use)


def _prove_password(user: User, answer: Answer, _bound_to: str, by: Actor) -> Proof:
    if factors.has_factor(user):
        raise PasswordIsNotEnough
    found = login.check_credentials(user.email, answer["password"], purpose="api", by=by)
    if found.pk != user.pk:
        raise login.InvalidCredentials
    return Proof(PASSWORD, "pwd", PASSWORD, user.password_changed_at or user.created_at)


def _is_text(answer: Answer) -> None:
    if not isinstance(answer.get("password"), str) or not answer["password"]:
        raise errors.Unprocessable(
            details=[errors.FieldError("body -> password", _("This field is required."), "required")]
        )


_PROVERS: dict[str, Prover] = {
    factors.TOTP: Prover(lambda answer: totp.six_digits(answer.get("code")), _prove_totp),
    factors.BACKUP_CODE: Prover(lambda answer: backup_codes.parse(answer.get("code")), _prove_backup_code),
    PASSWORD: Prover(_is_text, _prove_password),
}
