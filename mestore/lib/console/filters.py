"""Filters of a list: plain links with known values, never a query for the distinct ones."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from typing import Any

from django.contrib.admin import SimpleListFilter
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from mestore.lib.console.display import BOGOTA

Text = str | Promise
Narrow = Callable[[Any, str], Any]


class LinkFilter(SimpleListFilter):
    """A filter with a fixed set of values; any other value is refused, not ignored."""

    def queryset(self, request: Any, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        value = self.value()
        if value is None:
            return None
        if value not in {str(key) for key, _label in self.lookup_choices}:
            raise IncorrectLookupParameters(self.parameter_name)
        return self.narrow(queryset, value)

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        """The rows of `queryset` for one of the declared values."""
        raise NotImplementedError


def choice_filter(
    *,
    parameter: str,
    title: Text,
    choices: Iterable[tuple[str, Text]] | Callable[[], Iterable[tuple[str, Text]]],
    narrow: Narrow | None = None,
) -> type[LinkFilter]:
    """A `LinkFilter` class over `choices`; without `narrow` the parameter is the field's name."""

    class ChoiceLinks(LinkFilter):
        def lookups(self, request: Any, model_admin: Any) -> Any:
            return list(choices() if callable(choices) else choices)

        def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
            if narrow is not None:
                return narrow(queryset, value)  # type: ignore[no-any-return]  # a queryset by contract
            return queryset.filter(**{parameter: value})

    ChoiceLinks.title = title  # type: ignore[assignment]  # Django accepts a lazy title
    ChoiceLinks.parameter_name = parameter
    return ChoiceLinks


class WindowFilter(LinkFilter):
    """When it happened: a window that ends now. Subclasses name the column in `column`."""

    title = _("When")
    parameter_name = "window"
    column = "created_at"

    def lookups(self, request: Any, model_admin: Any) -> Any:
        return [
            ("hour", _("Last hour")),
            ("today", _("Today")),
            ("week", _("Last 7 days")),
            ("month", _("Last 30 days")),
        ]

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        now = timezone.now()
        midnight = now.astimezone(BOGOTA).replace(hour=0, minute=0, second=0, microsecond=0)
        start = {
            "hour": now - dt.timedelta(hours=1),
            "today": midnight,
            "week": now - dt.timedelta(days=7),
            "month": now - dt.timedelta(days=30),
        }[value]
        return queryset.filter(**{f"{self.column}__gte": start})

    @classmethod
    def on(cls, column: str) -> type[WindowFilter]:
        """The same filter on another column."""
        return type("Window", (cls,), {"column": column})
