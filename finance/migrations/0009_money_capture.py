"""Bounds that were added without a look at the rows are validated, and changes of the new tables captured.

Not watched: lines of reports and deliveries (many, and what comes of them is), volumes (a counter), and what
cannot change: parts of refunds, approvals, the history of payouts, events for the storefront.
"""

from __future__ import annotations

from django.db import migrations

from finance.migrations import _guards_sql
from monitoring.capture import CaptureTable

FORMER_ORDER = CaptureTable(
    "finance_order",
    plain=[
        "id", "order_number", "source", "external_reference", "buyer_id", "currency", "status", "subtotal_minor",
        "tax_minor", "shipping_minor", "discount_minor", "total_minor", "placed_at", "confirmed_at", "shipped_at",
        "delivered_at", "cancelled_at", "created_at",
    ],
    secret=[
        "source_digest", "buyer_reference", "shipping_name", "shipping_phone", "shipping_email", "shipping_address",
        "shipping_city", "shipping_state", "shipping_postal_code", "shipping_country", "notes",
    ],
    ignored=["updated_at"],
)  # fmt: skip
FORMER_COMMISSION = CaptureTable(
    "finance_commission",
    plain=[
        "id", "commission_number", "order_id", "vendor_id", "currency", "order_amount_minor", "rate_ppm",
        "commission_amount_minor", "vendor_amount_minor", "commission_type", "status", "entry_id", "calculated_at",
        "approved_at", "paid_at", "created_at",
    ],
    secret=["notes"],
    ignored=["updated_at"],
)  # fmt: skip


class Migration(migrations.Migration):
    atomic = False  # each table is locked alone, and only for its own moment

    dependencies = [
        ("finance", "0008_money_guards"),
        ("monitoring", "0006_capture"),
    ]

    operations = [
        migrations.RunSQL([*_guards_sql.VALIDATE], migrations.RunSQL.noop),
        CaptureTable(
            "finance_order",
            plain=[
                "id", "order_number", "source", "external_reference", "buyer_id", "currency", "status",
                "subtotal_minor", "tax_minor", "shipping_minor", "discount_minor", "total_minor", "refunded_minor",
                "tracking_number", "courier", "estimated_delivery", "placed_at", "confirmed_at", "shipped_at",
                "delivered_at", "cancelled_at", "created_at",
            ],
            secret=[
                "source_digest", "buyer_reference", "shipping_name", "shipping_phone", "shipping_email",
                "shipping_address", "shipping_city", "shipping_state", "shipping_postal_code", "shipping_country",
                "notes", "shipping_events", "cancellation_reason",
            ],
            ignored=["updated_at"],
            instead_of=FORMER_ORDER,
        ),
        CaptureTable(
            "finance_commission",
            plain=[
                "id", "commission_number", "order_id", "vendor_id", "currency", "order_amount_minor", "rate_ppm",
                "commission_amount_minor", "vendor_amount_minor", "commission_type", "status", "entry_id", "rule_id",
                "rule_hash", "rounding", "fee_tax_minor", "withheld_minor", "refunded_minor", "reversed_minor",
                "approved_by", "settled_entry_id", "calculated_at", "approved_at", "paid_at", "disputed_at",
                "resolved_at", "created_at",
            ],
            secret=["notes", "admin_notes", "rule_snapshot"],
            ignored=["updated_at"],
            instead_of=FORMER_COMMISSION,
        ),
        CaptureTable(
            "finance_commissionrule",
            plain=[
                "id", "name", "currency", "vendor_id", "category", "product_id", "order_reference", "priority",
                "commission_type", "rate_ppm", "fixed_minor", "floor_minor", "cap_minor", "tiers", "valid", "status",
                "rule_hash", "reason", "proposed_by", "approved_by", "created_at",
            ],
            ignored=["updated_at"],
        ),
        CaptureTable(
            "finance_refund",
            plain=[
                "id", "refund_number", "order_id", "currency", "amount_minor", "reason", "status", "provider",
                "provider_reference", "requested_by", "failure", "paid_at", "created_at",
            ],
            ignored=["updated_at"],
        ),
        CaptureTable(
            "finance_bankaccount",
            plain=[
                "id", "vendor_id", "currency", "bank_name", "bank_code", "account_type", "holder_document_type",
                "last_four", "fingerprint", "created_by", "created_at", "usable_from", "removed_at",
            ],
            secret=["holder_name", "holder_document", "number", "number_index"],
        ),
        CaptureTable(
            "finance_payoutbatch",
            plain=[
                "id", "batch_number", "currency", "layout", "payout_count", "total_minor", "file_digest",
                "created_by", "created_at", "sent_at",
            ],
            secret=["file"],
        ),
        CaptureTable(
            "finance_payout",
            plain=[
                "id", "payout_number", "vendor_id", "bank_account_id", "currency", "amount_minor", "state", "origin",
                "content_hash", "approvals_needed", "needs_lead", "state_reason", "requested_by", "reserve_entry_id",
                "post_entry_id", "batch_id", "provider_reference", "requested_at", "expires_at", "approved_at",
                "submitted_at", "paid_at", "closed_at",
            ],
            secret=["observations"],
            ignored=["updated_at"],
        ),
        CaptureTable(
            "finance_dispute",
            plain=[
                "id", "commission_id", "vendor_id", "status", "subject", "commission_status", "resolution",
                "decided_by", "opened_at", "decided_at",
            ],
            secret=["description"],
            ignored=["updated_at"],
        ),
        CaptureTable(
            "finance_settlementrun",
            plain=["id", "due_before", "started_at", "finished_at"],
            ignored=["vendors", "commissions", "totals"],
        ),
        CaptureTable(
            "finance_providerreport",
            plain=[
                "id", "kind", "provider", "file_name", "file_digest", "since", "until", "record_count",
                "rejected_count", "totals", "imported_by", "imported_at", "matched_at",
            ],
        ),
        CaptureTable(
            "finance_reconciliationcase",
            plain=[
                "id", "kind", "state", "provider", "reference", "currency", "ledger_minor", "provider_minor",
                "target_type", "target_id", "report_id", "resolution", "decided_by", "opened_at", "decided_at",
            ],
            ignored=["updated_at"],
        ),
        CaptureTable(
            "finance_webhookendpoint",
            plain=["id", "name", "url", "former_until", "event_types", "is_active", "created_by", "created_at"],
            secret=["secret", "former_secret"],
            ignored=["updated_at"],
        ),
    ]  # fmt: skip
