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

_EVENT = """
SELECT l.epoch, l.leaf_index, e.canon
FROM audit_event e LEFT JOIN audit_leaf l ON l.event_id = e.id WHERE e.id = %s
"""


class NoSuchEvent(errors.NotFound):
    message = _("There is no such event.")


class NotSealedYet(errors.Conflict):
    """The event is recorded; its place in the log is not signed yet. A few seconds later it is."""

    code = "NOT_SEALED_YET"
    message = _("This event is not sealed in the signed log yet. Try again in a few seconds.")

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "5"})


class NoSuchSizes(errors.Unprocessable):
    message = _("The log never had these sizes in this order.")


def of_event(event_id: UUID) -> Proof:
    """Return the proof that an event is in the log. Raises NoSuchEvent, NotSealedYet, log.LogDamaged."""
    row = sql.fetch_one(_EVENT, (event_id,))
    if row is None:
        raise NoSuchEvent
    epoch, leaf_index, canon = row
    checkpoint = checkpoints.covering(int(leaf_index), epoch) if leaf_index is not None else None
    if checkpoint is None:
        raise NotSealedYet
    canon, index = bytes(canon), int(leaf_index)
    try:
        path = merkle.inclusion_proof(index, checkpoint.size, merkle.from_tiles(log.tiles(epoch)))
        merkle.verify_inclusion(merkle.leaf_hash(canon), index, checkpoint.size, path, checkpoint.root)
    except merkle.ProofError as error:
        raise log.LogDamaged("the log does not prove an event that it holds") from error
    return Proof(index, tuple(path), checkpoint.note, extra=canon)


def consistency(old: int, new: int) -> list[str]:
    """Return, in base64, the proof that the log of `new` leaves begins with that of `old`.

    Raises NoSuchSizes, log.LogDamaged.
    """
    if not 0 < old <= new <= log.state().size:
        raise NoSuchSizes
    try:
        path = merkle.consistency_proof(old, new, merkle.from_tiles(log.tile_row))
    except merkle.ProofError as error:
        raise log.LogDamaged("the log's tiles are cut") from error
    return [base64.b64encode(part).decode("ascii") for part in path]
