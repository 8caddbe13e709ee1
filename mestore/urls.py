"""Every address of MeStore. `OPEN` names what is open to strangers; a test walks the tree against it."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path, re_path
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularJSONAPIView
from rest_framework.permissions import AllowAny

import finance.urls
import sessions_security.console_urls
import sessions_security.urls
from mestore import api_docs, middleware
from monitoring import health, metrics
from sessions_security import limits, views

handler400 = "mestore.errors.bad_request"
handler403 = "mestore.errors.forbidden"
handler404 = "mestore.errors.not_found"
handler500 = "mestore.errors.server_error"

# Routes that answer without credentials, each for a reason. Everything else asks who is there.
OPEN: dict[str, str] = {
    "readyz": "one word for the load balancer",
    "health": "the contract's health answer, one word",
    "jwks": "public keys are public",
    "csp-report": "browsers report without credentials",
    "api-schema": "the description of the interface",
    "api-docs": "the description of the interface, for people",
    "api-docs-errors": "what each error code means",
    "auth-login": "signing in",
    "auth-admin-login": "signing in",
    "auth-mfa-verify": "second step of signing in",
    "auth-refresh-token": "the refresh token is the credential",
    "auth-token": "machine accounts sign in",
    "console-sign-in": "signing in",
    "admin:login": "the same page, by the name the console site gives it",
    "console-entrance": "the console's address as people type it; leads to the page that asks who is there",
    "root": "says what this is, nothing more",
}


@csrf_exempt  # a browser sends these reports by itself, without a form or a cookie
def csp_reports(request: HttpRequest) -> HttpResponse:
    """Take a CSP report, within the anonymous rate limit."""
    limits.limit_anonymous(request)
    return middleware.csp_report(request)


urlpatterns = [
    path("", health.health_view, name="root"),
    path("readyz", health.readyz_view, name="readyz"),
    re_path(r"^health/?$", health.health_view, name="health"),
    path("metrics", metrics.metrics_view, name="metrics"),
    path("csp-reports", csp_reports, name="csp-report"),
    path(".well-known/jwks.json", views.jwks, name="jwks"),
    path("api/schema/", SpectacularJSONAPIView.as_view(permission_classes=[AllowAny]), name="api-schema"),
    path("api/docs/", api_docs.reference, name="api-docs"),
    path("api/docs/errors", api_docs.error_codes, name="api-docs-errors"),
    path("api/v1/auth/", include(sessions_security.urls)),
    path("api/v1/", include(finance.urls)),
    # The shipped front end calls these on the bare host (contract, decision 17).
    path("", include((finance.urls.commission_urlpatterns, "finance"), namespace="commissions-alias")),
    path(
        "admin",
        RedirectView.as_view(pattern_name="admin:index", http_method_names=["get", "head"]),
        name="console-entrance",
    ),
    path("admin/", include(sessions_security.console_urls)),
    path("admin/", admin.site.urls),
]
