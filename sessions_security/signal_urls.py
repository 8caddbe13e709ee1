"""`/api/v1/alerts/…`: signals."""

from __future__ import annotations

from mestore.lib.http import path_both
from sessions_security import signal_views

urlpatterns = [
    path_both("alerts", signal_views.Signals.as_view(), name="alerts"),
    path_both("alerts/bulk", signal_views.Bulk.as_view(), name="alerts-bulk"),
    path_both("alerts/<uuid:signal_id>/assign", signal_views.Assign.as_view(), name="alert-assign"),
    path_both("alerts/<uuid:signal_id>/review", signal_views.Review.as_view(), name="alert-review"),
    path_both(
        "alerts/<uuid:signal_id>/acknowledge", signal_views.Acknowledge.as_view(), name="alert-acknowledge"
    ),
    path_both("alerts/<uuid:signal_id>/archive", signal_views.Archive.as_view(), name="alert-archive"),
]
