"""`/api/v1/audit/…`: the audit trail and its signed log."""

from __future__ import annotations

from mestore.lib.http import path_both
from sessions_security import trail_views

urlpatterns = [
    path_both("audit/events", trail_views.Events.as_view(), name="audit-events"),
    path_both("audit/events/<uuid:event_id>", trail_views.Event.as_view(), name="audit-event"),
    path_both("audit/events/<uuid:event_id>/proof", trail_views.EventProof.as_view(), name="audit-proof"),
    path_both("audit/exports/personal", trail_views.PersonalExport.as_view(), name="audit-personal-export"),
    path_both("audit/checkpoint", trail_views.Checkpoint.as_view(), name="audit-checkpoint"),
    path_both("audit/consistency", trail_views.Consistency.as_view(), name="audit-consistency"),
    path_both("audit/tile/<int:level>/<path:address>", trail_views.Tile.as_view(), name="audit-tile"),
]
