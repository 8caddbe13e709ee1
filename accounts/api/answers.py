"""Accounts, vendors, permissions and events as they are told. No hash, key or code is among the fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import bulk, deletion, edits, user_lists, vendors
from accounts.history import History
from accounts.models import (
    ApprovalRequest,
    Grant,
    Permission,
    User,
    VendorDocument,
    VendorNote,
    VendorProfile,
)
from accounts.user_lists import Page, Wanted
from monitoring import events
from monitoring.models import AuditEvent

_FIGURES = {
    "total_users": "totalUsers", "total_vendors": "totalVendors", "total_buyers": "totalBuyers",
    "total_admins": "totalAdmins", "total_superusers": "totalSuperusers", "verified_users": "verifiedUsers",
    "active_users": "activeUsers", "inactive_users": "inactiveUsers", "pending_vendors": "pendingVendors",
    "recent_registrations": "recentRegistrations",
}  # fmt: skip


def summary(user: User) -> dict[str, Any]:
    """One line of a list of accounts."""
    shop = _shop(user)
    return {
        "id": user.pk,
        "email": user.email,
        "nombre": user.nombre,
        "apellido": user.apellido,
        "full_name": user.get_full_name(),
        "user_type": user.user_type,
        "is_active": user.is_active,
        "is_verified": user.account_verified,
        "email_verified": user.email_verified,
        "phone_verified": user.phone_verified,
        "security_clearance_level": user.security_clearance_level,
        "department_id": user.department_id or None,
        "vendor_status": shop.vendor_status if shop is not None else None,
        "account_locked_until": user.locked_until if user.is_locked else None,
        "last_login": user.last_login,
        "created_at": user.created_at,
        "updated_at": user.updated_at,
        "deleted_at": user.deleted_at,
    }


def details(user: User) -> dict[str, Any]:
    """Everything about an account that its administration needs; nothing that proves who somebody is."""
    shop = _shop(user)
    return {
        **summary(user),
        "telefono": user.telefono,
        "ciudad": user.ciudad,
        "empresa": user.empresa,
        "direccion": user.direccion,
        "employee_id": user.employee_id or None,
        "language": user.language,
        "force_password_change": user.force_password_change,
        "password_changed_at": user.password_changed_at,
        "has_password": user.has_usable_password(),
        "source": user.source,
        "external_reference": user.external_reference,
        "business_name": shop.business_name if shop is not None else None,
        "business_description": shop.business_description if shop is not None else None,
        "website_url": shop.website_url if shop is not None else None,
    }


def created(done: edits.Invited) -> dict[str, Any]:
    """A new account, whether its owner was sent the link to set a password, and the first permissions."""
    told = details(done.user) | {"invitation_sent": done.link_sent}
    return told | given(done.user, done.permissions) if done.permissions else told


def page_of_users(page: Page, wanted: Wanted, filters: Mapping[str, str]) -> dict[str, Any]:
    """A page of accounts in the contract's form."""
    return {
        "users": [summary(user) for user in page.rows],
        **paging(page, wanted),
        "filters_applied": filters,
    }


def paging(page: Page, wanted: Wanted) -> dict[str, Any]:
    """Where a page stands in its list."""
    return {
        "total": page.total,
        "total_is_estimate": page.total_is_estimate,
        "page": wanted.page,
        "size": wanted.size,
        "skip": wanted.offset,
        "offset": wanted.offset,
        "limit": wanted.size,
        "total_pages": -(-page.total // wanted.size),
        "has_next": page.next_cursor is not None,
        "has_previous": page.has_previous,
        "next_cursor": page.next_cursor,
    }


def statistics(found: user_lists.Statistics) -> dict[str, Any]:
    """The figures under the contract's names."""
    named = {_FIGURES[name]: figure for name, figure in found.figures.items()}
    return {**named, "isEstimate": found.is_estimate}


def summary_statistics(found: user_lists.Statistics) -> dict[str, Any]:
    """The figures beside a list."""
    return {**found.figures, "is_estimate": found.is_estimate}


def bulk_result(result: bulk.Result, by: User) -> dict[str, Any]:
    """What became of each account."""
    return {
        "success": not result.failed,
        "action": result.action,
        "total_requested": result.total,
        "successful": len(result.successful),
        "failed": len(result.failed),
        "successful_users": result.successful,
        "failed_users": [
            {"user_id": item.user_id, "error_code": item.code, "error": item.message}
            for item in result.failed
        ],
        "unchanged_users": result.unchanged,
        "warnings": [],
        "processed_at": timezone.now(),
        "processed_by": by.pk,
    }


def deleted(done: deletion.Deletion, reason: str, by: User) -> dict[str, Any]:
    """What deleting an account came to."""
    return {
        "success": True,
        "user_id": done.user.pk,
        "email": done.user.email,
        "deleted_at": done.deleted_at,
        "dependencies_checked": dict(done.dependencies.counts),
        "data_cleanup": {"sessions_ended": True, "can_be_restored": True},
        "warnings": done.warnings,
        "deleted_by": by.pk,
        "reason": reason or None,
    }


def dependencies(user_id: Any, found: deletion.Dependencies) -> dict[str, Any]:
    """What refers to an account."""
    return {
        "user_id": user_id,
        "dependencies": dict(found.counts),
        "blocking": dict(found.blocking),
        "total": sum(found.counts.values()),
        "counted_up_to": deletion.COUNTED,
        "can_be_removed": not found.blocking,
    }


def grant(row: Grant) -> dict[str, Any]:
    """One permission that somebody holds by a grant."""
    return {
        "id": row.pk,
        "permission": permission(row.permission),
        "granted_at": row.granted_at,
        "granted_by": row.granted_by_label,
        "expires_at": row.expires_at,
        "is_active": row.is_active,
        "reason": row.reason,
    }


def permission(row: Permission) -> dict[str, Any]:
    """One permission."""
    return {
        "id": row.pk,
        "name": row.name,
        "resource": row.resource,
        "action": row.action,
        "scope": row.scope,
        "required_clearance_level": row.required_clearance,
        "risk_level": row.risk,
        "requires_mfa": row.requires_mfa,
        "requires_approval": row.requires_approval,
    }


def given(user: User, done: Sequence[Grant | ApprovalRequest]) -> dict[str, Any]:
    """What became of several permissions."""
    return {
        "success": True,
        "user_id": user.pk,
        "permissions": [grant(row) for row in done if isinstance(row, Grant)],
        "waiting_for_approval": [waiting(row) for row in done if isinstance(row, ApprovalRequest)],
    }


def waiting(request: ApprovalRequest) -> dict[str, Any]:
    """Something that waits for a second person."""
    return {
        "id": request.pk,
        "action": request.action,
        "details": request.details,
        "state": request.state,
        "expires_at": request.expires_at,
    }


def history(found: History) -> dict[str, Any]:
    """A page of the audit trail."""
    return {"results": happened(found.events), "next": found.next_cursor}


def happened(rows: Iterable[AuditEvent]) -> list[dict[str, Any]]:
    """Events of the audit trail, without what is sealed in them."""
    return [_event(row) for row in rows]


def vendor(profile: VendorProfile) -> dict[str, Any]:
    """A shop with its account, as the back office sees it."""
    user = profile.user
    return {
        **own_profile(profile),
        "vendor_id": user.pk,
        "email": user.email,
        "full_name": user.get_full_name(),
        "telefono": user.telefono,
        "is_active": user.is_active,
        "decided_at": profile.decided_at,
        "decision_reason": profile.decision_reason or None,
        "last_login": user.last_login,
    }


def own_profile(profile: VendorProfile) -> dict[str, Any]:
    """A shop as its vendor sees it."""
    named = {name: getattr(profile, name) for name in vendors.PROFILE}
    return {
        "id": profile.pk,
        "vendor_status": profile.vendor_status,
        **named,
        "avatar_url": profile.avatar_url or None,
        "social_media_links": profile.social_media_links or {},
        "business_hours": profile.business_hours or {},
        "notification_preferences": profile.notification_preferences or {},
        "created_at": profile.created_at,
        "updated_at": profile.updated_at,
    }


def note(row: VendorNote) -> dict[str, Any]:
    """A remark about a vendor."""
    return {"id": row.pk, "text": row.text, "author": row.author_label, "created_at": row.created_at}


def document(row: VendorDocument) -> dict[str, Any]:
    """Where a document stands."""
    return {
        "id": row.pk,
        "document_type": row.kind,
        "file_name": row.file_name,
        "sha256": row.digest,
        "status": row.status,
        "reason": row.reason or None,
        "reviewed_by": row.reviewed_by_label or None,
        "reviewed_at": row.reviewed_at,
        "created_at": row.created_at,
    }


def _shop(user: User) -> VendorProfile | None:
    # Read with the account: asking for it here would be one statement per line.
    return user._state.fields_cache.get("vendor_profile")


def _event(row: AuditEvent) -> dict[str, Any]:
    try:
        entry = events.get(row.type)
        category, description = str(entry.category), _(entry.description)
    except events.UnknownEvent:
        category = description = ""
    return {
        "id": row.id,
        "event": row.type,
        "category": category,
        "description": description,
        "result": row.outcome,
        "occurred_at": row.occurred_at,
        "actor": {"kind": row.actor_kind, "id": row.actor_id, "role": row.actor_role},
        "target": {"kind": row.target_type, "id": row.target_id},
        "session_id": row.session_id,
        "request_id": row.request_id,
    }
