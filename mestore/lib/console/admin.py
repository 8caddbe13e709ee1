"""The one base of every console page: it shows, and opens nothing that was not declared.

Closed by construction: a class that lists a secret column, filters through a relation or orders by
something that is not a plain column of its model stops the start (ImproperlyConfigured).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from django.contrib.admin import ModelAdmin, ShowFacets, SimpleListFilter
from django.contrib.admin.utils import (
    display_for_field,
    display_for_value,
    label_for_field,
    lookup_field,
    unquote,
)
from django.core.exceptions import ImproperlyConfigured, PermissionDenied, ValidationError
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from mestore.lib.console import actions, display, reading, refreshing, search
from mestore.lib.console.actions import ReasonAction
from mestore.lib.console.display import EMPTY
from mestore.lib.console.figures import Panel, Table
from mestore.lib.console.paging import KeysetChangeList, Ordering
from mestore.lib.console.search import SearchField
from mestore.lib.console.secrecy import open_field

SAFE_LOOKUPS = frozenset({"exact", "gte", "lt", "isnull"})
READING = ("GET", "HEAD")
Fieldsets = Sequence[tuple[str | Promise, Sequence[str]]]


class ConsoleModelAdmin(ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    """Read-only list and detail of one model.

    `group` and `position` place it in the sidebar (unless it is reached from another page only), `summary` is
    the sentence under its name, `sections` the titled groups of values of one row, `labels` the names of
    columns that have none of their own. `secret_fields` adds to what type and name already give away
    (`secrecy.is_secret`). `personal_classes` names what kinds of personal values a row's page shows
    ("contact"): each view of it is recorded. A method in `list_display` or `sections` decides by itself what
    it prints; a column is printed only when it is not secret.
    """

    group: ClassVar[str] = ""
    position: ClassVar[int] = 100
    in_sidebar: ClassVar[bool] = True
    label: ClassVar[str | Promise] = ""
    summary: ClassVar[str | Promise] = ""
    empty: ClassVar[str | Promise] = ""
    secret_fields: ClassVar[tuple[str, ...]] = ()
    personal_classes: ClassVar[tuple[str, ...]] = ()
    open_lookups: ClassVar[tuple[str, ...]] = ()
    orderings: ClassVar[tuple[Ordering, ...]] = ()
    search_in: ClassVar[tuple[SearchField, ...]] = ()
    sections: ClassVar[Fieldsets] = ()
    reason_actions: ClassVar[tuple[ReasonAction, ...]] = ()
    labels: ClassVar[dict[str, str | Promise]] = {}
    numeric_columns: ClassVar[tuple[str, ...]] = ()

    change_list_template = "console/change_list.html"
    change_form_template = "console/detail.html"
    actions = None
    list_per_page = 50
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    sortable_by = ()
    list_select_related: ClassVar[Any] = ()

    def __init__(self, model: type[Model], admin_site: Any) -> None:
        super().__init__(model, admin_site)
        if not self.orderings or not self.sections:
            raise ImproperlyConfigured(f"{type(self).__name__} must declare orderings and sections")
        self._refuse_closed_columns()

    def _refuse_closed_columns(self) -> None:
        """Raise ImproperlyConfigured for a declaration that would open a secret or related column."""
        own = {name for field in self.model._meta.concrete_fields for name in (field.name, field.attname)}
        shown = [*self.list_display, *(name for _title, names in self.sections for name in names)]
        for name in shown:
            self._require_open(str(name), "shows", optional=str(name) not in own)
        for lookup in self.open_lookups:
            column, _sep, how = lookup.partition("__")
            if how and how not in SAFE_LOOKUPS:
                raise ImproperlyConfigured(f"{type(self).__name__} opens the lookup {lookup!r}")
            self._require_open(column, "filters by")
        for searched in self.search_in:
            self._require_open(searched.name, "searches in")
        for ordering in self.orderings:
            for column in ordering.columns:
                self._require_open(self._column_name(column), "orders by", never_null=True)

    def _column_name(self, column: str) -> str:
        plain = column.lstrip("-")
        return str(self.model._meta.pk.name) if plain == "pk" else plain

    def _require_open(
        self, name: str, verb: str, *, optional: bool = False, never_null: bool = False
    ) -> None:
        if optional and "__" not in name:
            return
        field = open_field(self.model, name, self.secret_fields)
        if field is None or (never_null and field.null):
            raise ImproperlyConfigured(f"{type(self).__name__} {verb} {name!r}, which is not open")

    # Who may see: the permission table answers for every model, and nothing here writes.

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.has_perm(self.view_permission))

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    @property
    def view_permission(self) -> str:
        """The Django name of the right to see this model, e.g. `finance.view_order`."""
        return f"{self.opts.app_label}.view_{self.opts.model_name}"

    # What may be asked of a list.

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Only what was declared, letter by letter: `open_lookups` and the filters' own parameters."""
        own = {
            spec.parameter_name
            for spec in self.list_filter
            if isinstance(spec, type) and issubclass(spec, SimpleListFilter)
        }
        return lookup in own or lookup in self.open_lookups

    def to_field_allowed(self, request: HttpRequest, to_field: str) -> bool:
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[KeysetChangeList]:
        return KeysetChangeList

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        return [searched.name for searched in self.search_in]

    def get_search_results(self, request: Any, queryset: Any, search_term: str) -> tuple[Any, bool]:
        if not search_term.strip() or not self.search_in:
            return queryset, False
        condition = search.condition(self.model, self.search_in, search_term)
        return (queryset.none() if condition is None else queryset.filter(condition)), False

    def get_list_display_links(self, request: HttpRequest, list_display: Sequence[Any]) -> Any:
        return []

    @property
    def title(self) -> str:
        return str(self.label or capfirst(str(self.opts.verbose_name_plural)))

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if request.method not in READING:
            return HttpResponseNotAllowed(READING)
        context = {
            "title": self.title,
            "summary": self.summary,
            "empty_text": self.empty,
            "row_actions": [action for action in self.reason_actions if action.allowed(request)],
            "action_url": self.action_url,
            "links": list(self.list_links(request)),
            "charts": list(self.charts(request)),
            "refresh": refreshing.of(request),
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)

    # One row.

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """The row with this primary key, with its related rows, or None."""
        queryset = self.get_queryset(request)
        if self.list_select_related:
            queryset = queryset.select_related(*self.list_select_related)
        try:
            key = self.model._meta.pk.to_python(object_id)
            return queryset.filter(pk=key).first()
        except (ValidationError, ValueError, OverflowError):
            return None

    def detail_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """What one row is, what can be done with it, and what belongs to it."""
        if request.method not in READING:
            return HttpResponseNotAllowed(READING)
        if not self.has_view_permission(request):
            raise PermissionDenied
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404(_("There is no such row, or it is gone."))
        if self.personal_classes:
            reading.note(request, self.model._meta.db_table, str(row.pk), self.personal_classes)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": self.name_of(row),
            "list_title": self.title,
            "original": row,
            "state": self.state_of(row),
            "sections": [
                (title, [self._value(name, row) for name in names]) for title, names in self.sections
            ],
            "tables": list(self.tables(request, row)),
            "row_actions": [
                action for action in self.reason_actions if action.allowed(request) and action.offered(row)
            ],
            "action_url": self.action_url,
            "links": list(self.links(request, row)),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, self.change_form_template, context)

    def name_of(self, row: Any) -> str:
        """The heading of a row's page."""
        return str(row)

    def state_of(self, row: Any) -> SafeString | str:
        """The state of a row in a word with its mark, or nothing."""
        return ""

    def tables(self, request: HttpRequest, row: Any) -> Iterable[Table]:
        """What belongs to a row."""
        return ()

    def links(self, request: HttpRequest, row: Any) -> Iterable[tuple[str, str]]:
        """Other pages that do something with a row: verb and address."""
        return ()

    def list_links(self, request: HttpRequest) -> Iterable[tuple[str, str]]:
        """Other pages that begin something here: verb and address."""
        return ()

    def charts(self, request: HttpRequest) -> Iterable[Panel]:
        """What is drawn above the list."""
        return ()

    @classmethod
    def offer(cls, action: ReasonAction) -> None:
        """Let an app above the page's own offer an action on its rows; the same action twice is one."""
        if action not in cls.reason_actions:
            cls.reason_actions = (*cls.reason_actions, action)

    def page_read(self, rows: Sequence[Any]) -> None:
        """The rows of one page were read: what else they need may be asked here, for all at once."""

    def _value(self, name: str, row: Model) -> tuple[str, Any]:
        label = self.label_of(name)
        field, _attr, value = lookup_field(name, row, self)
        if hasattr(value, "astimezone"):
            return label, display.moment(value, full=True)
        if value in (None, ""):
            return label, EMPTY
        if isinstance(value, bool):
            return label, display.yes_no(value)
        if field is None:
            return label, value if isinstance(value, SafeString) else display_for_value(value, EMPTY)
        return label, display_for_field(value, field, EMPTY)

    def label_of(self, name: str) -> str:
        """What a column or method of this page is called."""
        label: Any = self.labels.get(name) or label_for_field(name, self.model, model_admin=self)
        return str(capfirst(label))

    # Addresses: a list, a row, and one page for everything dangerous. No add, delete or history.

    @property
    def action_url(self) -> str:
        if not self.reason_actions:
            return ""
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_do"
        return reverse(name, current_app=self.admin_site.name)

    def get_urls(self) -> list[URLPattern]:
        base = f"{self.opts.app_label}_{self.opts.model_name}"
        wrap = self.admin_site.admin_view
        patterns = [path("", wrap(self.changelist_view), name=f"{base}_changelist")]
        if self.reason_actions:
            patterns.append(path("do/", wrap(self.action_view), name=f"{base}_do"))
        patterns.append(path("<path:object_id>/change/", wrap(self.detail_view), name=f"{base}_change"))
        return patterns

    def action_view(self, request: HttpRequest) -> HttpResponse:
        """The page before a dangerous action, and the action itself."""
        return actions.confirm(self, request)
