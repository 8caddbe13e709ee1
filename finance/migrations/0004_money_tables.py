"""The tables of rules, refunds, payouts, disputes, settlement, reconciliation and outbound events. All new."""

import django.contrib.postgres.fields.ranges
import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models

import mestore.lib.fields
import mestore.lib.ids


class Migration(migrations.Migration):
    dependencies = [
        ("finance", "0003_ledger_leaf"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="BalanceSnapshot",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("book_id", models.UUIDField(verbose_name="book")),
                ("account_id", models.BigIntegerField(verbose_name="account")),
                ("debit", models.BigIntegerField(verbose_name="debit")),
                ("credit", models.BigIntegerField(verbose_name="credit")),
                ("taken_at", models.DateTimeField(verbose_name="taken")),
            ],
            options={
                "verbose_name": "balance snapshot",
                "verbose_name_plural": "balance snapshots",
                "db_table": "ledger_snapshot",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="GuardedBalance",
            fields=[
                ("id", models.BigIntegerField(db_column="account_id", primary_key=True, serialize=False)),
                ("book_id", models.UUIDField(verbose_name="book")),
                ("posted", models.BigIntegerField(verbose_name="posted")),
                ("reserved", models.BigIntegerField(verbose_name="reserved")),
                ("floor", models.BigIntegerField(verbose_name="floor")),
                ("seq", models.BigIntegerField(verbose_name="last statement number")),
            ],
            options={
                "verbose_name": "guarded balance",
                "verbose_name_plural": "guarded balances",
                "db_table": "ledger_guarded_balance",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="PeriodClose",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("closed_until", models.DateTimeField(verbose_name="closed until")),
                ("closed_at", models.DateTimeField(verbose_name="closed")),
                ("closed_by", models.TextField(verbose_name="closed by")),
                ("reason", models.TextField(verbose_name="reason")),
            ],
            options={
                "verbose_name": "period close",
                "verbose_name_plural": "period closes",
                "db_table": "ledger_period_close",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="StatementLine",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("book_id", models.UUIDField(verbose_name="book")),
                ("account_id", models.BigIntegerField(verbose_name="account")),
                ("currency", models.CharField(max_length=3, verbose_name="currency")),
                ("seq", models.BigIntegerField(verbose_name="number")),
                ("entry_id", models.UUIDField(verbose_name="entry")),
                ("occurred_at", models.DateTimeField(verbose_name="occurred")),
                ("recorded_at", models.DateTimeField(verbose_name="recorded")),
                ("amount_minor", models.BigIntegerField(db_column="amount", verbose_name="amount")),
                ("balance_minor", models.BigIntegerField(db_column="balance", verbose_name="balance")),
            ],
            options={
                "verbose_name": "statement line",
                "verbose_name_plural": "statement lines",
                "db_table": "ledger_statement_line",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="WebhookEndpoint",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("name", models.CharField(max_length=100, unique=True, verbose_name="name")),
                ("url", models.CharField(max_length=500, verbose_name="address")),
                ("secret", mestore.lib.fields.EncryptedField(editable=False, verbose_name="secret")),
                (
                    "former_secret",
                    mestore.lib.fields.EncryptedField(
                        editable=False, default="", verbose_name="former secret"
                    ),
                ),
                (
                    "former_until",
                    models.DateTimeField(blank=True, null=True, verbose_name="former secret until"),
                ),
                (
                    "event_types",
                    models.JSONField(
                        blank=True,
                        db_default=models.Value([], models.JSONField()),
                        default=list,
                        verbose_name="events",
                    ),
                ),
                ("is_active", models.BooleanField(db_default=True, default=True, verbose_name="active")),
                ("created_by", models.UUIDField(editable=False, null=True, verbose_name="created by")),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="created"
                    ),
                ),
                (
                    "updated_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="changed"
                    ),
                ),
            ],
            options={
                "verbose_name": "webhook endpoint",
                "verbose_name_plural": "webhook endpoints",
            },
        ),
        migrations.CreateModel(
            name="BankAccount",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("currency", models.CharField(default="COP", max_length=3, verbose_name="currency")),
                ("bank_name", models.CharField(max_length=100, verbose_name="bank")),
                (
                    "bank_code",
                    models.CharField(
                        blank=True, db_default="", default="", max_length=16, verbose_name="bank's code"
                    ),
                ),
                (
                    "account_type",
                    models.CharField(
                        choices=[("AHORROS", "AHORROS"), ("CORRIENTE", "CORRIENTE")],
                        max_length=16,
                        verbose_name="type",
                    ),
                ),
                ("holder_name", mestore.lib.fields.EncryptedField(editable=False, verbose_name="holder")),
                (
                    "holder_document_type",
                    models.CharField(
                        blank=True, db_default="", default="", max_length=8, verbose_name="holder's document"
                    ),
                ),
                (
                    "holder_document",
                    mestore.lib.fields.EncryptedField(
                        editable=False, default="", verbose_name="holder's document number"
                    ),
                ),
                ("number", mestore.lib.fields.EncryptedField(editable=False, verbose_name="number")),
                ("number_index", models.BinaryField(max_length=32)),
                ("last_four", models.CharField(max_length=4, verbose_name="last digits")),
                ("fingerprint", models.BinaryField(max_length=32)),
                ("created_by", models.UUIDField(editable=False, verbose_name="entered by")),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="entered"
                    ),
                ),
                ("usable_from", models.DateTimeField(verbose_name="usable from")),
                ("removed_at", models.DateTimeField(blank=True, null=True, verbose_name="removed")),
                (
                    "vendor",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="vendor",
                    ),
                ),
            ],
            options={
                "verbose_name": "bank account",
                "verbose_name_plural": "bank accounts",
            },
        ),
        migrations.CreateModel(
            name="CommissionRule",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("name", models.CharField(max_length=100, verbose_name="name")),
                ("currency", models.CharField(max_length=3, verbose_name="currency")),
                (
                    "category",
                    models.CharField(
                        blank=True, db_default="", default="", max_length=100, verbose_name="category"
                    ),
                ),
                (
                    "product_id",
                    models.CharField(
                        blank=True, db_default="", default="", max_length=128, verbose_name="product"
                    ),
                ),
                (
                    "order_reference",
                    models.CharField(
                        blank=True,
                        db_default="",
                        default="",
                        max_length=128,
                        verbose_name="order's external reference",
                    ),
                ),
                ("priority", models.SmallIntegerField(db_default=0, default=0, verbose_name="priority")),
                (
                    "commission_type",
                    models.CharField(
                        choices=[
                            ("STANDARD", "STANDARD"),
                            ("PREMIUM", "PREMIUM"),
                            ("PROMOTIONAL", "PROMOTIONAL"),
                            ("CATEGORY_BASED", "CATEGORY_BASED"),
                        ],
                        default="STANDARD",
                        max_length=16,
                        verbose_name="type",
                    ),
                ),
                ("rate_ppm", models.IntegerField(verbose_name="rate (ppm)")),
                ("fixed_minor", models.BigIntegerField(db_default=0, default=0, verbose_name="fixed fee")),
                ("floor_minor", models.BigIntegerField(blank=True, null=True, verbose_name="floor")),
                ("cap_minor", models.BigIntegerField(blank=True, null=True, verbose_name="cap")),
                (
                    "tiers",
                    models.JSONField(
                        db_default=models.Value([], models.JSONField()),
                        default=list,
                        verbose_name="volume tiers",
                    ),
                ),
                ("valid", django.contrib.postgres.fields.ranges.DateTimeRangeField(verbose_name="valid")),
                (
                    "status",
                    models.CharField(
                        choices=[("PROPOSED", "PROPOSED"), ("ACTIVE", "ACTIVE"), ("WITHDRAWN", "WITHDRAWN")],
                        default="PROPOSED",
                        max_length=16,
                        verbose_name="status",
                    ),
                ),
                ("rule_hash", models.BinaryField(max_length=32)),
                (
                    "reason",
                    models.CharField(
                        blank=True, db_default="", default="", max_length=500, verbose_name="reason"
                    ),
                ),
                ("proposed_by", models.UUIDField(editable=False, null=True, verbose_name="proposed by")),
                ("approved_by", models.UUIDField(editable=False, null=True, verbose_name="approved by")),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="recorded"
                    ),
                ),
                (
                    "updated_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="changed"
                    ),
                ),
                (
                    "vendor",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="vendor",
                    ),
                ),
            ],
            options={
                "verbose_name": "commission rule",
                "verbose_name_plural": "commission rules",
            },
        ),
        migrations.CreateModel(
            name="Dispute",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("ABIERTO", "ABIERTO"),
                            ("EN_REVISION", "EN_REVISION"),
                            ("RESUELTO", "RESUELTO"),
                            ("RECHAZADO", "RECHAZADO"),
                        ],
                        default="ABIERTO",
                        max_length=16,
                        verbose_name="status",
                    ),
                ),
                ("subject", models.CharField(max_length=100, verbose_name="subject")),
                ("description", models.CharField(max_length=2000, verbose_name="description")),
                ("commission_status", models.CharField(editable=False, max_length=16)),
                (
                    "resolution",
                    models.CharField(
                        blank=True, db_default="", default="", max_length=1000, verbose_name="resolution"
                    ),
                ),
                ("decided_by", models.UUIDField(editable=False, null=True, verbose_name="decided by")),
                (
                    "opened_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="opened"
                    ),
                ),
                ("decided_at", models.DateTimeField(blank=True, null=True, verbose_name="decided")),
                (
                    "updated_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="changed"
                    ),
                ),
                (
                    "commission",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="disputes",
                        to="finance.commission",
                        verbose_name="commission",
                    ),
                ),
                (
                    "vendor",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="vendor",
                    ),
                ),
            ],
            options={
                "verbose_name": "dispute",
                "verbose_name_plural": "disputes",
            },
        ),
        migrations.CreateModel(
            name="OutboundEvent",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("type", models.CharField(max_length=64, verbose_name="type")),
                ("subject_type", models.CharField(max_length=16)),
                ("subject_id", models.CharField(max_length=64)),
                ("body", models.TextField(verbose_name="body")),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="happened"
                    ),
                ),
            ],
            options={
                "verbose_name": "event for the storefront",
                "verbose_name_plural": "events for the storefront",
                "indexes": [
                    models.Index(fields=["subject_type", "subject_id"], name="outbound_event_by_subject")
                ],
            },
        ),
        migrations.CreateModel(
            name="Payout",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("payout_number", models.CharField(max_length=32, unique=True, verbose_name="number")),
                ("currency", models.CharField(max_length=3, verbose_name="currency")),
                ("amount_minor", models.BigIntegerField(verbose_name="amount")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("requested", "requested"),
                            ("screened", "screened"),
                            ("held", "held"),
                            ("approved", "approved"),
                            ("submitting", "submitting"),
                            ("in_transit", "in_transit"),
                            ("unknown", "unknown"),
                            ("paid", "paid"),
                            ("returned", "returned"),
                            ("rejected", "rejected"),
                            ("cancelled", "cancelled"),
                        ],
                        default="requested",
                        max_length=16,
                        verbose_name="state",
                    ),
                ),
                (
                    "origin",
                    models.CharField(
                        choices=[
                            ("api", "api"),
                            ("legacy", "legacy"),
                            ("console", "console"),
                            ("batch", "batch"),
                        ],
                        max_length=16,
                        verbose_name="origin",
                    ),
                ),
                ("content_hash", models.BinaryField(max_length=32)),
                ("approvals_needed", models.SmallIntegerField(verbose_name="approvals needed")),
                (
                    "needs_lead",
                    models.BooleanField(
                        db_default=False, default=False, verbose_name="needs the finance lead"
                    ),
                ),
                (
                    "observations",
                    models.CharField(
                        blank=True, db_default="", default="", max_length=500, verbose_name="observations"
                    ),
                ),
                (
                    "state_reason",
                    models.CharField(
                        blank=True, db_default="", default="", max_length=500, verbose_name="why"
                    ),
                ),
                ("requested_by", models.UUIDField(editable=False, null=True, verbose_name="requested by")),
                ("reserve_entry_id", models.UUIDField(editable=False, verbose_name="reservation")),
                ("post_entry_id", models.UUIDField(editable=False, null=True, verbose_name="posting")),
                (
                    "provider_reference",
                    models.CharField(
                        blank=True, db_default="", default="", max_length=128, verbose_name="bank's reference"
                    ),
                ),
                (
                    "requested_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="requested"
                    ),
                ),
                ("expires_at", models.DateTimeField(verbose_name="expires")),
                ("approved_at", models.DateTimeField(blank=True, null=True, verbose_name="approved")),
                ("submitted_at", models.DateTimeField(blank=True, null=True, verbose_name="submitted")),
                ("paid_at", models.DateTimeField(blank=True, null=True, verbose_name="paid")),
                ("closed_at", models.DateTimeField(blank=True, null=True, verbose_name="closed")),
                (
                    "updated_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="changed"
                    ),
                ),
                (
                    "bank_account",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="payouts",
                        to="finance.bankaccount",
                        verbose_name="bank account",
                    ),
                ),
                (
                    "vendor",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="vendor",
                    ),
                ),
            ],
            options={
                "verbose_name": "payout",
                "verbose_name_plural": "payouts",
            },
        ),
        migrations.CreateModel(
            name="PayoutApproval",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "as_lead",
                    models.BooleanField(db_default=False, default=False, verbose_name="as finance lead"),
                ),
                ("content_hash", models.BinaryField(max_length=32)),
                (
                    "reason",
                    models.CharField(
                        blank=True, db_default="", default="", max_length=500, verbose_name="reason"
                    ),
                ),
                (
                    "approved_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="approved"
                    ),
                ),
                (
                    "approver",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="approver",
                    ),
                ),
                (
                    "payout",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="approvals",
                        to="finance.payout",
                        verbose_name="payout",
                    ),
                ),
            ],
            options={
                "verbose_name": "approval of a payout",
                "verbose_name_plural": "approvals of payouts",
            },
        ),
        migrations.CreateModel(
            name="PayoutBatch",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("batch_number", models.CharField(max_length=32, unique=True, verbose_name="number")),
                ("currency", models.CharField(max_length=3, verbose_name="currency")),
                ("layout", models.CharField(max_length=16, verbose_name="layout")),
                ("payout_count", models.IntegerField(verbose_name="payouts")),
                ("total_minor", models.BigIntegerField(verbose_name="total")),
                ("file", mestore.lib.fields.EncryptedField(editable=False, default="", verbose_name="file")),
                (
                    "file_digest",
                    models.BinaryField(max_length=32, null=True, verbose_name="SHA-256 of the file"),
                ),
                ("created_by", models.UUIDField(editable=False, null=True, verbose_name="made by")),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="made"
                    ),
                ),
                ("sent_at", models.DateTimeField(blank=True, null=True, verbose_name="sent")),
            ],
            options={
                "verbose_name": "payout batch",
                "verbose_name_plural": "payout batches",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("payout_count__gt", 0), ("total_minor__gt", 0)),
                        name="payout_batch_not_empty",
                    )
                ],
            },
        ),
        migrations.AddField(
            model_name="payout",
            name="batch",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="payouts",
                to="finance.payoutbatch",
                verbose_name="batch",
            ),
        ),
        migrations.CreateModel(
            name="PayoutChange",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("before", models.CharField(blank=True, max_length=16, verbose_name="before")),
                ("after", models.CharField(max_length=16, verbose_name="after")),
                ("reason", models.CharField(blank=True, max_length=500, verbose_name="why")),
                ("changed_by", models.CharField(blank=True, max_length=254, verbose_name="by")),
                (
                    "changed_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="at"
                    ),
                ),
                (
                    "payout",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="changes",
                        to="finance.payout",
                        verbose_name="payout",
                    ),
                ),
            ],
            options={
                "verbose_name": "change of a payout",
                "verbose_name_plural": "changes of payouts",
            },
        ),
        migrations.CreateModel(
            name="ProviderReport",
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
                        choices=[("provider", "provider"), ("bank", "bank")],
                        max_length=16,
                        verbose_name="kind",
                    ),
                ),
                ("provider", models.CharField(max_length=32, verbose_name="provider")),
                ("file_name", models.CharField(max_length=200, verbose_name="file")),
                ("file_digest", models.BinaryField(max_length=32)),
                ("since", models.DateTimeField(blank=True, null=True, verbose_name="from")),
                ("until", models.DateTimeField(blank=True, null=True, verbose_name="until")),
                ("record_count", models.IntegerField(db_default=0, default=0, verbose_name="records")),
                ("rejected_count", models.IntegerField(db_default=0, default=0, verbose_name="rejected")),
                (
                    "totals",
                    models.JSONField(
                        db_default=models.Value({}, models.JSONField()), default=dict, verbose_name="totals"
                    ),
                ),
                (
                    "imported_by",
                    models.CharField(
                        blank=True, db_default="", default="", max_length=254, verbose_name="imported by"
                    ),
                ),
                (
                    "imported_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="imported"
                    ),
                ),
                ("matched_at", models.DateTimeField(blank=True, null=True, verbose_name="matched")),
            ],
            options={
                "verbose_name": "report",
                "verbose_name_plural": "reports",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("provider", "kind", "file_digest"), name="report_known_once"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("kind__in", ["provider", "bank"])), name="report_kind_known"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="ProviderRecord",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("line", models.IntegerField(verbose_name="line")),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("payment", "payment"),
                            ("refund", "refund"),
                            ("chargeback", "chargeback"),
                            ("payout", "payout"),
                            ("return", "return"),
                            ("fee", "fee"),
                            ("sweep", "sweep"),
                        ],
                        max_length=16,
                        verbose_name="kind",
                    ),
                ),
                ("reference", models.CharField(max_length=128, verbose_name="reference")),
                ("currency", models.CharField(max_length=3, verbose_name="currency")),
                ("amount_minor", models.BigIntegerField(verbose_name="amount")),
                ("fee_minor", models.BigIntegerField(db_default=0, default=0, verbose_name="fee")),
                ("occurred_at", models.DateTimeField(verbose_name="occurred")),
                ("target_type", models.CharField(blank=True, db_default="", default="", max_length=16)),
                ("target_id", models.CharField(blank=True, db_default="", default="", max_length=64)),
                (
                    "report",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="records",
                        to="finance.providerreport",
                        verbose_name="report",
                    ),
                ),
            ],
            options={
                "verbose_name": "record of a report",
                "verbose_name_plural": "records of reports",
            },
        ),
        migrations.CreateModel(
            name="ReconciliationCase",
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
                        choices=[
                            ("missing_in_ledger", "missing_in_ledger"),
                            ("missing_at_provider", "missing_at_provider"),
                            ("missing_at_bank", "missing_at_bank"),
                            ("amount_differs", "amount_differs"),
                            ("currency_differs", "currency_differs"),
                            ("state_differs", "state_differs"),
                            ("reported_twice", "reported_twice"),
                        ],
                        max_length=32,
                        verbose_name="kind",
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("open", "open"),
                            ("explained", "explained"),
                            ("corrected", "corrected"),
                            ("vanished", "vanished"),
                        ],
                        default="open",
                        max_length=16,
                        verbose_name="state",
                    ),
                ),
                ("provider", models.CharField(max_length=32, verbose_name="provider")),
                ("reference", models.CharField(max_length=128, verbose_name="reference")),
                ("currency", models.CharField(max_length=3, verbose_name="currency")),
                ("ledger_minor", models.BigIntegerField(blank=True, null=True, verbose_name="in the ledger")),
                (
                    "provider_minor",
                    models.BigIntegerField(blank=True, null=True, verbose_name="in the report"),
                ),
                ("target_type", models.CharField(blank=True, db_default="", default="", max_length=16)),
                ("target_id", models.CharField(blank=True, db_default="", default="", max_length=64)),
                (
                    "resolution",
                    models.CharField(
                        blank=True, db_default="", default="", max_length=500, verbose_name="resolution"
                    ),
                ),
                ("decided_by", models.UUIDField(editable=False, null=True, verbose_name="decided by")),
                (
                    "opened_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="opened"
                    ),
                ),
                ("decided_at", models.DateTimeField(blank=True, null=True, verbose_name="decided")),
                (
                    "updated_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="changed"
                    ),
                ),
                (
                    "report",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="cases",
                        to="finance.providerreport",
                        verbose_name="report",
                    ),
                ),
            ],
            options={
                "verbose_name": "reconciliation case",
                "verbose_name_plural": "reconciliation cases",
            },
        ),
        migrations.CreateModel(
            name="Refund",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("refund_number", models.CharField(max_length=32, unique=True, verbose_name="number")),
                ("currency", models.CharField(max_length=3, verbose_name="currency")),
                ("amount_minor", models.BigIntegerField(verbose_name="amount")),
                ("reason", models.CharField(max_length=500, verbose_name="reason")),
                (
                    "status",
                    models.CharField(
                        choices=[("posted", "posted"), ("paid", "paid"), ("failed", "failed")],
                        default="posted",
                        max_length=16,
                        verbose_name="status",
                    ),
                ),
                (
                    "provider",
                    models.CharField(
                        blank=True, db_default="", default="", max_length=32, verbose_name="provider"
                    ),
                ),
                (
                    "provider_reference",
                    models.CharField(
                        blank=True, max_length=128, null=True, verbose_name="provider's reference"
                    ),
                ),
                ("requested_by", models.UUIDField(editable=False, null=True, verbose_name="requested by")),
                (
                    "failure",
                    models.CharField(
                        blank=True, db_default="", default="", max_length=500, verbose_name="why it failed"
                    ),
                ),
                ("paid_at", models.DateTimeField(blank=True, null=True, verbose_name="paid")),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="recorded"
                    ),
                ),
                (
                    "updated_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="changed"
                    ),
                ),
                (
                    "order",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="refunds",
                        to="finance.order",
                        verbose_name="order",
                    ),
                ),
            ],
            options={
                "verbose_name": "refund",
                "verbose_name_plural": "refunds",
            },
        ),
        migrations.CreateModel(
            name="RefundPart",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("goods_minor", models.BigIntegerField(verbose_name="goods")),
                ("tax_minor", models.BigIntegerField(verbose_name="tax")),
                ("shipping_minor", models.BigIntegerField(verbose_name="shipping")),
                ("base_minor", models.BigIntegerField(verbose_name="base")),
                ("commission_minor", models.BigIntegerField(verbose_name="commission given back")),
                (
                    "fee_tax_minor",
                    models.BigIntegerField(
                        db_default=0, default=0, verbose_name="tax on commission given back"
                    ),
                ),
                (
                    "withheld_minor",
                    models.BigIntegerField(db_default=0, default=0, verbose_name="withholding given back"),
                ),
                (
                    "owed_minor",
                    models.BigIntegerField(db_default=0, default=0, verbose_name="owed by the vendor"),
                ),
                ("entry_id", models.UUIDField(editable=False, verbose_name="ledger entry")),
                (
                    "commission",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="refund_parts",
                        to="finance.commission",
                        verbose_name="commission",
                    ),
                ),
                (
                    "refund",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="parts",
                        to="finance.refund",
                        verbose_name="refund",
                    ),
                ),
                (
                    "vendor",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="vendor",
                    ),
                ),
            ],
            options={
                "verbose_name": "part of a refund",
                "verbose_name_plural": "parts of refunds",
            },
        ),
        migrations.CreateModel(
            name="SettlementRun",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("due_before", models.DateTimeField(verbose_name="due before")),
                (
                    "started_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="started"
                    ),
                ),
                ("finished_at", models.DateTimeField(blank=True, null=True, verbose_name="finished")),
                ("vendors", models.IntegerField(db_default=0, default=0, verbose_name="vendors")),
                ("commissions", models.IntegerField(db_default=0, default=0, verbose_name="commissions")),
                (
                    "totals",
                    models.JSONField(
                        db_default=models.Value({}, models.JSONField()), default=dict, verbose_name="totals"
                    ),
                ),
            ],
            options={
                "verbose_name": "settlement run",
                "verbose_name_plural": "settlement runs",
                "indexes": [models.Index(fields=["-started_at", "-id"], name="settlement_run_by_start")],
            },
        ),
        migrations.CreateModel(
            name="VendorVolume",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("currency", models.CharField(max_length=3, verbose_name="currency")),
                ("month", models.DateField(verbose_name="month")),
                ("sold_minor", models.BigIntegerField(db_default=0, default=0, verbose_name="sold")),
                (
                    "vendor",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="vendor",
                    ),
                ),
            ],
            options={
                "verbose_name": "vendor's volume",
                "verbose_name_plural": "vendors' volumes",
            },
        ),
        migrations.CreateModel(
            name="EventDelivery",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                (
                    "state",
                    models.CharField(
                        choices=[("waiting", "waiting"), ("delivered", "delivered"), ("failed", "failed")],
                        default="waiting",
                        max_length=16,
                        verbose_name="state",
                    ),
                ),
                ("attempts", models.SmallIntegerField(db_default=0, default=0, verbose_name="attempts")),
                ("next_at", models.DateTimeField(blank=True, null=True, verbose_name="next attempt")),
                ("last_status", models.SmallIntegerField(blank=True, null=True, verbose_name="last answer")),
                (
                    "last_error",
                    models.CharField(
                        blank=True, db_default="", default="", max_length=200, verbose_name="last error"
                    ),
                ),
                ("last_at", models.DateTimeField(blank=True, null=True, verbose_name="last attempt")),
                ("delivered_at", models.DateTimeField(blank=True, null=True, verbose_name="delivered")),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="created"
                    ),
                ),
                (
                    "event",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="deliveries",
                        to="finance.outboundevent",
                        verbose_name="event",
                    ),
                ),
                (
                    "endpoint",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="deliveries",
                        to="finance.webhookendpoint",
                        verbose_name="endpoint",
                    ),
                ),
            ],
            options={
                "verbose_name": "delivery of an event",
                "verbose_name_plural": "deliveries of events",
            },
        ),
        migrations.AddIndex(
            model_name="bankaccount",
            index=models.Index(fields=["vendor", "-id"], name="bank_account_by_vendor"),
        ),
        migrations.AddIndex(
            model_name="bankaccount",
            index=models.Index(fields=["number_index"], name="bank_account_by_number"),
        ),
        migrations.AddConstraint(
            model_name="bankaccount",
            constraint=models.UniqueConstraint(
                condition=models.Q(("removed_at__isnull", True)),
                fields=("vendor", "number_index", "bank_name", "account_type"),
                name="bank_account_once_per_vendor",
            ),
        ),
        migrations.AddConstraint(
            model_name="bankaccount",
            constraint=models.CheckConstraint(
                condition=models.Q(("account_type__in", ["AHORROS", "CORRIENTE"])),
                name="bank_account_type_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="bankaccount",
            constraint=models.CheckConstraint(
                condition=models.Q(("currency__regex", "^[A-Z]{3}$")), name="bank_account_currency_code"
            ),
        ),
        migrations.AddIndex(
            model_name="commissionrule",
            index=models.Index(fields=["vendor", "currency"], name="commission_rule_by_vendor"),
        ),
        migrations.AddIndex(
            model_name="commissionrule",
            index=models.Index(fields=["status", "-id"], name="commission_rule_by_status"),
        ),
        migrations.AddConstraint(
            model_name="commissionrule",
            constraint=models.CheckConstraint(
                condition=models.Q(("rate_ppm__gte", 0), ("rate_ppm__lte", 1000000)),
                name="commission_rule_rate_in_bounds",
            ),
        ),
        migrations.AddConstraint(
            model_name="commissionrule",
            constraint=models.CheckConstraint(
                condition=models.Q(("currency__regex", "^[A-Z]{3}$")), name="commission_rule_currency_code"
            ),
        ),
        migrations.AddConstraint(
            model_name="commissionrule",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("fixed_minor__gte", 0),
                    ("fixed_minor__lte", 1000000000000000),
                    models.Q(
                        ("floor_minor__isnull", True),
                        models.Q(("floor_minor__gte", 0), ("floor_minor__lte", 1000000000000000)),
                        _connector="OR",
                    ),
                    models.Q(
                        ("cap_minor__isnull", True),
                        models.Q(("cap_minor__gte", 0), ("cap_minor__lte", 1000000000000000)),
                        _connector="OR",
                    ),
                    models.Q(
                        ("floor_minor__isnull", True),
                        ("cap_minor__isnull", True),
                        ("floor_minor__lte", models.F("cap_minor")),
                        _connector="OR",
                    ),
                ),
                name="commission_rule_amounts_in_bounds",
            ),
        ),
        migrations.AddConstraint(
            model_name="commissionrule",
            constraint=models.CheckConstraint(
                condition=models.Q(("status__in", ["PROPOSED", "ACTIVE", "WITHDRAWN"])),
                name="commission_rule_status_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="commissionrule",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("status", "ACTIVE"), _negated=True),
                    models.Q(
                        ("approved_by__isnull", False),
                        models.Q(("approved_by", models.F("proposed_by")), _negated=True),
                    ),
                    _connector="OR",
                ),
                name="commission_rule_two_people",
            ),
        ),
        migrations.AddIndex(
            model_name="dispute",
            index=models.Index(fields=["vendor", "-id"], name="dispute_by_vendor"),
        ),
        migrations.AddIndex(
            model_name="dispute",
            index=models.Index(fields=["status", "-id"], name="dispute_by_status"),
        ),
        migrations.AddConstraint(
            model_name="dispute",
            constraint=models.UniqueConstraint(
                condition=models.Q(("status__in", ["ABIERTO", "EN_REVISION"])),
                fields=("commission",),
                name="dispute_one_active_per_commission",
            ),
        ),
        migrations.AddConstraint(
            model_name="dispute",
            constraint=models.CheckConstraint(
                condition=models.Q(("status__in", ["ABIERTO", "EN_REVISION", "RESUELTO", "RECHAZADO"])),
                name="dispute_status_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="payout",
            constraint=models.UniqueConstraint(
                condition=models.Q(
                    ("origin", "legacy"),
                    ("state__in", ["requested", "screened", "held", "approved", "submitting"]),
                ),
                fields=("vendor", "bank_account", "amount_minor"),
                name="payout_legacy_one_open",
            ),
        ),
        migrations.AddIndex(
            model_name="payoutapproval",
            index=models.Index(fields=["payout", "id"], name="payout_approval_by_payout"),
        ),
        migrations.AddIndex(
            model_name="payout",
            index=models.Index(fields=["vendor", "-id"], name="payout_by_vendor"),
        ),
        migrations.AddIndex(
            model_name="payout",
            index=models.Index(fields=["state", "-id"], name="payout_by_state"),
        ),
        migrations.AddConstraint(
            model_name="payout",
            constraint=models.CheckConstraint(
                condition=models.Q(("amount_minor__gt", 0), ("amount_minor__lte", 1000000000000000)),
                name="payout_amount_in_bounds",
            ),
        ),
        migrations.AddConstraint(
            model_name="payout",
            constraint=models.CheckConstraint(
                condition=models.Q(("currency__regex", "^[A-Z]{3}$")), name="payout_currency_code"
            ),
        ),
        migrations.AddConstraint(
            model_name="payout",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "state__in",
                        [
                            "requested",
                            "screened",
                            "held",
                            "approved",
                            "submitting",
                            "in_transit",
                            "unknown",
                            "paid",
                            "returned",
                            "rejected",
                            "cancelled",
                        ],
                    )
                ),
                name="payout_state_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="payout",
            constraint=models.CheckConstraint(
                condition=models.Q(("approvals_needed__gte", 1)), name="payout_needs_an_approval"
            ),
        ),
        migrations.AddIndex(
            model_name="payoutchange",
            index=models.Index(fields=["payout", "id"], name="payout_change_by_payout"),
        ),
        migrations.AddIndex(
            model_name="providerrecord",
            index=models.Index(fields=["reference"], name="report_record_by_reference"),
        ),
        migrations.AddIndex(
            model_name="providerrecord",
            index=models.Index(
                condition=models.Q(("target_type", ""), _negated=True),
                fields=["target_type", "target_id"],
                name="report_record_by_target",
            ),
        ),
        migrations.AddConstraint(
            model_name="providerrecord",
            constraint=models.UniqueConstraint(fields=("report", "line"), name="report_record_line_once"),
        ),
        migrations.AddIndex(
            model_name="reconciliationcase",
            index=models.Index(fields=["state", "-id"], name="reconciliation_case_by_state"),
        ),
        migrations.AddConstraint(
            model_name="reconciliationcase",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state", "open")),
                fields=("provider", "kind", "reference", "currency"),
                name="reconciliation_case_open_once",
            ),
        ),
        migrations.AddConstraint(
            model_name="reconciliationcase",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "kind__in",
                        [
                            "missing_in_ledger",
                            "missing_at_provider",
                            "missing_at_bank",
                            "amount_differs",
                            "currency_differs",
                            "state_differs",
                            "reported_twice",
                        ],
                    ),
                    ("state__in", ["open", "explained", "corrected", "vanished"]),
                ),
                name="reconciliation_case_known",
            ),
        ),
        migrations.AddIndex(
            model_name="refund",
            index=models.Index(fields=["order", "-id"], name="refund_by_order"),
        ),
        migrations.AddIndex(
            model_name="refund",
            index=models.Index(fields=["status", "-id"], name="refund_by_status"),
        ),
        migrations.AddConstraint(
            model_name="refund",
            constraint=models.UniqueConstraint(
                fields=("provider", "provider_reference"), name="refund_known_once_per_provider"
            ),
        ),
        migrations.AddConstraint(
            model_name="refund",
            constraint=models.CheckConstraint(
                condition=models.Q(("currency__regex", "^[A-Z]{3}$")), name="refund_currency_code"
            ),
        ),
        migrations.AddConstraint(
            model_name="refund",
            constraint=models.CheckConstraint(
                condition=models.Q(("amount_minor__gt", 0), ("amount_minor__lte", 1000000000000000)),
                name="refund_amount_in_bounds",
            ),
        ),
        migrations.AddConstraint(
            model_name="refund",
            constraint=models.CheckConstraint(
                condition=models.Q(("status__in", ["posted", "paid", "failed"])), name="refund_status_known"
            ),
        ),
        migrations.AddIndex(
            model_name="refundpart",
            index=models.Index(fields=["vendor", "-id"], name="refund_part_by_vendor"),
        ),
        migrations.AddIndex(
            model_name="refundpart",
            index=models.Index(fields=["commission"], name="refund_part_by_commission"),
        ),
        migrations.AddConstraint(
            model_name="refundpart",
            constraint=models.UniqueConstraint(
                fields=("refund", "vendor"), name="refund_part_once_per_vendor"
            ),
        ),
        migrations.AddConstraint(
            model_name="refundpart",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("base_minor__gte", 0),
                    ("goods_minor__gte", 0),
                    ("shipping_minor__gte", 0),
                    ("tax_minor__gte", 0),
                    ("commission_minor__gte", 0),
                    ("fee_tax_minor__gte", 0),
                    ("owed_minor__gte", 0),
                    ("withheld_minor__gte", 0),
                    ("goods_minor__gte", models.F("owed_minor")),
                ),
                name="refund_part_amounts_in_bounds",
            ),
        ),
        migrations.AddConstraint(
            model_name="vendorvolume",
            constraint=models.UniqueConstraint(
                fields=("vendor", "currency", "month"), name="vendor_volume_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="vendorvolume",
            constraint=models.CheckConstraint(
                condition=models.Q(("sold_minor__gte", 0)), name="vendor_volume_not_negative"
            ),
        ),
        migrations.AddIndex(
            model_name="eventdelivery",
            index=models.Index(
                condition=models.Q(("state", "waiting")), fields=["next_at"], name="event_delivery_due"
            ),
        ),
        migrations.AddIndex(
            model_name="eventdelivery",
            index=models.Index(fields=["state", "-id"], name="event_delivery_by_state"),
        ),
        migrations.AddIndex(
            model_name="eventdelivery",
            index=models.Index(fields=["endpoint", "-id"], name="event_delivery_by_endpoint"),
        ),
        migrations.AddConstraint(
            model_name="eventdelivery",
            constraint=models.UniqueConstraint(fields=("event", "endpoint"), name="event_delivery_once"),
        ),
        migrations.AddConstraint(
            model_name="eventdelivery",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ["waiting", "delivered", "failed"])),
                name="event_delivery_state_known",
            ),
        ),
    ]
