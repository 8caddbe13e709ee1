"""New orders and commissions are told by the service's own events; the ledger finds each account once.

`CaptureTable(told=…)`: see monitoring 0016. `ledger_post` looks for the accounts of an entry in one pass and
keeps what it found, and leaves its leaf in the queue, where a receipt is read from.
"""

from __future__ import annotations

from django.db import migrations

from finance.migrations import _former_posting
from monitoring.capture import CaptureTable

# [debit kind, credit kind, provider, currency, amount] and, for reservations, phase and the entry that reserved.
POSTING = """
CREATE OR REPLACE FUNCTION public.ledger_post(
    p_book uuid, p_entry uuid, p_kind text, p_occurred_at timestamptz, p_source text,
    p_transfers jsonb, p_mac bytea, p_actor jsonb, p_of uuid, p_whole boolean
) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_count    constant int := jsonb_array_length(p_transfers);
    v_recorded constant timestamptz := clock_timestamp();
    v_total    numeric;
    v_guarded  boolean;
    v_missing  int;
    v_debits   bigint[];
    v_credits  bigint[];
    v_opened   boolean := false;
    v_canon    bytea;
    v_leaf     bytea;
BEGIN
    LOOP
        SELECT sum((e.t ->> 4)::bigint), count(*) FILTER (WHERE d.id IS NULL OR c.id IS NULL),
               bool_or('vendor_available' IN (e.t ->> 0, e.t ->> 1)),
               array_agg(d.id ORDER BY e.seq), array_agg(c.id ORDER BY e.seq)
        INTO v_total, v_missing, v_guarded, v_debits, v_credits
        FROM jsonb_array_elements(p_transfers) WITH ORDINALITY AS e (t, seq)
        LEFT JOIN public.ledger_account d ON d.book_id = p_book AND d.kind = e.t ->> 0 AND d.currency = e.t ->> 3
            AND d.provider = CASE e.t ->> 0 WHEN 'psp_clearing' THEN e.t ->> 2 ELSE '' END
        LEFT JOIN public.ledger_account c ON c.book_id = p_book AND c.kind = e.t ->> 1 AND c.currency = e.t ->> 3
            AND c.provider = CASE e.t ->> 1 WHEN 'psp_clearing' THEN e.t ->> 2 ELSE '' END;
        EXIT WHEN v_missing = 0;
        -- An account that another transaction opened is not seen by a repeatable-read snapshot: run again.
        IF v_opened THEN
            RAISE EXCEPTION 'ledger accounts changed during the posting' USING ERRCODE = 'serialization_failure';
        END IF;
        -- In one order for everybody, so that two first sales of a vendor cannot wait for each other.
        INSERT INTO public.ledger_account (book_id, kind, provider, currency)
        SELECT DISTINCT p_book, k.kind, CASE k.kind WHEN 'psp_clearing' THEN t ->> 2 ELSE '' END AS provider, t ->> 3
        FROM jsonb_array_elements(p_transfers) AS t CROSS JOIN LATERAL (VALUES (t ->> 0), (t ->> 1)) AS k (kind)
        ORDER BY 1, 2, 3, 4
        ON CONFLICT ON CONSTRAINT ledger_account_once DO NOTHING;
        v_opened := true;
    END LOOP;

    v_canon := convert_to((jsonb_build_object(
        'type', 'finance.ledger_entry.posted', 'id', p_entry, 'book', p_book, 'kind', p_kind, 'source', p_source,
        'occurred_at', to_char(p_occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'recorded_at', to_char(v_recorded AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'transfers', p_transfers, 'control_total', v_total, 'mac', encode(p_mac, 'hex'), 'actor', p_actor
    ) || CASE WHEN p_of IS NULL THEN '{}'::jsonb
              ELSE jsonb_build_object('reverses', p_of, 'whole', coalesce(p_whole, false)) END)::text, 'UTF8');
    v_leaf := sha256('\\x00'::bytea || v_canon);

    WITH entry AS (
        INSERT INTO public.ledger_entry (book_id, id, kind, source_event, occurred_at, recorded_at, actor_kind,
                                         actor_id, reverses, transfer_count, control_total, mac)
        VALUES (p_book, p_entry, p_kind, p_source, p_occurred_at, v_recorded, p_actor ->> 'kind',
                p_actor ->> 'id', CASE WHEN p_whole THEN p_of END, v_count, v_total::bigint, p_mac)
    ), leaf AS (
        INSERT INTO public.audit_event (id, occurred_at, type, outcome, actor_kind, actor_id, actor_role,
                                        target_type, target_id, session_id, request_id, canon, leaf_hash)
        VALUES (p_entry, v_recorded, 'finance.ledger_entry.posted', 'SUCCESS', p_actor ->> 'kind', p_actor ->> 'id',
                p_actor ->> 'role', 'ledger_entry', p_entry::text, p_actor ->> 'session', p_actor ->> 'request',
                v_canon, v_leaf)
    ), pending AS (
        INSERT INTO public.audit_pending (id, occurred_at, leaf) VALUES (p_entry, v_recorded, v_leaf)
    )
    INSERT INTO public.ledger_transfer (book_id, entry_id, seq, debit, credit, currency, amount, phase, pending_id)
    SELECT p_book, p_entry, e.seq, v_debits[e.seq], v_credits[e.seq], e.t ->> 3, (e.t ->> 4)::bigint,
           coalesce(e.t ->> 5, 'single'),
           CASE WHEN e.t ->> 6 IS NOT NULL THEN (
               SELECT r.id FROM public.ledger_transfer r
               WHERE r.book_id = p_book AND r.entry_id = (e.t ->> 6)::uuid AND r.phase = 'pending'
                 AND r.debit = v_debits[e.seq] AND r.credit = v_credits[e.seq]) END
    FROM jsonb_array_elements(p_transfers) WITH ORDINALITY AS e (t, seq);
    IF p_of IS NOT NULL THEN
        PERFORM public.ledger_take_back(p_book, p_entry, p_of, v_total::bigint, coalesce(p_whole, false));
    END IF;
    IF v_guarded THEN
        PERFORM public.ledger_move_guarded(p_book, p_entry, p_occurred_at, v_recorded);
    END IF;
    RETURN p_entry;
END $$;
"""
LEAF = """
CREATE OR REPLACE FUNCTION public.ledger_ensure_leaf() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    v_at        constant timestamptz := clock_timestamp();
    v_id        uuid := NEW.id;
    v_transfers jsonb;
    v_canon     bytea;
BEGIN
    -- `ledger_post` leaves it in the queue of this transaction. Who may write both by hand is the owner alone.
    PERFORM FROM public.audit_pending p
    WHERE p.id = NEW.id AND p.xid = pg_current_xact_id() AND p.leaf IS NOT NULL;
    IF FOUND THEN
        RETURN NULL;
    END IF;
    PERFORM FROM public.audit_event e
    WHERE e.id = NEW.id AND e.occurred_at = NEW.recorded_at AND e.type = 'finance.ledger_entry.posted';
    IF FOUND THEN
        RETURN NULL;
    END IF;
    -- An id is in the log once: one that an event has already would stop the sequencer.
    PERFORM FROM public.audit_event e WHERE e.id = NEW.id;
    IF FOUND THEN
        v_id := gen_random_uuid();
    END IF;

    SELECT jsonb_agg(jsonb_build_array(d.kind, c.kind, d.provider || c.provider, t.currency, t.amount) ORDER BY t.seq)
    INTO v_transfers FROM public.ledger_transfer t
    JOIN public.ledger_account d ON d.book_id = t.book_id AND d.id = t.debit
    JOIN public.ledger_account c ON c.book_id = t.book_id AND c.id = t.credit
    WHERE t.book_id = NEW.book_id AND t.entry_id = NEW.id;

    v_canon := convert_to(jsonb_build_object(
        'type', 'finance.ledger_entry.posted', 'id', NEW.id, 'book', NEW.book_id, 'kind', NEW.kind,
        'source', NEW.source_event,
        'occurred_at', to_char(NEW.occurred_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'recorded_at', to_char(v_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'transfers', v_transfers, 'control_total', NEW.control_total, 'mac', encode(NEW.mac, 'hex'),
        'actor', jsonb_build_object('kind', 'database', 'id', session_user),
        'database', jsonb_build_object('role', session_user, 'application', current_setting('application_name'))
    )::text, 'UTF8');
    INSERT INTO public.audit_event (id, occurred_at, type, outcome, actor_kind, actor_id, target_type, target_id,
                                    canon, leaf_hash)
    VALUES (v_id, v_at, 'finance.ledger_entry.posted', 'SUCCESS', 'database', session_user, 'ledger_entry',
            NEW.id::text, v_canon, sha256('\\x00'::bytea || v_canon));
    INSERT INTO public.audit_pending (id, occurred_at, leaf) VALUES (v_id, v_at, sha256('\\x00'::bytea || v_canon));
    RETURN NULL;
END $$;
"""
ORDER = [
    "id", "order_number", "source", "external_reference", "buyer_id", "currency", "status", "subtotal_minor",
    "tax_minor", "shipping_minor", "discount_minor", "total_minor", "refunded_minor", "refund_due_minor",
    "tracking_number", "courier", "estimated_delivery", "placed_at", "confirmed_at", "shipped_at", "delivered_at",
    "cancelled_at", "created_at",
]  # fmt: skip
ORDER_SECRET = [
    "source_digest", "buyer_reference", "shipping_name", "shipping_phone", "shipping_email", "shipping_address",
    "shipping_city", "shipping_state", "shipping_postal_code", "shipping_country", "notes", "shipping_events",
    "cancellation_reason",
]  # fmt: skip
COMMISSION = [
    "id", "commission_number", "order_id", "vendor_id", "currency", "order_amount_minor", "rate_ppm",
    "commission_amount_minor", "vendor_amount_minor", "commission_type", "status", "entry_id", "rule_id",
    "rule_hash", "rounding", "fee_tax_minor", "withheld_minor", "refunded_minor", "reversed_minor", "approved_by",
    "settled_entry_id", "calculated_at", "approved_at", "paid_at", "disputed_at", "resolved_at", "created_at",
]  # fmt: skip
COMMISSION_SECRET = ["notes", "admin_notes", "rule_snapshot"]
IGNORED = ["updated_at"]


class Migration(migrations.Migration):
    atomic = False  # each lock is held for its own moment

    dependencies = [
        ("finance", "0014_refunds_due"),
        ("monitoring", "0016_told"),
    ]

    operations = [
        migrations.RunSQL(POSTING, _former_posting.POSTING),
        migrations.RunSQL(LEAF, _former_posting.LEAF),
        CaptureTable(
            "finance_order",
            plain=ORDER,
            secret=ORDER_SECRET,
            ignored=IGNORED,
            told=("order.recorded", "order"),
            instead_of=CaptureTable("finance_order", plain=ORDER, secret=ORDER_SECRET, ignored=IGNORED),
        ),
        CaptureTable(
            "finance_commission",
            plain=COMMISSION,
            secret=COMMISSION_SECRET,
            ignored=IGNORED,
            told=("commission.calculated", "commission"),
            instead_of=CaptureTable(
                "finance_commission", plain=COMMISSION, secret=COMMISSION_SECRET, ignored=IGNORED
            ),
        ),
    ]
