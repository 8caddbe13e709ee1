"""What is to go back to a buyer stands on the order; a rare kind of entry is found without walking the ledger.

`refund_due_minor` is what a buyer is still to get and what no refund is under way for: set when an order is
cancelled for its money, less what refunds take on, more what a provider gave up. The triggers that count
refunds keep it, and settlement leaves such an order out. Refunds that were given up before this were undone at
once; what they were of is due again where the order had ended for its money.

The indexes of entries leave sales out: nearly every entry is one, and they are found by time.
"""

from __future__ import annotations

from django.db import migrations, models

from monitoring.capture import CaptureTable

FORMER_ORDER = CaptureTable(
    "finance_order",
    plain=[
        "id", "order_number", "source", "external_reference", "buyer_id", "currency", "status", "subtotal_minor",
        "tax_minor", "shipping_minor", "discount_minor", "total_minor", "refunded_minor", "tracking_number", "courier",
        "estimated_delivery", "placed_at", "confirmed_at", "shipped_at", "delivered_at", "cancelled_at", "created_at",
    ],
    secret=[
        "source_digest", "buyer_reference", "shipping_name", "shipping_phone", "shipping_email", "shipping_address",
        "shipping_city", "shipping_state", "shipping_postal_code", "shipping_country", "notes", "shipping_events",
        "cancellation_reason",
    ],
    ignored=["updated_at"],
)  # fmt: skip
LOCK_TIMEOUT = "SET lock_timeout = '5s'"
NO_LOCK_TIMEOUT = "RESET lock_timeout"
BOUND = """
ALTER TABLE public.finance_order ADD CONSTRAINT order_refund_due_within_rest
    CHECK (refund_due_minor = 0 OR (refund_due_minor > 0 AND refund_due_minor + refunded_minor <= total_minor))
    NOT VALID
"""
VALIDATE = "ALTER TABLE public.finance_order VALIDATE CONSTRAINT order_refund_due_within_rest"
NO_BOUND = "ALTER TABLE public.finance_order DROP CONSTRAINT order_refund_due_within_rest"
COUNTING = """
CREATE OR REPLACE FUNCTION public.finance_count_refund() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.status <> 'posted' THEN
        RAISE EXCEPTION 'a refund begins as posted'
            USING ERRCODE = 'check_violation', TABLE = 'finance_refund', CONSTRAINT = 'refund_transition_allowed';
    END IF;
    UPDATE public.finance_order o SET refunded_minor = o.refunded_minor + NEW.amount_minor,
                                      refund_due_minor = greatest(o.refund_due_minor - NEW.amount_minor, 0)
    WHERE o.id = NEW.order_id AND o.currency = NEW.currency;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'a refund is in the currency of its order'
            USING ERRCODE = 'check_violation', TABLE = 'finance_refund', CONSTRAINT = 'refund_of_its_order';
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION public.finance_guard_refund() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (OLD.id, OLD.refund_number, OLD.order_id, OLD.currency, OLD.amount_minor, OLD.reason, OLD.requested_by,
        OLD.created_at)
       IS DISTINCT FROM
       (NEW.id, NEW.refund_number, NEW.order_id, NEW.currency, NEW.amount_minor, NEW.reason, NEW.requested_by,
        NEW.created_at)
       OR (OLD.provider_reference IS NOT NULL
           AND (OLD.provider, OLD.provider_reference) IS DISTINCT FROM (NEW.provider, NEW.provider_reference)) THEN
        RAISE EXCEPTION 'identity and amount of a refund never change'
            USING ERRCODE = 'check_violation', TABLE = 'finance_refund', CONSTRAINT = 'refund_frozen';
    END IF;
    IF OLD.status <> NEW.status THEN
        IF (OLD.status, NEW.status) NOT IN (('posted', 'paid'), ('posted', 'failed')) THEN
            RAISE EXCEPTION 'a refund cannot go from % to %', OLD.status, NEW.status
                USING ERRCODE = 'check_violation', TABLE = 'finance_refund', CONSTRAINT = 'refund_transition_allowed';
        END IF;
        -- One that failed gives its room back, and the buyer is still to get it.
        IF NEW.status = 'failed' THEN
            UPDATE public.finance_order o SET refunded_minor = o.refunded_minor - NEW.amount_minor,
                                              refund_due_minor = o.refund_due_minor + NEW.amount_minor
            WHERE o.id = NEW.order_id;
            UPDATE public.finance_commission c SET refunded_minor = c.refunded_minor - p.base_minor,
                                                   reversed_minor = c.reversed_minor - p.commission_minor
            FROM public.finance_refundpart p WHERE p.refund_id = NEW.id AND c.id = p.commission_id;
        END IF;
    END IF;
    RETURN NEW;
END $$;
"""
FORMER_COUNTING = """
CREATE OR REPLACE FUNCTION public.finance_count_refund() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.status <> 'posted' THEN
        RAISE EXCEPTION 'a refund begins as posted'
            USING ERRCODE = 'check_violation', TABLE = 'finance_refund', CONSTRAINT = 'refund_transition_allowed';
    END IF;
    UPDATE public.finance_order o SET refunded_minor = o.refunded_minor + NEW.amount_minor
    WHERE o.id = NEW.order_id AND o.currency = NEW.currency;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'a refund is in the currency of its order'
            USING ERRCODE = 'check_violation', TABLE = 'finance_refund', CONSTRAINT = 'refund_of_its_order';
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION public.finance_guard_refund() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (OLD.id, OLD.refund_number, OLD.order_id, OLD.currency, OLD.amount_minor, OLD.reason, OLD.requested_by,
        OLD.created_at)
       IS DISTINCT FROM
       (NEW.id, NEW.refund_number, NEW.order_id, NEW.currency, NEW.amount_minor, NEW.reason, NEW.requested_by,
        NEW.created_at)
       OR (OLD.provider_reference IS NOT NULL
           AND (OLD.provider, OLD.provider_reference) IS DISTINCT FROM (NEW.provider, NEW.provider_reference)) THEN
        RAISE EXCEPTION 'identity and amount of a refund never change'
            USING ERRCODE = 'check_violation', TABLE = 'finance_refund', CONSTRAINT = 'refund_frozen';
    END IF;
    IF OLD.status <> NEW.status THEN
        IF (OLD.status, NEW.status) NOT IN (('posted', 'paid'), ('posted', 'failed')) THEN
            RAISE EXCEPTION 'a refund cannot go from % to %', OLD.status, NEW.status
                USING ERRCODE = 'check_violation', TABLE = 'finance_refund', CONSTRAINT = 'refund_transition_allowed';
        END IF;
        -- One that failed gives its room back; its posting is reversed by an entry of its own.
        IF NEW.status = 'failed' THEN
            UPDATE public.finance_order o SET refunded_minor = o.refunded_minor - NEW.amount_minor
            WHERE o.id = NEW.order_id;
            UPDATE public.finance_commission c SET refunded_minor = c.refunded_minor - p.base_minor,
                                                   reversed_minor = c.reversed_minor - p.commission_minor
            FROM public.finance_refundpart p WHERE p.refund_id = NEW.id AND c.id = p.commission_id;
        END IF;
    END IF;
    RETURN NEW;
END $$;
"""
GIVEN_UP_BEFORE = """
UPDATE public.finance_order o
SET refund_due_minor = least(o.total_minor - o.refunded_minor, f.minor)
FROM (SELECT r.order_id, sum(r.amount_minor) AS minor FROM public.finance_refund r
      WHERE r.status = 'failed' GROUP BY r.order_id) f
WHERE f.order_id = o.id AND o.status IN ('cancelled', 'refunded') AND o.total_minor > o.refunded_minor
"""
DUE = [
    "DROP INDEX CONCURRENTLY IF EXISTS order_refund_due",  # what a build that was stopped left behind
    "CREATE INDEX CONCURRENTLY order_refund_due ON finance_order (id DESC) WHERE refund_due_minor > 0",
]
RARE = [
    "DROP INDEX CONCURRENTLY IF EXISTS ledger_entry_rare",
    "CREATE INDEX CONCURRENTLY ledger_entry_rare ON ledger_entry (kind, id) WHERE kind <> 'sale'",
    "DROP INDEX CONCURRENTLY IF EXISTS ledger_entry_rare_of_book",
    (
        "CREATE INDEX CONCURRENTLY ledger_entry_rare_of_book ON ledger_entry (book_id, kind, id)"
        " WHERE kind <> 'sale'"
    ),
]
NOT_RARE = [
    "DROP INDEX CONCURRENTLY IF EXISTS ledger_entry_rare_of_book",
    "DROP INDEX CONCURRENTLY IF EXISTS ledger_entry_rare",
]


class Migration(migrations.Migration):
    atomic = (
        False  # CONCURRENTLY works outside of transactions only, and each lock is held for its own moment
    )

    dependencies = [
        ("finance", "0013_order_permissions"),
        ("monitoring", "0006_capture"),
    ]

    operations = [
        migrations.RunSQL(LOCK_TIMEOUT, NO_LOCK_TIMEOUT),
        migrations.AddField(
            "order",
            "refund_due_minor",
            models.BigIntegerField(
                db_default=0, default=0, editable=False, verbose_name="still to be refunded"
            ),
        ),
        migrations.RunSQL([BOUND, VALIDATE], NO_BOUND),
        migrations.RunSQL(COUNTING, FORMER_COUNTING),
        migrations.RunSQL(GIVEN_UP_BEFORE, migrations.RunSQL.noop),
        migrations.RunSQL(NO_LOCK_TIMEOUT, LOCK_TIMEOUT),
        migrations.RunSQL(
            [*DUE],
            ["DROP INDEX CONCURRENTLY IF EXISTS order_refund_due"],
            state_operations=[
                migrations.AddIndex(
                    "order",
                    models.Index(
                        fields=["-id"],
                        name="order_refund_due",
                        condition=models.Q(refund_due_minor__gt=0),
                    ),
                )
            ],
        ),
        migrations.RunSQL([*RARE], [*NOT_RARE]),
        CaptureTable(
            "finance_order",
            plain=[
                "id", "order_number", "source", "external_reference", "buyer_id", "currency", "status",
                "subtotal_minor", "tax_minor", "shipping_minor", "discount_minor", "total_minor", "refunded_minor",
                "refund_due_minor", "tracking_number", "courier", "estimated_delivery", "placed_at", "confirmed_at",
                "shipped_at", "delivered_at", "cancelled_at", "created_at",
            ],
            secret=[
                "source_digest", "buyer_reference", "shipping_name", "shipping_phone", "shipping_email",
                "shipping_address", "shipping_city", "shipping_state", "shipping_postal_code", "shipping_country",
                "notes", "shipping_events", "cancellation_reason",
            ],
            ignored=["updated_at"],
            instead_of=FORMER_ORDER,
        ),
    ]  # fmt: skip
