import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


def _amount() -> models.DecimalField:
    return models.DecimalField(decimal_places=2, max_digits=18)


class Migration(migrations.Migration):
    dependencies = [
        ("peer", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Order",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("order_number", models.CharField(max_length=32, unique=True)),
                ("external_reference", models.CharField(max_length=128, unique=True)),
                ("buyer_reference", models.CharField(max_length=128)),
                ("currency", models.CharField(max_length=3)),
                ("status", models.CharField(db_index=True, max_length=16)),
                ("subtotal", _amount()),
                ("tax", _amount()),
                ("shipping", _amount()),
                ("total", _amount()),
                ("shipping_name", models.CharField(max_length=200)),
                ("shipping_phone", models.CharField(max_length=32)),
                ("shipping_address", models.CharField(max_length=300)),
                ("shipping_city", models.CharField(max_length=100)),
                ("shipping_state", models.CharField(max_length=100)),
                ("placed_at", models.DateTimeField(db_index=True)),
                ("confirmed_at", models.DateTimeField(null=True)),
            ],
        ),
        migrations.CreateModel(
            name="OrderItem",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("line", models.IntegerField()),
                ("product_id", models.CharField(max_length=128)),
                ("name", models.CharField(max_length=300)),
                ("unit_price", _amount()),
                ("quantity", models.IntegerField()),
                ("line_total", _amount()),
                ("order", models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to="peer.order")),
                (
                    "vendor",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Payment",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("provider", models.CharField(max_length=32)),
                ("reference", models.CharField(db_index=True, max_length=128)),
                ("status", models.CharField(max_length=16)),
                ("amount", _amount()),
                ("order", models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to="peer.order")),
            ],
        ),
        migrations.CreateModel(
            name="IdempotencyKey",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("key", models.CharField(max_length=255)),
                ("request_hash", models.CharField(max_length=64)),
                ("body", models.TextField(default="")),
                ("created_at", models.DateTimeField(auto_now_add=True, db_index=True)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
            options={"constraints": [models.UniqueConstraint(fields=("user", "key"), name="peer_key_once")]},
        ),
    ]
