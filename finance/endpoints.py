"""Where events for the storefront are sent: entered, opened, closed, and given another secret.

A secret is 32 random bytes, made here, shown once and sealed. During a rotation events carry both signatures,
so that the receiver can change over when it likes within the overlap.
"""

from __future__ import annotations

import base64
import datetime as dt
import re
import secrets
from collections.abc import Collection
from typing import Final

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from finance import outbound
from finance.models import WebhookEndpoint
from mestore.lib import errors
from mestore.lib.actor import Actor
from monitoring import audit, events

OVERLAP: Final = dt.timedelta(hours=24)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}", re.ASCII)
_LONGEST_URL: Final = 500


class BadEndpoint(errors.Unprocessable):
    message = _("A name is small letters, digits and hyphens; events are known by their types.")


class PlaceNotAllowed(errors.Unprocessable):
    message = _("Events are sent over HTTPS to the hosts of MESTORE_WEBHOOK_HOSTS only.")


class NameTaken(errors.Conflict):
    message = _("There is an address of this name.")


class NoSuchEndpoint(errors.NotFound):
    message = _("There is no address of this name.")


def create(
    name: str, url: str, *, event_types: Collection[str] = (), by: Actor
) -> tuple[WebhookEndpoint, str]:
    """Enter an address and return it with its secret, which is shown this once.

    No `event_types`: all events. Raises BadEndpoint, PlaceNotAllowed, NameTaken.
    """
    wanted = sorted(set(event_types))
    if not _NAME.fullmatch(name) or set(wanted) - outbound.TYPES:
        raise BadEndpoint
    if len(url) > _LONGEST_URL or not outbound.is_allowed(url):
        raise PlaceNotAllowed
    secret = _new_secret()
    endpoint = WebhookEndpoint(name=name, url=url, secret=secret, event_types=wanted)
    try:
        with transaction.atomic():
            endpoint.save(force_insert=True)
            _record(events.ENDPOINT_CREATED, endpoint, by, {"name": name, "url": url, "types": wanted})
    except IntegrityError as error:
        raise NameTaken from error
    return endpoint, secret


def rotate(endpoint: WebhookEndpoint, *, overlap: dt.timedelta = OVERLAP, by: Actor) -> str:
    """Give an address another secret and return it; the former one signs too until the overlap is over."""
    secret = _new_secret()
    with transaction.atomic():
        row = _locked(endpoint)
        row.former_secret = (row.secret or "") if overlap else ""
        row.former_until = timezone.now() + overlap if overlap else None
        row.secret = secret
        row.updated_at = timezone.now()
        row.save()
        _record(events.ENDPOINT_ROTATED, row, by, {"overlap_seconds": int(overlap.total_seconds())})
    return secret


def close(endpoint: WebhookEndpoint, *, reason: str, by: Actor) -> None:
    """Send nothing there any more; what waits fails, and can be replayed when it is open again."""
    _set_active(endpoint, events.ENDPOINT_CLOSED, reason=reason, by=by, is_active=False)


def reopen(endpoint: WebhookEndpoint, *, reason: str, by: Actor) -> None:
    """Send there again. Raises PlaceNotAllowed when the settings name its host no more."""
    if not outbound.is_allowed(endpoint.url):
        raise PlaceNotAllowed
    _set_active(endpoint, events.ENDPOINT_OPENED, reason=reason, by=by, is_active=True)


def named(name: str) -> WebhookEndpoint:
    """Return the address called `name`. Raises NoSuchEndpoint."""
    found = WebhookEndpoint.objects.filter(name=name).first()
    if found is None:
        raise NoSuchEndpoint
    return found


def _set_active(endpoint: WebhookEndpoint, event: str, *, reason: str, by: Actor, is_active: bool) -> None:
    with transaction.atomic():
        changed = WebhookEndpoint.objects.filter(pk=endpoint.pk, is_active=not is_active).update(
            is_active=is_active, updated_at=timezone.now()
        )
        if changed:
            _record(event, endpoint, by, {"reason": reason})


def _locked(endpoint: WebhookEndpoint) -> WebhookEndpoint:
    return WebhookEndpoint.objects.select_for_update().get(pk=endpoint.pk)


def _record(event: str, endpoint: WebhookEndpoint, by: Actor, data: dict[str, object]) -> None:
    audit.record(event, by=by, target=("endpoint", str(endpoint.pk)), data=data)


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
