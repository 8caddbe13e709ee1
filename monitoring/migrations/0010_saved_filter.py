"""Filters of the audit explorer that people keep. A new table: nothing waits for it."""

import django.utils.timezone
from django.db import migrations, models

import mestore.lib.ids


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0009_export_cursor")]

    operations = [
        migrations.CreateModel(
            name="SavedFilter",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("owner_id", models.UUIDField()),
                ("slot", models.PositiveSmallIntegerField()),
                ("name", models.CharField(max_length=60)),
                ("query", models.CharField(max_length=1500)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("owner_id", "slot"), name="saved_filter_slot"),
                    models.UniqueConstraint(fields=("owner_id", "name"), name="saved_filter_name"),
                    models.CheckConstraint(
                        condition=models.Q(("slot__lt", 20)), name="saved_filter_at_most_twenty"
                    ),
                ],
            },
        ),
    ]
