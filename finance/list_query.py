"""Reads the query string of lists of commissions. Every wrong value is named; none is silently corrected."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

from django.utils.translation import gettext_lazy as _

from finance import money, selectors
from finance.states import CommissionStatus, CommissionType
from mestore.lib import errors
from mestore.lib.errors import FieldError

if TYPE_CHECKING:
    from mestore.lib.errors import Text

T = TypeVar("T")
DEFAULT_LIMIT: Final = 20
LARGEST_LIMIT: Final = 100


class QueryInvalid(errors.Unprocessable):
    """Some parameters of the query are wrong; `details` names each."""


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Which commissions, and which page of them."""

    narrowed: selectors.CommissionFilter
    limit: int
    offset: int
    cursor: str | None


@dataclass(frozen=True, slots=True)
class EarningsQuery:
    """Whose earnings, when, in which currency."""

    vendor_id: UUID | None
    since: dt.datetime | None
    until: dt.datetime | None
    currency: str | None


def read_list(parameters: Mapping[str, str]) -> ListQuery:
    """Return what a list was asked for. Raises `QueryInvalid`."""
    reader = Reader(parameters)
    limit = reader.whole("limit", DEFAULT_LIMIT, 1, LARGEST_LIMIT)
    offset = reader.whole("offset", 0, 0, None)
    if "offset" not in parameters:
        offset = (reader.whole("page", 1, 1, None) - 1) * limit
    cursor = parameters.get("cursor") or None
    if offset > selectors.COUNTED:
        message = _("Pages this far back need the parameter cursor: use next_cursor of the previous page.")
        reader.wrong("offset" if "offset" in parameters else "page", message, "cursor_required")
    narrowed = selectors.CommissionFilter(
        status=reader.one_of("status", {status.value for status in CommissionStatus}),
        kind=reader.one_of("commission_type", {kind.value for kind in CommissionType}),
        since=reader.moment("date_from"),
        until=reader.moment("date_to", is_end=True),
        vendor_id=reader.uuid("vendor_id"),
        order_id=reader.whole("order_id", 0, 1, None) or None,
    )
    reader.raise_if_wrong()
    return ListQuery(narrowed, limit, 0 if cursor else offset, cursor)


def read_earnings(parameters: Mapping[str, str]) -> EarningsQuery:
    """Return what earnings were asked for. Raises `QueryInvalid`."""
    reader = Reader(parameters)
    query = EarningsQuery(
        vendor_id=reader.uuid("vendor_id"),
        since=reader.moment("date_from"),
        until=reader.moment("date_to", is_end=True),
        currency=reader.one_of("currency", set(money.EXPONENTS)),
    )
    reader.raise_if_wrong()
    return query


class Reader:
    """Reads parameters one by one and remembers each that is wrong, until `raise_if_wrong`."""

    def __init__(self, parameters: Mapping[str, str]) -> None:
        self.parameters = parameters
        self.errors: list[FieldError] = []

    def wrong(self, name: str, message: Text, error_type: str) -> None:
        self.errors.append(FieldError(f"query -> {name}", message, error_type))

    def raise_if_wrong(self) -> None:
        if self.errors:
            raise QueryInvalid(details=self.errors)

    def whole(self, name: str, default: int, least: int, most: int | None) -> int:
        text = self.parameters.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= 9):
            self.wrong(name, _("This must be a whole number."), "int_parsing")
            return default
        value = int(text)
        if value < least or (most is not None and value > most):
            limits = {"least": least, "most": most or 10**9 - 1}
            self.wrong(name, _("This must be between %(least)d and %(most)d.") % limits, "out_of_range")
            return default
        return value

    def one_of(self, name: str, known: set[str]) -> str | None:
        value = self.parameters.get(name)
        if not value:
            return None
        if value not in known:
            message = _("This must be one of: %(known)s.") % {"known": ", ".join(sorted(known))}
            self.wrong(name, message, "enum")
        return value

    def uuid(self, name: str) -> UUID | None:
        return self._converted(name, UUID, _("This must be a UUID."), "uuid_parsing")

    def moment(self, name: str, *, is_end: bool = False) -> dt.datetime | None:
        """A day (the end one included) in business time, or a moment; without a zone it is business time."""

        def convert(text: str) -> dt.datetime:
            if len(text) == len("2026-01-31"):
                day = dt.date.fromisoformat(text)
                moment = selectors.start_of(day + dt.timedelta(days=1) if is_end else day)
            else:
                moment = dt.datetime.fromisoformat(text.replace(" ", "+"))
                if moment.utcoffset() is None:
                    moment = selectors.in_business_time(moment)
            # In UTC here, where a moment outside the calendar can still be answered as a wrong value.
            return moment.astimezone(dt.UTC)

        message = _("This must be a day or a moment in ISO 8601, as 2026-01-31 or 2026-01-31T23:59:59Z.")
        return self._converted(name, convert, message, "datetime_parsing")

    def _converted(self, name: str, convert: Callable[[str], T], message: Text, error_type: str) -> T | None:
        text = self.parameters.get(name)
        if not text:
            return None
        try:
            return convert(text)
        except (ValueError, OverflowError):
            self.wrong(name, message, error_type)
            return None
