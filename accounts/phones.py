"""Telephone numbers: the one form in which they are stored, +, country and number."""

from __future__ import annotations

import re

from django.utils.translation import gettext_lazy as _

from mestore.lib import errors

# People write blanks, hyphens, dots and brackets between digits.
_BETWEEN = re.compile(r"[ ().-]")
_COLOMBIAN_MOBILE = re.compile(r"(?:\+?57)?(3[0-9]{9})", re.ASCII)
_INTERNATIONAL = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)


class InvalidPhone(errors.Unprocessable):
    """What was given is not a number that we take."""

    message = _("The telephone number is not valid.")

    def __init__(self, field: str) -> None:
        super().__init__(details=[errors.FieldError(f"body -> {field}", self.message, "telephone")])


def colombian_mobile(text: str, *, field: str) -> str:
    """Return a Colombian mobile number (3 and nine digits, +57 or 57 before it or not) as +57…

    Raises InvalidPhone, naming `field`.
    """
    found = _COLOMBIAN_MOBILE.fullmatch(_BETWEEN.sub("", text.strip()))
    if found is None:
        raise InvalidPhone(field)
    return f"+57{found.group(1)}"


def international(text: str, *, field: str) -> str:
    """Return a Colombian mobile number, or any number that begins with + and its country.

    Raises InvalidPhone, naming `field`.
    """
    digits = _BETWEEN.sub("", text.strip())
    # A number with a + says its country itself; Colombia's landlines are numbers too.
    if _INTERNATIONAL.fullmatch(digits):
        return digits
    return colombian_mobile(text, field=field)
