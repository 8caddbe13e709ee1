"""Which sessions are an administrator's who sees the system as somebody else."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("sessions_security", "0002_step_up"),
    ]

    operations = [
        migrations.CreateModel(
            name="Impersonation",
            fields=[
                ("session_id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("origin_id", models.UUIDField(editable=False, verbose_name="administrator's session")),
                (
                    "impersonator",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="administrator",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="account",
                    ),
                ),
                ("reason", models.CharField(max_length=500, verbose_name="reason")),
                ("started_at", models.DateTimeField(verbose_name="started")),
                ("ends_at", models.DateTimeField(verbose_name="ends at the latest")),
            ],
            options={
                "verbose_name": "impersonation",
                "verbose_name_plural": "impersonations",
                "indexes": [models.Index(fields=["origin_id"], name="impersonation_of_session")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("impersonator", models.F("user")), _negated=True),
                        name="impersonation_of_another",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("session_id", models.F("origin_id")), _negated=True),
                        name="impersonation_own_session",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("reason", ""), _negated=True), name="impersonation_has_reason"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("ends_at__gt", models.F("started_at"))),
                        name="impersonation_ends_later",
                    ),
                ],
            },
        ),
    ]
