"""The operations console: who may enter, what the sidebar lists, what the dashboard shows.

Pages are declared by the apps (`admin.py`), figures by their `panels.py`; both arrive here by
themselves. Anything that is not built on `ConsoleModelAdmin` stays out.
"""

from __future__ import annotations

import importlib.util
import logging
from importlib import import_module
from typing import Any

from django.apps import apps
from django.contrib.admin import AdminSite, ModelAdmin
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, include, path, reverse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django_otp.admin import OTPAdminSite

from mestore.lib.console import ConsoleModelAdmin, Panel, State, display, places, refreshing
from sessions_security import console_views, impersonation

logger = logging.getLogger(__name__)
PANEL_APPS = ("sessions_security", "accounts", "finance", "monitoring")

# The groups of the sidebar, by what people do; a page names its group and its place in it.
GROUPS: tuple[tuple[str, str | Promise], ...] = (
    ("watch", _("Watch")),
    ("people", _("People")),
    ("money", _("Money")),
    ("evidence", _("Evidence")),
    ("system", _("System")),
)


class ConsoleSite(OTPAdminSite):  # type: ignore[misc]  # django-otp has no types
    """Django's admin for staff with a live, factor-proved session, showing only declared pages."""

    site_title = _("MeStore console")
    site_header = "MeStore"
    index_title = _("Overview")
    index_template = "console/overview.html"
    site_url = None
    enable_nav_sidebar = False  # ours is part of the page and needs no script
    empty_value_display = display.EMPTY

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)
        self.disable_action("delete_selected")

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        """Take pages built on ConsoleModelAdmin; leave out what other packages bring.

        Raises ImproperlyConfigured when one of our own apps registers anything else: it would open
        every column of the model to filters and orders.
        """
        if isinstance(admin_class, type) and issubclass(admin_class, ConsoleModelAdmin):
            super().register(model_or_iterable, admin_class, **options)
        elif (admin_class or ModelAdmin).__module__.partition(".")[0] in PANEL_APPS:
            raise ImproperlyConfigured(f"{admin_class} must be a ConsoleModelAdmin")

    def has_permission(self, request: HttpRequest) -> bool:
        """Staff role, second factor proved, and a live cookie session of this very person.

        An impersonated session and the emergency account have no factor of their own: the one stands on an
        administrator's session that proved one, the other on its sealed code. That the session is alive was
        asked of the database by the session guard, for this request.
        """
        session = getattr(request, "user_session", None)
        user: Any = request.user
        if session is None or not user.is_authenticated:
            return False
        return (
            str(session.user_id) == str(user.pk)
            and session.kind == "cookie"
            and AdminSite.has_permission(self, request)
            and (user.is_verified() or session.stands_on_another_proof())
        )

    def get_urls(self) -> list[URLResolver | URLPattern]:
        """Overview, signing out, and the declared pages. Nothing else of the stock admin is served."""
        patterns: list[URLResolver | URLPattern] = [
            path("", self.admin_view(self.index), name="index"),
            path("login/", self.login, name="login"),
            path("logout/", self.logout, name="logout"),
        ]
        for model, page in self._registry.items():
            prefix = f"{model._meta.app_label}/{model._meta.model_name}/"
            patterns.append(path(prefix, include(page.urls)))
        return patterns

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponseBase:
        """The one way in is the sign-in's own view."""
        return console_views.SignIn.as_view()(request)

    def logout(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponseBase:
        """Sessions end where they begin."""
        return console_views.sign_out(request)

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        entered = self.has_permission(request)
        return {
            "site_title": self.site_title,
            "site_header": self.site_header,
            "site_url": None,
            "has_permission": entered,
            "is_popup": False,
            "is_nav_sidebar_enabled": False,
            "sidebar": self.sidebar(request) if entered else [],
            "session_ends": session_ends(request) if entered else "",
            "banner": impersonation.banner(getattr(request, "user_session", None)),
        }

    def sidebar(self, request: HttpRequest) -> list[dict[str, Any]]:
        """The groups with the pages this person may open, the present one marked."""
        found: dict[str, list[tuple[int, dict[str, Any]]]] = {key: [] for key, _label in GROUPS}
        index = reverse("admin:index")
        found["watch"].append((0, _entry(_("Overview"), index, request.path == index)))
        for page in self._registry.values():
            if isinstance(page, ConsoleModelAdmin) and page.in_sidebar and page.has_view_permission(request):
                url = reverse(f"admin:{page.opts.app_label}_{page.opts.model_name}_changelist")
                entry = _entry(page.title, url, request.path.startswith(url))
                found[page.group].append((page.position, entry))
        for place in places.places():
            if request.user.has_perm(place.permission):
                url = reverse(place.url_name)
                found[place.group].append((place.position, _entry(place.label, url, request.path == url)))
        return [
            {
                "label": label,
                "pages": [entry for _place, entry in sorted(found[key], key=lambda pair: pair[0])],
            }
            for key, label in GROUPS
            if found[key]
        ]

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The overview: every app's panels."""
        panels = sorted(dashboard(request), key=lambda panel: panel.order)
        urgent = sum(panel.state in {State.CRITICAL, State.WARNING} for panel in panels)
        context = {
            **self.each_context(request),
            "title": self.index_title,
            "now": timezone.now(),
            "clock": timezone.now().astimezone(display.BOGOTA).strftime("%H:%M:%S"),
            "figures": [panel for panel in panels if not panel.is_wide],
            "charts": [panel for panel in panels if panel.is_wide],
            "urgent": urgent,
            "refresh": refreshing.of(request),
            **(extra_context or {}),
        }
        request.current_app = self.name
        return TemplateResponse(request, self.index_template, context)


def dashboard(request: HttpRequest) -> list[Panel]:
    """All panels of all apps. An app whose panels cannot even be asked becomes one unknown panel."""
    panels: list[Panel] = []
    for label in PANEL_APPS:
        if importlib.util.find_spec(f"{label}.panels") is None:
            continue
        name = str(apps.get_app_config(label).verbose_name)
        try:
            panels.extend(import_module(f"{label}.panels").panels(request))
        except Exception:  # the overview must stand when one of its parts does not
            logger.exception("console_panels_failed", extra={"app": label})
            panels.append(Panel(title=name, source=name, state=State.UNKNOWN))
    return panels


def session_ends(request: HttpRequest) -> str:
    """When this session ends if nothing more is done: "17:42", in Bogotá."""
    session = getattr(request, "user_session", None)
    ends = [
        moment
        for moment in (
            getattr(session, "idle_expires_at", None),
            getattr(session, "absolute_expires_at", None),
        )
        if moment is not None
    ]
    return display.clock(min(ends)) if ends else ""


def _entry(label: Any, url: str, is_current: bool) -> dict[str, Any]:
    return {"label": label, "url": url, "is_current": is_current}
