"""Evidence that leaves the house: the proof of one event, and a pack that an auditor can check alone.

The pack is a ZIP with the newest checkpoint and what witnesses signed under it, the proof that the log only
grew between two sizes, proofs of chosen events, the public keys, the offline verifier and how to use it. No
personal value is in it: events carry commitments.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext_lazy as _

from mestore.lib import errors
from mestore.lib.actor import Actor
from monitoring import audit, checkpoints, cosigning, events, log, proofs
from monitoring.checkpoints import Signed

MOST_EVENTS: Final = 100
IN_MEMORY: Final = 1_000_000  # bytes; a larger pack waits in a file that has no name
VERIFIER: Final = Path("docs/verify_proof.py")
NAME: Final = "mestore-evidence.zip"


class NothingSigned(errors.Conflict):
    message = _("Nothing is signed yet: there is no evidence to take.")


class TooManyEvents(errors.Unprocessable):
    message = _("At most 100 events at once.")


@dataclass(frozen=True, slots=True)
class Pack:
    """What was asked for."""

    event_ids: Sequence[UUID] = ()
    old_size: int | None = None
    new_size: int | None = None


def proof_text(event_id: UUID) -> str:
    """Return the tlog-proof of an event, under a checkpoint that a witness cosigned where there is one.

    Raises proofs.NoSuchEvent, proofs.NotSealedYet, log.LogDamaged.
    """
    try:
        return proofs.of_event(event_id, cosigned=True).text()
    except proofs.NotCosignedYet:
        return proofs.of_event(event_id).text()


def make(pack: Pack, *, reason: str, by: Actor) -> IO[bytes]:
    """Return the ZIP, at its beginning, and record that it was made, in one transaction.

    Raises NothingSigned, TooManyEvents, proofs.NoSuchEvent, proofs.NotSealedYet, proofs.NoSuchSizes.
    """
    if len(pack.event_ids) > MOST_EVENTS:
        raise TooManyEvents
    with transaction.atomic():
        newest = checkpoints.last()
        if newest is None:
            raise NothingSigned
        made: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - the answer closes it
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in _files(pack, newest):
                archive.writestr(name, text)
        audit.record(
            events.AUDIT_EVIDENCE_MADE,
            by=by,
            target=("audit_log", checkpoints.origin(log.state().epoch)),
            data={
                "reason": reason, "size": newest.size, "events": [str(one) for one in pack.event_ids],
                "old_size": pack.old_size, "new_size": pack.new_size,
            },
        )  # fmt: skip
    made.seek(0)
    return made


def _files(pack: Pack, newest: Signed) -> Iterable[tuple[str, str]]:
    yield "checkpoint.txt", cosigning.with_cosignatures(newest)
    yield "keys.txt", _keys()
    yield "verify_proof.py", (Path(settings.BASE_DIR) / VERIFIER).read_text(encoding="utf-8")
    if pack.old_size is not None:
        yield "consistency.txt", _consistency(pack.old_size, pack.new_size or newest.size)
    for event_id in dict.fromkeys(pack.event_ids):
        yield f"proofs/{event_id}.tlog-proof", proof_text(event_id)
    yield "README.en.txt", README_EN
    yield "LEAME.es.txt", README_ES


def _keys() -> str:
    """The key of the log, of those that ended before it, and of its witnesses, one per line."""
    lines = [f"log {checkpoints.verifier(epoch)}" for epoch in range(log.state().epoch, 0, -1)]
    lines += [f"witness {one.key}" for one in cosigning.configured()]
    return "".join(f"{line}\n" for line in lines)


def _consistency(old: int, new: int) -> str:
    """Both sizes, and the hashes of the proof in base64: `verify_proof.py --old` reads it."""
    return "".join(f"{line}\n" for line in [f"old {old}", f"new {new}", "", *proofs.consistency(old, new)])


README_EN: Final = """MeStore: evidence from the audit log

checkpoint.txt     size and root of the log, signed by it, and by every witness that saw it
keys.txt           public keys as this server states them: compare them with those you were given before
consistency.txt    (if asked for) the RFC 9162 proof that the log only grew between two sizes
proofs/            one C2SP tlog-proof per event, with the event's own bytes inside
verify_proof.py    checks a proof with Python 3.9 or newer and nothing else

    python3 verify_proof.py proofs/EVENT.tlog-proof --key 'LOG KEY' --witness 'WITNESS KEY'
    python3 verify_proof.py consistency.txt --key 'LOG KEY' --old KEPT-BEFORE.txt --new checkpoint.txt

Exit code 0: proved. 1: not proved. A proof counts for as much as the way the key came to you: take the key
from somebody you trust, not from this file. Personal values are not in the events, only commitments to them.
"""
README_ES: Final = """MeStore: evidencia del registro de auditoría

checkpoint.txt     tamaño y raíz del registro, firmados por él y por cada testigo que lo vio
keys.txt           claves públicas según este servidor: compárelas con las que recibió antes
consistency.txt    (si se pidió) la prueba RFC 9162 de que el registro solo creció entre dos tamaños
proofs/            una prueba C2SP tlog-proof por evento, con los bytes del propio evento
verify_proof.py    comprueba una prueba con Python 3.9 o posterior y nada más

    python3 verify_proof.py proofs/EVENTO.tlog-proof --key 'CLAVE DEL REGISTRO' --witness 'CLAVE DEL TESTIGO'
    python3 verify_proof.py consistency.txt --key 'CLAVE DEL REGISTRO' --old GUARDADO.txt --new checkpoint.txt

Código de salida 0: probado. 1: no probado. Una prueba vale tanto como el camino por el que recibió la clave:
tómela de alguien de confianza, no de este archivo. Los eventos no llevan datos personales, solo compromisos.
"""
