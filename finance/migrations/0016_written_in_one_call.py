"""A sale's events and the leaf of its entry are written by one statement, inside of `ledger_post`.

The service hands its events to the posting that they belong to: a statement that writes to the trail costs more
than the rows that it writes. Without that argument `ledger_post` calls itself with none, for a release that
does not know it.

What looks for a leaf in the queue never scans it, whatever statistics say.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.conf import settings
from django.db import migrations, transaction

from mestore.lib import sql

_FORMER = import_module("finance.migrations.0015_told")

# Transfers: [debit kind, credit kind, provider, currency, amount] and, for reservations, phase and the entry
# that reserved. `p_events`: as `audit_write` (monitoring 0019) takes them; how many were written is returned.
TELLING = """
CREATE FUNCTION public.ledger_post(
    p_book uuid, p_entry uuid, p_kind text, p_occurred_at timestamptz, p_source text,
    p_transfers jsonb, p_mac bytea, p_actor jsonb, p_of uuid, p_whole boolean, p_events json
) RETURNS bigint
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
    v_told     bigint;
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

    WITH entry AS (
        INSERT INTO public.ledger_entry (book_id, id, kind, source_event, occurred_at, recorded_at, actor_kind,
                                         actor_id, reverses, transfer_count, control_total, mac)
        VALUES (p_book, p_entry, p_kind, p_source, p_occurred_at, v_recorded, p_actor ->> 'kind',
                p_actor ->> 'id', CASE WHEN p_whole THEN p_of END, v_count, v_total::bigint, p_mac)
    ), event AS (
        INSERT INTO public.audit_event (id, occurred_at, type, outcome, actor_kind, actor_id, actor_role,
                                        target_type, target_id, session_id, request_id, canon, pii_ct,
                                        writer_mac, leaf_hash)
        SELECT p_entry, v_recorded, 'finance.ledger_entry.posted', 'SUCCESS', p_actor ->> 'kind', p_actor ->> 'id',
               p_actor ->> 'role', 'ledger_entry', p_entry::text, p_actor ->> 'session', p_actor ->> 'request',
               v_canon, NULL, NULL, sha256('\\x00'::bytea || v_canon)
        UNION ALL
        SELECT n.id, n.occurred_at, public.audit_own_type(n.type, n.writer_mac), n.outcome, n.actor_kind,
               n.actor_id, n.actor_role, n.target_type, n.target_id, n.session_id, n.request_id,
               convert_to(n.canon::text, 'UTF8'), decode(n.pii_ct, 'hex'), decode(n.writer_mac, 'hex'),
               sha256('\\x00'::bytea || convert_to(n.canon::text, 'UTF8'))
        FROM json_to_recordset(p_events) AS n (
            id uuid, occurred_at timestamptz, type text, outcome text, actor_kind text, actor_id text,
            actor_role text, target_type text, target_id text, session_id text, request_id text, canon json,
            pii_ct text, writer_mac text, subject text)
        WHERE (SELECT k.wrapped IS NULL FROM public.subject_key k WHERE k.subject = n.subject) IS NOT TRUE
        RETURNING id, occurred_at, type, target_type, target_id, writer_mac, leaf_hash,
                  convert_from(canon, 'UTF8') AS canon
    ), pending AS (
        INSERT INTO public.audit_pending (id, occurred_at, leaf, told)
        SELECT e.id, e.occurred_at, CASE WHEN e.writer_mac IS NULL THEN e.leaf_hash END,
               CASE WHEN e.writer_mac IS NOT NULL AND strpos(e.canon, '"row":') > 0 THEN sha256(convert_to(
                   jsonb_build_array(e.type, e.target_type, e.target_id, e.canon::jsonb #> '{data,row}')::text,
                   'UTF8')) END
        FROM event e
    ), transfer AS (
        INSERT INTO public.ledger_transfer (book_id, entry_id, seq, debit, credit, currency, amount, phase, pending_id)
        SELECT p_book, p_entry, e.seq, v_debits[e.seq], v_credits[e.seq], e.t ->> 3, (e.t ->> 4)::bigint,
               coalesce(e.t ->> 5, 'single'),
               CASE WHEN e.t ->> 6 IS NOT NULL THEN (
                   SELECT r.id FROM public.ledger_transfer r
                   WHERE r.book_id = p_book AND r.entry_id = (e.t ->> 6)::uuid AND r.phase = 'pending'
                     AND r.debit = v_debits[e.seq] AND r.credit = v_credits[e.seq]) END
        FROM jsonb_array_elements(p_transfers) WITH ORDINALITY AS e (t, seq)
    )
    SELECT count(*) FILTER (WHERE e.writer_mac IS NOT NULL) INTO v_told FROM event e;
    IF p_of IS NOT NULL THEN
        PERFORM public.ledger_take_back(p_book, p_entry, p_of, v_total::bigint, coalesce(p_whole, false));
    END IF;
    IF v_guarded THEN
        PERFORM public.ledger_move_guarded(p_book, p_entry, p_occurred_at, v_recorded);
    END IF;
    RETURN v_told;
END $$;
REVOKE ALL ON FUNCTION public.ledger_post(
    uuid, uuid, text, timestamptz, text, jsonb, bytea, jsonb, uuid, boolean, json) FROM PUBLIC;
"""
DROP_TELLING = """
DROP FUNCTION public.ledger_post(
    uuid, uuid, text, timestamptz, text, jsonb, bytea, jsonb, uuid, boolean, json)
"""
POSTING = """
CREATE OR REPLACE FUNCTION public.ledger_post(
    p_book uuid, p_entry uuid, p_kind text, p_occurred_at timestamptz, p_source text,
    p_transfers jsonb, p_mac bytea, p_actor jsonb, p_of uuid, p_whole boolean
) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM public.ledger_post(p_book, p_entry, p_kind, p_occurred_at, p_source, p_transfers, p_mac,
                                       p_actor, p_of, p_whole, NULL);
    RETURN p_entry;
END $$;
"""
LEAF = """
CREATE OR REPLACE FUNCTION public.ledger_ensure_leaf() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    v_at        constant timestamptz := clock_timestamp();
    v_id        uuid := NEW.id;
    v_transfers jsonb;
    v_canon     bytea;
BEGIN
    -- A posting leaves it in the queue of this transaction; there only the owner's functions write leaves.
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
        'occurred_at', to_char(NEW.occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'recorded_at', to_char(v_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
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
# The role's name is data: it reaches the statement through format('%I') only.
RUNTIME_ROLE = "SELECT set_config('mestore.runtime_role', %s, true)"
GRANT = """
DO $$
BEGIN
    EXECUTE format('GRANT EXECUTE ON FUNCTION public.ledger_post(uuid, uuid, text, timestamptz, text, jsonb, '
                   'bytea, jsonb, uuid, boolean, json) TO %I', current_setting('mestore.runtime_role'));
END $$
"""


def grant(_apps: Any, schema_editor: Any) -> None:
    """Let the runtime role call it."""
    alias = schema_editor.connection.alias
    with transaction.atomic(using=alias):
        sql.execute(RUNTIME_ROLE, [settings.DATABASES["default"]["USER"]], using=alias)
        sql.execute(GRANT, using=alias)


class Migration(migrations.Migration):
    dependencies = [
        ("finance", "0015_told"),
        ("monitoring", "0019_written_in_one_call"),
    ]

    operations = [
        migrations.RunSQL(TELLING, DROP_TELLING),
        migrations.RunPython(grant, migrations.RunPython.noop),
        migrations.RunSQL(POSTING, _FORMER.POSTING),
        migrations.RunSQL(LEAF, _FORMER.LEAF),
    ]
