"""Console pages of accounts beside the lists of models; mounted before the admin site's own."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from accounts import console_grants, console_locks, console_views

urlpatterns = [
    path("lockouts/", admin.site.admin_view(console_views.lockouts), name="console-lockouts"),
    path("lockouts/<str:key>/lift/", admin.site.admin_view(console_views.lift), name="console-lockout-lift"),
    path("lockouts/block/", admin.site.admin_view(console_locks.block), name="console-lockout-block"),
    path(
        "lockouts/<str:key>/extend/",
        admin.site.admin_view(console_locks.extend),
        name="console-lockout-extend",
    ),
    path("factors/", admin.site.admin_view(console_views.factors_page), name="console-factors"),
    path(
        "grants/give/<uuid:user_id>/", admin.site.admin_view(console_grants.give), name="console-grant-give"
    ),
    path("reviews/start/", admin.site.admin_view(console_grants.start_review), name="console-review-start"),
    path(
        "reviews/<uuid:review_id>/csv/",
        admin.site.admin_view(console_grants.review_csv),
        name="console-review-csv",
    ),
]
