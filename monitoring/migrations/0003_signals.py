"""What asks for a person's attention. A new table: nothing waits for it."""

import django.utils.timezone
from django.db import migrations, models

import mestore.lib.ids


class Migration(migrations.Migration):
    dependencies = [
        ("monitoring", "0002_outbox_message"),
    ]

    operations = [
        migrations.CreateModel(
            name="Signal",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("rule", models.CharField(max_length=64, verbose_name="rule")),
                ("entity_type", models.CharField(max_length=32, verbose_name="about")),
                ("entity_id", models.CharField(max_length=128, verbose_name="which")),
                (
                    "severity",
                    models.PositiveSmallIntegerField(
                        choices=[(1, "information"), (2, "low"), (3, "medium"), (4, "high"), (5, "critical")],
                        verbose_name="severity",
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[("open", "open"), ("reviewing", "under review"), ("archived", "archived")],
                        default="open",
                        max_length=16,
                        verbose_name="state",
                    ),
                ),
                ("seen", models.PositiveIntegerField(default=1, verbose_name="times seen")),
                (
                    "first_seen_at",
                    models.DateTimeField(default=django.utils.timezone.now, verbose_name="first seen"),
                ),
                (
                    "last_seen_at",
                    models.DateTimeField(default=django.utils.timezone.now, verbose_name="last seen"),
                ),
                ("evidence", models.JSONField(default=list, verbose_name="evidence")),
                ("owner_id", models.UUIDField(null=True, verbose_name="owner")),
                ("owner_label", models.CharField(blank=True, max_length=254, verbose_name="owner's name")),
                ("acknowledged_until", models.DateTimeField(null=True, verbose_name="quiet until")),
                (
                    "acknowledged_why",
                    models.CharField(blank=True, max_length=500, verbose_name="quiet because"),
                ),
                ("triaged_at", models.DateTimeField(null=True, verbose_name="first looked at")),
                ("archived_at", models.DateTimeField(null=True, verbose_name="archived")),
                (
                    "archived_as",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("true_positive", "attack or fault, dealt with"),
                            ("false_positive", "false alarm"),
                            ("benign", "real, but harmless"),
                            ("expected", "expected or planned"),
                            ("test", "test or exercise"),
                            ("duplicate", "told by another signal"),
                            ("risk_accepted", "risk accepted"),
                            ("no_data", "cannot be decided any more"),
                        ],
                        max_length=16,
                        verbose_name="archived as",
                    ),
                ),
                (
                    "archived_why",
                    models.CharField(blank=True, max_length=500, verbose_name="archived because"),
                ),
                (
                    "notified_severity",
                    models.PositiveSmallIntegerField(default=0, verbose_name="told of as"),
                ),
                ("notified_at", models.DateTimeField(null=True, verbose_name="told")),
            ],
            options={
                "verbose_name": "signal",
                "verbose_name_plural": "signals",
                "indexes": [
                    models.Index(
                        condition=models.Q(("state", "archived"), _negated=True),
                        fields=["-severity", "-last_seen_at"],
                        name="signal_worst_first",
                    ),
                    models.Index(fields=["-last_seen_at"], name="signal_newest"),
                    models.Index(
                        condition=models.Q(("notified_at__isnull", False)),
                        fields=["rule", "notified_at"],
                        name="signal_told",
                    ),
                    models.Index(
                        condition=models.Q(("state", "archived")),
                        fields=["archived_at"],
                        name="signal_archived",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("state", "archived"), _negated=True),
                        fields=("rule", "entity_type", "entity_id"),
                        name="signal_one_open",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("state__in", ["open", "reviewing", "archived"])),
                        name="signal_state_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("severity__gte", 1), ("severity__lte", 5)),
                        name="signal_severity_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("archived_at__isnull", False),
                                ("state", "archived"),
                                models.Q(("archived_as", ""), _negated=True),
                            ),
                            models.Q(
                                models.Q(("state", "archived"), _negated=True),
                                ("archived_as", ""),
                                ("archived_at", None),
                            ),
                            _connector="OR",
                        ),
                        name="signal_archived_with_reason",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("last_seen_at__gte", models.F("first_seen_at"))),
                        name="signal_seen_in_order",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Watch",
            fields=[
                (
                    "name",
                    models.CharField(max_length=64, primary_key=True, serialize=False, verbose_name="name"),
                ),
                ("last_ran_at", models.DateTimeField(null=True, verbose_name="last ran")),
                ("last_failed_at", models.DateTimeField(null=True, verbose_name="last failed")),
                ("took_ms", models.PositiveIntegerField(default=0, verbose_name="took (ms)")),
            ],
            options={
                "verbose_name": "watch",
                "verbose_name_plural": "watches",
            },
        ),
    ]
