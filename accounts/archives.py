"""The archive of a person's own data: made by the worker, kept sealed for a week, handed to the person alone.

A ZIP file: a JSON file for each section that an app registered (`mestore/lib/own_data.py`), and an index. It
is written as it is made, in parts of a fixed size, each sealed in a row of its own: memory is bounded
whatever the account has done. All of it is one transaction that holds the request's row. A worker that dies
leaves nothing behind, and the next one begins again.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from procrastinate.contrib.django import app

from accounts.models import ArchivePart, DataRequest, User
from mestore.lib import errors, own_data
from mestore.lib.actor import Actor
from mestore.lib.http import dumps
from monitoring import audit, delivery, events

JOB: Final = "accounts.build_archive"
KEPT: Final = dt.timedelta(days=7)
DOWNLOADS: Final = 10
"""How often one archive may be downloaded: each time is a copy of a whole person."""
PART_BYTES: Final = 196_608
FORMAT: Final = 1
State = DataRequest.State

log = structlog.get_logger("mestore.own_data")


class NoArchive(errors.NotFound):
    message = _("There is no such archive.")


class NotReady(errors.Conflict):
    code = "ARCHIVE_NOT_READY"
    message = _("The archive is not ready. You get a message when it is.")


class ArchiveOver(errors.Conflict):
    """A week has passed, or it was downloaded too often."""

    code = "ARCHIVE_OVER"
    message = _("The archive is not kept any more. You may ask for a new one.")


class ArchiveDamaged(errors.InternalError):
    """A part is missing or does not open."""


@dataclass(frozen=True, slots=True)
class Download:
    """An archive on its way: its name, its size, and its bytes, a part at a time."""

    name: str
    size: int
    content: Iterator[bytes]


def order(request: DataRequest) -> None:
    """Have the archive of an approved request made, once the caller's transaction is committed."""
    app.configure_task(JOB).defer(request_id=str(request.pk))


def build(request_id: UUID, *, by: Actor) -> bool:
    """Make the archive of a request that waits for it; return whether this call did.

    A request that somebody else works on, or that does not wait, is left alone. One whose account is gone or
    deleted ends here.
    """
    with transaction.atomic():
        waiting = DataRequest.objects.select_for_update(skip_locked=True, no_key=True)
        request = waiting.filter(pk=request_id, state=State.BUILDING).first()
        if request is None:
            return False
        user = User.objects.filter(pk=request.person_id, deleted_at=None).first()
        if user is None:
            _give_up(request, by)
            return False
        # Of an earlier attempt nothing can be there; should somebody have put parts there, they go.
        ArchivePart.objects.filter(request=request).delete()
        sink = _write(request)
        now = timezone.now()
        request.move(
            earlier=State.BUILDING, state=State.READY, ready_at=now, expires_at=now + KEPT,
            archive_bytes=sink.size, archive_parts=sink.parts, archive_sha256=sink.digest.hexdigest(),
        )  # fmt: skip
        _record(events.DATA_ARCHIVE_MADE, request, by, data={"bytes": sink.size, "parts": sink.parts})
        context = {"until": timezone.localtime(now + KEPT).date().isoformat()}
        delivery.notify(user, "data_archive_ready", context, by=by)
    return True


def build_waiting(limit: int, *, by: Actor) -> int:
    """Make up to `limit` archives whose job was lost with its worker, oldest first; return how many."""
    waiting = DataRequest.objects.filter(state=State.BUILDING).order_by("id")
    made = 0
    for request_id in list(waiting.values_list("pk", flat=True)[:limit]):
        try:
            made += build(request_id, by=by)
        except Exception:  # one archive that cannot be made must not keep everybody else's waiting
            log.exception("archive_not_made", request=str(request_id))
    return made


def download(request: DataRequest, *, by: Actor) -> Download:
    """Hand out the archive of a request, and record it. That `by` is its person is the caller's check.

    The first part is read before this returns. Raise NoArchive, NotReady, ArchiveOver, ArchiveDamaged.
    """
    if request.kind != DataRequest.Kind.EXPORT:
        raise NoArchive
    if request.state in {State.WAITING, State.BUILDING}:
        raise NotReady
    if request.state != State.READY or request.archive_parts is None or request.archive_bytes is None:
        raise NoArchive if request.state != State.DONE else ArchiveOver
    with transaction.atomic():
        alive = DataRequest.objects.filter(
            pk=request.pk, state=State.READY, expires_at__gt=timezone.now(), downloads__lt=DOWNLOADS
        )
        if alive.update(downloads=F("downloads") + 1) != 1:
            raise ArchiveOver
        first = _part(request, 0)
        _record(events.DATA_ARCHIVE_DOWNLOADED, request, by, data={"sha256": request.archive_sha256})
    name = f"mestore-my-data-{request.asked_at:%Y-%m-%d}.zip"
    return Download(name, request.archive_bytes, _content(request, first, request.archive_parts))


def purge(limit: int, *, by: Actor) -> int:
    """Delete up to `limit` archives whose time is over; return how many."""
    over = DataRequest.objects.filter(state=State.READY, expires_at__lte=timezone.now()).order_by("id")
    gone = 0
    for request in over[:limit]:
        with transaction.atomic():
            if request.move(earlier=State.READY, state=State.DONE, ended_at=timezone.now()):
                ArchivePart.objects.filter(request=request).delete()
                _record(events.DATA_ARCHIVE_PURGED, request, by, data={"downloads": request.downloads})
                gone += 1
    return gone


class _Sink:
    """Where the ZIP file is written: it only grows, and leaves in parts of PART_BYTES, the last shorter."""

    def __init__(self, request: DataRequest) -> None:
        self._request = request
        self._rest = bytearray()
        self.parts = self.size = 0
        self.digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._rest += piece
        while len(self._rest) >= PART_BYTES:
            self._put(bytes(self._rest[:PART_BYTES]))
            del self._rest[:PART_BYTES]
        return len(piece)

    def flush(self) -> None:
        """Nothing waits for a full part but the end."""

    def finish(self) -> None:
        if self._rest:
            self._put(bytes(self._rest))
            self._rest.clear()

    def _put(self, part: bytes) -> None:
        text = base64.b64encode(part).decode("ascii")
        ArchivePart(request=self._request, number=self.parts, content=text).save(force_insert=True)
        self.digest.update(part)
        self.parts += 1
        self.size += len(part)


def _write(request: DataRequest) -> _Sink:
    sink = _Sink(request)
    # A sink that cannot go back: zipfile writes sizes behind each file instead of before it.
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[call-overload] # asks for less
        files = [_write_section(archive, section, request.person_id) for section in own_data.sections()]
        index = {"format": FORMAT, "account": request.person_id, "made_at": timezone.now(), "files": files}
        archive.writestr("index.json", dumps(index))
    sink.finish()
    return sink


def _write_section(
    archive: zipfile.ZipFile, section: own_data.Section, person_id: UUID
) -> dict[str, str | int]:
    name, rows, digest = f"{section.name}.json", 0, hashlib.sha256()
    with archive.open(name, "w", force_zip64=True) as file:

        def put(piece: bytes) -> None:
            digest.update(piece)
            file.write(piece)

        put(b"[")
        for row in section.rows(person_id):
            put((b",\n" if rows else b"\n") + dumps(row))
            rows += 1
        put(b"\n]\n")
    return {"file": name, "about": section.about, "rows": rows, "sha256": digest.hexdigest()}


def _content(request: DataRequest, first: bytes, parts: int) -> Iterator[bytes]:
    yield first
    for number in range(1, parts):
        yield _part(request, number)


def _part(request: DataRequest, number: int) -> bytes:
    found = ArchivePart.objects.filter(request=request, number=number).first()
    if found is None or found.content is None:
        raise ArchiveDamaged
    return base64.b64decode(found.content)


def _give_up(request: DataRequest, by: Actor) -> None:
    request.move(earlier=State.BUILDING, state=State.CANCELLED, ended_at=timezone.now())
    _record(events.DATA_REQUEST_CANCELLED, request, by, data={"why": "account_gone"})


def _record(event: str, request: DataRequest, by: Actor, *, data: dict[str, Any]) -> None:
    audit.record(
        event, by=by, target=("user", str(request.person_id)), subject=str(request.person_id),
        data={"request": str(request.pk), "kind": request.kind, **data},
    )  # fmt: skip
