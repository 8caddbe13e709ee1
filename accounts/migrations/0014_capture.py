"""Changes of people, permissions, decisions and factors are captured by the database.

Not watched: codes, links, challenges, counters, use of grants and known devices. They live for minutes or
change with every use, and what comes of them is an event of its own or a change in one of these tables. Names
of other people kept beside their ids are declared secret: the id says who, and the name could not be erased.
"""

from __future__ import annotations

from django.db import migrations

from monitoring.capture import CaptureTable


class Migration(migrations.Migration):
    atomic = False  # each table is locked alone, and only for its own moment

    dependencies = [
        ("accounts", "0013_last_strong_login"),
        ("monitoring", "0006_capture"),
    ]

    operations = [
        CaptureTable(
            "accounts_user",
            subject="id",
            plain=[
                "id", "user_type", "is_active", "account_verified", "email_verified", "phone_verified",
                "locked_until", "security_clearance_level", "department_id", "auth_epoch", "force_password_change",
                "password_flag", "password_flagged_at", "password_changed_at", "password_rehashed_at", "language",
                "source", "external_reference", "created_at", "deleted_at",
            ],
            personal=[
                "email", "email_key", "recovery_email", "nombre", "apellido", "telefono", "ciudad", "empresa",
                "direccion", "employee_id",
            ],
            secret=["password"],
            ignored=["last_login", "last_strong_login", "updated_at", "password_reminded_at"],
        ),
        CaptureTable(
            "accounts_permission",
            plain=[
                "id", "name", "resource", "action", "scope", "required_clearance", "risk", "requires_mfa",
                "requires_approval", "is_system", "conditions",
            ],
        ),
        CaptureTable(
            "accounts_grant",
            subject="user_id",
            plain=[
                "id", "user_id", "permission_id", "granted_by_id", "granted_at", "expires_at", "conditions",
                "revoked_at",
            ],
            personal=["reason", "revoked_why"],
            secret=["granted_by_label", "revoked_by_label"],
        ),
        CaptureTable(
            "accounts_approvalrequest",
            subject="about_id",
            plain=[
                "id", "action", "target_type", "target_id", "about_id", "asked_by_id", "asked_at", "expires_at",
                "state", "decided_by_id", "decided_at",
            ],
            personal=["details", "reason", "decided_why"],
            secret=["fingerprint", "seal", "asked_by_label", "decided_by_label"],
        ),
        CaptureTable(
            "accounts_accessreview",
            plain=[
                "id", "started_at", "started_by_id", "finished_at", "finished_by_id", "outcome_digest",
            ],
            secret=["started_by_label", "finished_by_label", "seal"],
        ),
        CaptureTable(
            "accounts_accessreviewitem",
            plain=["id", "review_id", "grant_id", "last_used_at", "outcome", "decided_at", "decided_by_id"],
            personal=["reason"],
            secret=["decided_by_label"],
        ),
        CaptureTable(
            "accounts_breakglass",
            subject="user_id",
            plain=["id", "user_id", "sealed_at", "replaced_at", "opened_at", "open_until", "closed_at"],
            personal=["opened_from"],
            secret=["code_hash", "sealed_by_label"],
        ),
        CaptureTable(
            "accounts_totpdevice",
            subject="user_id",
            plain=["id", "user_id", "confirmed", "created_at", "confirmed_at", "expires_at", "bound_session"],
            personal=["name", "bound_address"],
            secret=["secret"],
            ignored=["last_step", "last_used_at", "attempts"],
        ),
        CaptureTable(
            "accounts_passkey",
            subject="user_id",
            plain=[
                "id", "user_id", "confirmed", "aaguid", "backup_eligible", "backed_up", "transports", "created_at",
                "bound_session", "suspended_at", "suspended_why",
            ],
            personal=["name", "bound_address"],
            secret=["credential_id", "public_key", "seal"],
            ignored=["sign_count", "last_used_at"],
        ),
        CaptureTable(
            "accounts_backupcodeset",
            subject="user_id",
            plain=["id", "user_id", "confirmed", "generation", "created_at"],
            personal=["name"],
        ),
        CaptureTable(
            "accounts_backupcode",
            plain=["id", "code_set_id", "generation", "created_at", "used_at"],
            secret=["selector", "verifier", "next_selector", "next_verifier"],
        ),
        CaptureTable(
            "accounts_factorfreeze",
            key="user_id",
            plain=["user_id", "why", "placed_at", "until"],
        ),
        CaptureTable(
            "accounts_factorreset",
            subject="user_id",
            plain=["id", "user_id", "proofs", "requested_at", "due_at", "cancelled_at", "carried_out_at"],
            personal=["cancelled_by"],
            secret=["cancel_hash"],
        ),
        CaptureTable(
            "accounts_identitycard",
            key="user_id",
            plain=["user_id"],
            secret=["number", "number_index"],
        ),
        CaptureTable(
            "accounts_vendorprofile",
            key="user_id",
            subject="user_id",
            plain=[
                "user_id", "vendor_status", "business_type", "primary_category", "terms_accepted_at", "decided_at",
                "notification_preferences", "created_at",
            ],
            personal=[
                "business_name", "business_description", "website_url", "city", "state", "postal_code",
                "avatar_url", "shipping_policy", "return_policy", "social_media_links", "business_hours",
                "decision_reason",
            ],
            ignored=["updated_at"],
        ),
        CaptureTable(
            "accounts_vendordocument",
            subject="vendor_id",
            plain=["id", "vendor_id", "kind", "digest", "status", "reviewed_at", "created_at"],
            personal=["file_name", "reason"],
            secret=["reviewed_by_label"],
        ),
        CaptureTable(
            "accounts_vendornote",
            subject="vendor_id",
            plain=["id", "vendor_id", "author_id", "created_at"],
            personal=["text"],
            secret=["author_label"],
        ),
    ]  # fmt: skip
