"""Locks that grow, pairs of account and network, known devices, factors that are suspended."""

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import mestore.lib.ids


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0005_passkeys"),
    ]

    operations = [
        migrations.AddField(
            model_name="lockoutcounter",
            name="locks",
            field=models.PositiveSmallIntegerField(db_default=0, verbose_name="locks"),
        ),
        migrations.AddField(
            model_name="lockoutcounter",
            name="locks_end_at",
            field=models.DateTimeField(null=True, verbose_name="locks forgotten"),
        ),
        migrations.AddField(
            model_name="lockoutcounter",
            name="account_key",
            field=models.BinaryField(max_length=32, null=True),
        ),
        migrations.CreateModel(
            name="FactorStreak",
            fields=[
                ("key", models.BinaryField(max_length=32, primary_key=True, serialize=False)),
                ("method", models.CharField(max_length=16, verbose_name="factor")),
                ("wrong", models.PositiveIntegerField(verbose_name="wrong in a row")),
                (
                    "last_at",
                    models.DateTimeField(default=django.utils.timezone.now, verbose_name="last failure"),
                ),
                ("suspended_at", models.DateTimeField(null=True, verbose_name="suspended")),
            ],
            options={
                "verbose_name": "wrong answers in a row",
                "verbose_name_plural": "wrong answers in a row",
            },
        ),
        migrations.CreateModel(
            name="KnownDevice",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("token_hash", models.BinaryField(max_length=32, unique=True)),
                ("name", models.CharField(blank=True, max_length=200, verbose_name="device")),
                ("address", models.GenericIPAddressField(null=True, verbose_name="address")),
                (
                    "created_at",
                    models.DateTimeField(
                        default=django.utils.timezone.now, editable=False, verbose_name="known since"
                    ),
                ),
                (
                    "last_used_at",
                    models.DateTimeField(editable=False, null=True, verbose_name="last sign-in"),
                ),
                ("expires_at", models.DateTimeField(editable=False, verbose_name="known until")),
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
                "verbose_name": "known device",
                "verbose_name_plural": "known devices",
                "indexes": [models.Index(fields=["expires_at"], name="known_device_by_end")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("expires_at__gt", models.F("created_at"))),
                        name="known_device_ends_after_start",
                    )
                ],
            },
        ),
    ]
