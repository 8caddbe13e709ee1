"""A trail with months that are due, and the steps of giving one up: for the tests of retirement."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from django.core.management import CommandError, call_command
from django.db import transaction

from accounts import approvals
from accounts.models import User
from mestore.lib import actor, sql
from mestore.lib.actor import Actor
from monitoring import archives, archiving, audit, events, retirement, sequencer
from tests.factories.accounts import SuperuserFactory
from tests.monitoring import months
from tests.monitoring.people import EMAIL, person

BY = actor.system("test")
OLD, NEXT, YOUNG = months.first_day(26), months.first_day(25), months.first_day(24)
WHY = "Past the time for which it is held."


@dataclass(frozen=True)
class Trail:
    """A trail with two months that are due. `old` are the events of the older one, `next` is the other's."""

    old: list[UUID]
    next: UUID
    late: UUID
    captured: UUID
    asker: User
    second: User
    folder: Path
    dsn: str


@contextmanager
def past(owner_dsn: str, tmp_path: Path, settings: Any) -> Iterator[Trail]:
    """A database with two years and more behind it; the folder of archives is named in the settings."""
    settings.AUDIT_ARCHIVE_DIR, settings.AUDIT_MONTHS = str(tmp_path / "archive"), 24
    with months.of_the_past(owner_dsn, 27):
        ana = person(id="u-ana")
        with transaction.atomic():
            old = [months.record(signed_out(ana, n), months.moment(OLD, n)) for n in range(5)]
            following = months.record(signed_out(ana), months.moment(NEXT))
            old += [months.record(signed_out(BY, n), months.moment(OLD, 60 + n)) for n in range(3)]
        captured = months.capture(owner_dsn, months.moment(OLD, 90), subject="u-ana", value=EMAIL)
        sequencer.drain()
        asker, second = SuperuserFactory.create(), SuperuserFactory.create()
        with transaction.atomic():
            # As a spool that was replayed late: an event of then, with a place of today.
            late = months.record(signed_out(BY), months.moment(OLD, 120))
        sequencer.drain()
        with transaction.atomic():
            audit.record_many([signed_out(BY, n) for n in range(300)])
        sequencer.drain()
        folder = tmp_path / "archive"
        yield Trail([*old, captured, late], following, late, captured, asker, second, folder, owner_dsn)


def signed_out(by: Actor, n: int = 0) -> audit.Entry:
    return audit.Entry(events.SIGNED_OUT, by=by, target=("session", "s"), data={"n": n})


def run(command: str, *arguments: str) -> tuple[int, Any]:
    """Exit code and what was printed, as JSON where it is some."""
    out = io.StringIO()
    code = 0
    try:
        call_command(command, *arguments, stdout=out, stderr=io.StringIO())
    except CommandError as error:
        code = error.returncode
        out.write("" if out.getvalue() else str(error))
    text = out.getvalue()
    return code, json.loads(text) if text.startswith("{") else text


def retire(trail: Trail, month: dt.date = OLD, *more: str) -> tuple[int, Any]:
    name = archives.named(month)
    return run("audit_retire", name, "--by", str(trail.asker.pk), "--reason", WHY, "--json", *more)


def verified(*arguments: str) -> tuple[int, list[tuple[str, int | None]], list[str]]:
    code, said = run("audit_verify", *(arguments or ("--full",)), "--json")
    one = said["logs"][-1]
    return (
        code,
        [(fault["what"], fault["leaf"]) for fault in one["faults"]],
        [n["what"] for n in one["notes"]],
    )


def approve(trail: Trail) -> None:
    (waiting,) = approvals.waiting_for(trail.second)
    approvals.approve(waiting.pk, by=Actor(kind="user", id=str(trail.second.pk)))


def gone(trail: Trail, month: dt.date = OLD) -> None:
    """The whole way."""
    code, said = retire(trail, month)
    assert code == 3, said
    approve(trail)
    code, said = retire(trail, month)
    assert code == 0, said


def decide(trail: Trail) -> None:
    """As far as the decision; its event waits for its leaf."""
    retire(trail)
    approve(trail)
    by = Actor(kind="user", id=str(trail.asker.pk))
    retirement.decide(archive_of(), trail.folder, reason=WHY, by=by)


def is_there(trail: Trail, month: dt.date = OLD) -> bool:
    with psycopg.connect(trail.dsn) as connection:
        return months.partition(month) in months.partitions(connection)


def leaf_of(event_id: UUID) -> int:
    return int(sql.fetch_all("SELECT leaf_index FROM audit_leaf WHERE event_id = %s", (event_id,))[0][0])


def archive_of(month: dt.date = OLD) -> archiving.Archived:
    found = retirement.find(month).archived
    assert found is not None
    return found


def lines_of(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
        return file.readlines()
