"""Columns of orders, lines and commissions that may be empty or have a default: nothing is rewritten."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("finance", "0004_money_tables")]

    operations = [
        migrations.AddField(
            model_name="commission",
            name="admin_notes",
            field=models.CharField(
                blank=True, db_default="", default="", max_length=500, verbose_name="internal notes"
            ),
        ),
        migrations.AddField(
            model_name="commission",
            name="approved_by",
            field=models.UUIDField(blank=True, editable=False, null=True, verbose_name="approved by"),
        ),
        migrations.AddField(
            model_name="commission",
            name="disputed_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="disputed"),
        ),
        migrations.AddField(
            model_name="commission",
            name="fee_tax_minor",
            field=models.BigIntegerField(db_default=0, default=0, verbose_name="tax on commission"),
        ),
        migrations.AddField(
            model_name="commission",
            name="refunded_minor",
            field=models.BigIntegerField(db_default=0, default=0, editable=False, verbose_name="refunded"),
        ),
        migrations.AddField(
            model_name="commission",
            name="resolved_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="dispute ended"),
        ),
        migrations.AddField(
            model_name="commission",
            name="reversed_minor",
            field=models.BigIntegerField(db_default=0, default=0, editable=False, verbose_name="given back"),
        ),
        migrations.AddField(
            model_name="commission",
            name="rounding",
            field=models.CharField(
                blank=True, db_default="", default="", max_length=16, verbose_name="rounding"
            ),
        ),
        migrations.AddField(
            model_name="commission",
            name="rule_hash",
            field=models.BinaryField(max_length=32, null=True),
        ),
        migrations.AddField(
            model_name="commission",
            name="rule_id",
            field=models.UUIDField(blank=True, editable=False, null=True, verbose_name="rule"),
        ),
        migrations.AddField(
            model_name="commission",
            name="rule_snapshot",
            field=models.TextField(
                blank=True, db_default="", default="", editable=False, verbose_name="terms"
            ),
        ),
        migrations.AddField(
            model_name="commission",
            name="settled_entry_id",
            field=models.UUIDField(blank=True, editable=False, null=True, verbose_name="settled by"),
        ),
        migrations.AddField(
            model_name="commission",
            name="withheld_minor",
            field=models.BigIntegerField(db_default=0, default=0, verbose_name="withheld"),
        ),
        migrations.AddField(
            model_name="order",
            name="cancellation_reason",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                max_length=500,
                verbose_name="reason of the cancellation",
            ),
        ),
        migrations.AddField(
            model_name="order",
            name="courier",
            field=models.CharField(
                blank=True, db_default="", default="", max_length=64, verbose_name="courier"
            ),
        ),
        migrations.AddField(
            model_name="order",
            name="estimated_delivery",
            field=models.DateField(blank=True, null=True, verbose_name="estimated delivery"),
        ),
        migrations.AddField(
            model_name="order",
            name="refunded_minor",
            field=models.BigIntegerField(db_default=0, default=0, editable=False, verbose_name="refunded"),
        ),
        migrations.AddField(
            model_name="order",
            name="shipping_events",
            field=models.JSONField(
                blank=True,
                db_default=models.Value([], models.JSONField()),
                default=list,
                verbose_name="shipping events",
            ),
        ),
        migrations.AddField(
            model_name="order",
            name="tracking_number",
            field=models.CharField(
                blank=True, db_default="", default="", max_length=64, verbose_name="tracking number"
            ),
        ),
        migrations.AddField(
            model_name="orderitem",
            name="commission_minor",
            field=models.BigIntegerField(blank=True, null=True, verbose_name="commission"),
        ),
        migrations.AddField(
            model_name="orderitem",
            name="rate_ppm",
            field=models.IntegerField(blank=True, null=True, verbose_name="rate (ppm)"),
        ),
        migrations.AddField(
            model_name="orderitem",
            name="rounding",
            field=models.CharField(
                blank=True, db_default="", default="", max_length=16, verbose_name="rounding"
            ),
        ),
        migrations.AddField(
            model_name="orderitem",
            name="rule_hash",
            field=models.BinaryField(max_length=32, null=True),
        ),
        migrations.AddField(
            model_name="orderitem",
            name="vendor_status",
            field=models.CharField(
                choices=[
                    ("pending", "pending"),
                    ("preparing", "preparing"),
                    ("ready_to_ship", "ready_to_ship"),
                ],
                db_default="pending",
                default="pending",
                max_length=16,
                verbose_name="vendor's progress",
            ),
        ),
    ]
