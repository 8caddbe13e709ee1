"""Second persons, refusals explained, reviews of grants, the account of emergencies; conditions of grants."""

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import mestore.lib.ids


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0006_lockout"),
    ]

    operations = [
        migrations.CreateModel(
            name="ApprovalRequest",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("action", models.CharField(max_length=64, verbose_name="action")),
                ("target_type", models.CharField(max_length=32, verbose_name="kind of target")),
                ("target_id", models.CharField(max_length=64, verbose_name="target")),
                (
                    "about",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("details", models.JSONField(default=dict, verbose_name="details")),
                ("fingerprint", models.BinaryField(max_length=32)),
                ("reason", models.CharField(max_length=500, verbose_name="reason")),
                (
                    "asked_by",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("asked_by_label", models.CharField(max_length=254, verbose_name="asked by")),
                ("asked_at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="asked")),
                ("expires_at", models.DateTimeField(verbose_name="waits until")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("open", "waiting"),
                            ("approved", "approved"),
                            ("done", "carried out"),
                            ("refused", "refused"),
                            ("withdrawn", "withdrawn"),
                            ("expired", "expired"),
                        ],
                        default="open",
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                (
                    "decided_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("decided_by_label", models.CharField(blank=True, max_length=254, verbose_name="decided by")),
                ("decided_at", models.DateTimeField(null=True, verbose_name="decided")),
                ("decided_why", models.CharField(blank=True, max_length=500, verbose_name="why")),
                ("seal", models.BinaryField(max_length=32)),
            ],
            options={
                "verbose_name": "approval",
                "verbose_name_plural": "approvals",
                "indexes": [models.Index(fields=["state", "-id"], name="approval_by_state")],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("state", "open")),
                        fields=("fingerprint", "asked_by"),
                        name="approval_one_open",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("state__in", ["open", "approved", "done", "refused", "withdrawn", "expired"])
                        ),
                        name="approval_state_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("state__in", ["approved", "done", "refused"]), _negated=True),
                            models.Q(
                                ("decided_at__isnull", False),
                                ("decided_by__isnull", False),
                                models.Q(("decided_by", models.F("asked_by")), _negated=True),
                            ),
                            _connector="OR",
                        ),
                        name="approval_by_another_person",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("about__isnull", True),
                            ("decided_by__isnull", True),
                            models.Q(("decided_by", models.F("about")), _negated=True),
                            _connector="OR",
                        ),
                        name="approval_not_by_its_target",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("expires_at__gt", models.F("asked_at"))),
                        name="approval_ends_later",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="AccessDecision",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="when")),
                ("request_id", models.CharField(blank=True, max_length=64, verbose_name="request")),
                ("user_id", models.UUIDField(null=True, verbose_name="account")),
                ("session_id", models.CharField(blank=True, max_length=64, verbose_name="session")),
                ("asked", models.CharField(max_length=100, verbose_name="asked for")),
                ("rule", models.CharField(max_length=32, verbose_name="rule")),
                ("inputs", models.JSONField(default=dict, verbose_name="what was seen")),
                ("limits", models.JSONField(default=dict, verbose_name="what the rule needs")),
            ],
            options={
                "verbose_name": "refusal",
                "verbose_name_plural": "refusals",
                "indexes": [
                    models.Index(fields=["request_id"], name="decision_by_request"),
                    models.Index(fields=["user_id", "-id"], name="decision_by_user"),
                ],
            },
        ),
        migrations.CreateModel(
            name="GrantUse",
            fields=[
                (
                    "grant",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="use",
                        serialize=False,
                        to="accounts.grant",
                    ),
                ),
                ("last_used_at", models.DateTimeField(verbose_name="last used")),
            ],
        ),
        migrations.CreateModel(
            name="AccessReview",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "started_at",
                    models.DateTimeField(default=django.utils.timezone.now, verbose_name="started"),
                ),
                (
                    "started_by",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("started_by_label", models.CharField(max_length=254, verbose_name="started by")),
                ("finished_at", models.DateTimeField(null=True, verbose_name="finished")),
                (
                    "finished_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "finished_by_label",
                    models.CharField(blank=True, max_length=254, verbose_name="finished by"),
                ),
                (
                    "outcome_digest",
                    models.CharField(blank=True, max_length=64, verbose_name="fingerprint of the outcome"),
                ),
                ("seal", models.BinaryField(max_length=32, null=True)),
            ],
            options={
                "verbose_name": "access review",
                "verbose_name_plural": "access reviews",
                "constraints": [
                    models.UniqueConstraint(
                        models.Value(1),
                        condition=models.Q(("finished_at__isnull", True)),
                        name="access_review_one_open",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("finished_at__isnull", True), ("outcome_digest", ""), ("seal__isnull", True)
                            ),
                            models.Q(
                                ("finished_at__isnull", False),
                                ("finished_by__isnull", False),
                                ("seal__isnull", False),
                            ),
                            _connector="OR",
                        ),
                        name="access_review_finished_is_sealed",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="AccessReviewItem",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "review",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="items",
                        to="accounts.accessreview",
                    ),
                ),
                (
                    "grant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.grant"
                    ),
                ),
                ("last_used_at", models.DateTimeField(null=True, verbose_name="last used")),
                (
                    "outcome",
                    models.CharField(
                        blank=True,
                        choices=[("keep", "keep"), ("revoke", "revoke")],
                        max_length=8,
                        verbose_name="outcome",
                    ),
                ),
                ("decided_at", models.DateTimeField(null=True, verbose_name="decided")),
                (
                    "decided_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("decided_by_label", models.CharField(blank=True, max_length=254, verbose_name="decided by")),
                ("reason", models.CharField(blank=True, max_length=500, verbose_name="reason")),
            ],
            options={
                "verbose_name": "reviewed grant",
                "verbose_name_plural": "reviewed grants",
                "constraints": [
                    models.UniqueConstraint(fields=("review", "grant"), name="review_item_once"),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("decided_at__isnull", True), ("decided_by__isnull", True), ("outcome", "")
                            ),
                            models.Q(
                                ("decided_at__isnull", False),
                                ("decided_by__isnull", False),
                                ("outcome__in", ["keep", "revoke"]),
                            ),
                            _connector="OR",
                        ),
                        name="review_item_decided_by_somebody",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="BreakGlass",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("code_hash", models.CharField(editable=False, max_length=255)),
                ("sealed_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("sealed_by_label", models.CharField(max_length=254)),
                ("replaced_at", models.DateTimeField(null=True)),
                ("opened_at", models.DateTimeField(null=True)),
                ("opened_from", models.CharField(blank=True, max_length=45)),
                ("open_until", models.DateTimeField(null=True)),
                ("closed_at", models.DateTimeField(null=True)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("opened_at__isnull", True), ("replaced_at__isnull", True)),
                        fields=("user",),
                        name="break_glass_one_sealed",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("open_until__isnull", True), ("opened_at__isnull", True)),
                            models.Q(("open_until__isnull", False), ("opened_at__isnull", False)),
                            _connector="OR",
                        ),
                        name="break_glass_open_has_end",
                    ),
                ],
            },
        ),
        migrations.AddField(
            model_name="grant",
            name="conditions",
            field=models.JSONField(blank=True, null=True, verbose_name="conditions"),
        ),
        migrations.AddField(
            model_name="permission",
            name="conditions",
            field=models.JSONField(blank=True, null=True, verbose_name="conditions"),
        ),
    ]
