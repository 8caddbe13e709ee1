"""Asking the witnesses: each new checkpoint goes to every witness, and what they answer is kept.

A witness that refuses because it saw a larger log, or another one, says that this log shrank or forked: that
raises a signal at once. One that does not answer is asked again with the next checkpoint; how old its last
word is shows in the console and in the metrics.
"""

from __future__ import annotations

import base64
import datetime as dt
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from mestore.lib import merkle, notes, outbound, sql
from mestore.lib.notes import NoteError, Verifier
from mestore.lib.outbound import Client, Limits, OutboundError
from monitoring import alerts, checkpoints, log
from monitoring.checkpoints import Signed

SHRANK: Final = alerts.declare(
    alerts.Rule(
        "audit.witness_refused",
        _("A witness refuses the audit log: it shrank or forked"),
        alerts.Severity.CRITICAL,
        "audit-witness-refused",
    )
)
LIMITS: Final = Limits(connect_seconds=2, read_seconds=5, total_seconds=8, attempts=1, largest_answer=65_536)

logger = structlog.get_logger("mestore.audit")

_LAST = """
SELECT size FROM audit_cosignature WHERE epoch = %s AND witness = %s ORDER BY size DESC LIMIT 1
"""
_KEEP = """
INSERT INTO audit_cosignature (epoch, size, witness, line, cosigned_at)
VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
_AGES = """
SELECT DISTINCT ON (witness) witness, cosigned_at, size FROM audit_cosignature
WHERE witness = ANY(%s) AND epoch = (SELECT epoch FROM audit_tree) ORDER BY witness, size DESC
"""
_LINES = "SELECT line FROM audit_cosignature WHERE epoch = %s AND size = %s ORDER BY witness"


@dataclass(frozen=True, slots=True)
class Configured:
    """A witness as the settings name it."""

    url: str
    key: Verifier


@dataclass(frozen=True, slots=True)
class LastWord:
    """When a witness last cosigned, and which size; None when it never did."""

    witness: str
    cosigned_at: dt.datetime | None
    size: int | None


class Refused(RuntimeError):
    """The witness saw a log that this one does not continue."""


def configured() -> list[Configured]:
    """Return the witnesses of the settings, in their order."""
    return [Configured(url, Verifier.parse(key)) for url, key in settings.AUDIT_WITNESSES]


def last_words() -> list[LastWord]:
    """Return of each configured witness what it said last; one statement."""
    names = [one.key.name for one in configured()]
    said = {row[0]: row for row in sql.fetch_all(_AGES, (names,))} if names else {}
    return [LastWord(name, *(said[name][1:] if name in said else (None, None))) for name in names]


def with_cosignatures(found: Signed) -> str:
    """Return a checkpoint's note with the lines of every witness that cosigned it."""
    rows = sql.fetch_all(_LINES, (log.state().epoch, found.size))
    return found.note + "".join(str(row[0]) for row in rows)


def ask_all() -> int:
    """Show the newest checkpoint to every witness that has not cosigned it; return how many did now.

    Belongs outside of a transaction: it waits for others. What one witness does, does not stop the rest.
    """
    found = checkpoints.last()
    if found is None:
        return 0
    return sum(_asked(one, found) for one in configured())


def _asked(one: Configured, found: Signed) -> bool:
    epoch = log.state().epoch
    seen = _seen(epoch, one)
    if seen is not None and seen >= found.size:
        return False
    try:
        return _ask(one, found, epoch, seen or 0)
    except Refused as refusal:
        logger.critical("audit_witness_refused", witness=one.key.name, reason=str(refusal))
        alerts.raise_signal(
            SHRANK,
            entity=("witness", one.key.name),
            evidence={"size": found.size, "reason": str(refusal)},
            using="audit",
        )
    except (OutboundError, NoteError) as error:
        logger.warning("audit_witness_silent", witness=one.key.name, error=type(error).__name__)
    return False


def _ask(one: Configured, found: Signed, epoch: int, old: int) -> bool:
    answer = _send(one, _body(old, found))
    if answer.status == 409:
        old = _size(answer.body)
        if old > found.size:
            raise Refused(f"it cosigned {old} leaves, there are {found.size}")
        answer = _send(one, _body(old, found))
    if answer.status in {409, 422}:
        raise Refused(f"the log does not continue what it cosigned at {old} leaves")
    if answer.status != 200:
        logger.warning("audit_witness_silent", witness=one.key.name, status=answer.status)
        return False
    line = _text(answer.body)
    times = notes.cosigned_at(found.note + line, [one.key])
    if one.key.name not in times or line.count("\n") != 1:
        raise NoteError("the witness answered with something else")
    at = dt.datetime.fromtimestamp(times[one.key.name], dt.UTC)
    return sql.execute(_KEEP, (epoch, found.size, one.key.name, line, at)) == 1


def _send(one: Configured, body: str) -> outbound.Answer:
    client = _client(one.url)
    return client.send("POST", f"{one.url.rstrip('/')}/add-checkpoint", content=body.encode())


def _client(url: str) -> Client:
    """One client per address, kept: its breaker remembers how the witness did."""
    if url not in _clients:
        parts = urlsplit(url)
        _clients[url] = Client(
            f"witness {parts.netloc}", hosts={parts.netloc}, limits=LIMITS,
            ca_file=settings.AUDIT_WITNESS_CA, plain_on_loopback=settings.IS_LOOPBACK_DEMO,
        )  # fmt: skip
    return _clients[url]


_clients: dict[str, Client] = {}


def _body(old: int, found: Signed) -> str:
    try:
        proof = merkle.consistency_proof(old, found.size, merkle.from_tiles(log.tile_row))
    except merkle.ProofError as error:
        raise Refused("the tiles do not prove that the log only grew") from error
    lines = "".join(f"{base64.b64encode(part).decode('ascii')}\n" for part in proof)
    return f"old {old}\n{lines}\n{found.note}"


def _seen(epoch: int, one: Configured) -> int | None:
    row = sql.fetch_one(_LAST, (epoch, one.key.name))
    return int(row[0]) if row is not None else None


def _size(body: bytes) -> int:
    text = _text(body).strip()
    if not text.isascii() or not text.isdecimal() or len(text) > 19:
        raise NoteError("the witness answered with something else")
    return int(text)


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise NoteError("the witness answered with something else") from None
