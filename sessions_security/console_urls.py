"""The console's one entrance and its exit, mounted before the admin site's own."""

from __future__ import annotations

from django.urls import path

from sessions_security import console_views

urlpatterns = [
    path("login/", console_views.SignIn.as_view(), name="console-sign-in"),
    path("logout/", console_views.sign_out, name="console-sign-out"),
]
