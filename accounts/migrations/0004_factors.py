"""Backup codes, recovery, and what is known about the binding of an authenticator application."""

import django.contrib.postgres.fields
import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import accounts.models.factor
import mestore.lib.ids
from accounts.migrations import _totp_binding


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0003_passwords"),
    ]

    operations = [
        migrations.AddField(
            model_name="totpdevice",
            name="attempts",
            field=models.PositiveSmallIntegerField(db_default=0, default=0, editable=False),
        ),
        migrations.AddField(
            model_name="totpdevice",
            name="bound_address",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                editable=False,
                max_length=45,
                verbose_name="address of binding",
            ),
        ),
        migrations.AddField(
            model_name="totpdevice",
            name="bound_session",
            field=models.UUIDField(editable=False, null=True, verbose_name="session of binding"),
        ),
        migrations.AddField(
            model_name="totpdevice",
            name="expires_at",
            field=models.DateTimeField(editable=False, null=True, verbose_name="waits until"),
        ),
        migrations.CreateModel(
            name="BackupCodeSet",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        default=accounts.models.factor.new_device_id,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("name", models.CharField(blank=True, default="", editable=False, max_length=64)),
                ("confirmed", models.BooleanField(default=True, editable=False)),
                ("generation", models.UUIDField(default=mestore.lib.ids.uuid7, editable=False)),
                (
                    "created_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, editable=False, verbose_name="created"
                    ),
                ),
                (
                    "user",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "set of backup codes",
                "verbose_name_plural": "sets of backup codes",
            },
        ),
        migrations.CreateModel(
            name="BackupCode",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("generation", models.UUIDField(editable=False)),
                ("selector", models.CharField(max_length=4)),
                ("verifier", models.CharField(max_length=255)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("used_at", models.DateTimeField(editable=False, null=True)),
                (
                    "code_set",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="codes",
                        to="accounts.backupcodeset",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("code_set", "generation", "selector"), name="backup_code_found_once"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="FactorReset",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "proofs",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=16),
                        editable=False,
                        size=None,
                        verbose_name="proofs",
                    ),
                ),
                ("cancel_hash", models.BinaryField(max_length=32, unique=True)),
                (
                    "requested_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, editable=False, verbose_name="requested"
                    ),
                ),
                ("due_at", models.DateTimeField(verbose_name="takes effect")),
                ("cancelled_at", models.DateTimeField(editable=False, null=True, verbose_name="cancelled")),
                (
                    "cancelled_by",
                    models.CharField(blank=True, editable=False, max_length=64, verbose_name="cancelled by"),
                ),
                (
                    "carried_out_at",
                    models.DateTimeField(editable=False, null=True, verbose_name="carried out"),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="account",
                    ),
                ),
            ],
            options={
                "verbose_name": "factor reset",
                "verbose_name_plural": "factor resets",
                "indexes": [
                    models.Index(
                        condition=models.Q(("cancelled_at", None), ("carried_out_at", None)),
                        fields=["due_at"],
                        name="factor_reset_due",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("cancelled_at", None), ("carried_out_at", None)),
                        fields=("user",),
                        name="factor_reset_one_open",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("cancelled_at", None), ("carried_out_at", None), _connector="OR"),
                        name="factor_reset_one_end",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("due_at__gte", models.F("requested_at"))),
                        name="factor_reset_due_after_request",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="RecoveryCase",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("token_hash", models.BinaryField(max_length=32, unique=True)),
                ("code_hash", models.BinaryField(max_length=32, null=True)),
                ("code_expires_at", models.DateTimeField(editable=False, null=True)),
                ("attempts", models.PositiveSmallIntegerField(default=0, editable=False)),
                (
                    "proofs",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=16), default=list, editable=False, size=None
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, editable=False, verbose_name="opened"
                    ),
                ),
                ("expires_at", models.DateTimeField(verbose_name="ends")),
                ("completed_at", models.DateTimeField(editable=False, null=True, verbose_name="completed")),
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
                "verbose_name": "recovery case",
                "verbose_name_plural": "recovery cases",
                "indexes": [models.Index(fields=["expires_at"], name="recovery_case_end")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("expires_at__gt", models.F("created_at"))),
                        name="recovery_case_ends_after_start",
                    )
                ],
            },
        ),
        migrations.RunPython(_totp_binding.to_row_and_account, _totp_binding.to_row),
    ]
