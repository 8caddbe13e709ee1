"""Sending the audit trail to where others watch it, at least once, in the order of the signed log.

A destination is an HTTPS address that takes lines of JSON, or a syslog receiver over TLS. Its cursor moves
only after it has said that a batch arrived; what it had and could not say comes again, with the same ids.
Each batch ends with its signed trailer, so that whoever receives sees gaps without asking us.

What is sent is not recorded event by event: that would make events for ever. The first use of a destination
is recorded, and its cursor, its last delivery and its failures stand in the database and the metrics.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from mestore.lib import actor, outbound, syslog
from mestore.lib.outbound import Client, Limits, OutboundError
from mestore.lib.syslog import Receiver, SyslogError
from monitoring import alerts, export, export_cursors
from monitoring.export import BadPlace, Batch, Wanted
from monitoring.export_batches import Format
from monitoring.export_cursors import Held, Kept
from monitoring.log import LogDamaged

LATE: Final = dt.timedelta(minutes=15)
LIMITS: Final = Limits(connect_seconds=3, read_seconds=10, total_seconds=25, attempts=3)
SYSLOG_SCHEME: Final = "syslog+tls"
BEHIND: Final = alerts.declare(
    alerts.Rule(
        "audit.push_behind",
        _("The audit trail does not reach those who watch it"),
        alerts.Severity.HIGH,
        "audit-push-behind",
    )
)

# OCSF counts upwards from informational, syslog downwards from emergency.
_SYSLOG_SEVERITY: Final = {1: 6, 2: 5, 3: 4, 4: 2}
_NOTICE: Final = 5

logger = structlog.get_logger("mestore.audit")


class NotTaken(Exception):
    """The destination did not say that it has the batch. The text carries no address and no secret."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where events go, and in which form."""

    url: str
    form: Format

    @property
    def name(self) -> str:
        """What metrics, cursors and signals call it: the address without what may be secret in it."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}"[:200]


def configured() -> list[Destination]:
    """Return the destinations of the settings."""
    return [Destination(url, Format(settings.AUDIT_PUSH_FORMAT)) for url in settings.AUDIT_PUSH]


def push(destination: Destination, *, seconds: float) -> int:
    """Send what waits, for so many seconds; return how many events arrived.

    Nothing while another process is at it. What is not taken is told by the cursor, and tried again by the
    next call. Raises LogDamaged, export_cursors.Lost, and export.BadPlace when the log is shorter than what
    was sent.
    """
    held = export_cursors.take(destination.name, by=actor.system("audit_push"))
    if held is None:
        return 0
    until, arrived = time.monotonic() + seconds, 0
    try:
        for batch in export.batches(Wanted(destination.form), held.place):
            _send(destination, batch)
            held = export_cursors.advance(held, batch.next)
            arrived += len(batch.lines)
            if time.monotonic() > until:
                break
    except NotTaken as error:
        _failed(destination, held, str(error))
    except (LogDamaged, BadPlace) as error:
        _failed(destination, held, str(error))
        raise
    finally:
        export_cursors.release(held)
    return arrived


def tell_of_late(now: dt.datetime | None = None) -> int:
    """Raise a signal for each destination that has waited too long; return for how many."""
    names = {destination.name for destination in configured()}
    moment = now or timezone.now()
    late = [kept for kept in export_cursors.every() if kept.destination in names and _is_late(kept, moment)]
    for kept in late:
        alerts.raise_signal(
            BEHIND,
            entity=("destination", kept.destination[:128]),
            evidence={
                "behind": kept.behind,
                "waiting_since": kept.waiting_since,
                "failures": kept.failures,
                "last_error": kept.last_error,
            },
            using="audit",
        )
    return len(late)


def _is_late(kept: Kept, now: dt.datetime) -> bool:
    """Below zero: the log is shorter than what was delivered of it, as after a restored backup."""
    if kept.behind < 0:
        return True
    return kept.behind > 0 and kept.waiting_since is not None and now - kept.waiting_since > LATE


def _failed(destination: Destination, held: Held, reason: str) -> None:
    logger.warning("audit_push_not_taken", destination=destination.name, reason=reason)
    export_cursors.fail(held, reason)


def _send(destination: Destination, batch: Batch) -> None:
    """Return when the destination has the batch. Raises NotTaken."""
    try:
        if urlsplit(destination.url).scheme == SYSLOG_SCHEME:
            _by_syslog(destination, batch)
        else:
            _by_http(destination, batch)
    except (OutboundError, SyslogError) as error:
        raise NotTaken(type(error).__name__) from None


def _by_http(destination: Destination, batch: Batch) -> None:
    headers = {
        "Content-Type": "application/x-ndjson",
        # The same batch has the same key, whoever sends it and how often.
        "Idempotency-Key": f"{batch.place}-{batch.next.index}",
    }
    if settings.AUDIT_PUSH_TOKEN:
        headers["Authorization"] = f"Bearer {settings.AUDIT_PUSH_TOKEN}"
    answer = _client(destination).send(
        "POST", destination.url, content=batch.text().encode(), headers=headers, may_repeat=True
    )
    if not answer.is_success:
        raise NotTaken(f"status {answer.status}")


def _by_syslog(destination: Destination, batch: Batch) -> None:
    parts = urlsplit(destination.url)
    receiver = Receiver(
        parts.hostname or "", parts.port or syslog.DEFAULT_PORT, settings.AUDIT_PUSH_CA,
        LIMITS.connect_seconds, LIMITS.total_seconds,
    )  # fmt: skip
    host = urlsplit(settings.PUBLIC_URL).hostname or "localhost"
    syslog.send(receiver, [_message(line, host) for line in (*batch.lines, batch.trailer)])


def _message(line: str, host: str) -> bytes:
    given = json.loads(line)
    document = given.get("event") or {}
    kind = str(given.get("message") or document.get("event") or document.get("type") or "batch")
    severity = _SYSLOG_SEVERITY.get(given.get("severity_id", 0), _NOTICE)
    return syslog.message(
        line.rstrip("\n"), severity=severity, at=_moment(given, document), host=host, application="mestore",
        kind=kind,
    )  # fmt: skip


def _moment(given: dict[str, object], document: dict[str, object]) -> dt.datetime:
    metadata = given.get("metadata")
    original = metadata.get("original_time") if isinstance(metadata, dict) else None
    try:
        moment = dt.datetime.fromisoformat(str(original or document.get("at") or document["recorded_at"]))
    except (ValueError, KeyError):
        return timezone.now()  # a trailer, or an event that was removed
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=dt.UTC)


def _client(destination: Destination) -> Client:
    """One client per address, kept: its breaker remembers how the destination did."""
    if destination.url not in _clients:
        _clients[destination.url] = Client(
            f"audit push {destination.name}", hosts={urlsplit(destination.url).netloc}, limits=LIMITS,
            ca_file=settings.AUDIT_PUSH_CA, plain_on_loopback=settings.IS_LOOPBACK_DEMO,
        )  # fmt: skip
    return _clients[destination.url]


_clients: dict[str, outbound.Client] = {}
