"""Lists of any length: newer and older by keyset, without OFFSET and without counting.

The rows of a page are those after (or before) a remembered row in the order of the list. The order
always ends in the primary key, so rows with the same time are neither repeated nor left out.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import display_for_field, display_for_value, lookup_field
from django.contrib.admin.views.main import ORDER_VAR, ChangeList
from django.core.exceptions import ValidationError
from django.db import DataError
from django.db.models import Field, Model, Q
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString

from mestore.lib.console import refreshing
from mestore.lib.console.display import EMPTY, moment

NEWER_VAR, OLDER_VAR = "newer", "older"
CURSOR_LENGTH = 600


@dataclass(frozen=True, slots=True)
class Ordering:
    """A declared order of a list: its name in the address, its label, its columns."""

    name: str
    label: str | Promise
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    label: str
    name: str
    html: SafeString | str
    is_head: bool = False


class KeysetChangeList(ChangeList):
    """Django's change list with cursors in place of page numbers."""

    model_admin: Any  # a ConsoleModelAdmin, which imports this module
    has_newer: bool
    has_older: bool

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        found: dict[str, Any] = super().get_filters_params(params)
        for name in (NEWER_VAR, OLDER_VAR, refreshing.PARAMETER):
            found.pop(name, None)
        return found

    def get_query_string(self, new_params: Any = None, remove: Any = None) -> str:
        """Any other link starts again at the newest row."""
        return str(super().get_query_string(new_params, [*(remove or []), NEWER_VAR, OLDER_VAR]))

    @property
    def ordering(self) -> Ordering:
        name = self.params.get(ORDER_VAR)
        for ordering in self.model_admin.orderings:
            if name in (None, "", ordering.name):
                found: Ordering = ordering
                return found
        raise IncorrectLookupParameters(ORDER_VAR)

    def get_ordering(self, request: Any, queryset: Any) -> list[Any]:
        return list(self.ordering.columns)

    def get_ordering_field_columns(self) -> dict[int, Any]:
        return {}

    def get_results(self, request: Any) -> None:
        try:
            rows = self._page(self.params.get(NEWER_VAR), self.params.get(OLDER_VAR))
        except (ValueError, OverflowError, DataError, ValidationError) as unreadable:
            raise IncorrectLookupParameters(unreadable) from unreadable
        self._finish(rows)

    def _page(self, newer: str | None, older: str | None) -> list[Model]:
        """The rows to show; one row more than a page is read to know whether there is another."""
        size = self.list_per_page
        if newer and older:
            raise ValueError("two cursors")
        if newer:
            rows = list(self.queryset.filter(self._beyond(newer, -1)).reverse()[: size + 1])
            if len(rows) > size:
                self.has_newer = self.has_older = True
                return rows[:size][::-1]
            # The beginning was reached: the whole first page reads better than the few rows before.
        rows = list((self.queryset.filter(self._beyond(older, +1)) if older else self.queryset)[: size + 1])
        self.has_newer, self.has_older = bool(older), len(rows) > size
        return rows[:size]

    def _finish(self, rows: list[Model]) -> None:
        """Set what Django's own templates and views read."""
        self.model_admin.page_read(rows)
        self.result_list = rows  # a page of rows, already read
        self.result_count = len(rows)
        self.full_result_count = None  # never counted
        self.show_full_result_count = False
        self.show_admin_actions = False
        self.can_show_all = self.multi_page = False
        self.paginator = None  # there are no numbered pages

    def _beyond(self, cursor: str, direction: int) -> Q:
        """Rows after the cursor (+1) or before it (-1) in the order of the list."""
        columns = self.ordering.columns
        values = _decode(cursor, [_column(self.model, name) for name in columns])
        condition, equal = Q(), Q()
        for name, value in zip(columns, values, strict=True):
            plain = name.lstrip("-")
            rises = not name.startswith("-")
            comparison = "gt" if rises == (direction > 0) else "lt"
            condition |= equal & Q(**{f"{plain}__{comparison}": value})
            equal &= Q(**{plain: value})
        # Redundant, and what lets PostgreSQL begin its index scan at the cursor.
        lead = columns[0].lstrip("-")
        rises = not columns[0].startswith("-")
        bound = "gte" if rises == (direction > 0) else "lte"
        return Q(**{f"{lead}__{bound}": values[0]}) & condition

    def _cursor(self, row: Model) -> str:
        return encode([getattr(row, _attname(self.model, name)) for name in self.ordering.columns])

    @property
    def newer_url(self) -> str:
        rows: Any = self.result_list
        if not self.has_newer:
            return ""
        if not rows:
            return self.get_query_string()
        return self.get_query_string({NEWER_VAR: self._cursor(rows[0])})

    @property
    def older_url(self) -> str:
        rows: Any = self.result_list
        return self.get_query_string({OLDER_VAR: self._cursor(rows[-1])}) if self.has_older and rows else ""

    @property
    def sort_links(self) -> list[dict[str, Any]]:
        chosen = self.ordering
        return [
            {
                "display": ordering.label,
                "query_string": self.get_query_string({ORDER_VAR: ordering.name}),
                "selected": ordering is chosen,
            }
            for ordering in self.model_admin.orderings
        ]

    @property
    def filter_groups(self) -> list[tuple[str, list[Any]]]:
        groups = [(str(spec.title), list(spec.choices(self))) for spec in self.filter_specs]
        return [(title, choices) for title, choices in groups if choices]

    @property
    def headers(self) -> list[tuple[str, str, bool]]:
        """Name, label and whether it holds numbers, of each column."""
        numeric = self.model_admin.numeric_columns
        return [(str(name), self.model_admin.label_of(name), name in numeric) for name in self.list_display]

    @property
    def rows(self) -> list[tuple[str, list[Cell]]]:
        """Each row as its primary key and its cells; the first cell links to the thing."""
        headers = self.headers
        made: list[tuple[str, list[Cell]]] = []
        for row in self.result_list:
            cells = [Cell(label, name, self._value(name, row)) for name, label, _numeric in headers]
            head = format_html('<a href="{}">{}</a>', self.url_for_result(row), cells[0].html)
            cells[0] = Cell(cells[0].label, cells[0].name, head, is_head=True)
            made.append((str(row.pk), cells))
        return made

    def _value(self, name: str, row: Model) -> SafeString | str:
        field, _attr, value = lookup_field(name, row, self.model_admin)
        if isinstance(value, dt.datetime):
            return moment(value)
        if value in (None, ""):
            return EMPTY
        if field is None:
            return value if isinstance(value, SafeString) else display_for_value(value, EMPTY)
        return display_for_field(value, field, EMPTY)


def encode(values: Sequence[Any]) -> str:
    """The place of a row in its list, for the address bar: never more than the ordering columns."""
    texts = [value.isoformat() if isinstance(value, dt.datetime) else str(value) for value in values]
    return base64.urlsafe_b64encode(json.dumps(texts).encode()).rstrip(b"=").decode()


def _decode(cursor: str, fields: Sequence[Field[Any, Any]]) -> list[Any]:
    if len(cursor) > CURSOR_LENGTH:
        raise ValueError("cursor too long")
    try:
        texts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, UnicodeDecodeError) as unreadable:
        raise ValueError("cursor unreadable") from unreadable
    if not isinstance(texts, list) or len(texts) != len(fields):
        raise ValueError("cursor of another list")
    values = []
    for field, text in zip(fields, texts, strict=True):
        if not isinstance(text, str) or "\x00" in text:
            raise ValueError("cursor of another list")
        value = field.to_python(text)
        if isinstance(value, dt.datetime) and value.tzinfo is None:
            raise ValueError("cursor without a time zone")
        values.append(value)
    return values


def _column(model: type[Model], name: str) -> Any:
    """The field that reads a value of the ordering column `name`: for a foreign key the one it points to."""
    field = _field(model, name)
    return getattr(field, "target_field", field)


def _attname(model: type[Model], name: str) -> str:
    return str(_field(model, name).attname)


def _field(model: type[Model], name: str) -> Any:
    plain = name.lstrip("-")
    return model._meta.pk if plain == "pk" else model._meta.get_field(plain)
