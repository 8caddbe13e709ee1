"""Reset links, changes of address, the second address, and why a password must change."""

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import mestore.lib.ids


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_verification"),
    ]

    operations = [
        migrations.AddField(
            model_name="user",
            name="locked_until",
            field=models.DateTimeField(blank=True, editable=False, null=True, verbose_name="locked until"),
        ),
        migrations.AddField(
            model_name="user",
            name="password_flag",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                editable=False,
                max_length=8,
                verbose_name="why the password must change",
            ),
        ),
        migrations.AddField(
            model_name="user",
            name="password_flagged_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="user",
            name="password_reminded_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="user",
            name="recovery_email",
            field=models.CharField(
                blank=True, db_default="", default="", max_length=254, verbose_name="second address"
            ),
        ),
        migrations.AddField(
            model_name="vendorprofile",
            name="avatar_url",
            field=models.CharField(
                blank=True, db_default="", default="", max_length=500, verbose_name="picture"
            ),
        ),
        migrations.AddField(
            model_name="vendorprofile",
            name="business_hours",
            field=models.JSONField(blank=True, null=True, verbose_name="business hours"),
        ),
        migrations.AddField(
            model_name="vendorprofile",
            name="decided_at",
            field=models.DateTimeField(blank=True, editable=False, null=True, verbose_name="decided"),
        ),
        migrations.AddField(
            model_name="vendorprofile",
            name="decision_reason",
            field=models.CharField(
                blank=True, db_default="", default="", editable=False, max_length=500, verbose_name="why"
            ),
        ),
        migrations.AddField(
            model_name="vendorprofile",
            name="notification_preferences",
            field=models.JSONField(blank=True, null=True, verbose_name="notifications"),
        ),
        migrations.AddField(
            model_name="vendorprofile",
            name="return_policy",
            field=models.TextField(
                blank=True, db_default="", default="", max_length=2000, verbose_name="return policy"
            ),
        ),
        migrations.AddField(
            model_name="vendorprofile",
            name="shipping_policy",
            field=models.TextField(
                blank=True, db_default="", default="", max_length=2000, verbose_name="shipping policy"
            ),
        ),
        migrations.AddField(
            model_name="vendorprofile",
            name="social_media_links",
            field=models.JSONField(blank=True, null=True, verbose_name="social media"),
        ),
        migrations.CreateModel(
            name="VendorNote",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("text", models.TextField(max_length=2000, verbose_name="note")),
                ("author_label", models.CharField(max_length=254, verbose_name="written by")),
                (
                    "created_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, editable=False, verbose_name="created"
                    ),
                ),
                (
                    "author",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "vendor",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="AddressChange",
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
                        choices=[("PRIMARY", "e-mail"), ("RECOVERY", "second address")],
                        editable=False,
                        max_length=8,
                    ),
                ),
                ("address", models.CharField(editable=False, max_length=254)),
                ("former", models.CharField(blank=True, editable=False, max_length=254)),
                ("token_hash", models.BinaryField(max_length=32, unique=True)),
                ("cancel_hash", models.BinaryField(max_length=32, unique=True)),
                ("auth_epoch", models.PositiveIntegerField(editable=False)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("expires_at", models.DateTimeField(editable=False)),
                ("confirmed_at", models.DateTimeField(editable=False, null=True)),
                ("cancelled_at", models.DateTimeField(editable=False, null=True)),
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
                "indexes": [models.Index(fields=["expires_at"], name="address_change_by_end")],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("cancelled_at", None), ("confirmed_at", None)),
                        fields=("user", "kind"),
                        name="address_change_one_open",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("kind__in", ["PRIMARY", "RECOVERY"])),
                        name="address_change_kind_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("confirmed_at", None), ("cancelled_at", None), _connector="OR"),
                        name="address_change_one_end",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("expires_at__gt", models.F("created_at"))),
                        name="address_change_ends_after_start",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="PasswordReset",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("token_hash", models.BinaryField(max_length=32, unique=True)),
                ("auth_epoch", models.PositiveIntegerField(default=0, editable=False)),
                ("started_by", models.CharField(blank=True, editable=False, max_length=64)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("expires_at", models.DateTimeField(editable=False)),
                ("used_at", models.DateTimeField(editable=False, null=True)),
                (
                    "user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["expires_at"], name="password_reset_by_end")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("expires_at__gt", models.F("created_at"))),
                        name="password_reset_ends_after_start",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="VendorDocument",
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
                (
                    "vendor",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
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
    ]
