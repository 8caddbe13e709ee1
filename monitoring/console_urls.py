"""Console pages of the audit trail beside the lists of models; mounted before the admin site's own."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from monitoring import console_events, console_integrity

_wrap = admin.site.admin_view

urlpatterns = [
    path("integrity/", _wrap(console_integrity.page), name="console-integrity"),
    path("integrity/checkpoint/", _wrap(console_integrity.checkpoint), name="console-checkpoint"),
    path("integrity/verify/", _wrap(console_integrity.verify), name="console-verify"),
    path("integrity/evidence/", _wrap(console_integrity.evidence_pack), name="console-evidence"),
    path("audit/<uuid:event_id>/proof/", _wrap(console_events.proof), name="console-event-proof"),
    path("audit/<uuid:event_id>/reveal/", _wrap(console_events.reveal), name="console-event-reveal"),
    path("audit/filters/save/", _wrap(console_events.save_filter), name="console-filter-save"),
    path(
        "audit/filters/<uuid:filter_id>/remove/",
        _wrap(console_events.remove_filter),
        name="console-filter-remove",
    ),
]
