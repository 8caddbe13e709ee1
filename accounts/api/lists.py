"""Reads the query strings of lists. Every wrong value is named; none is silently corrected."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from accounts import user_lists
from accounts.models import VendorProfile
from accounts.roles import Role
from accounts.user_lists import Wanted
from mestore.lib import errors
from mestore.lib.errors import FieldError

if TYPE_CHECKING:
    from mestore.lib.errors import Text

LARGEST = 100
DEFAULT = 20
_TEXT = 254
_DATES = {
    "created_after": "created_at__gte", "created_before": "created_at__lt",
    "created_from": "created_at__gte", "created_to": "created_at__lt",
    "last_login_after": "signed_in_at__gte", "last_login_before": "signed_in_at__lt",
    "last_login_from": "signed_in_at__gte", "last_login_to": "signed_in_at__lt",
}  # fmt: skip
_CLEARANCES = {
    "clearance_min": "security_clearance_level__gte", "clearance_max": "security_clearance_level__lte",
    "security_clearance_min": "security_clearance_level__gte",
    "security_clearance_max": "security_clearance_level__lte",
}  # fmt: skip
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}
_FLAGS = {
    "is_active": "is_active", "is_verified": "account_verified",
    "email_verified": "email_verified", "phone_verified": "phone_verified",
}  # fmt: skip


class QueryInvalid(errors.Unprocessable):
    """Some parameters of the query are wrong; `details` names each."""


def users(parameters: Mapping[str, str], *, deleted: bool = False) -> Wanted:
    """Return what a list of accounts was asked for. Raises QueryInvalid."""
    reader = Reader(parameters)
    narrowed: dict[str, Any] = {}
    for name, column in _FLAGS.items():
        _keep(narrowed, column, reader.truth(name))
    for name, lookup in _DATES.items():
        _keep(narrowed, lookup, reader.moment(name))
    if "signed_in_at__lt" in narrowed:
        narrowed["signed_in_at__gt"] = user_lists.EPOCH  # nobody who never did
    for name, lookup in _CLEARANCES.items():
        if name in parameters:
            narrowed[lookup] = reader.whole(name, 1, 1, 5)
    _keep(narrowed, "user_type", reader.one_of("user_type", {str(role) for role in Role}))
    _keep(narrowed, "department_id", reader.text("department_id") or None)
    wanted = _wanted(reader, narrowed, deleted)
    reader.raise_if_wrong()
    return wanted


def vendors(parameters: Mapping[str, str]) -> tuple[Wanted, str | None]:
    """Return what a list of vendors was asked for, and in which state. Raises QueryInvalid."""
    reader = Reader(parameters)
    states = {str(status) for status in VendorProfile.Status}
    name = "vendor_status" if "vendor_status" in parameters else "status"
    status = reader.one_of(name, states)
    wanted = _wanted(reader, {}, deleted=False, has_status=False)
    reader.raise_if_wrong()
    return wanted, status


def events(parameters: Mapping[str, str]) -> tuple[int, str | None]:
    """Return how many events were asked for, and after which cursor. Raises QueryInvalid."""
    reader = Reader(parameters)
    limit = reader.whole("limit", 50, 1, 200)
    cursor = reader.text("cursor") or None
    reader.raise_if_wrong()
    return limit, cursor


def _keep(narrowed: dict[str, Any], lookup: str, value: Any) -> None:
    if value is not None:
        narrowed[lookup] = value


def _wanted(reader: Reader, narrowed: dict[str, Any], deleted: bool, *, has_status: bool = True) -> Wanted:
    parameters = reader.parameters
    size_name = next((name for name in ("size", "limit", "page_size") if name in parameters), "size")
    size = reader.whole(size_name, DEFAULT, 1, LARGEST)
    name = next((name for name in ("skip", "offset") if name in parameters), "page")
    skip = reader.whole(name, 0, 0, None) if name != "page" else (reader.whole("page", 1, 1, None) - 1) * size
    cursor = reader.text("cursor") or None
    if cursor is None and skip > user_lists.COUNTED:
        message = _("Pages this far back need the parameter cursor: use next_cursor of the previous page.")
        reader.wrong(name, message, "cursor_required")
    return Wanted(
        search=reader.text("search"),
        email=reader.text("email"),
        status=(reader.one_of("status", set(user_lists.STATUSES)) if has_status else None) or "all",
        narrowed=narrowed,
        deleted=deleted,
        order=reader.one_of("sort_by", set(user_lists.ORDERS)) or "created_at_desc",
        skip=skip,
        size=size,
        cursor=cursor,
    )


class Reader:
    """Reads one parameter after the other and collects what is wrong."""

    def __init__(self, parameters: Mapping[str, str]) -> None:
        self.parameters = parameters
        self.errors: list[FieldError] = []

    def wrong(self, name: str, message: Text, error_type: str) -> None:
        """Note that a parameter is wrong."""
        self.errors.append(FieldError(f"query -> {name}", message, error_type))

    def raise_if_wrong(self) -> None:
        """Raise QueryInvalid when something was wrong."""
        if self.errors:
            raise QueryInvalid(details=self.errors)

    def text(self, name: str) -> str:
        """Return a text that the database can hold, without blanks around it; empty when it is not there."""
        value = self.parameters.get(name, "").strip()
        if len(value) > _TEXT:
            self.wrong(name, _("This is too long."), "string_too_long")
            return ""
        # NUL and lone surrogates are in no column, and PostgreSQL refuses to compare with them.
        if "\x00" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            self.wrong(name, _("This holds a character that cannot be stored."), "string_invalid")
            return ""
        return value

    def whole(self, name: str, default: int, least: int, most: int | None) -> int:
        """Return a whole number within bounds."""
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
        """Return one of the known words; None when nothing is asked."""
        value = self.parameters.get(name)
        if not value:
            return None
        if value not in known:
            message = _("This must be one of: %(known)s.") % {"known": ", ".join(sorted(known))}
            self.wrong(name, message, "enum")
            return None
        return value

    def truth(self, name: str) -> bool | None:
        """Return true or false; None when nothing is asked."""
        value = self.parameters.get(name)
        if not value:
            return None
        if value.lower() not in _TRUTHS:
            self.wrong(name, _("This must be true or false."), "bool_parsing")
            return None
        return _TRUTHS[value.lower()]

    def moment(self, name: str) -> dt.datetime | None:
        """Return a moment; one without a zone, or a bare day, is one of business time."""
        value = self.parameters.get(name)
        if not value:
            return None
        try:
            moment = dt.datetime.fromisoformat(value.replace(" ", "+"))
            if moment.utcoffset() is None:
                moment = moment.replace(tzinfo=ZoneInfo(settings.BUSINESS_TIME_ZONE))
            return moment.astimezone(dt.UTC)
        except (ValueError, OverflowError):
            self.wrong(name, _("This must be a date or a moment in ISO 8601."), "datetime_parsing")
            return None
