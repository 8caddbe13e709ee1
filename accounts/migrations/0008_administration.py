"""What the administration of people and vendors writes down: locks, decisions, notes, documents.

New columns are nullable or have a default of the database: processes of the version before go on working.
"""

from __future__ import annotations

from typing import Any

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import mestore.lib.ids
from accounts.migrations import _administration


def _person(**options: Any) -> models.ForeignKey[Any, Any]:
    return models.ForeignKey(related_name="+", to=settings.AUTH_USER_MODEL, **options)


def _identity() -> models.UUIDField[Any, Any]:
    return models.UUIDField(default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False)


def _text(label: str, kind: Any = models.TextField, **options: Any) -> Any:
    return kind(label, blank=True, default="", db_default="", **options)


class Migration(migrations.Migration):
    dependencies = [("accounts", "0007_permissions")]

    operations = [
        migrations.AddField(
            "user",
            "locked_until",
            models.DateTimeField("locked until", null=True, blank=True, editable=False),
        ),
        migrations.AddField(
            "vendorprofile", "avatar_url", _text("picture", models.CharField, max_length=500)
        ),
        migrations.AddField("vendorprofile", "shipping_policy", _text("shipping policy", max_length=2000)),
        migrations.AddField("vendorprofile", "return_policy", _text("return policy", max_length=2000)),
        migrations.AddField(
            "vendorprofile", "social_media_links", models.JSONField("social media", null=True, blank=True)
        ),
        migrations.AddField(
            "vendorprofile", "business_hours", models.JSONField("business hours", null=True, blank=True)
        ),
        migrations.AddField(
            "vendorprofile",
            "notification_preferences",
            models.JSONField("notifications", null=True, blank=True),
        ),
        migrations.AddField(
            "vendorprofile",
            "decided_at",
            models.DateTimeField("decided", null=True, blank=True, editable=False),
        ),
        migrations.AddField(
            "vendorprofile",
            "decision_reason",
            _text("why", models.CharField, max_length=500, editable=False),
        ),
        migrations.CreateModel(
            name="VendorNote",
            fields=[
                ("id", _identity()),
                ("text", models.TextField(max_length=2000, verbose_name="note")),
                ("author_label", models.CharField(max_length=254, verbose_name="written by")),
                (
                    "created_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, editable=False, verbose_name="created"
                    ),
                ),
                ("author", _person(null=True, on_delete=django.db.models.deletion.SET_NULL)),
                ("vendor", _person(on_delete=django.db.models.deletion.CASCADE)),
            ],
        ),
        migrations.CreateModel(
            name="VendorDocument",
            fields=[
                ("id", _identity()),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("cedula", "identity card"),
                            ("rut", "tax registration"),
                            ("camara_comercio", "chamber of commerce"),
                            ("certificado_bancario", "bank certificate"),
                            ("otro", "other"),
                        ],
                        max_length=24,
                        verbose_name="kind",
                    ),
                ),
                ("file_name", models.CharField(max_length=200, verbose_name="file name")),
                ("digest", models.CharField(max_length=64, verbose_name="SHA-256")),
                (
                    "status",
                    models.CharField(
                        choices=[("pending", "pending"), ("verified", "verified"), ("rejected", "rejected")],
                        default="pending",
                        max_length=10,
                        verbose_name="status",
                    ),
                ),
                ("reason", models.CharField(blank=True, max_length=500, verbose_name="why")),
                (
                    "reviewed_by_label",
                    models.CharField(blank=True, max_length=254, verbose_name="reviewed by"),
                ),
                ("reviewed_at", models.DateTimeField(blank=True, null=True, verbose_name="reviewed")),
                (
                    "created_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, editable=False, verbose_name="created"
                    ),
                ),
                ("vendor", _person(on_delete=django.db.models.deletion.CASCADE)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("vendor", "digest"), name="vendor_document_once"),
                    models.CheckConstraint(
                        condition=models.Q(("status__in", ["pending", "verified", "rejected"])),
                        name="vendor_document_status_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("status", "pending"), ("reviewed_at__isnull", False), _connector="OR"
                        ),
                        name="vendor_document_review_has_moment",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("digest__regex", "^[0-9a-f]{64}$")),
                        name="vendor_document_digest_is_sha256",
                    ),
                ],
            },
        ),
        migrations.RunPython(_administration.insert_permissions, _administration.remove_permissions),
    ]
