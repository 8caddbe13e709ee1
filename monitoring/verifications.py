"""Runs of the verifier: what is checked, by how many processes, how far it came, what it found, who is told.

Three kinds. The *tail* is what came since the last good run; a worker does it every minute. A *range* is what
somebody asks for. *Full* is every leaf of every log, events without a leaf, guards and all; a worker does it
every night. Progress stands in a table: a full run that was stopped is taken up where it was.

What was found is said in five ways, none of which depends on another: to the caller, in the table, in the
log, as an event and as a critical signal.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

import structlog
from django.db import DatabaseError, InterfaceError
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from mestore.lib import errors, ids, merkle, processes, sql
from mestore.lib.actor import Actor
from mestore.lib.notes import Verifier
from monitoring import (
    alerts,
    audit,
    checkpoints,
    events,
    log,
    verification,
    verified_archives,
    verified_rows,
    verified_trail,
)
from monitoring.log import LogDamaged, State
from monitoring.verification import RANGE, Fault, Findings, Span

FAILED: Final = alerts.declare(
    alerts.Rule(
        "audit.verify_failed",
        _("Verifying the audit log found something that is not as it was signed"),
        alerts.Severity.CRITICAL,
        "audit-verify-failed",
    )
)
MOST_AT_ONCE: Final = 16 * RANGE
"""How many leaves a scheduled tail checks: what is left waits for the next minute."""
OVERLAP: Final = dt.timedelta(minutes=10)
LOOK_AGAIN_SECONDS: Final = 1.0

Progress = Callable[[int, int, float], None]
"""`progress(leaves checked, of how many, leaves in a second)`."""

logger = structlog.get_logger("mestore.audit")

_BEGIN = """
INSERT INTO audit_verification (id, mode, epoch, first_leaf, upto, size, actor)
VALUES (%s, %s, %s, %s, %s, %s, %s)
"""
# Where it stood is part of the condition: one process gets on with a run, not two.
_ADVANCE = """
UPDATE audit_verification SET upto = %s, faults = %s, notes = %s, moved_at = now()
WHERE id = %s AND upto = %s AND finished_at IS NULL
"""
_FINISH = """
UPDATE audit_verification
SET upto = %s, faults = %s, notes = %s, rows_per_second = %s, moved_at = now(), finished_at = now()
WHERE id = %s AND upto = %s AND finished_at IS NULL
"""
_UNFINISHED = """
SELECT id, first_leaf, upto, size, faults, notes FROM audit_verification
WHERE epoch = %s AND mode = 'full' AND finished_at IS NULL ORDER BY started_at DESC LIMIT 1
"""
_GOOD_UNTIL = """
SELECT upto, started_at FROM audit_verification
WHERE epoch = %s AND finished_at IS NOT NULL AND faults = '[]' AND (mode = 'tail' OR mode = 'full')
ORDER BY upto DESC, started_at DESC LIMIT 1
"""
_LATEST = """
SELECT id, mode, epoch, first_leaf, upto, size, started_at, finished_at, faults, notes, rows_per_second, actor
FROM audit_verification WHERE id = ANY(
    ARRAY(SELECT id FROM audit_verification WHERE %(mode)s::text IS NULL OR mode = %(mode)s
          ORDER BY started_at DESC LIMIT %(most)s)
    || ARRAY(SELECT id FROM audit_verification WHERE mode = 'full' ORDER BY started_at DESC LIMIT %(full)s))
ORDER BY started_at DESC
"""
_FORGET = """
DELETE FROM audit_verification
WHERE mode = 'tail' AND faults = '[]' AND moved_at < now() - interval '91 days'
"""


class Mode(StrEnum):
    TAIL = "tail"
    RANGE = "range"
    FULL = "full"


class TakenOver(RuntimeError):
    """Another process goes on with this run."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be checked, and how."""

    mode: Mode = Mode.TAIL
    begin: int = 0
    end: int | None = None
    jobs: int = 1
    stream: bool = False
    """Hash every event here, too, instead of believing the database's own function."""
    rows: bool = True
    """Compare columns, MACs and personal content: each row passes through this process."""
    key: Verifier | None = None
    kept: str = ""
    """A checkpoint that was kept elsewhere: the current log, or one that ended, must begin with it."""
    resume: bool = False
    most: int | None = None
    archive: Path | None = None
    """Where the archives of retired months are, to be read to their end; None: they are only noted."""
    is_scheduled: bool = False
    """A good tail that nobody asked for is no event: the log would feed itself, every minute."""


@dataclass(slots=True)
class Result:
    """One log, checked."""

    id: UUID
    mode: Mode
    epoch: int
    begin: int
    upto: int
    size: int
    found: Findings = field(default_factory=Findings)
    seconds: float = 0.0
    since: dt.datetime | None = None
    is_kept: bool = True
    """Whether the table could be written; what is found is told all the same."""

    @property
    def is_good(self) -> bool:
        return not self.found.faults

    @property
    def rate(self) -> int:
        """Leaves in a second."""
        return int((self.upto - self.begin) / self.seconds) if self.seconds > 0 else 0


class Run(NamedTuple):
    """A run as the table keeps it; faults and notes are mappings with `what`, `leaf`, `event`."""

    id: UUID
    mode: str
    epoch: int
    begin: int
    upto: int
    size: int
    started_at: dt.datetime
    finished_at: dt.datetime | None
    faults: list[dict[str, Any]]
    notes: list[dict[str, Any]]
    rows_per_second: int | None
    actor: str


def verify(plan: Plan, *, by: Actor, progress: Progress | None = None) -> list[Result]:
    """Do what `plan` says; return one result per log. What is found is recorded and signalled as well.

    Raises TakenOver, ValueError for a range that the log does not have, notes.NoteError for a kept checkpoint
    that is none, django.db.Error when it cannot run.
    """
    try:
        now = log.state()
        logs = [*log.ended(), now] if plan.mode is Mode.FULL else [now]
    except LogDamaged as error:
        result = Result(ids.uuid7(), plan.mode, 0, 0, 0, 0, is_kept=False)
        result.found.fault(str(error))
        _tell(result, plan, by)
        return [result]
    return [_verify_log(plan, state, by, progress, is_current=state.epoch == now.epoch) for state in logs]


def latest(mode: Mode | None = None, *, most: int = 20, full: int = 0) -> list[Run]:
    """Return the newest runs, and `full` of the newest full ones, newest first; one statement."""
    rows = sql.fetch_all(_LATEST, {"mode": mode, "most": most, "full": full})
    return [Run._make((*row[:8], _loaded(row[8]), _loaded(row[9]), *row[10:])) for row in rows]


def forget() -> int:
    """Delete tails that found nothing and are a quarter old; return how many."""
    return sql.execute(_FORGET)


def _verify_log(
    plan: Plan, state: State, by: Actor, progress: Progress | None, *, is_current: bool
) -> Result:
    result = _begun(plan, state, by)
    key = _key(plan, state.epoch, result, is_current=is_current)
    seen, began = verified_trail.overdue() if is_current else [], time.monotonic()
    _check_spans(plan, result, key, progress)
    try:
        result.found.add(verification.check_tree(result.size, state.epoch, key=key, begin=result.begin))
    except (LogDamaged, merkle.ProofError) as error:
        result.found.fault(str(error))
    result.seconds = max(time.monotonic() - began, 1e-6)
    if is_current:
        if plan.kept:
            result.found.add(verification.check_kept(plan.kept, key=plan.key))
        _check_trail(plan, result)
        if seen:
            time.sleep(max(0.0, LOOK_AGAIN_SECONDS - (time.monotonic() - began)))
            result.found.add(verified_trail.still_waiting(seen))
    _finish(result)
    _tell(result, plan, by)
    return result


def _check_spans(plan: Plan, result: Result, key: Verifier | None, progress: Progress | None) -> None:
    work = partial(_check, stream=plan.stream, rows=plan.rows, key=key)
    todo = [
        replace(span, end=min(span.end, result.size))
        for span in verification.spans(result.size, result.upto, result.epoch)
    ]
    began, first = time.monotonic(), result.upto
    for span, found in zip(todo, processes.in_order(work, todo, jobs=plan.jobs), strict=True):
        result.found.add(found)
        before, result.upto = result.upto, span.end
        _advance(result, before)
        if progress is not None:
            spent = max(time.monotonic() - began, 1e-6)
            progress(span.end - first, result.size - first, (span.end - first) / spent)


def _check(span: Span, *, stream: bool, rows: bool, key: Verifier | None) -> Findings:
    """One span, in whichever process."""
    try:
        stored = verification.leaf_tiles(span) if stream else None
        found = verification.check_span(span, key=key, stored=stored)
        if rows or stream:
            found.add(verified_rows.check_rows(span, stored=stored))
    except merkle.ProofError as error:
        found = Findings()
        found.fault(f"the tiles of these leaves are damaged: {error}", span.begin)
    return found


def _check_trail(plan: Plan, result: Result) -> None:
    if plan.mode is Mode.FULL or (plan.mode is Mode.TAIL and result.since is None):
        result.found.add(verified_trail.check_all_missing())
        result.found.add(verified_trail.check_erasures())
    elif plan.mode is Mode.TAIL and result.since is not None:
        result.found.add(verified_trail.check_missing(result.since - OVERLAP, timezone.now() + OVERLAP))
    result.found.add(verified_trail.check_guards())
    result.found.add(verified_archives.check(plan.archive))


def _begun(plan: Plan, state: State, by: Actor) -> Result:
    """Return the run to do: a new one, or one that was stopped. Raises ValueError."""
    result = _resumed(state) if plan.resume and plan.mode is Mode.FULL else None
    if result is not None:
        return result
    result = Result(ids.uuid7(), plan.mode, state.epoch, 0, 0, state.size)
    if plan.mode is Mode.RANGE:
        end = state.size if plan.end is None else plan.end
        if not 0 <= plan.begin < end <= state.size:
            raise ValueError(f"the log has the leaves 0 to {state.size}")
        result.begin, result.size = plan.begin - plan.begin % merkle.TILE_WIDTH, end
    elif plan.mode is Mode.TAIL:
        _begin_after_the_last(plan, state, result)
    result.upto = result.begin
    who = by.label or by.id or by.kind
    values = (result.id, plan.mode, state.epoch, result.begin, result.begin, result.size, who)
    _keep(result, _BEGIN, values)
    return result


def _begin_after_the_last(plan: Plan, state: State, result: Result) -> None:
    upto, result.since = sql.fetch_one(_GOOD_UNTIL, (state.epoch,)) or (0, None)
    if upto > state.size:
        result.found.fault(f"the log is shorter than it was when it was verified: it had {upto} leaves")
        upto = 0
    result.begin = upto - upto % merkle.TILE_WIDTH
    if plan.most is not None:
        result.size = min(state.size, result.begin + plan.most)


def _resumed(state: State) -> Result | None:
    row = sql.fetch_one(_UNFINISHED, (state.epoch,))
    if row is None:
        return None
    run_id, begin, upto, size, faults, notes = row
    found = Findings([_fault(one) for one in _loaded(faults)], [_fault(one) for one in _loaded(notes)])
    if size > state.size:
        found.fault(f"the log is shorter than it was when this run began: it had {size} leaves")
        size = state.size
    return Result(run_id, Mode.FULL, state.epoch, min(begin, size), min(upto, size), size, found)


def _key(plan: Plan, epoch: int, result: Result, *, is_current: bool) -> Verifier | None:
    """Return the pinned key where it is this log's; a current log that has another name is a finding."""
    if plan.key is None or plan.key.name == checkpoints.origin(epoch):
        return plan.key
    if is_current:
        result.found.fault(f"the log is called {checkpoints.origin(epoch)}, not as the key {plan.key.name}")
    return None


def _advance(result: Result, before: int) -> None:
    if result.upto == before:
        return
    values = (result.upto, _dumped(result.found.faults), _dumped(result.found.notes), result.id, before)
    if result.is_kept and _keep(result, _ADVANCE, values) == 0:
        raise TakenOver


def _finish(result: Result) -> None:
    faults, notes = _dumped(result.found.faults), _dumped(result.found.notes)
    _keep(result, _FINISH, (result.upto, faults, notes, result.rate, result.id, result.upto))


def _keep(result: Result, query: sql.Query, values: tuple[object, ...]) -> int:
    """Write to the table; a table that cannot be written hides nothing."""
    if not result.is_kept:
        return -1
    try:
        return sql.execute(query, values)
    except (DatabaseError, InterfaceError) as error:
        logger.critical("audit_verification_not_kept", error=type(error).__name__)
        result.is_kept = False
        return -1


def _tell(result: Result, plan: Plan, by: Actor) -> None:
    found = result.found
    said = {
        "mode": str(result.mode), "epoch": result.epoch, "first_leaf": result.begin, "upto": result.upto,
        "size": result.size, "rows_per_second": result.rate, "faults": len(found.faults) + found.more,
    }  # fmt: skip
    if result.is_good and plan.is_scheduled and plan.mode is Mode.TAIL:
        return
    if not result.is_good:
        first = found.faults[0]
        said |= {"first": first.what, "leaf": first.leaf_index, "event_id": str(first.event_id or "")}
        logger.critical("audit_verify_failed", run=str(result.id), **said)
        alerts.raise_signal(FAILED, entity=("audit_log", "log"), evidence=said, using="audit")
    try:
        code = events.AUDIT_VERIFIED if result.is_good else events.AUDIT_VERIFICATION_FAILED
        audit.record_refusal(code, by=by, target=("audit_verification", str(result.id)), data=said)
    except errors.SecurityServiceFailure:
        logger.critical("audit_verification_not_recorded", run=str(result.id))


def _dumped(found: list[Fault]) -> str:
    return json.dumps([as_json(one) for one in found])


def as_json(one: Fault) -> dict[str, Any]:
    """Return a fault or note as the table and `--json` hold it."""
    return {
        "what": one.what,
        "leaf": one.leaf_index,
        "event": str(one.event_id) if one.event_id is not None else None,
    }


def _fault(said: dict[str, Any]) -> Fault:
    return Fault(said["what"], said["leaf"], UUID(said["event"]) if said["event"] else None)


def _loaded(value: object) -> list[dict[str, Any]]:
    found = json.loads(value) if isinstance(value, str) else value
    return found if isinstance(found, list) else []
