"""Every address of MeStore. `OPEN` names what is open to strangers; a test walks the tree against it."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path, re_path
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularJSONAPIView
from rest_framework.permissions import AllowAny

import accounts.api.urls
import accounts.console_urls
import accounts.urls
import finance.urls
import monitoring.console_urls
import sessions_security.console_urls
import sessions_security.credential_urls
import sessions_security.registration_urls
import sessions_security.second_person_urls
import sessions_security.session_urls
import sessions_security.signal_urls
import sessions_security.trail_urls
import sessions_security.urls
from mestore import api_docs, middleware
from monitoring import health, metrics
from sessions_security import limits, notice_views, views

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
    "auth-mfa-first-enrol": "the first factor of the staff, with the token of a sign-in that waits for it",
    "auth-mfa-first-confirm": "the same",
    "auth-recovery-begin": "whoever lost a factor cannot sign in",
    "auth-recovery-prove": "the same; the token of the case and two proofs are the credential",
    "auth-recovery-cancel": "the link in the message to the account's owner is the credential",
    "auth-passkey-first-options": "the same, by a passkey",
    "auth-passkey-first": "the same",
    "auth-passkey-login-options": "signing in",
    "auth-passkey-login": "signing in",
    "auth-refresh-token": "the refresh token is the credential",
    "auth-token": "machine accounts sign in",
    "auth-register": "opening an account",
    "consent-texts": "whoever opens an account reads first what they agree to",
    "auth-forgot-password": "asking for a reset link",
    "auth-validate-reset-token": "the link's token is the credential",
    "auth-reset-password": "the link's token is the credential",
    "auth-cancel-email-change": "the link's token is the credential",
    "vendors-register": "opening an account",
    "vendedores-registro": "opening an account",
    "vendors-login": "signing in",
    "vendedores-login": "signing in",
    "console-sign-in": "signing in",
    "console-emergency": "the sealed code is the credential",
    "console-forgotten": "asking for a reset link",
    "console-reset": "the link's token is the credential",
    "console-passkey-first-options": "the first factor of the staff, in the middle of its sign-in",
    "console-passkey-login-options": "signing in",
    "console-passkey-second-options": "second step of signing in",
    "console-first-factor": "the first factor of the staff, in a sign-in that waits for it",
    "console-recovery": "whoever lost a factor cannot sign in",
    "console-recovery-link": "the same; the link in the message is the credential",
    "console-recovery-cancel": "the same",
    "admin:login": "the same page, by the name the console site gives it",
    "console-entrance": "the console's address as people type it; leads to the page that asks who is there",
    "not-me": "the link in the message to the account's owner is the credential",
    "root": "says what this is, nothing more",
}


@csrf_exempt  # a browser sends these reports by itself, without a form or a cookie
def csp_reports(request: HttpRequest) -> HttpResponse:
    """Take a CSP report, within the anonymous rate limit."""
    limits.limit_anonymous(request)
    return middleware.csp_report(request)


urlpatterns = [
    path("api/v1/", include(finance.urls)),  # the busiest first: addresses are tried in this order
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
    path("api/v1/auth/", include(sessions_security.credential_urls)),
    path("api/v1/auth/", include(accounts.urls.auth_urlpatterns)),
    path("api/v1/", include(accounts.urls)),
    path("api/v1/", include(accounts.api.urls)),
    path("api/v1/", include(sessions_security.registration_urls)),
    path("api/v1/", include(sessions_security.second_person_urls)),
    path("api/v1/", include(sessions_security.session_urls)),
    path("api/v1/", include(sessions_security.signal_urls)),
    path("api/v1/", include(sessions_security.trail_urls)),
    # The shipped front end calls these on the bare host (contract, decision 17).
    path("", include((finance.urls.commission_urlpatterns, "finance"), namespace="commissions-alias")),
    path(
        "admin",
        RedirectView.as_view(pattern_name="admin:index", http_method_names=["get", "head"]),
        name="console-entrance",
    ),
    path("security/not-me/<str:token>/", notice_views.NotMe.as_view(), name="not-me"),
    path("admin/", include(sessions_security.console_urls)),
    path("admin/", include(accounts.console_urls)),
    path("admin/", include(monitoring.console_urls)),
    path("admin/", admin.site.urls),
]
