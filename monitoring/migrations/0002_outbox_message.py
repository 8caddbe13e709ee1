"""Messages that wait to be sent. A new table: nothing waits for it."""

import django.utils.timezone
from django.db import migrations, models

import mestore.lib.fields
import mestore.lib.ids


class Migration(migrations.Migration):
    dependencies = [
        ("monitoring", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="OutboxMessage",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "channel",
                    models.CharField(
                        choices=[("mail", "Mail"), ("sms", "Sms"), ("none", "None")],
                        editable=False,
                        max_length=4,
                    ),
                ),
                ("template", models.CharField(editable=False, max_length=64)),
                ("subject", models.CharField(blank=True, editable=False, max_length=64)),
                ("payload", mestore.lib.fields.EncryptedField(editable=False)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("expires_at", models.DateTimeField(editable=False)),
                ("attempts", models.PositiveSmallIntegerField(default=0, editable=False)),
                ("next_attempt_at", models.DateTimeField(editable=False)),
                ("last_error", models.CharField(blank=True, editable=False, max_length=100)),
            ],
            options={
                "indexes": [models.Index(fields=["next_attempt_at"], name="outbox_by_next_attempt")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("channel__in", ["mail", "sms", "none"])),
                        name="outbox_channel_known",
                    ),
                ],
            },
        ),
    ]
