"""Changes of orders and commissions are captured by the database.

The ledger is not watched: its rows cannot change, and the insert of an entry is a leaf of its own. Who gets
an order and where is declared secret: that it was changed is kept, not the address.
"""

from __future__ import annotations

from django.db import migrations

from monitoring.capture import CaptureTable


class Migration(migrations.Migration):
    atomic = False  # each table is locked alone, and only for its own moment

    dependencies = [
        ("finance", "0001_initial"),
        ("monitoring", "0006_capture"),
    ]

    operations = [
        CaptureTable(
            "finance_order",
            plain=[
                "id", "order_number", "source", "external_reference", "buyer_id", "currency", "status",
                "subtotal_minor", "tax_minor", "shipping_minor", "discount_minor", "total_minor", "placed_at",
                "confirmed_at", "shipped_at", "delivered_at", "cancelled_at", "created_at",
            ],
            secret=[
                "source_digest", "buyer_reference", "shipping_name", "shipping_phone", "shipping_email",
                "shipping_address", "shipping_city", "shipping_state", "shipping_postal_code", "shipping_country",
                "notes",
            ],
            ignored=["updated_at"],
        ),
        CaptureTable(
            "finance_commission",
            plain=[
                "id", "commission_number", "order_id", "vendor_id", "currency", "order_amount_minor", "rate_ppm",
                "commission_amount_minor", "vendor_amount_minor", "commission_type", "status", "entry_id",
                "calculated_at", "approved_at", "paid_at", "created_at",
            ],
            secret=["notes"],
            ignored=["updated_at"],
        ),
    ]  # fmt: skip
