"""Moving sealed values to the current master key while everything goes on working.

Each app registers its `Place`s: where sealed values stand and what each is bound to. Columns of
`EncryptedField` register themselves. `census` counts what stands under which key without opening anything;
`reseal` opens each value under an older key and seals it under the current one.

A value is replaced by an UPDATE that names the old value, so a save that happens in between is never lost:
the row is looked at again. The walk goes by primary key, a batch at a time; a run that is cut short loses
nothing, and the next one goes on with what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.apps import apps
from django.conf import settings

from mestore.lib import crypto, sql
from mestore.lib.fields import PURPOSE as FIELD
from mestore.lib.fields import EncryptedField

BATCH: Final = 500
_PASSES: Final = 3

_CENSUS = """
    SELECT CASE WHEN octet_length({column}) > 2
           THEN encode(substring({column} FROM 3 FOR get_byte({column}, 1)), 'escape') ELSE '' END, count(*)
    FROM {table} WHERE {column} IS NOT NULL GROUP BY 1 ORDER BY 1
"""
_REPLACE = "UPDATE {table} SET {column} = %s WHERE {key} = %s AND {column} = %s"


@dataclass(frozen=True, slots=True)
class Value:
    """One sealed value: the primary key of its row, its bytes (None where there is none), its binding."""

    key: Any
    sealed: bytes | None
    bound_to: bytes


@dataclass(frozen=True, slots=True)
class Place:
    """A column of sealed values. `page` returns up to so many values after a primary key (None: the first).

    `using` is the connection that may change the column.
    """

    name: str
    table: str
    key: str
    column: str
    purpose: str
    page: Callable[[Any, int], Sequence[Value]]
    using: str = "default"


@dataclass(frozen=True, slots=True)
class Standing:
    """How many values of one place stand under one key; `is_held` says whether the ring has that key."""

    place: str
    key_id: str
    values: int
    is_current: bool
    is_held: bool


@dataclass(frozen=True, slots=True)
class Resealed:
    """What was done in one place: moved to the current key, and left because they do not open."""

    place: str
    moved: int
    unreadable: int


_places: dict[str, Place] = {}


def register(place: Place) -> None:
    """Make a place known; called when Django starts. Raises RuntimeError for a second one of its name."""
    if _places.setdefault(place.name, place) is not place:
        raise RuntimeError(f"the place {place.name!r} is registered already")


def places() -> list[Place]:
    """Return every place where sealed values stand, encrypted columns included."""
    return [*_places.values(), *_encrypted_columns()]


def census() -> list[Standing]:
    """Count the sealed values under each key; one statement per place, nothing is opened."""
    ring = list(settings.MESTORE_MASTER_KEYS)
    return [
        Standing(place.name, key_id, count, is_current=key_id == ring[0], is_held=key_id in ring)
        for place in places()
        for key_id, count in sql.fetch_all(
            sql.compose(_CENSUS, table=place.table, column=place.column), using=place.using
        )
    ]


def reseal(
    place: Place,
    *,
    batch: int = BATCH,
    progress: Callable[[str, int], None] = lambda _place, _moved: None,
) -> Resealed:
    """Move every value of `place` to the current key. What does not open stays as it is and is counted."""
    moved = unreadable = 0
    # A row that changed while it was looked at is met again in the next pass; one pass is the rule.
    for _number in range(_PASSES):
        done = _pass(place, batch, lambda more, before=moved: progress(place.name, before + more))
        moved, unreadable = moved + done.moved, done.unreadable
        if not done.changed_meanwhile:
            break
    return Resealed(place.name, moved, unreadable)


@dataclass(slots=True)
class _Pass:
    moved: int = 0
    unreadable: int = 0
    changed_meanwhile: int = 0


def _pass(place: Place, batch: int, progress: Callable[[int], None]) -> _Pass:
    done = _Pass()
    replace = sql.compose(_REPLACE, table=place.table, column=place.column, key=place.key)
    after = None
    while values := place.page(after, batch):
        for value in values:
            _move(place, value, replace, done)
        after = values[-1].key
        if done.moved:
            progress(done.moved)
    return done


def _move(place: Place, value: Value, replace: sql.Query, done: _Pass) -> None:
    if value.sealed is None:
        return
    try:
        sealed = crypto.rewrap(value.sealed, purpose=place.purpose, bound_to=value.bound_to)
    except crypto.Unreadable:
        done.unreadable += 1
        return
    if sealed is None:
        return
    if sql.execute(replace, (sealed, value.key, value.sealed), using=place.using):
        done.moved += 1
    else:
        done.changed_meanwhile += 1


def _encrypted_columns() -> Iterator[Place]:
    for model in apps.get_models():
        for field in model._meta.concrete_fields:
            if isinstance(field, EncryptedField) and model._meta.managed and field.model is model:
                yield _of_field(model, field)


def _of_field(model: Any, field: EncryptedField) -> Place:
    def page(after: Any, limit: int) -> list[Value]:
        rows = model._base_manager.order_by("pk")
        if after is not None:
            rows = rows.filter(pk__gt=after)
        return [Value(row.pk, row.__dict__[field.attname], field.binding(row)) for row in rows[:limit]]

    meta = model._meta
    return Place(
        name=f"{meta.db_table}.{field.column}",
        table=meta.db_table,
        key=meta.pk.column,
        column=str(field.column),
        purpose=FIELD,
        page=page,
    )
