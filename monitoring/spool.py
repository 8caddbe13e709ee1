"""Refused sign-ins at the public entrance, kept on this machine's disk while the trail does not take them.

Only when the table of the trail refuses a row while the database itself answers (a partition that nobody
made, a full tablespace, a right that was taken away), and only for the events named in `MAY_WAIT`: a wrong
password of a buyer or a vendor is still answered as one, and is not lost. Everything else is refused (503)
until the trail works: what changes something, what staff do, and a sign-in that succeeds, since a session
begins in one transaction with its events.

One event is one file: made beside, on the disk with its folder before anybody is answered, readable by this
user only, its personal values sealed, under a MAC. At most `MOST` of them; then it is 503 as well. The worker
of the same machine writes them to the trail (`audit.replay_spool`); each keeps the id it got at first, so
that a second time changes nothing.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import structlog
from django.conf import settings

from mestore.lib import crypto
from monitoring import events

MAY_WAIT: Final = frozenset({events.SIGN_IN_FAILED, events.SIGN_IN_REFUSED})
MOST: Final = 10_000
LARGEST: Final = 262_144
MAC_PURPOSE: Final = "audit-spool"

log = structlog.get_logger("mestore.audit")

Row = tuple[Any, ...]


class Full(OSError):
    """There is no spool, or no more room in it."""


def keep(row: Row) -> None:
    """Put one prepared event onto the disk. Raises OSError (`Full` too), ValueError for other events."""
    if row[2] not in MAY_WAIT:
        raise ValueError("this event is not one that may wait outside of the trail")
    folder = _folder()
    if folder is None or sum(1 for _ in folder.glob("*.event")) >= MOST:
        raise Full
    body = json.dumps([_written(value) for value in row]).encode()
    tag = crypto.mac(body, purpose=MAC_PURPOSE).hex().encode()
    beside = folder / f"{secrets.token_hex(16)}.new"
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(tag + b"\n" + body)
        out.flush()
        os.fsync(out.fileno())
    beside.replace(folder / f"{row[0]}.event")
    _sync(folder)


def waiting() -> int:
    """Return how many events of this machine wait, those that nobody can read among them."""
    folder = _folder(make=False)
    return 0 if folder is None else sum(1 for file in folder.iterdir() if file.suffix in {".event", ".wrong"})


def every() -> Iterator[tuple[Path, Row]]:
    """Yield what waits, oldest first. A file that is not ours is put aside, under a name that says so."""
    folder = _folder(make=False)
    for file in sorted(folder.glob("*.event")) if folder is not None else ():
        try:
            yield file, _read(file)
        except FileNotFoundError:
            continue  # another worker was faster
        except (ValueError, OSError) as error:
            log.critical("audit_spool_damaged", file=file.name, error=type(error).__name__)
            file.rename(file.with_suffix(".wrong"))


def forget(file: Path) -> None:
    """Take away an event that the trail has."""
    file.unlink(missing_ok=True)
    _sync(file.parent)


def _folder(*, make: bool = True) -> Path | None:
    if not settings.AUDIT_SPOOL:
        return None
    folder = Path(settings.AUDIT_SPOOL)
    if make:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder if folder.is_dir() else None


def _sync(folder: Path) -> None:
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _read(file: Path) -> Row:
    with file.open("rb") as opened:
        content = opened.read(LARGEST + 1)
    tag, _newline, body = content.partition(b"\n")
    if len(content) > LARGEST or not crypto.verify_mac(body, _unhex(tag), purpose=MAC_PURPOSE):
        raise ValueError("not written by this service")
    return tuple(_meant(value) for value in json.loads(body))


def _unhex(text: bytes) -> bytes:
    try:
        return binascii.unhexlify(text)
    except binascii.Error:
        return b""


def _written(value: Any) -> Any:
    """Return a value of a row as JSON can carry it: what is no text says what it is."""
    if isinstance(value, UUID):
        return {"uuid": str(value)}
    if isinstance(value, dt.datetime):
        return {"moment": value.isoformat()}
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode("ascii")}
    return value


def _meant(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, text),) = value.items()
    if kind == "uuid":
        return UUID(text)
    if kind == "moment":
        return dt.datetime.fromisoformat(text)
    return base64.b64decode(text, validate=True)
