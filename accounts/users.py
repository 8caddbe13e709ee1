"""How an account is found and made: the one normal form of an e-mail address, and the manager of User."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.contrib.auth.base_user import BaseUserManager
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils.translation import gettext_lazy as _

from accounts.roles import Role
from mestore.lib import errors

if TYPE_CHECKING:
    from accounts.models import User

EMAIL_LENGTH = 254
# Longer text cannot be an address of ours; it is cut before any work is spent on it.
_IDENTIFIER_LENGTH = 1024


class InvalidEmail(errors.Unprocessable):
    """What was given is not an e-mail address."""

    message = _("The e-mail address is not valid.")

    def __init__(self) -> None:
        super().__init__(details=[errors.FieldError("email", str(self.message), "email")])


def identifier(text: str) -> str:
    """Return the normal form of whatever was typed as an account name; never fails.

    Lookup and failure counters share it, so that no spelling of one address (case, full-width letters,
    composed accents) has a budget of its own. What PostgreSQL cannot hold (NUL, lone surrogates) becomes
    U+FFFD, which no stored address contains.
    """
    cut = text.strip()[:_IDENTIFIER_LENGTH]
    storable = cut.replace("\x00", "\ufffd").encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    folded = storable
    # Folding can undo the composition and composing can bring back a capital: two rounds reach the end.
    for _round in range(2):
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", folded).casefold())
    return folded.strip()


def normalise_email(text: str) -> str:
    """Return the unique key of an e-mail address (NFKC, case folded). Raises InvalidEmail."""
    key = identifier(text)
    if len(text.strip()) > EMAIL_LENGTH or len(key) > EMAIL_LENGTH:
        raise InvalidEmail
    try:
        # As given, too: mail goes to that form, so it must be an address before any folding helps it.
        validate_email(text.strip())
        validate_email(key)
    except ValidationError as error:
        raise InvalidEmail from error
    return key


class UserManager(BaseUserManager["User"]):
    """Finds and inserts accounts. Who may create whom is decided in `accounts.administration`."""

    def by_email(self, text: str) -> User:
        """Return the account of an address in any spelling. Raises User.DoesNotExist."""
        return self.get(email_key=identifier(text))

    def get_by_natural_key(self, username: str | None) -> User:
        return self.by_email(username or "")

    def create_account(
        self, *, email: str, role: Role, password_hash: str, fields: Mapping[str, Any] | None = None
    ) -> User:
        """Insert an account for a person. Raises InvalidEmail, or IntegrityError for a taken address."""
        return self.create(
            email=email.strip(),
            email_key=normalise_email(email),
            user_type=role,
            password=password_hash,
            **(fields or {}),
        )

    def create_unaddressed(
        self, *, source: str, external_reference: str, role: Role, fields: Mapping[str, Any] | None = None
    ) -> User:
        """Insert an account that has no address and cannot sign in with a password.

        Vendors that came with imported orders and machine accounts are such: known by where they come
        from and what they are called there.
        """
        user = self.model(
            source=source, external_reference=external_reference, user_type=role, **(fields or {})
        )
        user.set_unusable_password()
        user.save(using=self._db, force_insert=True)
        return user
