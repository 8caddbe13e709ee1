"""`/api/v1/auth/…`: password, addresses, profile."""

from __future__ import annotations

from mestore.lib.http import path_both
from sessions_security import credential_views as views

urlpatterns = [
    path_both("change-password", views.ChangePassword.as_view(), name="auth-change-password"),
    path_both("forgot-password", views.ForgotPassword.as_view(), name="auth-forgot-password"),
    path_both("validate-reset-token", views.ValidateResetToken.as_view(), name="auth-validate-reset-token"),
    path_both("reset-password", views.ResetPassword.as_view(), name="auth-reset-password"),
    path_both("change-email", views.ChangeEmail.as_view(), name="auth-change-email"),
    path_both("confirm-email", views.ConfirmEmail.as_view(), name="auth-confirm-email"),
    path_both("cancel-email-change", views.CancelEmailChange.as_view(), name="auth-cancel-email-change"),
    path_both("recovery-email", views.RecoveryEmail.as_view(), name="auth-recovery-email"),
    path_both("profile", views.Profile.as_view(), name="auth-profile"),
]
