"""What the audit explorer can be narrowed by: links with known values, and fields that people type into."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.contrib.admin import SimpleListFilter
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy

from mestore.lib.console import KeysetChangeList, choice_filter
from mestore.lib.console.display import BOGOTA
from monitoring import events

LONGEST = 200
UNBOUNDED_DAYS = 30
"""What has no index of its own is searched so far back, unless a moment, an actor or a target is given."""

# Each of these walks an index that begins with it, or bounds the months that are read.
BOUNDING = ({"window"}, {"since"}, {"until"}, {"actor_id"}, {"session_id"}, {"target_type", "target_id"})
WIDE = frozenset({"category", "outcome", "actor_kind", "type", "target_type", "target_id"})


class Typed(SimpleListFilter):
    """A filter whose value is typed: it stands in the page's own form and offers no links."""

    title = ""
    column = ""

    def lookups(self, request: Any, model_admin: Any) -> Any:  # noqa: ARG002 - Django's signature
        return [("", "")]  # Django drops a filter that has nothing to choose

    def choices(self, changelist: Any) -> Any:  # noqa: ARG002 - Django's signature
        return []

    def queryset(self, request: Any, queryset: QuerySet[Any]) -> QuerySet[Any] | None:  # noqa: ARG002
        value = (self.value() or "").strip()
        if not value:
            return None
        if len(value) > LONGEST or "\x00" in value:
            raise IncorrectLookupParameters(self.parameter_name)
        return self.narrow(queryset, value)

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        """The rows of `queryset` for what was typed."""
        return queryset.filter(**{str(self.parameter_name): value})


class CodeFilter(Typed):
    parameter_name = "type"

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        try:
            return queryset.filter(type=events.get(value).code)
        except events.UnknownEvent as unknown:
            raise IncorrectLookupParameters(self.parameter_name) from unknown


class ActorFilter(Typed):
    parameter_name = "actor_id"


class TargetTypeFilter(Typed):
    parameter_name = "target_type"


class TargetFilter(Typed):
    parameter_name = "target_id"


class SessionFilter(Typed):
    parameter_name = "session_id"


class SinceFilter(Typed):
    """From this moment on; without a zone it is Bogotá's clock."""

    parameter_name = "since"

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        return queryset.filter(occurred_at__gte=moment(value, self.parameter_name))


class UntilFilter(Typed):
    """Before this moment; without a zone it is Bogotá's clock."""

    parameter_name = "until"

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        return queryset.filter(occurred_at__lt=moment(value, self.parameter_name))


def moment(text: str, parameter: str) -> dt.datetime:
    """Return the moment that was typed. Raises IncorrectLookupParameters."""
    try:
        found = dt.datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=BOGOTA)).astimezone(dt.UTC)
    except (ValueError, OverflowError) as unreadable:
        raise IncorrectLookupParameters(parameter) from unreadable


def _codes_of(rows: QuerySet[Any], category: str) -> QuerySet[Any]:
    return rows.filter(type__in=[event.code for event in events.catalogue() if event.category == category])


CATEGORY_WORDS = {
    events.Category.AUTHENTICATION: gettext_lazy("signing in"),
    events.Category.SECURITY: gettext_lazy("security"),
    events.Category.USER_MANAGEMENT: gettext_lazy("people"),
    events.Category.VENDOR_MANAGEMENT: gettext_lazy("vendors"),
    events.Category.FINANCIAL: gettext_lazy("money"),
    events.Category.AUDIT: gettext_lazy("audit"),
    events.Category.DATA_EXPORT: gettext_lazy("exports"),
    events.Category.SYSTEM_CONFIG: gettext_lazy("system"),
    events.Category.MONITORING: gettext_lazy("monitoring"),
    events.Category.EMERGENCY: gettext_lazy("emergency"),
}
CategoryFilter = choice_filter(
    parameter="category",
    title=gettext_lazy("Area"),
    choices=[(category.value, word) for category, word in CATEGORY_WORDS.items()],
    narrow=_codes_of,
)


class ExplorerList(KeysetChangeList):
    """The list of events: what has no index of its own is not searched for ever."""

    def get_queryset(self, request: Any, exclude_parameters: Any = None) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request, exclude_parameters)
        if not self.is_bounded:
            return rows
        now = timezone.now()
        # The end keeps the prepared months to come out of the search.
        return rows.filter(
            occurred_at__gte=now - dt.timedelta(days=UNBOUNDED_DAYS),
            occurred_at__lte=now + dt.timedelta(hours=1),
        )

    @property
    def is_bounded(self) -> bool:
        """Whether only the last UNBOUNDED_DAYS are searched."""
        given = {name for name, values in self.filter_params.items() if any(values)}
        return bool(given & WIDE) and not any(together <= given for together in BOUNDING)

    def typed(self, name: str) -> str:
        """What stands in a field of the form."""
        values = self.filter_params.get(name) or [""]
        return str(values[-1])
