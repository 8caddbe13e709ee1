"""Until when no factor of an account may change. A new table: nothing waits for it."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0009_user_lists"),
    ]

    operations = [
        migrations.CreateModel(
            name="FactorFreeze",
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
                ("why", models.CharField(max_length=32, verbose_name="why")),
                ("placed_at", models.DateTimeField(verbose_name="since")),
                ("until", models.DateTimeField(verbose_name="until")),
            ],
            options={
                "verbose_name": "freeze of factor changes",
                "verbose_name_plural": "freezes of factor changes",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("until__gt", models.F("placed_at"))),
                        name="factor_freeze_ends_later",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("why", ""), _negated=True), name="factor_freeze_has_reason"
                    ),
                ],
            },
        ),
    ]
