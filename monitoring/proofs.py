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
from monitoring import checkpoints, log
from monitoring.checkpoints import Signed

_EVENT = """
SELECT l.epoch, l.leaf_index, e.canon
FROM audit_event e LEFT JOIN audit_leaf l ON l.event_id = e.id WHERE e.id = %s
"""

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


class NoSuchSizes(errors.Unprocessable):
    message = _("The log never had these sizes in this order.")


def of_event(event_id: UUID, *, cosigned: bool = False) -> Proof:
    """Return the proof that an event is in the log, with the lines of witnesses on its checkpoint.

    With `cosigned` at least one witness has signed it. Raises NoSuchEvent, NotSealedYet, NotCosignedYet,
    log.LogDamaged.
    """
    row = sql.fetch_one(_EVENT, (event_id,))
    if row is None:
        raise NoSuchEvent
    epoch, leaf_index, canon = row
    if leaf_index is None:
        raise NotSealedYet
    checkpoint = _checkpoint(int(epoch), int(leaf_index), cosigned=cosigned)
    canon, index = bytes(canon), int(leaf_index)
    try:
        path = merkle.inclusion_proof(index, checkpoint.size, merkle.from_tiles(log.tiles(epoch)))
        merkle.verify_inclusion(merkle.leaf_hash(canon), index, checkpoint.size, path, checkpoint.root)
    except merkle.ProofError as error:
        raise log.LogDamaged("the log does not prove an event that it holds") from error
    lines = sql.fetch_all(_LINES, (epoch, checkpoint.size))
    return Proof(index, tuple(path), checkpoint.note + "".join(str(line) for (line,) in lines), extra=canon)


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
