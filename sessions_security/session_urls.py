"""`/api/v1/sessions/…`, and `/api/v1/admin/…` of other people's sessions."""

from __future__ import annotations

from mestore.lib.http import path_both
from sessions_security import session_views as views

urlpatterns = [
    path_both("sessions", views.Sessions.as_view(), name="sessions"),
    path_both("sessions/revoke-others", views.EndOthers.as_view(), name="sessions-revoke-others"),
    path_both("sessions/revoke-all", views.EndAll.as_view(), name="sessions-revoke-all"),
    path_both("sessions/<uuid:session_id>", views.OneSession.as_view(), name="session"),
    path_both("admin/sessions", views.EverybodysSessions.as_view(), name="admin-sessions"),
    path_both("admin/sessions/end-everyone", views.EndEveryone.as_view(), name="admin-sessions-end-everyone"),
    path_both("admin/sessions/<uuid:session_id>/end", views.EndOne.as_view(), name="admin-session-end"),
    path_both(
        "admin/users/<uuid:user_id>/end-sessions", views.EndAllOf.as_view(), name="admin-user-end-sessions"
    ),
]
