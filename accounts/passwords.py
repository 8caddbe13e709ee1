"""Passwords: what a new one must be, how one is compared, and when its hash is renewed.

No rules of composition. Fifteen characters, or eight where a second factor is enrolled: length is what
resists guessing. Besides, a new password may be none that is known to those who guess (`accounts.breached`),
and more than words that anybody could guess for this account (`context`). All comparisons are of the whole
password: a word within a longer one does no harm. Passwords are used in Unicode's composed form (NFC) and
otherwise exactly as given.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable

from django.contrib.auth.hashers import is_password_usable
from django.utils.translation import gettext_lazy as _

from accounts import breached
from accounts.hashers import PepperedArgon2Hasher
from mestore.lib import errors

MINIMUM_ALONE = 15
MINIMUM_WITH_FACTOR = 8
MAXIMUM = 128
SERVICE_WORDS = ("mestore", "me store", "marketplace", "tienda", "admin", "administrador", "administrator")
"""What this service and its people are called; `docs/security-policy.md` lists the same."""
_SHORTEST_WORD = 3

_hasher = PepperedArgon2Hasher()


class UnacceptablePassword(errors.Unprocessable):
    """A new password that breaks a rule; `details` says which."""

    message = _("The password does not meet the requirements.")

    def __init__(self, reason: str, error_type: str, field: str = "password") -> None:
        super().__init__(details=[errors.FieldError(field, reason, error_type)])


def minimum(*, with_factor: bool) -> int:
    """Return how many characters a new password needs."""
    return MINIMUM_WITH_FACTOR if with_factor else MINIMUM_ALONE


def context(email: str = "", *names: str) -> frozenset[str]:
    """Return the words that anybody could guess for an account: of this service, of its address, its names.

    The part before the @ counts as a whole and in its pieces, as do names.
    """
    mailbox, _at, domain = email.partition("@")
    given = [*SERVICE_WORDS, email, mailbox, domain, domain.partition(".")[0], *names]
    pieces = [piece for text in (mailbox, *names) for piece in _words(text)]
    return frozenset(word for text in (*given, *pieces) if len(word := _bare(text)) >= _SHORTEST_WORD)


def check_new(
    password: str,
    *,
    with_factor: bool = False,
    context: Collection[str] | None = None,
    field: str = "password",
) -> None:
    """Accept a new password or raise UnacceptablePassword with the reason, naming `field`.

    Length counts code points, as a person would. `context` is what the function of that name gives; without
    it the words of this service count alone. Raises breached.PasswordListAway when nothing can be said.
    """
    password = unicodedata.normalize("NFC", password) if len(password) <= MAXIMUM else password
    needed = minimum(with_factor=with_factor)
    if len(password) < needed:
        reason = str(_("Use at least %(n)d characters.") % {"n": needed})
        raise UnacceptablePassword(reason, "too_short", field)
    if len(password) > MAXIMUM:
        reason = str(_("Use at most %(n)d characters.") % {"n": MAXIMUM})
        raise UnacceptablePassword(reason, "too_long", field)
    try:
        password.encode("utf-8")
    except UnicodeEncodeError:
        reason = str(_("The password contains characters that are not text."))
        raise UnacceptablePassword(reason, "not_text", field) from None
    if breached.is_known(password):
        reason = str(_("This password is on a list of passwords that are tried first. Choose another one."))
        raise UnacceptablePassword(reason, "known", field)
    if is_guessable(password, _SERVICE if context is None else context):
        reason = str(
            _("This password consists of words that are easy to guess: your name, your address, this shop.")
        )
        raise UnacceptablePassword(reason, "guessable", field)


def is_guessable(password: str, words: Collection[str]) -> bool:
    """Say whether nothing is left of `password` without `words`, figures and punctuation."""
    whole = _bare(password)
    if whole in words:
        return True
    letters = "".join(character for character in whole if not character.isdigit())
    plain = {"".join(character for character in word if not character.isdigit()) for word in words}
    return bool(letters) and _consists_of(letters, {word for word in plain if len(word) >= _SHORTEST_WORD})


def hash_new(password: str, *, with_factor: bool = False, context: Collection[str] | None = None) -> str:
    """Return the stored form of an acceptable new password. Raises what `check_new` raises, HashingBusy."""
    check_new(password, with_factor=with_factor, context=context)
    return hashed(password)


def hashed(password: str) -> str:
    """Return the stored form of a password that `check_new` accepted. Raises HashingBusy."""
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


def _bare(text: str) -> str:
    """Return letters and figures alone, without case and accents."""
    apart = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in apart if character.isalnum())


def _words(text: str) -> Iterable[str]:
    return "".join(character if character.isalnum() else " " for character in text).split()


def _consists_of(letters: str, words: Collection[str]) -> bool:
    """Say whether `letters` is a row of `words`, each as often as you like."""
    reached = {0}
    for at in range(len(letters)):
        if at in reached:
            reached.update(at + len(word) for word in words if letters.startswith(word, at))
    return len(letters) in reached


_SERVICE = context()
