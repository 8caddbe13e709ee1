"""Searching a list: only in declared columns that have an index, exactly or by their beginning."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from django.core.exceptions import ValidationError
from django.db import models


@dataclass(frozen=True, slots=True)
class SearchField:
    """One column the search box looks into.

    `normalise` brings what was typed into the form that is stored (an e-mail address is looked up
    by its folded key). A prefix shorter than three characters would read half the table.
    """

    name: str
    how: Literal["exact", "prefix"] = "exact"
    normalise: Callable[[str], str] | None = None


def condition(model: type[models.Model], fields: Sequence[SearchField], text: str) -> models.Q | None:
    """The condition for `text`, or None when it cannot be a value of any declared column."""
    found: models.Q | None = None
    for field in fields:
        part = _part(model, field, text)
        if part is not None:
            found = part if found is None else found | part
    return found


def _part(model: type[models.Model], field: SearchField, text: str) -> models.Q | None:
    value: Any = text.strip()
    try:
        if field.normalise is not None:
            value = field.normalise(value)
        column = model._meta.get_field(field.name)
        if field.how == "prefix":
            return models.Q(**{f"{field.name}__startswith": value}) if len(value) >= 3 else None
        if isinstance(column, models.UUIDField) or _points_at_uuid(column):
            value = uuid.UUID(value)
        elif isinstance(column, models.IntegerField):
            value = _integer(value)
        if isinstance(value, str) and (not value or "\x00" in value):
            return None
        return models.Q(**{field.name: value})
    except (ValueError, ValidationError):
        return None


def _points_at_uuid(column: Any) -> bool:
    return isinstance(getattr(column, "target_field", None), models.UUIDField)


def _integer(text: str) -> int:
    """A plain decimal number that fits the column: not "１２", "1_000" or "+12"."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError("not a number")
    number = int(text[:40])
    if number > 2**63 - 1:
        raise ValueError("larger than the column")
    return number
