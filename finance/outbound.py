"""Telling the storefront what happened to orders, refunds and payouts: signed, at least once, replayable.

An event is written in the transaction of what it tells, with one delivery for each endpoint that wants it and
one job; so nothing is told that did not happen, and nothing that happened stays untold. Format and signature
are those of Standard Webhooks (https://www.standardwebhooks.com): headers `webhook-id`, `webhook-timestamp`
and `webhook-signature`; the id stays the same over attempts and replays, so that receivers count once. Bodies
carry ids, states and amounts, never a person's data: who may know more asks the API.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from procrastinate.contrib.django import app
from procrastinate.types import JSONValue

from finance.models import EventDelivery, OutboundEvent, WebhookEndpoint
from finance.states import DeliveryState
from mestore.lib import actor, errors, ids, sql
from mestore.lib.actor import Actor
from mestore.lib.http import dumps
from mestore.lib.outbound import Client, Limits, OutboundError
from monitoring import alerts, audit, events

JOB: Final = "finance.send_event"
TYPES: Final = frozenset(
    {
        "order.confirmed", "order.processing", "order.shipped", "order.delivered", "order.cancelled",
        "order.refunded", "refund.posted", "refund.paid", "refund.failed", "payout.requested",
        "payout.approved", "payout.sent", "payout.paid", "payout.returned", "payout.rejected",
        "payout.cancelled", "payout.unknown", "dispute.opened", "dispute.decided",
    }
)  # fmt: skip
LIMITS: Final = Limits(connect_seconds=3, read_seconds=10, total_seconds=15, attempts=1)
#: How long after each failed attempt the next one comes: three days in all, then it waits for a person.
PAUSES: Final = tuple(
    dt.timedelta(seconds=seconds)
    for seconds in (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
)
#: Who holds a delivery has so long; whoever finds it after that takes it over.
LEASE: Final = dt.timedelta(seconds=60)
GONE: Final = 410
_SECRET_PREFIX: Final = "whsec_"  # noqa: S105  # what every such secret begins with
FAILED: Final = alerts.declare(
    alerts.Rule(
        "finance.event_not_delivered",
        _("The storefront does not take its events"),
        alerts.Severity.HIGH,
        "the-storefront-does-not-take-its-events",
    )
)

_EMIT = """
WITH event AS (
    INSERT INTO finance_outboundevent (id, type, subject_type, subject_id, body, created_at)
    VALUES (%(id)s, %(type)s, %(subject_type)s, %(subject_id)s, %(body)s, %(now)s)
)
INSERT INTO finance_eventdelivery (event_id, endpoint_id, state, next_at, created_at)
SELECT %(id)s, e.id, 'waiting', %(now)s, %(now)s FROM finance_webhookendpoint e
WHERE e.is_active AND (e.event_types = '[]'::jsonb OR e.event_types ? %(type)s)
"""
_EMIT_MANY = """
WITH told AS (
    SELECT * FROM unnest(%(ids)s::uuid[], %(kinds)s::text[], %(subjects)s::text[], %(bodies)s::text[])
        AS k (id, kind, subject, body)),
event AS (
    INSERT INTO finance_outboundevent (id, type, subject_type, subject_id, body, created_at)
    SELECT k.id, %(type)s, k.kind, k.subject, k.body, %(now)s FROM told k
)
INSERT INTO finance_eventdelivery (event_id, endpoint_id, state, next_at, created_at)
SELECT k.id, e.id, 'waiting', %(now)s, %(now)s FROM told k CROSS JOIN finance_webhookendpoint e
WHERE e.is_active AND (e.event_types = '[]'::jsonb OR e.event_types ? %(type)s)
RETURNING event_id
"""

_TAKE = """
UPDATE finance_eventdelivery d SET next_at = %(until)s, attempts = d.attempts + 1, last_at = %(now)s
WHERE d.id = (
    SELECT w.id FROM finance_eventdelivery w
    WHERE w.state = 'waiting' AND w.next_at <= %(now)s AND (%(event)s::uuid IS NULL OR w.event_id = %(event)s)
    ORDER BY w.next_at FOR UPDATE SKIP LOCKED LIMIT 1)
RETURNING d.id, d.attempts
"""

log = structlog.get_logger("mestore.finance")


class OnItsWay(errors.Conflict):
    message = _("This delivery is on its way already.")


def emit(kind: str, *, subject: tuple[str, str], data: Mapping[str, Any]) -> UUID:
    """Write one event of the current transaction, and what sends it; return its id.

    `data` is told as it is: ids, states, amounts as strings. Two statements. Raises ValueError for a type
    that is not in `TYPES`, and outside of a transaction: alone it would tell what may not have happened.
    """
    if kind not in TYPES:
        raise ValueError(f"{kind} is no event that endpoints know")
    if not transaction.get_connection().in_atomic_block:
        raise ValueError("an event is written in the transaction of what it tells")
    now, event_id = timezone.now(), ids.uuid7()
    body = dumps({"type": kind, "timestamp": now, "data": dict(data)}).decode()
    wanted = sql.execute(
        _EMIT,
        {
            "id": event_id, "type": kind, "subject_type": subject[0], "subject_id": subject[1], "body": body,
            "now": now,
        },
    )  # fmt: skip
    if wanted:
        app.configure_task(JOB).defer(event_id=str(event_id))
    return event_id


def emit_many(kind: str, told: Sequence[tuple[tuple[str, str], Mapping[str, Any]]]) -> None:
    """Write one event of a type for each (subject, data), with as many statements for many as for one.

    Raises as `emit` does.
    """
    if kind not in TYPES:
        raise ValueError(f"{kind} is no event that endpoints know")
    if not transaction.get_connection().in_atomic_block:
        raise ValueError("an event is written in the transaction of what it tells")
    now = timezone.now()
    rows = [
        (ids.uuid7(), subject, dumps({"type": kind, "timestamp": now, "data": dict(data)}).decode())
        for subject, data in told
    ]
    wanted = sql.fetch_all(
        _EMIT_MANY,
        {
            "ids": [row[0] for row in rows], "kinds": [row[1][0] for row in rows],
            "subjects": [row[1][1] for row in rows], "bodies": [row[2] for row in rows], "type": kind,
            "now": now,
        },
    )  # fmt: skip
    jobs: list[dict[str, JSONValue]] = [{"event_id": str(one)} for one in sorted({row[0] for row in wanted})]
    if jobs:
        app.configure_task(JOB).batch_defer(*jobs)


def send_event(event_id: UUID) -> int:
    """Send one event to those who wait for it now; return how many took it."""
    return _send_due(event_id, batch=100)


def send_due(*, batch: int = 200) -> int:
    """Send what is due, at most `batch` deliveries; return how many arrived."""
    return _send_due(None, batch=batch)


def replay(delivery: EventDelivery, *, reason: str, by: Actor) -> None:
    """Send a delivery again, with the same id: for a receiver that lost it. Raises `OnItsWay`."""
    now = timezone.now()
    with transaction.atomic():
        changed = EventDelivery.objects.filter(
            pk=delivery.pk, state__in=[DeliveryState.DELIVERED, DeliveryState.FAILED]
        ).update(state=DeliveryState.WAITING, attempts=0, next_at=now, delivered_at=None)
        if not changed:
            raise OnItsWay
        audit.record(
            events.EVENT_REPLAYED,
            by=by,
            target=("outbound_event", str(delivery.event_id)),
            data={"endpoint": str(delivery.endpoint_id), "reason": reason},
        )
        app.configure_task(JOB).defer(event_id=str(delivery.event_id))


def signature(secret: str, *, message_id: str, timestamp: int, body: str) -> str:
    """Return `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body` (Standard Webhooks, signatures).

    `secret` is `whsec_` and base64. Raises ValueError for another text.
    """
    if not secret.startswith(_SECRET_PREFIX):
        raise ValueError("a webhook secret begins with whsec_")
    key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    mac = hmac.new(key, f"{message_id}.{timestamp}.{body}".encode(), hashlib.sha256).digest()
    return "v1," + base64.b64encode(mac).decode()


def is_allowed(url: str) -> bool:
    """Whether events may be sent there: HTTPS, and a host of `MESTORE_WEBHOOK_HOSTS`."""
    try:
        _client(url).demand_allowed(url)
    except OutboundError:
        return False
    return True


def _send_due(event_id: UUID | None, *, batch: int) -> int:
    arrived = 0
    for _turn in range(batch):
        now = timezone.now()
        taken = sql.fetch_one(_TAKE, {"until": now + LEASE, "now": now, "event": event_id})
        if taken is None:
            break
        delivery = EventDelivery.objects.select_related("event", "endpoint").get(pk=taken[0])
        arrived += _attempt(delivery, now)
    return arrived


def _attempt(delivery: EventDelivery, now: dt.datetime) -> bool:
    """Send once and write down what came of it; the row is ours until its lease ends."""
    endpoint = delivery.endpoint
    if not endpoint.is_active:
        _finish(delivery, DeliveryState.FAILED, status=None, error="endpoint closed")
        return False
    try:
        answer = _client(endpoint.url).send(
            "POST", endpoint.url, content=delivery.event.body.encode(),
            headers=_headers(delivery.event, endpoint, now), may_repeat=False,
        )  # fmt: skip
    except OutboundError as error:
        return _failed(delivery, now, status=None, error=type(error).__name__)
    if answer.is_success:
        _finish(delivery, DeliveryState.DELIVERED, status=answer.status, error="")
        return True
    if answer.status == GONE:
        # The receiver says that it will never take events again (Standard Webhooks, "Operational").
        _close(endpoint)
    return _failed(delivery, now, status=answer.status, error=f"status {answer.status}")


def _headers(event: OutboundEvent, endpoint: WebhookEndpoint, now: dt.datetime) -> dict[str, str]:
    secrets = [endpoint.secret]
    if endpoint.former_secret and endpoint.former_until and endpoint.former_until > now:
        secrets.append(endpoint.former_secret)
    moment = int(now.timestamp())
    signed = [
        signature(secret, message_id=str(event.pk), timestamp=moment, body=event.body) for secret in secrets
    ]
    return {
        "Content-Type": "application/json",
        "webhook-id": str(event.pk),
        "webhook-timestamp": str(moment),
        "webhook-signature": " ".join(signed),
    }


def _failed(delivery: EventDelivery, now: dt.datetime, *, status: int | None, error: str) -> bool:
    if delivery.attempts > len(PAUSES):
        _finish(delivery, DeliveryState.FAILED, status=status, error=error)
        alerts.raise_signal(
            FAILED, entity=("endpoint", str(delivery.endpoint_id)),
            evidence={"event": str(delivery.event_id), "status": status, "error": error},
        )  # fmt: skip
        return False
    EventDelivery.objects.filter(pk=delivery.pk, attempts=delivery.attempts).update(
        next_at=now + PAUSES[delivery.attempts - 1], last_status=status, last_error=error
    )
    log.warning("event_not_taken", event_id=str(delivery.event_id), attempt=delivery.attempts, error=error)
    return False


def _finish(delivery: EventDelivery, state: DeliveryState, *, status: int | None, error: str) -> None:
    """Only who still holds the attempt ends it: a lease that was taken over is not ours to end."""
    EventDelivery.objects.filter(
        pk=delivery.pk, attempts=delivery.attempts, state=DeliveryState.WAITING
    ).update(
        state=state, next_at=None, last_status=status, last_error=error,
        delivered_at=timezone.now() if state is DeliveryState.DELIVERED else None,
    )  # fmt: skip


def _close(endpoint: WebhookEndpoint) -> None:
    with transaction.atomic():
        if WebhookEndpoint.objects.filter(pk=endpoint.pk, is_active=True).update(
            is_active=False, updated_at=timezone.now()
        ):
            audit.record(
                events.ENDPOINT_CLOSED, by=actor.system("worker"), target=("endpoint", str(endpoint.pk)),
                data={"why": "gone"},
            )  # fmt: skip


def _client(url: str) -> Client:
    """One client per host, kept: its breaker remembers how the host did. Only hosts of the settings."""
    try:
        place = urlsplit(url).netloc
    except ValueError:
        place = ""
    if place not in _clients:
        _clients[place] = Client(
            f"webhook {place}", hosts=settings.WEBHOOK_HOSTS, limits=LIMITS, ca_file=settings.WEBHOOK_CA,
            plain_on_loopback=settings.IS_LOOPBACK_DEMO,
        )  # fmt: skip
    return _clients[place]


_clients: dict[str, Client] = {}
