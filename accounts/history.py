"""What the audit trail says about one account, and what administrators changed lately. Personal values stay
sealed: they are opened in the console, by those who may, one event at a time.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from dataclasses import dataclass
from uuid import UUID

from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from mestore.lib import errors
from monitoring import events, selectors
from monitoring.events import Category
from monitoring.models import AuditEvent
from monitoring.selectors import Position

RECENT = dt.timedelta(days=30)
MOST = 200
_BEGINNING = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_ADMINISTRATION = [
    entry.code
    for entry in events.catalogue()
    if entry.category in {Category.USER_MANAGEMENT, Category.VENDOR_MANAGEMENT}
]


class CursorInvalid(errors.Unprocessable):
    message = _("The cursor is not one that was given out.")


@dataclass(frozen=True, slots=True)
class History:
    """Events, newest first, and the cursor of the next page; None at the end."""

    events: list[AuditEvent]
    next_cursor: str | None


def of_account(user_id: UUID, *, limit: int, cursor: str | None = None) -> History:
    """Return what happened to an account, one page. One statement. Raises CursorInvalid."""
    page = selectors.events_page(
        target=("user", str(user_id)), limit=limit, after=_position(cursor) if cursor else None
    )
    return History(page.events, _cursor(page.next) if page.next else None)


def recent_changes(*, limit: int, now: dt.datetime | None = None) -> list[AuditEvent]:
    """Return the newest changes to accounts and vendors of the last 30 days. One statement."""
    since = (now or timezone.now()) - RECENT
    found = AuditEvent.objects.defer("canon", "pii_ct", "writer_mac").filter(
        occurred_at__gte=since, type__in=_ADMINISTRATION
    )
    return list(found.order_by("-occurred_at", "-id")[: min(limit, MOST)])


def _cursor(position: Position) -> str:
    text = f"{position.occurred_at.astimezone(dt.UTC).isoformat()} {position.id}"
    return base64.urlsafe_b64encode(text.encode("ascii")).decode("ascii").rstrip("=")


def _position(cursor: str) -> Position:
    try:
        text = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)).decode("ascii")
        moment_text, _separator, id_text = text.partition(" ")
        moment, event_id = dt.datetime.fromisoformat(moment_text), UUID(id_text)
        # A moment without a zone compares with none that has one: TypeError.
        return Position(max(moment, _BEGINNING), event_id)
    except (ValueError, TypeError, binascii.Error):
        raise CursorInvalid(
            details=[errors.FieldError("query -> cursor", CursorInvalid.message, "cursor_invalid")]
        ) from None
