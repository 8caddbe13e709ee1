"""The list of what is refused at this moment: of any length, page by page, without counting.

The order is that of an index: what ends last comes first. A cursor is the last row of the page before.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Q, QuerySet

from accounts import selectors
from accounts.models import LockoutCounter

SIZE = 50
_KEY_BYTES = 32
_SEPARATOR = "~"  # in no time and in no key


@dataclass(frozen=True, slots=True)
class Page:
    """Some locks, and the cursor of those that end earlier ("" on the last page)."""

    rows: Sequence[LockoutCounter]
    older: str


def page(*, kind: str = "", older: str = "") -> Page:
    """Return one page of the locks of `kind` ("" for all), from the cursor `older` on. One statement.

    A cursor that is none of ours is the first page.
    """
    rows = selectors.locked_now()
    if kind:
        rows = rows.filter(kind__startswith=f"{kind}:") | rows.filter(kind=kind)
    found = list(_after(rows, older).order_by("-locked_until", "-key")[: SIZE + 1])
    return Page(found[:SIZE], _cursor(found[SIZE - 1]) if len(found) > SIZE else "")


def _after(rows: QuerySet[LockoutCounter], older: str) -> QuerySet[LockoutCounter]:
    ends, _separator, key = older.partition(_SEPARATOR)
    try:
        until, raw = dt.datetime.fromisoformat(ends), base64.urlsafe_b64decode(key.encode())
    except (ValueError, binascii.Error):
        return rows
    if until.tzinfo is None or len(raw) != _KEY_BYTES:
        return rows
    return rows.filter(Q(locked_until__lte=until), Q(locked_until__lt=until) | Q(key__lt=raw))


def _cursor(row: LockoutCounter) -> str:
    ends = row.locked_until.isoformat() if row.locked_until else ""
    return f"{ends}{_SEPARATOR}{base64.urlsafe_b64encode(bytes(row.key)).decode()}"
