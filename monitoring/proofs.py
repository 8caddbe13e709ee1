"""Proofs that leave the house: that an event is in the log, and that one log begins with another.

An inclusion proof is one text (C2SP tlog-proof) with everything in it: the event's canonical bytes as its
extra data, its place, the path, the signed checkpoint. Whoever pins the log's public key needs nothing else.
"""

from __future__ import annotations

import base64
from uuid import UUID

from django.utils.translation import gettext_lazy as _

from mestore.lib import errors, merkle, sql
from mestore.lib.notes import Proof
from monitoring import checkpoints, log, retired
from monitoring.checkpoints import Signed

_EVENT = """
SELECT l.epoch, l.leaf_index, e.canon
FROM audit_event e LEFT JOIN audit_leaf l ON l.event_id = e.id WHERE e.id = %s
"""
_PLACE = "SELECT epoch, leaf_index FROM audit_leaf WHERE event_id = %s"
_AT = """
SELECT event_id FROM audit_leaf
WHERE epoch = coalesce(%s, (SELECT epoch FROM audit_tree)) AND leaf_index = %s
"""
# Not every checkpoint is shown to a witness: the smallest that one has cosigned.
_COSIGNED = """
SELECT c.size, c.root, c.note, c.signed_at FROM audit_checkpoint c
WHERE c.epoch = %(epoch)s AND c.size > %(leaf)s
  AND EXISTS (SELECT FROM audit_cosignature s WHERE s.epoch = c.epoch AND s.size = c.size)
ORDER BY c.size LIMIT 1
"""
_LINES = "SELECT line FROM audit_cosignature WHERE epoch = %s AND size = %s ORDER BY witness"


class NoSuchEvent(errors.NotFound):
    message = _("There is no such event.")


class NotSealedYet(errors.Conflict):
    """The event is recorded; its place in the log is not signed yet. A few seconds later it is."""

    code = "NOT_SEALED_YET"
    message = _("This event is not sealed in the signed log yet. Try again in a few seconds.")

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "5"})


class NotCosignedYet(errors.Conflict):
    """The event is in the signed log; no witness has cosigned a checkpoint that counts it."""

    code = "NOT_COSIGNED_YET"
    message = _("No witness has cosigned this event's place in the log yet.")


class EventArchived(errors.NotFound):
    """The event went with its month; `audit_proof --archive` proves it from the archive's file."""

    message = _("This event is in the archive of its month: its proof is made from there.")


class NoSuchSizes(errors.Unprocessable):
    message = _("The log never had these sizes in this order.")


def of_event(event_id: UUID, *, cosigned: bool = False) -> Proof:
    """Return the proof that an event is in the log, with the lines of witnesses on its checkpoint.

    With `cosigned` at least one witness has signed it. Raises NoSuchEvent, EventArchived, NotSealedYet,
    NotCosignedYet, log.LogDamaged.
    """
    row = sql.fetch_one(_EVENT, (event_id,))
    if row is None:
        epoch, leaf_index = sql.fetch_one(_PLACE, (event_id,)) or (0, 0)
        raise EventArchived if epoch and retired.load().holds(epoch, leaf_index) else NoSuchEvent
    epoch, leaf_index, canon = row
    if leaf_index is None:
        raise NotSealedYet
    return of_bytes(bytes(canon), int(leaf_index), int(epoch), cosigned=cosigned)


def of_bytes(canon: bytes, leaf_index: int, epoch: int, *, cosigned: bool = False) -> Proof:
    """Return the proof that an event's bytes are a leaf of a log: tiles stay when the event's month is gone.

    Raises NotSealedYet, NotCosignedYet, log.LogDamaged when the bytes are not what the log says.
    """
    checkpoint = _checkpoint(epoch, leaf_index, cosigned=cosigned)
    try:
        path = merkle.inclusion_proof(leaf_index, checkpoint.size, merkle.from_tiles(log.tiles(epoch)))
        leaf = merkle.leaf_hash(canon)
        merkle.verify_inclusion(leaf, leaf_index, checkpoint.size, path, checkpoint.root)
    except merkle.ProofError as error:
        raise log.LogDamaged("the log does not prove an event that it holds") from error
    return Proof(leaf_index, tuple(path), _with_lines(epoch, checkpoint), extra=canon)


def checkpoint_over(epoch: int, leaf_index: int) -> str:
    """Return a checkpoint that counts a leaf, with the lines of witnesses if one has cosigned such a one.

    Raises NotSealedYet.
    """
    try:
        found = _checkpoint(epoch, leaf_index, cosigned=True)
    except NotCosignedYet:
        found = _checkpoint(epoch, leaf_index, cosigned=False)
    return _with_lines(epoch, found)


def event_at(leaf_index: int, epoch: int | None = None) -> UUID:
    """Return which event a leaf of a log (the current one) is. Raises NoSuchEvent."""
    row = sql.fetch_one(_AT, (epoch, leaf_index))
    if row is None:
        raise NoSuchEvent
    found: UUID = row[0]
    return found


def consistency(old: int, new: int, epoch: int | None = None) -> list[str]:
    """Return, in base64, the proof that a log (the current one) of `new` leaves begins with that of `old`.

    Raises NoSuchSizes, log.LogDamaged.
    """
    now = log.state() if epoch is None else log.state_of(epoch)
    if not 0 < old <= new <= now.size:
        raise NoSuchSizes
    try:
        path = merkle.consistency_proof(old, new, merkle.from_tiles(log.tiles(now.epoch)))
    except merkle.ProofError as error:
        raise log.LogDamaged("the log's tiles are cut") from error
    return [base64.b64encode(part).decode("ascii") for part in path]


def _with_lines(epoch: int, found: Signed) -> str:
    return found.note + "".join(str(line) for (line,) in sql.fetch_all(_LINES, (epoch, found.size)))


def _checkpoint(epoch: int, leaf_index: int, *, cosigned: bool) -> Signed:
    if not cosigned:
        found = checkpoints.covering(leaf_index, epoch)
        if found is None:
            raise NotSealedYet
        return found
    row = sql.fetch_one(_COSIGNED, {"epoch": epoch, "leaf": leaf_index})
    if row is None:
        raise NotCosignedYet
    size, root, note, signed_at = row
    return Signed(int(size), bytes(root), str(note), signed_at)
