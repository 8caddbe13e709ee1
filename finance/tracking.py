"""Links with which one order can be followed without signing in.

A link holds a moment, and a MAC over it and the order's number: nothing is stored, and nothing opens but that
order's way until that moment. It tells where the parcel is; neither buyer nor money.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from dataclasses import dataclass
from typing import Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from finance.models import Order
from mestore.lib import crypto
from mestore.lib.actor import Actor
from monitoring import audit, events

_PURPOSE: Final = "order-tracking-link"
_LONGEST: Final = 200


@dataclass(frozen=True, slots=True)
class Link:
    """The token of a link, and until when it works."""

    token: str
    expires_at: dt.datetime


def make(order: Order, *, by: Actor) -> Link:
    """Return a link for an order; that it was made is recorded, the link is not."""
    expires_at = timezone.now().replace(microsecond=0) + dt.timedelta(days=settings.TRACKING_LINK_DAYS)
    seconds = int(expires_at.timestamp())
    tag = crypto.mac(_content(order.order_number, seconds), purpose=_PURPOSE)
    token = f"{seconds}.{base64.urlsafe_b64encode(tag).decode('ascii').rstrip('=')}"
    with transaction.atomic():
        audit.record(
            events.TRACKING_LINK_MADE, by=by, target=("order", str(order.pk)),
            data={"expires_at": expires_at.isoformat()},
        )  # fmt: skip
    return Link(token, expires_at)


def opens(token: str, number: str) -> bool:
    """Say whether this token opens the order with this number now."""
    seconds, _dot, tag = token[:_LONGEST].partition(".")
    if not (seconds.isascii() and seconds.isdigit() and len(seconds) <= 12 and number.isascii()):
        return False
    try:
        given = base64.urlsafe_b64decode(tag.encode("ascii") + b"=" * (-len(tag) % 4))
    except (ValueError, binascii.Error):
        return False
    known = crypto.verify_mac(_content(number, int(seconds)), given, purpose=_PURPOSE)
    return known and int(seconds) > timezone.now().timestamp()


def _content(number: str, seconds: int) -> bytes:
    return crypto.row_binding(number, seconds)
