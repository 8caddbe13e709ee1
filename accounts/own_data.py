"""What accounts keep about a person, for the archive that they may ask for. Never a secret, never a hash."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from accounts import grants
from accounts.models import (
    BackupCodeSet,
    Consent,
    DataRequest,
    Grant,
    IdentityCard,
    KnownDevice,
    Passkey,
    TotpDevice,
    User,
    VendorDocument,
    VendorNote,
    VendorProfile,
)
from mestore.lib.own_data import Row, Section, register

_ACCOUNT = (
    "id", "email", "recovery_email", "nombre", "apellido", "telefono", "ciudad", "empresa", "direccion",
    "user_type", "employee_id", "department_id", "language", "is_active", "account_verified",
    "email_verified", "phone_verified", "created_at", "last_login",
    "password_changed_at", "source", "external_reference",
)  # fmt: skip
_SHOP = (
    "vendor_status", "business_name", "business_description", "website_url", "city", "state", "postal_code",
    "business_type", "primary_category", "terms_accepted_at", "avatar_url", "shipping_policy",
    "return_policy", "social_media_links", "business_hours", "notification_preferences", "decided_at",
    "decision_reason", "created_at",
)  # fmt: skip
_CONSENT = (
    "document", "version", "language", "text_sha256", "purposes", "given", "at", "channel", "session_id",
)  # fmt: skip
_REQUEST = ("id", "kind", "state", "reason", "asked_at", "due_on", "decided_at", "answer", "kept")
_FACTORS: tuple[tuple[str, type[Any]], ...] = (
    ("totp", TotpDevice), ("passkey", Passkey), ("backup_codes", BackupCodeSet),
)  # fmt: skip


def account(person_id: UUID) -> Iterator[Row]:
    """Yield the account, with the number of the identity card where there is one."""
    card = IdentityCard.objects.filter(user_id=person_id).first()
    for row in User.objects.filter(pk=person_id).values(*_ACCOUNT):
        yield {**row, "cedula": card.number if card is not None else None}


def shop(person_id: UUID) -> Iterator[Row]:
    """Yield a vendor's shop, what was handed in for it, and what the staff remarked about it."""
    for row in VendorProfile.objects.filter(user_id=person_id).values(*_SHOP):
        yield {"kind": "shop", **row}
    documents = VendorDocument.objects.filter(vendor_id=person_id).order_by("id")
    for row in documents.values("file_name", "digest", "status", "reason", "reviewed_at", "created_at"):
        yield {"kind": "document", **row}
    for row in VendorNote.objects.filter(vendor_id=person_id).order_by("id").values("text", "created_at"):
        yield {"kind": "note", **row}


def consents(person_id: UUID) -> Iterator[Row]:
    """Yield every decision about a text, oldest first."""
    yield from Consent.objects.filter(person_id=person_id).order_by("id").values(*_CONSENT).iterator()


def requests(person_id: UUID) -> Iterator[Row]:
    """Yield what the person asked about their own data."""
    yield from DataRequest.objects.filter(person_id=person_id).order_by("id").values(*_REQUEST).iterator()


def security(person_id: UUID) -> Iterator[Row]:
    """Yield the factors and known browsers of an account: names and moments, no secret."""
    for kind, model in _FACTORS:
        for row in model.objects.filter(user_id=person_id).order_by("pk").values("name", "created_at"):
            yield {"kind": kind, **row}
    devices = KnownDevice.objects.filter(user_id=person_id).order_by("id")
    for row in devices.values("name", "address", "created_at", "last_used_at", "expires_at"):
        yield {"kind": "known_device", **row}


def permissions(person_id: UUID) -> Iterator[Row]:
    """Yield the grants of an account, also those that ended, and what its role brings."""
    user = User.objects.filter(pk=person_id).first()
    if user is not None:
        yield {"kind": "in_force", "names": sorted(grants.held(user))}
    rows = Grant.objects.filter(user_id=person_id).order_by("id")
    for row in rows.values("permission__name", "reason", "granted_at", "expires_at", "revoked_at").iterator():
        named = {name.replace("permission__name", "permission"): value for name, value in row.items()}
        yield {"kind": "grant", **named}


def register_sections() -> None:
    """Make the sections known; called when Django starts."""
    register(Section("account", "the account and who it belongs to", account))
    register(Section("shop", "a vendor's shop, documents, and remarks of the staff", shop))
    register(Section("consents", "what was agreed to, refused or taken back", consents))
    register(Section("data_requests", "requests about one's own data", requests))
    register(Section("security", "second factors and known browsers", security))
    register(Section("permissions", "permissions, now and earlier", permissions))
