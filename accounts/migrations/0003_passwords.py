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
    ]
