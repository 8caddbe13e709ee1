"""Changes of sessions, machine clients, keys, cutoffs and impersonations are captured by the database.

Of a session its beginning, its end and a change of where it is: not that it was used. Not watched: attempts,
proofs, tokens, sealed payloads, reputations and samples, which change with every use.
"""

from __future__ import annotations

from django.db import migrations

from monitoring.capture import CaptureTable


class Migration(migrations.Migration):
    atomic = False  # each table is locked alone, and only for its own moment

    dependencies = [
        ("sessions_security", "0004_continuity"),
        ("monitoring", "0006_capture"),
    ]

    operations = [
        CaptureTable(
            "sessions_security_usersession",
            subject="user_id",
            plain=[
                "id", "user_id", "kind", "amr", "created_at", "absolute_expires_at", "auth_epoch", "client_id",
                "device_id", "revoked_at", "revoked_why",
            ],
            personal=["address", "network", "agent", "country", "confirmed_networks", "revoked_by"],
            secret=["bound_key"],
            ignored=["last_seen_at", "idle_expires_at", "risk"],
        ),
        CaptureTable(
            "sessions_security_machineclient",
            subject="user_id",
            plain=[
                "id", "client_id", "user_id", "networks", "previous_key_until", "rotated_at", "method",
                "requires_dpop", "is_active", "created_at",
            ],
            secret=["key_hash", "previous_key_hash"],
        ),
        CaptureTable(
            "sessions_security_clientkey",
            plain=["id", "client_id", "kid", "algorithm", "public_jwk", "created_at", "revoked_at"],
        ),
        CaptureTable(
            "sessions_security_signingkey",
            key="kid",
            plain=["kid", "state", "public_key", "created_at", "verify_until"],
            secret=["sealed_private_key"],
        ),
        CaptureTable(
            "sessions_security_sessioncutoff",
            plain=["id", "at"],
            personal=["reason", "asked_by", "approved_by"],
        ),
        CaptureTable(
            "sessions_security_impersonation",
            key="session_id",
            subject="user_id",
            plain=["session_id", "origin_id", "impersonator_id", "user_id", "started_at", "ends_at"],
            personal=["reason"],
        ),
    ]  # fmt: skip
