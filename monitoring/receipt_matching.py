"""Comparing receipts with the trail, both ways.

Receipts are read from the lines that left the machine, each once, in the order in which they were written;
memory stays the same however many there are (they go to a temporary table). What can be found:

* a receipt without its event: what was committed was taken away, before it had its place in the signed log
  or with that place (after a failover that lost the tail: exactly what was lost);
* an event without a receipt: written around the application; its MAC tells whether somebody else made it, or
  a process that was killed between the commit and the line;
* an event that the database wrote itself (a captured row, a ledger entry) without a receipt. Whatever the
  service changes has one, so one in the service's own name is a finding like any other; it has no MAC, so a
  killed process excuses it only together with an event of the same transaction that has the right one. One
  that names another login than the service's is told apart, and always told: the owner's commands, and
  people with SQL. Nobody can call an event captured to have it passed over;
* a chain with a gap, or with a line that this service did not make: somebody took lines away, or added some.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext_lazy as _

from mestore.lib import crypto, sql
from monitoring import alerts, audit, events, receipts

BATCH = 1_000
EXAMPLES = 100
GRACE: Final = dt.timedelta(seconds=60)
"""How long a transaction may take between the moment of its event and its receipt."""

WITHOUT_LEAF: Final = alerts.declare(
    alerts.Rule(
        "audit.receipt_without_event",
        _("Events that were committed are not in the audit trail any more"),
        alerts.Severity.CRITICAL,
        "audit-receipt-without-event",
    )
)
AROUND: Final = alerts.declare(
    alerts.Rule(
        "audit.event_without_receipt",
        _("The audit trail has events, or receipts a gap, that no process of the service accounts for"),
        alerts.Severity.HIGH,
        "audit-event-without-receipt",
    )
)

_TABLE = """
CREATE TEMPORARY TABLE audit_receipt_read (
    event_id uuid NOT NULL, leaf bytea NOT NULL, at timestamptz NOT NULL
) ON COMMIT DROP
"""
_ADD = """
INSERT INTO audit_receipt_read (event_id, leaf, at)
SELECT event_id, decode(leaf, 'hex'), at FROM unnest(%s::uuid[], %s::text[], %s::timestamptz[])
  AS read(event_id, leaf, at)
"""
_INDEX = "CREATE INDEX ON audit_receipt_read (event_id)"
# Held: the log's tile has this very hash at the event's place, or the event waits with it in the queue.
_WITHOUT_LEAF = """
SELECT r.event_id, r.at, count(*) OVER () FROM audit_receipt_read r
LEFT JOIN audit_leaf l ON l.event_id = r.event_id
LEFT JOIN audit_tile t ON t.epoch = l.epoch AND t.level = 0 AND t.number = l.leaf_index / 256
LEFT JOIN audit_pending p ON p.id = r.event_id
LEFT JOIN audit_event e ON p.id IS NOT NULL AND e.id = p.id AND e.occurred_at = p.occurred_at
WHERE substring(t.hashes FROM (l.leaf_index %% 256)::int * 32 + 1 FOR 32) IS DISTINCT FROM r.leaf
  AND e.leaf_hash IS DISTINCT FROM r.leaf
ORDER BY r.at LIMIT %s
"""
# Of one transaction, what has a MAC comes first.
_WITHOUT_RECEIPT = """
SELECT e.id, e.occurred_at, e.canon, e.writer_mac, e.xid::text,
       e.writer_mac IS NULL AND (e.type LIKE 'capture.%%' OR e.type = %(ledger)s) FROM audit_event e
WHERE e.occurred_at >= %(first)s AND e.occurred_at <= %(last)s
  AND NOT EXISTS (SELECT FROM audit_receipt_read r WHERE r.event_id = e.id)
ORDER BY e.xid, e.writer_mac IS NULL, e.id
"""
_KEEP = """
INSERT INTO audit_receipt_match (receipts, without_event, without_receipt, broken) VALUES (%s, %s, %s, %s)
"""
_LATEST = """
SELECT matched_at, receipts, without_event, without_receipt, broken FROM audit_receipt_match
ORDER BY matched_at DESC LIMIT 1
"""


@dataclass(slots=True)
class Finding:
    """How often, and the first `EXAMPLES` of it in words."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(text)


@dataclass(slots=True)
class Matching:
    """What a comparison found.

    `crashes`: events whose process was killed before it could say so. `around`: rows that another login than
    the service's changed; no fault in itself, but somebody should know each.
    """

    receipts: int = 0
    leaves: int = 0
    writers: int = 0
    repeated: int = 0
    broken: Finding = field(default_factory=Finding)
    without_event: Finding = field(default_factory=Finding)
    forged: Finding = field(default_factory=Finding)
    without_receipt: Finding = field(default_factory=Finding)
    crashes: Finding = field(default_factory=Finding)
    around: Finding = field(default_factory=Finding)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is left that needs a person."""
        return not (
            self.broken.count or self.without_event.count or self.forged.count or self.without_receipt.count
        )

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "clean": self.is_clean}


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest comparison, in numbers."""

    matched_at: dt.datetime
    receipts: int
    without_event: int
    without_receipt: int
    broken: int

    @property
    def unmatched(self) -> int:
        return self.without_event + self.without_receipt + self.broken


@dataclass(slots=True)
class _Chain:
    n: int
    mac: str
    at: dt.datetime
    is_over: bool


def match(lines: Iterable[str], *, grace: dt.timedelta = GRACE) -> Matching:
    """Compare the receipts in `lines` with the database, keep the numbers and raise signals.

    Other lines are skipped. Raises django.db.Error.
    """
    found, chains = Matching(), dict[str, _Chain]()
    with transaction.atomic():
        sql.execute(_TABLE)
        first, last = _read(lines, found, chains)
        sql.execute(_INDEX)
        for event_id, at, count in sql.fetch_all(_WITHOUT_LEAF, (EXAMPLES,)):
            found.without_event.add(f"{event_id} committed before {at.isoformat()}")
            total = int(count)
        if found.without_event.count:
            found.without_event.count = total
        if first is not None and last is not None:
            _look_for_others(found, chains, first, last - grace, grace)
        sql.execute(
            _KEEP,
            (
                found.receipts, found.without_event.count,
                found.without_receipt.count + found.forged.count, found.broken.count,
            ),
        )  # fmt: skip
    _tell(found)
    return found


def latest() -> Latest | None:
    """Return the newest comparison in numbers; None when there was none yet."""
    row = sql.fetch_one(_LATEST)
    return Latest(*row) if row else None


def _read(
    lines: Iterable[str], found: Matching, chains: dict[str, _Chain]
) -> tuple[dt.datetime | None, dt.datetime | None]:
    """Follow the chains and put the leaves into the temporary table; return first and last moment."""
    first: dt.datetime | None = None
    last: dt.datetime | None = None
    batch: list[tuple[UUID, str, dt.datetime]] = []
    for given in _receipts(lines, found):
        if not _follow(given, found, chains):
            continue
        first = min(first or given.at, given.at)
        last = max(last or given.at, given.at)
        found.receipts += 1
        batch += [(event_id, leaf, given.at) for event_id, leaf in given.leaves]
        if len(batch) >= BATCH:
            _add(batch, found)
            batch = []
    if batch:
        _add(batch, found)
    found.writers = len(chains)
    return first, last


def _add(batch: list[tuple[UUID, str, dt.datetime]], found: Matching) -> None:
    sql.execute(_ADD, [list(column) for column in zip(*batch, strict=True)])
    found.leaves += len(batch)


@dataclass(frozen=True, slots=True)
class _Receipt:
    writer: str
    n: int
    kind: str
    prev: str
    mac: str
    at: dt.datetime
    texts: list[str]

    @property
    def leaves(self) -> list[tuple[UUID, str]]:
        return [(UUID(text[:36]), text[37:]) for text in self.texts]


def _receipts(lines: Iterable[str], found: Matching) -> Iterator[_Receipt]:
    """Yield the receipts of this service; whatever else calls itself one is a finding."""
    for line in lines:
        if f'"{receipts.EVENT}"' not in line:
            continue
        try:
            said = json.loads(line[line.index("{") :])
            if said.get("event") != receipts.EVENT:
                continue
            given = _Receipt(
                str(said["writer"]), int(said["n"]), str(said["kind"]), str(said["prev"]), str(said["mac"]),
                dt.datetime.fromisoformat(said["at"]), [str(text) for text in said["leaves"]],
            )  # fmt: skip
            made = receipts.link(given.writer, given.n, given.kind, given.prev, given.texts)
            is_ours = crypto.verify_mac(made, bytes.fromhex(given.mac), purpose=receipts.MAC_PURPOSE)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            found.broken.add("a line is no receipt, though it says so")
            continue
        if is_ours and given.at.tzinfo is not None:
            yield given
        else:
            found.broken.add(f"receipt {given.n} of {given.writer[:64]} was not made by this service")


def _follow(given: _Receipt, found: Matching, chains: dict[str, _Chain]) -> bool:
    """Put a receipt at the end of its writer's chain; say whether it is a new one."""
    chain = chains.get(given.writer)
    if chain is not None and given.n <= chain.n:
        found.repeated += 1  # collectors deliver at least once; its MAC is ours, so it is the same line
        return False
    if chain is None and given.n:
        found.broken.add(f"the receipts of {given.writer} begin at {given.n}: give the earlier files too")
    elif chain is not None and (given.n != chain.n + 1 or given.prev != chain.mac):
        found.broken.add(f"receipts {chain.n + 1} to {given.n - 1} of {given.writer} are missing")
    elif chain is not None and chain.is_over:
        found.broken.add(f"the receipts of {given.writer} go on after their end")
    chains[given.writer] = _Chain(given.n, given.mac, given.at, given.kind == receipts.END)
    return True


def _look_for_others(
    found: Matching, chains: dict[str, _Chain], first: dt.datetime, last: dt.datetime, grace: dt.timedelta
) -> None:
    """Events of the same time that no receipt names."""
    killed = [chain.at - grace for chain in chains.values() if not chain.is_over]
    values = {"first": first, "last": last, "ledger": events.LEDGER_ENTRY_POSTED}
    excused = ""  # the transaction of an event that a killed process explains
    for rows in sql.stream(_WITHOUT_RECEIPT, values):
        for event_id, occurred_at, canon, tag, xid, is_the_databases in rows:
            text = f"{event_id} of {occurred_at.isoformat()}"
            if is_the_databases:
                _place(found, text, bytes(canon), is_excused=xid == excused)
            elif tag is None or not crypto.verify_mac(bytes(canon), tag, purpose=audit.WRITER_PURPOSE):
                found.forged.add(text)
            elif any(at <= occurred_at for at in killed):
                found.crashes.add(text)
                excused = xid
            else:
                found.without_receipt.add(text)


def _place(found: Matching, text: str, canon: bytes, *, is_excused: bool) -> None:
    """Say what an event without a receipt is that the database wrote, as its own bytes name the login."""
    try:
        said = json.loads(canon)
        role = said["database"]["role"] if "database" in said else settings.RUNTIME_ROLE
        what = f"{text}: {said.get('event') or said.get('type')}"
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        found.forged.add(text)
        return
    if role != settings.RUNTIME_ROLE:
        found.around.add(f"{what} by the login {role}")
    elif is_excused:
        found.crashes.add(what)
    else:
        found.without_receipt.add(what)


def _tell(found: Matching) -> None:
    if found.without_event.count:
        alerts.raise_signal(
            WITHOUT_LEAF,
            entity=("audit_log", "receipts"),
            evidence={"events": found.without_event.count, "examples": found.without_event.examples},
            using="audit",
        )
    others = found.forged.count + found.without_receipt.count + found.broken.count
    if others:
        evidence = {
            "forged": found.forged.count,
            "without_receipt": found.without_receipt.count,
            "broken_chains": found.broken.count,
            "examples": found.forged.examples + found.without_receipt.examples + found.broken.examples,
        }
        alerts.raise_signal(AROUND, entity=("audit_log", "receipts"), evidence=evidence, using="audit")
