"""Why a line of a file is not taken, in a code for programs and a sentence for people."""

from __future__ import annotations

from enum import StrEnum

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


class Reason(StrEnum):
    """The machine codes of the rejects file."""

    LINE_TOO_LONG = "line_too_long"
    NOT_UTF8 = "not_utf8"
    CONTROL_CHARACTER = "control_character"
    BAD_QUOTES = "bad_quotes"
    WRONG_COLUMN_COUNT = "wrong_column_count"
    BAD_IDENTIFIER = "bad_identifier"
    BAD_TEXT = "bad_text"
    BAD_AMOUNT = "bad_amount"
    BAD_NUMBER = "bad_number"
    BAD_TIMESTAMP = "bad_timestamp"
    UNKNOWN_STATUS = "unknown_status"
    UNKNOWN_ORDER = "unknown_order"
    UNKNOWN_SELLER = "unknown_seller"
    DUPLICATE = "duplicate"
    OTHER_CONTENTS = "already_imported_with_other_contents"


_SENTENCES: dict[Reason, Promise] = {
    Reason.LINE_TOO_LONG: _("The line is longer than %(detail)s bytes."),
    Reason.NOT_UTF8: _("The line is not UTF-8 text (byte %(detail)s)."),
    Reason.CONTROL_CHARACTER: _("The line has a control character (code %(detail)s)."),
    Reason.BAD_QUOTES: _("The quotation marks of the line do not match."),
    Reason.WRONG_COLUMN_COUNT: _("The line has another number of columns than the header: %(detail)s."),
    Reason.BAD_IDENTIFIER: _("The column %(detail)s holds no identifier."),
    Reason.BAD_TEXT: _("The column %(detail)s is too long."),
    Reason.BAD_AMOUNT: _("The column %(detail)s holds no amount of this currency."),
    Reason.BAD_NUMBER: _("The column %(detail)s holds no whole number in range."),
    Reason.BAD_TIMESTAMP: _("The column %(detail)s holds no moment like 2018-01-31 23:59:59."),
    Reason.UNKNOWN_STATUS: _("The column %(detail)s holds an unknown status."),
    Reason.UNKNOWN_ORDER: _("The order %(detail)s is not among the accepted lines of the orders file."),
    Reason.UNKNOWN_SELLER: _("The seller %(detail)s is not among the accepted lines of the sellers file."),
    Reason.DUPLICATE: _("The same key was already taken from line %(detail)s."),
    Reason.OTHER_CONTENTS: _(
        "The order %(detail)s is already stored with other contents; it was left as it is."
    ),
}


def explain(reason: str, detail: str) -> str:
    """The sentence for a reason, with its detail (a column, a key, a line number) filled in."""
    return str(_SENTENCES[Reason(reason)]) % {"detail": detail}


class LineRefused(Exception):
    """One line is not taken; the import goes on."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.detail = detail
