"""Which factors a session proved again, and when."""

import django.db.models.deletion
from django.db import migrations, models

import mestore.lib.ids


class Migration(migrations.Migration):
    dependencies = [
        ("sessions_security", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="StepUpProof",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("method", models.CharField(max_length=16)),
                ("factor", models.CharField(max_length=128)),
                ("bound_at", models.DateTimeField()),
                ("proved_at", models.DateTimeField()),
                (
                    "session",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="step_up_proofs",
                        to="sessions_security.usersession",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("session", "factor"), name="step_up_proof_latest")
                ],
            },
        ),
    ]
