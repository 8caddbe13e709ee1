"""Addresses of what people do with their own account; mounted under /api/v1/auth/ and /api/v1/."""

from __future__ import annotations

from django.urls import URLPattern

from accounts import own_data_views, verification_views
from accounts.verification import Kind
from mestore.lib.http import path_both

_send_mail = verification_views.SendCode.as_view(kind=Kind.EMAIL)
_verify_mail = verification_views.VerifyCode.as_view(kind=Kind.EMAIL)

auth_urlpatterns: list[URLPattern] = [
    path_both("send-verification-email", _send_mail, name="auth-send-verification-email"),
    path_both(
        "send-verification-sms",
        verification_views.SendCode.as_view(kind=Kind.SMS),
        name="auth-send-verification-sms",
    ),
    path_both("verify-email-otp", _verify_mail, name="auth-verify-email-otp"),
    path_both(
        "verify-phone-otp", verification_views.VerifyCode.as_view(kind=Kind.SMS), name="auth-verify-phone-otp"
    ),
    # The names that the secondary clients use; `otp_type` in the body says which address.
    path_both("send-otp", verification_views.SendCode.as_view(), name="auth-send-otp"),
    path_both("verify-otp", verification_views.VerifyCode.as_view(), name="auth-verify-otp"),
    path_both("resend-verification", _send_mail, name="auth-resend-verification"),
    path_both("verify-email", _verify_mail, name="auth-verify-email"),
]
urlpatterns: list[URLPattern] = [
    path_both("me/consents", own_data_views.Consents.as_view(), name="me-consents"),
    path_both("me/data-requests", own_data_views.OwnDataRequests.as_view(), name="me-data-requests"),
    path_both(
        "me/data-requests/<uuid:request_id>/cancel",
        own_data_views.CancelDataRequest.as_view(),
        name="me-data-request-cancel",
    ),
    path_both(
        "me/data-requests/<uuid:request_id>/archive",
        own_data_views.OwnArchive.as_view(),
        name="me-data-request-archive",
    ),
]
