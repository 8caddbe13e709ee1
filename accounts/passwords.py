"""Passwords: what a new one must be, how one is compared, and when its hash is renewed.

No rules of composition. Fifteen characters, or eight where a second factor is enrolled: length is what
resists guessing, and NIST SP 800-63B asks for nothing else.
"""

from __future__ import annotations

from django.contrib.auth.hashers import is_password_usable
from django.utils.translation import gettext_lazy as _

from accounts.hashers import PepperedArgon2Hasher
from mestore.lib import errors

MINIMUM_ALONE = 15
MINIMUM_WITH_FACTOR = 8
MAXIMUM = 128

_hasher = PepperedArgon2Hasher()


class UnacceptablePassword(errors.Unprocessable):
    """A new password that breaks a rule; `details` says which."""

    message = _("The password does not meet the requirements.")

    def __init__(self, reason: str, error_type: str) -> None:
        super().__init__(details=[errors.FieldError("password", reason, error_type)])


def check_new(password: str, *, with_factor: bool = False) -> None:
    """Accept a new password or raise UnacceptablePassword. Length counts code points, as a person would."""
    minimum = MINIMUM_WITH_FACTOR if with_factor else MINIMUM_ALONE
    if len(password) < minimum:
        raise UnacceptablePassword(str(_("Use at least %(n)d characters.") % {"n": minimum}), "too_short")
    if len(password) > MAXIMUM:
        raise UnacceptablePassword(str(_("Use at most %(n)d characters.") % {"n": MAXIMUM}), "too_long")
    try:
        password.encode("utf-8")
    except UnicodeEncodeError:
        raise UnacceptablePassword(
            str(_("The password contains characters that are not text.")), "not_text"
        ) from None


def hash_new(password: str, *, with_factor: bool = False) -> str:
    """Return the stored form of an acceptable new password. Raises UnacceptablePassword, HashingBusy."""
    check_new(password, with_factor=with_factor)
    return _hasher.encode(password, _hasher.salt())


def matches(password: str, encoded: str) -> bool:
    """Compare. An account without a usable password costs as much as one with. Raises HashingBusy."""
    if not is_password_usable(encoded):
        _hasher.burn(password)
        return False
    return _hasher.verify(password, encoded)


def burn(password: str) -> None:
    """Spend what a comparison costs, for an account that does not exist. Raises HashingBusy."""
    _hasher.burn(password)


def renewed(password: str, encoded: str) -> str | None:
    """Return a new hash of a password that matched, when parameters or pepper key have moved on, else None.

    Raises HashingBusy.
    """
    if not _hasher.must_update(encoded):
        return None
    return _hasher.encode(password, _hasher.salt())
