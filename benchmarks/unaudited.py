"""MeStore without its audit trail, or without capture alone: to measure what they cost.

No setting of the service does this. It happens from outside: the owner of a bench's database switches off
triggers and replaces a function there, and the process's own recording is replaced by nothing. Both are
refused anywhere but in the bench's house.

`benchmarks.unaudited:application` is the service so, for granian.
"""

from __future__ import annotations

from typing import Any, Final, Literal
from uuid import UUID

from benchmarks.house import HOST

State = Literal["audit", "no capture", "no audit"]
STATES: Final[tuple[State, ...]] = ("audit", "no capture", "no audit")

_WATCHED = """
SELECT t.tgrelid::regclass::text, t.tgname FROM pg_trigger t
WHERE t.tgfoid = 'public.audit_capture()'::regprocedure ORDER BY 1, 2
"""
_SWITCH = {
    True: "ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}",
    False: "ALTER TABLE {table} DISABLE TRIGGER {trigger}",
}
_POST = """
SELECT pg_get_functiondef('public.ledger_post(uuid, uuid, text, timestamptz, text, jsonb, bytea, jsonb)'
    ::regprocedure)
"""


class NotABench(RuntimeError):
    """This is no bench: nothing is switched off here."""


class Switch:
    """Switches the trail of the bench's database, and of this process, off and on again."""

    def __init__(self) -> None:
        """Raises NotABench."""
        from mestore.lib import sql

        demand_bench()
        self._triggers = sql.fetch_all(_WATCHED, using="owner")
        self._post = str((sql.fetch_one(_POST, using="owner") or ("",))[0])
        self._recording = _recording()

    def to(self, state: State) -> None:
        """Let the next transactions run so."""
        self.database(state)
        _record_with(self._recording if state != "no audit" else _NOTHING)

    def database(self, state: State) -> None:
        """Switch what the database does."""
        from mestore.lib import sql

        for table, trigger in self._triggers:
            _alter(table, trigger, on=state == "audit")
        _alter("ledger_entry", "ledger_entry_leaf", on=state != "no audit")
        sql.execute(self._post if state != "no audit" else without_leaf(self._post), using="owner")


def demand_bench() -> None:
    """Raises NotABench anywhere but in the bench's house."""
    from django.conf import settings

    if f"https://{HOST}" != settings.PUBLIC_URL:
        raise NotABench


def without_leaf(definition: str) -> str:
    """Return `ledger_post` without the statements that write the entry's leaf. Raises ValueError."""
    head, found, rest = definition.partition("), leaf AS (")
    _leaf, also, rest = rest.partition("INSERT INTO public.ledger_transfer")
    before, canon, after = head.partition("v_canon := convert_to(")
    _canon, entry, writing = after.partition("WITH entry AS (")
    if not all((found, also, canon, entry)):
        raise ValueError("ledger_post is not what the bench knows")
    # A trailing percent sign would be a placeholder: the definition has none.
    return f"{before}{entry}{writing})\n{also}{rest}"


def _alter(table: str, trigger: str, *, on: bool) -> None:
    from mestore.lib import sql

    sql.execute(sql.compose(_SWITCH[on], table=table, trigger=trigger), using="owner")


def _recording() -> dict[str, Any]:
    from monitoring import audit

    return {name: getattr(audit, name) for name in _NOTHING}


def _record_with(functions: dict[str, Any]) -> None:
    from monitoring import audit

    for name, function in functions.items():
        setattr(audit, name, function)


def _nothing(*_: object, **__: object) -> UUID:
    return UUID(int=0)


_NOTHING: Final[dict[str, Any]] = dict.fromkeys(("record", "record_many", "record_refusal"), _nothing)


def __getattr__(name: str) -> Any:
    """`application`, made when granian asks for it."""
    if name != "application":
        raise AttributeError(name)
    from mestore.wsgi import application

    demand_bench()
    _record_with(_NOTHING)
    return application
