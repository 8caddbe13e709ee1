"""A new log after a loss that people admit: the only way in which the audit log may begin anew.

A restored backup, or a failover that lost the tail, leaves a log that is shorter than the one its witnesses
saw. They refuse it, rightly and for ever: the log cannot be continued. So it is ended, as it is, and stays
verifiable; the next one begins under another name (`…/log-2`), which verifiers and witnesses are told
by people. Its first leaf says where the old one ended, why, and which two people approved.

Only the owner of the tables can do this, on the command line. What is in the first leaf is never erased:
staff numbers name people as well as names do.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from django.db import transaction

from mestore.lib import notes, sql
from mestore.lib.actor import Actor
from monitoring import audit, checkpoints, events, log, sequencer

OWNER = "owner"
SHORTEST_REASON = 10
LONGEST_TEXT = 500

logger = structlog.get_logger("mestore.audit")

_LOCK = "SELECT pg_advisory_xact_lock(hashtext('mestore.audit.sequencer'))"
_END = """
INSERT INTO audit_ended_log (epoch, size, frontier, root, sequenced_at, published_at, reason, approved_by)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""
_NEXT = """
UPDATE audit_tree SET epoch = epoch + 1, size = 0, frontier = '', sequenced_at = NULL, published_at = NULL
WHERE epoch = %s
"""
_PLACE = """
WITH waiting AS (DELETE FROM audit_pending WHERE id = %(id)s RETURNING id, occurred_at)
INSERT INTO audit_leaf (epoch, leaf_index, event_id, occurred_at)
SELECT %(epoch)s, 0, id, occurred_at FROM waiting
"""


class NotApproved(ValueError):
    """The reason or the two people are missing, or the last known checkpoint is none of this log."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The log that ended, and the one that began."""

    old_epoch: int
    old_size: int
    old_root: bytes
    epoch: int
    key: str


def begin_new_log(*, reason: str, approved_by: Sequence[str], last_known: str = "", by: Actor) -> Begun:
    """End the log as it stands, begin the next one, and sign it.

    `last_known` is the newest checkpoint of the old log that anybody has (a witness, an anchor): what it
    says goes into the first leaf, so that everybody knows how much was lost. Raises NotApproved, LogDamaged,
    django.db.Error.
    """
    reason, people = _checked(reason, approved_by)
    with transaction.atomic(using=OWNER):
        sql.fetch_one(_LOCK, using=OWNER)
        old = log.state(lock=True, using=OWNER)
        root = old.frontier.root()
        data = {
            "old_size": old.size, "old_root": root.hex(), "reason": reason, "approved_by": people,
            **_known(last_known, old),
        }  # fmt: skip
        sql.execute(
            _END,
            (
                old.epoch, old.size, old.frontier.dump(), root, old.sequenced_at, old.published_at,
                reason, people,
            ),
            using=OWNER,
        )  # fmt: skip
        if sql.execute(_NEXT, (old.epoch,), using=OWNER) != 1:
            raise log.LogDamaged("another log began meanwhile")
        target = ("audit_log", checkpoints.origin(old.epoch + 1))
        _first_leaf(audit.Entry(events.AUDIT_LOG_BEGUN, by=by, target=target, data=data), old.epoch + 1)
    logger.critical("audit_log_begun", epoch=old.epoch + 1, old_size=old.size)
    sequencer.drain()
    return Begun(old.epoch, old.size, root, old.epoch + 1, str(checkpoints.verifier(old.epoch + 1)))


def _first_leaf(entry: audit.Entry, epoch: int) -> None:
    """Put one event at the beginning of the new log, before everything that waits."""
    event_id, leaf = audit.record_through(OWNER, entry)
    if sql.execute(_PLACE, {"id": event_id, "epoch": epoch}, using=OWNER) != 1:
        raise log.LogDamaged("the first event of the new log is gone")
    log.append(log.state(lock=True, using=OWNER), [leaf], using=OWNER)


def _checked(reason: str, approved_by: Sequence[str]) -> tuple[str, list[str]]:
    reason, people = reason.strip(), [name.strip() for name in approved_by]
    if not SHORTEST_REASON <= len(reason) <= LONGEST_TEXT:
        raise NotApproved("say in a sentence why a new log must begin")
    different = {unicodedata.normalize("NFKC", name).casefold() for name in people}
    if len(people) != 2 or len(different) != 2 or not all(0 < len(name) <= LONGEST_TEXT for name in people):
        raise NotApproved("two different people approve this")
    return reason, people


def _known(note: str, old: log.State) -> dict[str, object]:
    """Return what the last known checkpoint says, once its signature was checked."""
    if not note:
        return {}
    try:
        said = notes.checkpoint_of(note, log=checkpoints.verifier(old.epoch))
    except notes.NoteError as error:
        raise NotApproved("the last known checkpoint is not signed by this log") from error
    return {"known_size": said.size, "known_root": said.root.hex()}
