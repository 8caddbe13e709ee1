"""The console's one entrance and its exit, the pages of people's own security, and the way back in.

Mounted before the admin site's own.
"""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from sessions_security import (
    console_views,
    emergency_views,
    entrance_views,
    impersonation_views,
    passkey_pages,
    password_views,
    security_views,
    session_pages,
)

urlpatterns = [
    path("login/", console_views.SignIn.as_view(), name="console-sign-in"),
    path("logout/", console_views.sign_out, name="console-sign-out"),
    path("login/passkey/", passkey_pages.sign_in_options, name="console-passkey-login-options"),
    path("login/passkey/second/", passkey_pages.second_options, name="console-passkey-second-options"),
    path("first-factor/passkey/", passkey_pages.first_options, name="console-passkey-first-options"),
    path("confirm/passkey/", passkey_pages.step_up_options, name="console-passkey-step-up-options"),
    path(
        "security/passkey/options/", passkey_pages.register_options, name="console-passkey-register-options"
    ),
    path("password/", password_views.change, name="console-password"),
    path("password/forgotten/", password_views.Forgotten.as_view(), name="console-forgotten"),
    path("password/reset/", password_views.Reset.as_view(), name="console-reset"),
    path("first-factor/", entrance_views.FirstFactor.as_view(), name="console-first-factor"),
    path("recovery/", entrance_views.Recovery.as_view(), name="console-recovery"),
    path(
        "recovery/cancel/<str:token>/", entrance_views.CancelReset.as_view(), name="console-recovery-cancel"
    ),
    path("recovery/<str:token>/", entrance_views.Recovery.as_view(), name="console-recovery-link"),
    path("emergency/", emergency_views.Emergency.as_view(), name="console-emergency"),
    path("impersonation/", impersonation_views.present, name="console-impersonation"),
    path("impersonation/stop/", impersonation_views.stop, name="console-impersonation-stop"),
    path("impersonation/<uuid:user_id>/", impersonation_views.begin, name="console-impersonate"),
    path("confirm/", security_views.confirm, name="console-confirm"),
    path("sessions/limits/", admin.site.admin_view(session_pages.limits), name="console-session-policy"),
    path(
        "sessions/end-everyone/",
        admin.site.admin_view(session_pages.confirmed_end_everyone),
        name="console-sessions-end-everyone",
    ),
    path("security/", security_views.overview, name="console-security"),
    path("security/authenticator/", security_views.add_authenticator, name="console-add-authenticator"),
    path("security/passkey/", security_views.add_passkey, name="console-add-passkey"),
    path(
        "security/factors/<str:device_id>/remove/", security_views.remove_factor, name="console-remove-factor"
    ),
    path("security/backup-codes/", security_views.backup_codes, name="console-backup-codes"),
    path("security/sessions/<str:session_id>/end/", security_views.end_session, name="console-end-session"),
    path(
        "security/devices/<uuid:device_id>/forget/",
        security_views.forget_device,
        name="console-forget-device",
    ),
    path("security/reset/stop/", security_views.stop_reset, name="console-stop-reset"),
]
