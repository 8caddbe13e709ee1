"""Addresses of the administration of people and vendors; mounted under /api/v1/."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.urls import URLPattern

from accounts.api import admin, admins, superuser, vendor_admin, vendor_own
from mestore.lib.http import path_both

View = Callable[..., Any]
_SUPERUSER: dict[str, tuple[str, View]] = {
    "users": ("superuser-admin/users", superuser.Users.as_view()),
    "users-stats": ("superuser-admin/users/stats", superuser.Statistics.as_view()),
    "users-bulk-action": ("superuser-admin/users/bulk-action", superuser.BulkAction.as_view()),
    "users-deleted": ("superuser-admin/users/deleted", superuser.Deleted.as_view()),
    "user": ("superuser-admin/users/<uuid:user_id>", superuser.UserView.as_view()),
    "user-dependencies": (
        "superuser-admin/users/<uuid:user_id>/dependencies",
        superuser.Dependencies.as_view(),
    ),
    "user-permanent": ("superuser-admin/users/<uuid:user_id>/permanent", superuser.Permanent.as_view()),
    "user-restore": ("superuser-admin/users/<uuid:user_id>/restore", superuser.Restore.as_view()),
    "user-audit": ("superuser-admin/users/<uuid:user_id>/audit", superuser.Audit.as_view()),
    "health": ("superuser-admin/health", superuser.Health.as_view()),
}
_ADMIN: dict[str, tuple[str, View]] = {
    "users": ("admin/users", admin.Users.as_view()),
    "users-stats": ("admin/users/stats/summary", admin.Statistics.as_view()),
    "user": ("admin/users/<uuid:user_id>", admin.UserView.as_view()),
    "user-reset": ("admin/users/<uuid:user_id>/reset", admin.Reset.as_view()),
    "user-status": ("admin/users/<uuid:user_id>/status", admin.Status.as_view()),
    "user-permissions": ("admin/users/<uuid:user_id>/permissions", admin.Permissions.as_view()),
    "permissions-grant": ("admin/permissions/grant", admin.Grant.as_view()),
    "permissions-revoke": ("admin/permissions/revoke", admin.Revoke.as_view()),
    "audit-user": ("admin/audit/user/<uuid:user_id>", admin.AccountAudit.as_view()),
    "audit-recent": ("admin/audit/recent-changes", admin.RecentChanges.as_view()),
}
_USER_MANAGEMENT: dict[str, tuple[str, View]] = {
    "stats": ("user-management/stats", admin.OldStatistics.as_view()),
    "users": ("user-management/users", admin.OldUsers.as_view()),
    "action": ("user-management/users/<uuid:user_id>/action", admin.Action.as_view()),
}
_ADMINS: dict[str, tuple[str, View]] = {
    "list": ("admins", admins.Admins.as_view()),
    "bulk-action": ("admins/bulk-action", admins.BulkAction.as_view()),
    "one": ("admins/<uuid:user_id>", admins.AdminView.as_view()),
    "permissions": ("admins/<uuid:user_id>/permissions", admins.Permissions.as_view()),
    "permissions-grant": ("admins/<uuid:user_id>/permissions/grant", admins.Grant.as_view()),
    "permissions-revoke": ("admins/<uuid:user_id>/permissions/revoke", admins.Revoke.as_view()),
}
_VENDORS: dict[str, tuple[str, View]] = {
    "list": ("vendedores/list", vendor_admin.Vendors.as_view()),
    "bulk-approve": ("vendedores/bulk/approve", vendor_admin.BulkApprove.as_view()),
    "bulk-suspend": ("vendedores/bulk/suspend", vendor_admin.BulkSuspend.as_view()),
    "bulk-email": ("vendedores/bulk/email", vendor_admin.BulkEmail.as_view()),
    "approve": ("vendedores/<uuid:vendor_id>/approve", vendor_admin.Approve.as_view()),
    "reject": ("vendedores/<uuid:vendor_id>/reject", vendor_admin.Reject.as_view()),
    "notes": ("vendedores/<uuid:vendor_id>/notes", vendor_admin.Notes.as_view()),
    "audit-log": ("vendedores/<uuid:vendor_id>/audit-log", vendor_admin.AuditLog.as_view()),
    "documents": ("vendedores/<uuid:vendor_id>/documents", vendor_admin.Documents.as_view()),
    "document": (
        "vendedores/<uuid:vendor_id>/documents/<uuid:document_id>",
        vendor_admin.Document.as_view(),
    ),
    "document-verify": (
        "vendedores/<uuid:vendor_id>/documents/<uuid:document_id>/verify",
        vendor_admin.Verify.as_view(),
    ),
    # Other names, which shipped front ends use.
    "approve-alias": ("vendors/<uuid:vendor_id>/approve", vendor_admin.ApproveAlias.as_view()),
    "reject-alias": ("vendors/<uuid:vendor_id>/reject", vendor_admin.RejectAlias.as_view()),
    "own-profile": ("vendors/vendor/profile", vendor_own.Profile.as_view()),
    "own-avatar": ("vendors/vendor/profile/avatar", vendor_own.Avatar.as_view()),
    "own-avatar-short": ("vendors/vendor/avatar", vendor_own.AvatarAlias.as_view()),
    "own-notifications": ("vendors/vendor/profile/notifications", vendor_own.Notifications.as_view()),
    "own-notifications-short": ("vendors/vendor/notifications", vendor_own.NotificationsAlias.as_view()),
    "own-complete": ("vendors/vendor/profile/complete", vendor_own.Complete.as_view()),
}


def _paths(prefix: str, table: dict[str, tuple[str, View]]) -> list[URLPattern]:
    return [path_both(route, view, name=f"{prefix}-{name}") for name, (route, view) in table.items()]


urlpatterns: list[URLPattern] = [
    *_paths("superuser-admin", _SUPERUSER),
    *_paths("admin-api", _ADMIN),
    *_paths("user-management", _USER_MANAGEMENT),
    *_paths("admins", _ADMINS),
    *_paths("vendors", _VENDORS),
]
