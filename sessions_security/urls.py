"""`/api/v1/auth/…`"""

from __future__ import annotations

from mestore.lib.http import path_both
from sessions_security import views

urlpatterns = [
    path_both("login", views.SignIn.as_view(), name="auth-login"),
    path_both("admin-login", views.AdminSignIn.as_view(), name="auth-admin-login"),
    path_both("mfa/verify", views.SecondStep.as_view(), name="auth-mfa-verify"),
    path_both("refresh-token", views.RefreshTokens.as_view(), name="auth-refresh-token"),
    path_both("token", views.ClientToken.as_view(), name="auth-token"),
    path_both("logout", views.SignOut.as_view(), name="auth-logout"),
    path_both("me", views.Me.as_view(), name="auth-me"),
]
