"""MeStore without its audit trail, or without capture alone: to measure what they cost.

No setting of the service does this. It happens from outside: the owner of a bench's database switches its
triggers off, and the process's own recording is replaced by nothing. Both are refused anywhere but in the
bench's house. Not in the measure is what `ledger_post` does to put an entry's leaf together: it is only not
written.

`python -m benchmarks.unaudited 'no audit'` switches the database, `benchmarks.unaudited:application` is the
service so, for granian.
"""

from __future__ import annotations

import sys
from typing import Any, Final, Literal, get_args
from uuid import UUID

import django

from benchmarks.house import HOST

State = Literal["audit", "no capture", "no audit"]
STATES: Final[tuple[State, ...]] = get_args(State)

_WATCHED = """
SELECT t.tgrelid::regclass::text, t.tgname FROM pg_trigger t
WHERE t.tgfoid = 'public.audit_capture()'::regprocedure ORDER BY 1, 2
"""
_SWITCH = {
    True: "ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}",
    False: "ALTER TABLE {table} DISABLE TRIGGER {trigger}",
}
_NOTHING_WRITTEN = """
CREATE OR REPLACE FUNCTION public.bench_nothing() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RETURN NULL; END $$
"""
_REFUSE = """
CREATE OR REPLACE TRIGGER aaa_bench_nothing BEFORE INSERT ON {table}
FOR EACH ROW EXECUTE FUNCTION public.bench_nothing()
"""
_ACCEPT = "DROP TRIGGER IF EXISTS aaa_bench_nothing ON {table}"


class NotABench(RuntimeError):
    """This is no bench: nothing is switched off here."""


def demand_bench() -> None:
    """Raises NotABench anywhere but in the bench's house."""
    from django.conf import settings

    django.setup()
    if f"https://{HOST}" != settings.PUBLIC_URL:
        raise NotABench


def switch(state: State) -> None:
    """Let the next transactions of this process and of its database run so. Raises NotABench."""
    switch_database(state)
    _record_with(_recording() if state != "no audit" else _NOTHING)


def switch_database(state: State) -> None:
    """Switch what the database does by itself. Raises NotABench."""
    from mestore.lib import sql

    demand_bench()
    for table, trigger in sql.fetch_all(_WATCHED, using="owner"):
        _run(_SWITCH[state == "audit"], table=table, trigger=trigger)
    _run(_SWITCH[state != "no audit"], table="ledger_entry", trigger="ledger_entry_leaf")
    _run(_NOTHING_WRITTEN)
    for table in ("audit_event", "audit_pending"):
        _run(_REFUSE if state == "no audit" else _ACCEPT, table=table)


def _run(statement: Any, **names: str) -> None:
    from mestore.lib import sql

    sql.execute(sql.compose(statement, **names) if names else statement, using="owner")


_kept: dict[str, Any] = {}


def _recording() -> dict[str, Any]:
    """What the service records with; remembered before it is replaced."""
    from monitoring import audit

    if not _kept:
        _kept.update({name: getattr(audit, name) for name in _NOTHING})
    return {name: _kept[name] for name in _NOTHING}


def _record_with(functions: dict[str, Any]) -> None:
    from django.conf import settings

    from monitoring import audit, receipts

    _recording()
    for name, function in functions.items():
        setattr(audit, name, function)
    wanted = _kept.setdefault("receipts", settings.AUDIT_RECEIPTS)
    settings.AUDIT_RECEIPTS = receipts.OFF if functions is _NOTHING else wanted


def _nothing(*_: object, **__: object) -> UUID:
    return UUID(int=0)


def _no_batch(_rows: object) -> Any:
    from monitoring import audit

    return audit.Batch(())


_NOTHING: Final[dict[str, Any]] = {
    **dict.fromkeys(("record", "record_many", "record_refusal"), _nothing), "batch": _no_batch
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """`application`, made when granian asks for it. Raises NotABench."""
    if name != "application":
        raise AttributeError(name)
    demand_bench()
    from mestore.wsgi import application

    _record_with(_NOTHING)
    return application


if __name__ == "__main__":
    django.setup()
    (_wanted,) = (state for state in STATES if state == sys.argv[1])
    switch_database(_wanted)
