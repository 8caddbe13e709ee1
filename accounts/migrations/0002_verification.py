"""Verification codes, and what registration knows of a person: identity card, language, kind of business.

New columns are nullable or have a default of the database: processes of the version before go on working.
"""

from __future__ import annotations

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import mestore.lib.fields
import mestore.lib.ids


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]

    operations = [
        migrations.AddField(
            "user",
            "language",
            models.CharField("language", max_length=8, blank=True, default="", db_default=""),
        ),
        migrations.AddField(
            "vendorprofile",
            "business_type",
            models.CharField(
                "kind of business",
                max_length=20,
                blank=True,
                default="",
                db_default="",
                choices=[("persona_natural", "natural person"), ("empresa", "company")],
            ),
        ),
        migrations.AddField(
            "vendorprofile",
            "primary_category",
            models.CharField("category", max_length=32, blank=True, default="", db_default=""),
        ),
        migrations.AddField(
            "vendorprofile",
            "terms_accepted_at",
            models.DateTimeField("terms accepted", null=True, blank=True, editable=False),
        ),
        migrations.CreateModel(
            name="IdentityCard",
            fields=[
                (
                    "user",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("number", mestore.lib.fields.EncryptedField(editable=False)),
                ("number_index", models.BinaryField(editable=False, max_length=32, unique=True)),
            ],
        ),
        migrations.CreateModel(
            name="VerificationCode",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("EMAIL", "e-mail"), ("SMS", "telephone")], editable=False, max_length=5
                    ),
                ),
                ("request", models.UUIDField(editable=False)),
                ("code_mac", models.BinaryField(editable=False, max_length=32)),
                ("attempts", models.PositiveSmallIntegerField(default=0, editable=False)),
                ("sent_at", models.DateTimeField(editable=False)),
                ("expires_at", models.DateTimeField(editable=False)),
                ("used_at", models.DateTimeField(editable=False, null=True)),
                ("window_ends_at", models.DateTimeField(editable=False)),
                ("sends", models.PositiveSmallIntegerField(default=1, editable=False)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["window_ends_at"], name="verification_by_end")],
                "constraints": [
                    models.UniqueConstraint(fields=("user", "kind"), name="verification_one_per_kind"),
                    models.CheckConstraint(
                        condition=models.Q(("kind__in", ["EMAIL", "SMS"])), name="verification_kind_known"
                    ),
                ],
            },
        ),
    ]
