"""Passkeys and the challenges they answer."""

import django.contrib.postgres.fields
import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import accounts.models.factor
import mestore.lib.ids


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0004_factors"),
    ]

    operations = [
        migrations.CreateModel(
            name="PasskeyChallenge",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("challenge_hash", models.BinaryField(max_length=32, unique=True)),
                (
                    "purpose",
                    models.CharField(
                        choices=[
                            ("register", "registration"),
                            ("sign_in", "sign-in without a password"),
                            ("second_factor", "second factor"),
                            ("step_up", "confirmation"),
                        ],
                        editable=False,
                        max_length=16,
                    ),
                ),
                ("bound_to", models.CharField(blank=True, editable=False, max_length=64)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("expires_at", models.DateTimeField(editable=False)),
                ("used_at", models.DateTimeField(editable=False, null=True)),
            ],
            options={
                "verbose_name": "passkey challenge",
                "verbose_name_plural": "passkey challenges",
                "indexes": [models.Index(fields=["expires_at"], name="passkey_challenge_end")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("purpose__in", ["register", "sign_in", "second_factor", "step_up"])
                        ),
                        name="passkey_challenge_purpose_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("expires_at__gt", models.F("created_at"))),
                        name="passkey_challenge_ends_after_start",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Passkey",
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
                ("name", models.CharField(max_length=64, verbose_name="name")),
                ("confirmed", models.BooleanField(default=True, verbose_name="confirmed")),
                ("credential_id", models.BinaryField(max_length=1023, unique=True)),
                ("public_key", models.BinaryField()),
                ("seal", models.BinaryField(max_length=32)),
                ("sign_count", models.BigIntegerField(default=0, editable=False)),
                ("aaguid", models.UUIDField(editable=False, verbose_name="model of the authenticator")),
                ("backup_eligible", models.BooleanField(editable=False, verbose_name="may be synchronised")),
                ("backed_up", models.BooleanField(editable=False, verbose_name="is synchronised")),
                (
                    "transports",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=16), default=list, editable=False, size=None
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, editable=False, verbose_name="created"
                    ),
                ),
                ("last_used_at", models.DateTimeField(editable=False, null=True, verbose_name="last used")),
                (
                    "bound_session",
                    models.UUIDField(editable=False, null=True, verbose_name="session of binding"),
                ),
                (
                    "bound_address",
                    models.CharField(
                        blank=True, editable=False, max_length=45, verbose_name="address of binding"
                    ),
                ),
                ("suspended_at", models.DateTimeField(editable=False, null=True, verbose_name="suspended")),
                (
                    "suspended_why",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("counter", "its counter went back: there may be a copy of it"),
                            ("nature", "it no longer is the kind of key that was registered"),
                        ],
                        editable=False,
                        max_length=16,
                        verbose_name="suspended because",
                    ),
                ),
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
                "verbose_name": "passkey",
                "verbose_name_plural": "passkeys",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("confirmed", True), ("suspended_at", None), ("suspended_why", "")),
                            models.Q(
                                ("confirmed", False),
                                ("suspended_at__isnull", False),
                                models.Q(("suspended_why", ""), _negated=True),
                            ),
                            _connector="OR",
                        ),
                        name="passkey_suspension_has_reason",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("backup_eligible", True), ("backed_up", False), _connector="OR"),
                        name="passkey_backup_is_possible",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("sign_count__gte", 0)), name="passkey_counter_not_negative"
                    ),
                ],
            },
        ),
    ]
