"""`/api/v1/auth/…`"""

from __future__ import annotations

from mestore.lib.http import path_both
from sessions_security import device_views, factor_views, passkey_views, recovery_views, views

urlpatterns = [
    path_both("login", views.SignIn.as_view(), name="auth-login"),
    path_both("admin-login", views.AdminSignIn.as_view(), name="auth-admin-login"),
    path_both("mfa/verify", views.SecondStep.as_view(), name="auth-mfa-verify"),
    path_both("mfa/enrolment", factor_views.FirstEnrolment.as_view(), name="auth-mfa-first-enrol"),
    path_both(
        "mfa/enrolment/confirm", factor_views.FirstConfirmation.as_view(), name="auth-mfa-first-confirm"
    ),
    path_both("mfa/totp/enroll", factor_views.TotpEnrolment.as_view(), name="auth-mfa-totp-enroll"),
    path_both("mfa/totp/confirm", factor_views.TotpConfirmation.as_view(), name="auth-mfa-totp-confirm"),
    path_both("mfa/devices", factor_views.Devices.as_view(), name="auth-mfa-devices"),
    path_both("mfa/devices/<str:device_id>", factor_views.OneDevice.as_view(), name="auth-mfa-device"),
    path_both("mfa/backup-codes", factor_views.BackupCodes.as_view(), name="auth-mfa-backup-codes"),
    path_both(
        "mfa/enrolment/passkey/options",
        passkey_views.FirstOptions.as_view(),
        name="auth-passkey-first-options",
    ),
    path_both("mfa/enrolment/passkey/verify", passkey_views.First.as_view(), name="auth-passkey-first"),
    path_both(
        "passkeys/register/options", passkey_views.RegisterOptions.as_view(), name="auth-passkey-options"
    ),
    path_both("passkeys/register/verify", passkey_views.Register.as_view(), name="auth-passkey-register"),
    path_both(
        "passkeys/login/options", passkey_views.SignInOptions.as_view(), name="auth-passkey-login-options"
    ),
    path_both("passkeys/login/verify", passkey_views.SignIn.as_view(), name="auth-passkey-login"),
    path_both(
        "passkeys/step-up/options", passkey_views.StepUpOptions.as_view(), name="auth-passkey-step-up-options"
    ),
    path_both("known-devices", device_views.KnownDevices.as_view(), name="auth-known-devices"),
    path_both(
        "known-devices/<uuid:device_id>", device_views.OneKnownDevice.as_view(), name="auth-known-device"
    ),
    path_both("step-up", factor_views.StepUp.as_view(), name="auth-step-up"),
    path_both("recovery/begin", recovery_views.Begin.as_view(), name="auth-recovery-begin"),
    path_both("recovery/prove", recovery_views.Prove.as_view(), name="auth-recovery-prove"),
    path_both("recovery/cancel", recovery_views.Cancel.as_view(), name="auth-recovery-cancel"),
    path_both("refresh-token", views.RefreshTokens.as_view(), name="auth-refresh-token"),
    path_both("token", views.ClientToken.as_view(), name="auth-token"),
    path_both("logout", views.SignOut.as_view(), name="auth-logout"),
    path_both("me", views.Me.as_view(), name="auth-me"),
]
