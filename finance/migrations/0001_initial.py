"""Orders, commissions, idempotency keys, the ledger and its one posting function."""

from typing import Any

import django.db.models.deletion
import django.db.models.expressions
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models

import mestore.lib.ids
from finance.migrations import _ledger_sql, _transitions_sql

# A migration that waits for a lock makes everybody behind it wait: give up early and be run again.
LOCK_TIMEOUT = "SET LOCAL lock_timeout = '5s'"


def restrict(_apps: Any, schema_editor: Any) -> None:
    """Leave the runtime role the ledger's SELECT and the posting function, nothing else."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(_ledger_sql.RUNTIME_ROLE, [settings.DATABASES["default"]["USER"]])
        cursor.execute(_ledger_sql.GRANTS)


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("monitoring", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RunSQL(LOCK_TIMEOUT, LOCK_TIMEOUT),
        migrations.CreateModel(
            name="LedgerAccount",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("book_id", models.UUIDField(verbose_name="book")),
                ("kind", models.TextField(verbose_name="kind")),
                ("provider", models.TextField(verbose_name="provider")),
                ("currency", models.CharField(max_length=3, verbose_name="currency")),
                ("opened_at", models.DateTimeField(verbose_name="opened")),
            ],
            options={
                "verbose_name": "ledger account",
                "verbose_name_plural": "ledger accounts",
                "db_table": "ledger_account",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="LedgerEntry",
            fields=[
                ("id", models.UUIDField(primary_key=True, serialize=False)),
                ("book_id", models.UUIDField(verbose_name="book")),
                ("kind", models.TextField(verbose_name="kind")),
                ("source_event", models.TextField(verbose_name="source")),
                ("occurred_at", models.DateTimeField(verbose_name="occurred")),
                ("recorded_at", models.DateTimeField(verbose_name="recorded")),
                ("actor_kind", models.TextField(verbose_name="actor kind")),
                ("actor_id", models.TextField(null=True, verbose_name="actor")),
                ("reverses", models.UUIDField(null=True, verbose_name="reverses")),
                ("transfer_count", models.IntegerField(verbose_name="transfers")),
                ("control_total", models.BigIntegerField(verbose_name="control total")),
                ("mac", models.BinaryField()),
            ],
            options={
                "verbose_name": "ledger entry",
                "verbose_name_plural": "ledger entries",
                "db_table": "ledger_entry",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="LedgerTransfer",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("book_id", models.UUIDField(verbose_name="book")),
                ("seq", models.SmallIntegerField(verbose_name="sequence")),
                ("currency", models.CharField(max_length=3, verbose_name="currency")),
                ("amount_minor", models.BigIntegerField(db_column="amount", verbose_name="amount")),
                ("phase", models.TextField(verbose_name="phase")),
                ("pending_id", models.BigIntegerField(null=True, verbose_name="resolves")),
            ],
            options={
                "verbose_name": "ledger transfer",
                "verbose_name_plural": "ledger transfers",
                "db_table": "ledger_transfer",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="IdempotencyKey",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("scope", models.CharField(max_length=200, verbose_name="scope")),
                ("key", models.CharField(max_length=255, verbose_name="key")),
                ("request_hash", models.BinaryField(max_length=32)),
                ("status", models.SmallIntegerField(null=True, verbose_name="status")),
                ("body", models.BinaryField(null=True)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="created"
                    ),
                ),
            ],
            options={
                "verbose_name": "idempotency key",
                "verbose_name_plural": "idempotency keys",
                "indexes": [models.Index(fields=["created_at"], name="idempotency_by_age")],
                "constraints": [
                    models.UniqueConstraint(fields=("scope", "key"), name="idempotency_key_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="Order",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("order_number", models.CharField(max_length=32, unique=True, verbose_name="number")),
                ("source", models.CharField(max_length=32, verbose_name="source")),
                (
                    "external_reference",
                    models.CharField(
                        blank=True, max_length=128, null=True, verbose_name="external reference"
                    ),
                ),
                ("source_digest", models.BinaryField(blank=True, max_length=32, null=True)),
                (
                    "buyer_reference",
                    models.CharField(
                        blank=True, db_default="", default="", max_length=128, verbose_name="buyer reference"
                    ),
                ),
                ("currency", models.CharField(max_length=3, verbose_name="currency")),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("pending", "pending"),
                            ("confirmed", "confirmed"),
                            ("processing", "processing"),
                            ("shipped", "shipped"),
                            ("delivered", "delivered"),
                            ("cancelled", "cancelled"),
                            ("refunded", "refunded"),
                        ],
                        max_length=16,
                        verbose_name="status",
                    ),
                ),
                ("subtotal_minor", models.BigIntegerField(verbose_name="subtotal")),
                ("tax_minor", models.BigIntegerField(verbose_name="tax")),
                ("shipping_minor", models.BigIntegerField(verbose_name="shipping")),
                ("discount_minor", models.BigIntegerField(db_default=0, default=0, verbose_name="discount")),
                ("total_minor", models.BigIntegerField(verbose_name="total")),
                ("shipping_name", models.CharField(blank=True, db_default="", default="", max_length=200)),
                ("shipping_phone", models.CharField(blank=True, db_default="", default="", max_length=32)),
                ("shipping_email", models.CharField(blank=True, db_default="", default="", max_length=254)),
                ("shipping_address", models.CharField(blank=True, db_default="", default="", max_length=300)),
                ("shipping_city", models.CharField(blank=True, db_default="", default="", max_length=100)),
                ("shipping_state", models.CharField(blank=True, db_default="", default="", max_length=100)),
                (
                    "shipping_postal_code",
                    models.CharField(blank=True, db_default="", default="", max_length=20),
                ),
                ("shipping_country", models.CharField(db_default="CO", default="CO", max_length=2)),
                ("notes", models.CharField(blank=True, db_default="", default="", max_length=1000)),
                ("placed_at", models.DateTimeField(verbose_name="placed")),
                ("confirmed_at", models.DateTimeField(blank=True, null=True, verbose_name="confirmed")),
                ("shipped_at", models.DateTimeField(blank=True, null=True, verbose_name="shipped")),
                ("delivered_at", models.DateTimeField(blank=True, null=True, verbose_name="delivered")),
                ("cancelled_at", models.DateTimeField(blank=True, null=True, verbose_name="cancelled")),
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
                    "buyer",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="buyer",
                    ),
                ),
            ],
            options={
                "verbose_name": "order",
                "verbose_name_plural": "orders",
            },
        ),
        migrations.CreateModel(
            name="Commission",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("commission_number", models.CharField(max_length=32, unique=True, verbose_name="number")),
                ("currency", models.CharField(max_length=3, verbose_name="currency")),
                ("order_amount_minor", models.BigIntegerField(verbose_name="order amount")),
                ("rate_ppm", models.IntegerField(verbose_name="rate (ppm)")),
                ("commission_amount_minor", models.BigIntegerField(verbose_name="commission")),
                ("vendor_amount_minor", models.BigIntegerField(verbose_name="vendor amount")),
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
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("PENDING", "PENDING"),
                            ("APPROVED", "APPROVED"),
                            ("PAID", "PAID"),
                            ("DISPUTED", "DISPUTED"),
                            ("REFUNDED", "REFUNDED"),
                            ("CANCELLED", "CANCELLED"),
                        ],
                        db_default="PENDING",
                        default="PENDING",
                        max_length=16,
                        verbose_name="status",
                    ),
                ),
                (
                    "entry_id",
                    models.UUIDField(blank=True, editable=False, null=True, verbose_name="ledger entry"),
                ),
                (
                    "notes",
                    models.CharField(
                        blank=True, db_default="", default="", max_length=500, verbose_name="notes"
                    ),
                ),
                ("calculated_at", models.DateTimeField(verbose_name="calculated")),
                ("approved_at", models.DateTimeField(blank=True, null=True, verbose_name="approved")),
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
                    "vendor",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="vendor",
                    ),
                ),
                (
                    "order",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="commissions",
                        to="finance.order",
                        verbose_name="order",
                    ),
                ),
            ],
            options={
                "verbose_name": "commission",
                "verbose_name_plural": "commissions",
            },
        ),
        migrations.CreateModel(
            name="OrderItem",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("line", models.IntegerField(verbose_name="line")),
                ("product_id", models.CharField(max_length=128, verbose_name="product")),
                (
                    "name",
                    models.CharField(
                        blank=True, db_default="", default="", max_length=200, verbose_name="name"
                    ),
                ),
                (
                    "category",
                    models.CharField(
                        blank=True, db_default="", default="", max_length=100, verbose_name="category"
                    ),
                ),
                ("unit_price_minor", models.BigIntegerField(verbose_name="unit price")),
                ("quantity", models.IntegerField(verbose_name="quantity")),
                ("line_total_minor", models.BigIntegerField(verbose_name="line total")),
                ("shipping_minor", models.BigIntegerField(db_default=0, default=0, verbose_name="shipping")),
                (
                    "order",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="items",
                        to="finance.order",
                        verbose_name="order",
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
                "verbose_name": "order item",
                "verbose_name_plural": "order items",
            },
        ),
        migrations.CreateModel(
            name="OrderPayment",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("sequence", models.IntegerField(verbose_name="sequence")),
                (
                    "method",
                    models.CharField(
                        blank=True, db_default="", default="", max_length=32, verbose_name="method"
                    ),
                ),
                ("installments", models.IntegerField(db_default=1, default=1, verbose_name="installments")),
                ("amount_minor", models.BigIntegerField(verbose_name="amount")),
                ("provider", models.CharField(max_length=32, verbose_name="provider")),
                (
                    "reference",
                    models.CharField(
                        blank=True, db_default="", default="", max_length=128, verbose_name="reference"
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("pending", "pending"),
                            ("processing", "processing"),
                            ("approved", "approved"),
                            ("declined", "declined"),
                            ("error", "error"),
                            ("cancelled", "cancelled"),
                        ],
                        max_length=16,
                        verbose_name="status",
                    ),
                ),
                (
                    "order",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="payments",
                        to="finance.order",
                        verbose_name="order",
                    ),
                ),
            ],
            options={
                "verbose_name": "order payment",
                "verbose_name_plural": "order payments",
            },
        ),
        migrations.AddIndex(
            model_name="order",
            index=models.Index(fields=["-placed_at", "-id"], name="order_by_day"),
        ),
        migrations.AddIndex(
            model_name="order",
            index=models.Index(fields=["status", "-id"], name="order_by_status"),
        ),
        migrations.AddIndex(
            model_name="order",
            index=models.Index(
                condition=models.Q(("buyer__isnull", False)), fields=["buyer", "-id"], name="order_by_buyer"
            ),
        ),
        migrations.AddConstraint(
            model_name="order",
            constraint=models.UniqueConstraint(
                fields=("source", "external_reference"), name="order_known_once_per_source"
            ),
        ),
        migrations.AddConstraint(
            model_name="order",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "status__in",
                        [
                            "pending",
                            "confirmed",
                            "processing",
                            "shipped",
                            "delivered",
                            "cancelled",
                            "refunded",
                        ],
                    )
                ),
                name="order_status_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="order",
            constraint=models.CheckConstraint(
                condition=models.Q(("currency__regex", "^[A-Z]{3}$")), name="order_currency_code"
            ),
        ),
        migrations.AddConstraint(
            model_name="order",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("discount_minor__gte", 0),
                    ("shipping_minor__gte", 0),
                    ("subtotal_minor__gte", 0),
                    ("tax_minor__gte", 0),
                    ("total_minor__gte", 0),
                    ("total_minor__lte", 1000000000000000),
                ),
                name="order_amounts_in_bounds",
            ),
        ),
        migrations.AddConstraint(
            model_name="order",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "total_minor",
                        django.db.models.expressions.CombinedExpression(
                            django.db.models.expressions.CombinedExpression(
                                django.db.models.expressions.CombinedExpression(
                                    models.F("subtotal_minor"), "+", models.F("tax_minor")
                                ),
                                "+",
                                models.F("shipping_minor"),
                            ),
                            "-",
                            models.F("discount_minor"),
                        ),
                    )
                ),
                name="order_total_adds_up",
            ),
        ),
        migrations.AddConstraint(
            model_name="order",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("total_minor__gt", 0),
                    models.Q(("subtotal_minor", 0), models.Q(("source", "storefront"), _negated=True)),
                    _connector="OR",
                ),
                name="order_total_positive",
            ),
        ),
        migrations.AddIndex(
            model_name="commission",
            index=models.Index(fields=["vendor", "-calculated_at", "-id"], name="commission_by_vendor"),
        ),
        migrations.AddIndex(
            model_name="commission",
            index=models.Index(fields=["-calculated_at", "-id"], name="commission_by_time"),
        ),
        migrations.AddIndex(
            model_name="commission",
            index=models.Index(fields=["status", "-calculated_at", "-id"], name="commission_by_status"),
        ),
        migrations.AddConstraint(
            model_name="commission",
            constraint=models.UniqueConstraint(
                fields=("order", "vendor"), name="commission_once_per_order_and_vendor"
            ),
        ),
        migrations.AddConstraint(
            model_name="commission",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("status__in", ["PENDING", "APPROVED", "PAID", "DISPUTED", "REFUNDED", "CANCELLED"])
                ),
                name="commission_status_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="commission",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("commission_type__in", ["STANDARD", "PREMIUM", "PROMOTIONAL", "CATEGORY_BASED"])
                ),
                name="commission_type_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="commission",
            constraint=models.CheckConstraint(
                condition=models.Q(("currency__regex", "^[A-Z]{3}$")), name="commission_currency_code"
            ),
        ),
        migrations.AddConstraint(
            model_name="commission",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("order_amount_minor__gt", 0),
                    ("order_amount_minor__lte", 1000000000000000),
                    ("commission_amount_minor__gte", 0),
                    ("vendor_amount_minor__gte", 0),
                ),
                name="commission_amounts_in_bounds",
            ),
        ),
        migrations.AddConstraint(
            model_name="commission",
            constraint=models.CheckConstraint(
                condition=models.Q(("rate_ppm__gte", 0), ("rate_ppm__lte", 1000000)),
                name="commission_rate_in_bounds",
            ),
        ),
        migrations.AddConstraint(
            model_name="commission",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "order_amount_minor",
                        django.db.models.expressions.CombinedExpression(
                            models.F("commission_amount_minor"), "+", models.F("vendor_amount_minor")
                        ),
                    )
                ),
                name="commission_amounts_add_up",
            ),
        ),
        migrations.AddIndex(
            model_name="orderitem",
            index=models.Index(fields=["vendor", "-order"], name="order_item_by_vendor"),
        ),
        migrations.AddConstraint(
            model_name="orderitem",
            constraint=models.UniqueConstraint(fields=("order", "line"), name="order_item_line_once"),
        ),
        migrations.AddConstraint(
            model_name="orderitem",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("line__gt", 0),
                    ("quantity__gt", 0),
                    ("quantity__lte", 1000000),
                    ("shipping_minor__gte", 0),
                ),
                name="order_item_counts_in_bounds",
            ),
        ),
        migrations.AddConstraint(
            model_name="orderitem",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("line_total_minor__lte", 1000000000000000),
                    ("unit_price_minor__gt", 0),
                    ("unit_price_minor__lte", 1000000000000000),
                ),
                name="order_item_amounts_in_bounds",
            ),
        ),
        migrations.AddConstraint(
            model_name="orderitem",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "line_total_minor",
                        django.db.models.expressions.CombinedExpression(
                            models.F("unit_price_minor"), "*", models.F("quantity")
                        ),
                    )
                ),
                name="order_item_total_adds_up",
            ),
        ),
        migrations.AddConstraint(
            model_name="orderpayment",
            constraint=models.UniqueConstraint(
                fields=("order", "sequence"), name="order_payment_sequence_once"
            ),
        ),
        migrations.AddIndex(
            model_name="orderpayment",
            index=models.Index(
                condition=models.Q(("reference", ""), _negated=True),
                fields=["provider", "reference"],
                name="order_payment_by_reference",
            ),
        ),
        migrations.AddConstraint(
            model_name="orderpayment",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("amount_minor__gte", 0),
                    ("amount_minor__lte", 1000000000000000),
                    ("installments__gte", 0),
                    ("sequence__gt", 0),
                ),
                name="order_payment_numbers_in_bounds",
            ),
        ),
        migrations.AddConstraint(
            model_name="orderpayment",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("status__in", ["pending", "processing", "approved", "declined", "error", "cancelled"])
                ),
                name="order_payment_status_known",
            ),
        ),
        migrations.RunSQL(_transitions_sql.GUARDS, _transitions_sql.DROP),
        migrations.RunSQL(_ledger_sql.TABLES, _ledger_sql.DROP),
        migrations.RunSQL(_ledger_sql.PROTECTION, migrations.RunSQL.noop),
        migrations.RunSQL(_ledger_sql.POSTING, migrations.RunSQL.noop),
        migrations.RunPython(restrict, migrations.RunPython.noop),
    ]
