"""The ledger's second part as SQL: reservations, guarded balances, reversals, closed periods, snapshots. Frozen.

What can leave an account is one row per account, changed by `ledger_post` alone and last, in ascending order,
so that locks are short and never cross. Everything else stays derived. Each movement of what a vendor has
available gets the account's next number and the balance after it: the statement, without gaps.
"""

TABLES = """
ALTER TABLE public.ledger_account DROP CONSTRAINT ledger_account_kind_known;
ALTER TABLE public.ledger_account ADD CONSTRAINT ledger_account_kind_known CHECK (kind IN (
    'psp_clearing', 'vendor_pending', 'vendor_available', 'vendor_receivable', 'vendor_reserved',
    'payout_in_transit', 'platform_fee', 'tax_payable:goods', 'tax_payable:fee', 'tax_payable:withholding',
    'shipping_payable', 'refund_clearing', 'chargeback', 'rounding', 'suspense', 'platform_bank')) NOT VALID;

CREATE TABLE public.ledger_guarded_balance (
    book_id    uuid   NOT NULL,
    account_id bigint NOT NULL,
    posted     bigint NOT NULL DEFAULT 0,
    reserved   bigint NOT NULL DEFAULT 0,
    floor      bigint NOT NULL DEFAULT 0,
    seq        bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (book_id, account_id),
    CONSTRAINT ledger_guarded_balance_account FOREIGN KEY (book_id, account_id)
        REFERENCES public.ledger_account (book_id, id) NOT DEFERRABLE,
    CONSTRAINT ledger_guarded_balance_covered CHECK (posted - reserved >= floor),
    CONSTRAINT ledger_guarded_balance_reserved CHECK (reserved >= 0)
) WITH (fillfactor = 50);
CREATE INDEX ledger_guarded_balance_by_account ON public.ledger_guarded_balance (account_id);

CREATE TABLE public.ledger_statement_line (
    book_id     uuid        NOT NULL,
    id          bigint      GENERATED ALWAYS AS IDENTITY,
    account_id  bigint      NOT NULL,
    currency    text        NOT NULL,
    seq         bigint      NOT NULL,
    entry_id    uuid        NOT NULL,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    amount      bigint      NOT NULL,
    balance     bigint      NOT NULL,
    PRIMARY KEY (book_id, id),
    CONSTRAINT ledger_statement_line_number UNIQUE (book_id, account_id, seq),
    CONSTRAINT ledger_statement_line_entry_once UNIQUE (book_id, account_id, entry_id),
    CONSTRAINT ledger_statement_line_account FOREIGN KEY (book_id, account_id, currency)
        REFERENCES public.ledger_account (book_id, id, currency) NOT DEFERRABLE,
    CONSTRAINT ledger_statement_line_entry FOREIGN KEY (book_id, entry_id)
        REFERENCES public.ledger_entry (book_id, id) NOT DEFERRABLE,
    CONSTRAINT ledger_statement_line_counts CHECK (seq > 0 AND amount <> 0)
);
CREATE INDEX ledger_statement_line_by_id ON public.ledger_statement_line (id);

-- What an entry takes back of another one. The numbers count up without gaps, so that two at once collide.
CREATE TABLE public.ledger_reversal (
    book_id  uuid   NOT NULL,
    entry_id uuid   NOT NULL,
    of_entry uuid   NOT NULL,
    seq      int    NOT NULL,
    amount   bigint NOT NULL,
    PRIMARY KEY (book_id, entry_id),
    CONSTRAINT ledger_reversal_seq_once UNIQUE (book_id, of_entry, seq),
    CONSTRAINT ledger_reversal_entry FOREIGN KEY (book_id, entry_id)
        REFERENCES public.ledger_entry (book_id, id) NOT DEFERRABLE,
    CONSTRAINT ledger_reversal_of FOREIGN KEY (book_id, of_entry)
        REFERENCES public.ledger_entry (book_id, id) NOT DEFERRABLE,
    CONSTRAINT ledger_reversal_amount CHECK (amount > 0 AND entry_id <> of_entry)
);

CREATE TABLE public.ledger_period_close (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    closed_until timestamptz NOT NULL UNIQUE,
    closed_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_by    text        NOT NULL,
    reason       text        NOT NULL
);

-- Derived, and thrown away whenever transaction ids begin anew (a restored dump).
CREATE TABLE public.ledger_snapshot (
    book_id    uuid        NOT NULL,
    id         bigint      GENERATED ALWAYS AS IDENTITY,
    account_id bigint      NOT NULL,
    horizon    xid8        NOT NULL,
    debit      bigint      NOT NULL,
    credit     bigint      NOT NULL,
    taken_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (book_id, id),
    CONSTRAINT ledger_snapshot_once UNIQUE (book_id, account_id, horizon),
    CONSTRAINT ledger_snapshot_account FOREIGN KEY (book_id, account_id)
        REFERENCES public.ledger_account (book_id, id) NOT DEFERRABLE,
    CONSTRAINT ledger_snapshot_not_negative CHECK (debit >= 0 AND credit >= 0)
);
CREATE INDEX ledger_snapshot_by_id ON public.ledger_snapshot (id);
"""

PROTECTION = """
CREATE TRIGGER ledger_statement_line_append_only BEFORE UPDATE OR DELETE ON public.ledger_statement_line
    FOR EACH ROW EXECUTE FUNCTION public.ledger_refuse_change();
CREATE TRIGGER ledger_statement_line_no_truncate BEFORE TRUNCATE ON public.ledger_statement_line
    FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_refuse_change();
CREATE TRIGGER ledger_reversal_append_only BEFORE UPDATE OR DELETE ON public.ledger_reversal
    FOR EACH ROW EXECUTE FUNCTION public.ledger_refuse_change();
CREATE TRIGGER ledger_reversal_no_truncate BEFORE TRUNCATE ON public.ledger_reversal
    FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_refuse_change();
CREATE TRIGGER ledger_period_close_append_only BEFORE UPDATE OR DELETE ON public.ledger_period_close
    FOR EACH ROW EXECUTE FUNCTION public.ledger_refuse_change();
CREATE TRIGGER ledger_period_close_no_truncate BEFORE TRUNCATE ON public.ledger_period_close
    FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_refuse_change();
CREATE TRIGGER ledger_guarded_balance_stays BEFORE DELETE ON public.ledger_guarded_balance
    FOR EACH ROW EXECUTE FUNCTION public.ledger_refuse_change();
CREATE TRIGGER ledger_guarded_balance_no_truncate BEFORE TRUNCATE ON public.ledger_guarded_balance
    FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_refuse_change();
ALTER TABLE public.ledger_statement_line ENABLE ALWAYS TRIGGER ledger_statement_line_append_only;
ALTER TABLE public.ledger_statement_line ENABLE ALWAYS TRIGGER ledger_statement_line_no_truncate;
ALTER TABLE public.ledger_reversal ENABLE ALWAYS TRIGGER ledger_reversal_append_only;
ALTER TABLE public.ledger_reversal ENABLE ALWAYS TRIGGER ledger_reversal_no_truncate;
ALTER TABLE public.ledger_period_close ENABLE ALWAYS TRIGGER ledger_period_close_append_only;
ALTER TABLE public.ledger_period_close ENABLE ALWAYS TRIGGER ledger_period_close_no_truncate;
ALTER TABLE public.ledger_guarded_balance ENABLE ALWAYS TRIGGER ledger_guarded_balance_stays;
ALTER TABLE public.ledger_guarded_balance ENABLE ALWAYS TRIGGER ledger_guarded_balance_no_truncate;

-- Closing waits for postings that are under way (they hold the lock shared), and those that come after see it.
CREATE FUNCTION public.ledger_check_period() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(7016001);
    PERFORM FROM public.ledger_period_close c WHERE c.closed_until > NEW.occurred_at;
    IF FOUND THEN
        RAISE EXCEPTION 'the period of % is closed', NEW.occurred_at
            USING ERRCODE = 'check_violation', TABLE = 'ledger_entry', CONSTRAINT = 'ledger_entry_period_open';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER ledger_entry_period BEFORE INSERT ON public.ledger_entry
    FOR EACH ROW EXECUTE FUNCTION public.ledger_check_period();
ALTER TABLE public.ledger_entry ENABLE ALWAYS TRIGGER ledger_entry_period;

CREATE FUNCTION public.ledger_close_period(p_until timestamptz, p_by text, p_reason text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE v_id bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(7016001);
    IF p_until IS NULL OR p_until > clock_timestamp()
       OR p_until <= (SELECT max(c.closed_until) FROM public.ledger_period_close c) THEN
        RAISE EXCEPTION 'a period ends in the past and after the last one that was closed'
            USING ERRCODE = 'check_violation', TABLE = 'ledger_period_close',
                  CONSTRAINT = 'ledger_period_close_in_order';
    END IF;
    INSERT INTO public.ledger_period_close (closed_until, closed_by, reason) VALUES (p_until, p_by, p_reason)
    RETURNING id INTO v_id;
    RETURN v_id;
END $$;

-- A reservation is resolved between its own accounts, never by more than it holds; a void gives all of it back.
CREATE OR REPLACE FUNCTION public.ledger_check_transfer() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM public.ledger_entry e
    WHERE e.book_id = NEW.book_id AND e.id = NEW.entry_id AND e.xid = pg_current_xact_id();
    IF NOT FOUND THEN
        RAISE EXCEPTION 'ledger transfer without an entry of this transaction'
            USING ERRCODE = 'check_violation', TABLE = 'ledger_transfer', CONSTRAINT = 'ledger_transfer_with_its_entry';
    END IF;
    IF NEW.phase IN ('post', 'void') THEN
        PERFORM FROM public.ledger_transfer p
        WHERE p.book_id = NEW.book_id AND p.id = NEW.pending_id AND p.phase = 'pending' AND p.debit = NEW.debit
          AND p.credit = NEW.credit AND p.currency = NEW.currency AND NEW.amount <= p.amount
          AND (NEW.phase = 'post' OR NEW.amount = p.amount);
        IF NOT FOUND THEN
            RAISE EXCEPTION 'ledger transfer does not resolve a reservation of its accounts'
                USING ERRCODE = 'check_violation', TABLE = 'ledger_transfer',
                      CONSTRAINT = 'ledger_transfer_resolves_its_own';
        END IF;
    END IF;
    RETURN NULL;
END $$;
"""

# [debit kind, credit kind, provider, currency, amount] and, for reservations, phase and the entry that reserved.
POSTING = """
CREATE FUNCTION public.ledger_post(
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
    v_written  int;
    v_canon    bytea;
BEGIN
    SELECT sum((t ->> 4)::bigint), count(*) FILTER (WHERE d.id IS NULL OR c.id IS NULL),
           bool_or('vendor_available' IN (t ->> 0, t ->> 1))
    INTO v_total, v_missing, v_guarded
    FROM jsonb_array_elements(p_transfers) AS t
    LEFT JOIN public.ledger_account d ON d.book_id = p_book AND d.kind = t ->> 0 AND d.currency = t ->> 3
        AND d.provider = CASE t ->> 0 WHEN 'psp_clearing' THEN t ->> 2 ELSE '' END
    LEFT JOIN public.ledger_account c ON c.book_id = p_book AND c.kind = t ->> 1 AND c.currency = t ->> 3
        AND c.provider = CASE t ->> 1 WHEN 'psp_clearing' THEN t ->> 2 ELSE '' END;

    IF v_missing > 0 THEN
        -- In one order for everybody, so that two first sales of a vendor cannot wait for each other.
        INSERT INTO public.ledger_account (book_id, kind, provider, currency)
        SELECT DISTINCT p_book, k.kind, CASE k.kind WHEN 'psp_clearing' THEN t ->> 2 ELSE '' END AS provider, t ->> 3
        FROM jsonb_array_elements(p_transfers) AS t CROSS JOIN LATERAL (VALUES (t ->> 0), (t ->> 1)) AS k (kind)
        ORDER BY 1, 2, 3, 4
        ON CONFLICT ON CONSTRAINT ledger_account_once DO NOTHING;
    END IF;

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
    ), leaf AS (
        INSERT INTO public.audit_event (id, occurred_at, type, outcome, actor_kind, actor_id, actor_role,
                                        target_type, target_id, session_id, request_id, canon, leaf_hash)
        VALUES (p_entry, v_recorded, 'finance.ledger_entry.posted', 'SUCCESS', p_actor ->> 'kind', p_actor ->> 'id',
                p_actor ->> 'role', 'ledger_entry', p_entry::text, p_actor ->> 'session', p_actor ->> 'request',
                v_canon, sha256('\\x00'::bytea || v_canon))
    ), pending AS (
        INSERT INTO public.audit_pending (id, occurred_at) VALUES (p_entry, v_recorded)
    )
    INSERT INTO public.ledger_transfer (book_id, entry_id, seq, debit, credit, currency, amount, phase, pending_id)
    SELECT p_book, p_entry, e.seq, d.id, c.id, e.t ->> 3, (e.t ->> 4)::bigint, coalesce(e.t ->> 5, 'single'),
           CASE WHEN e.t ->> 6 IS NOT NULL THEN (
               SELECT r.id FROM public.ledger_transfer r
               WHERE r.book_id = p_book AND r.entry_id = (e.t ->> 6)::uuid AND r.phase = 'pending'
                 AND r.debit = d.id AND r.credit = c.id) END
    FROM jsonb_array_elements(p_transfers) WITH ORDINALITY AS e (t, seq)
    JOIN public.ledger_account d ON d.book_id = p_book AND d.kind = e.t ->> 0 AND d.currency = e.t ->> 3
        AND d.provider = CASE e.t ->> 0 WHEN 'psp_clearing' THEN e.t ->> 2 ELSE '' END
    JOIN public.ledger_account c ON c.book_id = p_book AND c.kind = e.t ->> 1 AND c.currency = e.t ->> 3
        AND c.provider = CASE e.t ->> 1 WHEN 'psp_clearing' THEN e.t ->> 2 ELSE '' END;
    GET DIAGNOSTICS v_written = ROW_COUNT;
    -- An account that another transaction opened is not seen by a repeatable-read snapshot: run again.
    IF v_written <> v_count THEN
        RAISE EXCEPTION 'ledger accounts changed during the posting' USING ERRCODE = 'serialization_failure';
    END IF;
    IF p_of IS NOT NULL THEN
        PERFORM public.ledger_take_back(p_book, p_entry, p_of, v_total::bigint, coalesce(p_whole, false));
    END IF;
    IF v_guarded THEN
        PERFORM public.ledger_move_guarded(p_book, p_entry, p_occurred_at, v_recorded);
    END IF;
    RETURN p_entry;
END $$;

CREATE FUNCTION public.ledger_take_back(p_book uuid, p_entry uuid, p_of uuid, p_amount bigint, p_whole boolean)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_original bigint;
    v_before   numeric;
    v_last     int;
BEGIN
    SELECT e.control_total INTO v_original FROM public.ledger_entry e
    WHERE e.book_id = p_book AND e.id = p_of FOR NO KEY UPDATE;
    -- What was taken back and itself undone later (a refund that failed) can be taken back again.
    SELECT coalesce(sum(r.amount - coalesce((
               SELECT sum(u.amount) FROM public.ledger_reversal u
               WHERE u.book_id = r.book_id AND u.of_entry = r.entry_id), 0)), 0), coalesce(max(r.seq), 0)
    INTO v_before, v_last
    FROM public.ledger_reversal r WHERE r.book_id = p_book AND r.of_entry = p_of;
    -- In its own currency; and what undid something is not undone itself, for nobody would count that.
    IF v_original IS NULL OR v_before + p_amount > v_original OR (p_whole AND p_amount <> v_original)
       OR EXISTS (
           SELECT FROM public.ledger_transfer t WHERE t.book_id = p_book AND t.entry_id = p_entry
             AND NOT EXISTS (SELECT FROM public.ledger_transfer o WHERE o.book_id = p_book AND o.entry_id = p_of
                             AND o.currency = t.currency))
       OR EXISTS (
           SELECT FROM public.ledger_reversal r JOIN public.ledger_reversal u
             ON u.book_id = r.book_id AND u.entry_id = r.of_entry
           WHERE r.book_id = p_book AND r.entry_id = p_of) THEN
        RAISE EXCEPTION 'more would be taken back than ledger entry % holds', p_of
            USING ERRCODE = 'check_violation', TABLE = 'ledger_reversal',
                  CONSTRAINT = 'ledger_reversal_within_original';
    END IF;
    INSERT INTO public.ledger_reversal (book_id, entry_id, of_entry, seq, amount)
    VALUES (p_book, p_entry, p_of, v_last + 1, p_amount);
END $$;

CREATE FUNCTION public.ledger_move_guarded(
    p_book uuid, p_entry uuid, p_occurred_at timestamptz, p_recorded_at timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_move    record;
    v_balance bigint;
    v_seq     bigint;
BEGIN
    FOR v_move IN
        SELECT a.id, a.currency, sum(s.posted)::bigint AS posted, sum(s.reserved)::bigint AS reserved
        FROM (
            SELECT t.debit AS account, CASE WHEN t.phase IN ('single', 'post') THEN -t.amount ELSE 0 END AS posted,
                   CASE t.phase WHEN 'pending' THEN t.amount WHEN 'single' THEN 0 ELSE -r.amount END AS reserved
            FROM public.ledger_transfer t
            LEFT JOIN public.ledger_transfer r ON r.book_id = t.book_id AND r.id = t.pending_id
            WHERE t.book_id = p_book AND t.entry_id = p_entry
            UNION ALL
            SELECT t.credit, CASE WHEN t.phase IN ('single', 'post') THEN t.amount ELSE 0 END, 0
            FROM public.ledger_transfer t WHERE t.book_id = p_book AND t.entry_id = p_entry
        ) s JOIN public.ledger_account a ON a.book_id = p_book AND a.id = s.account
        WHERE a.kind = 'vendor_available'
        GROUP BY a.id, a.currency ORDER BY a.id
    LOOP
        INSERT INTO public.ledger_guarded_balance (book_id, account_id) VALUES (p_book, v_move.id)
        ON CONFLICT DO NOTHING;
        UPDATE public.ledger_guarded_balance g
        SET posted = g.posted + v_move.posted, reserved = g.reserved + v_move.reserved,
            seq = g.seq + CASE WHEN v_move.posted = 0 THEN 0 ELSE 1 END
        WHERE g.book_id = p_book AND g.account_id = v_move.id
          AND g.posted + v_move.posted - g.reserved - v_move.reserved >= g.floor
        RETURNING g.posted, g.seq INTO v_balance, v_seq;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the balance does not cover this'
                USING ERRCODE = 'check_violation', TABLE = 'ledger_guarded_balance',
                      CONSTRAINT = 'ledger_guarded_balance_covered';
        END IF;
        IF v_move.posted <> 0 THEN
            INSERT INTO public.ledger_statement_line (book_id, account_id, currency, seq, entry_id, occurred_at,
                                                      recorded_at, amount, balance)
            VALUES (p_book, v_move.id, v_move.currency, v_seq, p_entry, p_occurred_at, p_recorded_at,
                    v_move.posted, v_balance);
        END IF;
    END LOOP;
END $$;

-- For processes of the version before, which call it until they are replaced.
CREATE OR REPLACE FUNCTION public.ledger_post(
    p_book uuid, p_entry uuid, p_kind text, p_occurred_at timestamptz, p_source text,
    p_transfers jsonb, p_mac bytea, p_actor jsonb
) RETURNS uuid
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT public.ledger_post(p_book, p_entry, p_kind, p_occurred_at, p_source, p_transfers, p_mac, p_actor,
                              NULL::uuid, NULL::boolean)
$$;
"""

# A snapshot is the one before plus what committed since, told by a horizon of transaction ids: every id before
# it has ended, so nothing can be added behind it. Taken book by book, in pages.
SNAPSHOTS = """
CREATE FUNCTION public.ledger_take_snapshots(p_after uuid, p_books int, OUT last_book uuid, OUT taken bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_horizon constant xid8 := pg_snapshot_xmin(pg_current_snapshot());
BEGIN
    SELECT max(b.book_id::text)::uuid INTO last_book FROM (
        SELECT DISTINCT a.book_id FROM public.ledger_account a
        WHERE p_after IS NULL OR a.book_id > p_after ORDER BY a.book_id LIMIT p_books) b;
    INSERT INTO public.ledger_snapshot (book_id, account_id, horizon, debit, credit)
    SELECT a.book_id, a.id, v_horizon, coalesce(s.debit, 0) + d.amount, coalesce(s.credit, 0) + c.amount
    FROM public.ledger_account a
    LEFT JOIN LATERAL (
        SELECT s.horizon, s.debit, s.credit FROM public.ledger_snapshot s
        WHERE s.book_id = a.book_id AND s.account_id = a.id ORDER BY s.horizon DESC LIMIT 1) s ON true
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(t.amount), 0)::bigint AS amount, count(*) AS found FROM public.ledger_transfer t
        WHERE t.book_id = a.book_id AND t.debit = a.id AND t.phase IN ('single', 'post')
          AND t.xid >= coalesce(s.horizon, '0'::xid8) AND t.xid < v_horizon) d
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(t.amount), 0)::bigint AS amount, count(*) AS found FROM public.ledger_transfer t
        WHERE t.book_id = a.book_id AND t.credit = a.id AND t.phase IN ('single', 'post')
          AND t.xid >= coalesce(s.horizon, '0'::xid8) AND t.xid < v_horizon) c
    WHERE (p_after IS NULL OR a.book_id > p_after) AND a.book_id <= last_book AND d.found + c.found > 0
    ORDER BY a.book_id, a.id
    ON CONFLICT ON CONSTRAINT ledger_snapshot_once DO NOTHING;
    GET DIAGNOSTICS taken = ROW_COUNT;
END $$;
"""

RUNTIME_ROLE = "SELECT set_config('mestore.runtime_role', %s, true)"
GRANTS = """
DO $$
DECLARE
    runtime   constant text := current_setting('mestore.runtime_role');
    tables    constant text := 'public.ledger_guarded_balance, public.ledger_statement_line, public.ledger_reversal, '
                               'public.ledger_period_close, public.ledger_snapshot';
    sequences constant text := 'public.ledger_statement_line_id_seq, public.ledger_period_close_id_seq, '
                               'public.ledger_snapshot_id_seq';
    callable  constant text :=
        'public.ledger_post(uuid, uuid, text, timestamptz, text, jsonb, bytea, jsonb, uuid, boolean), '
        'public.ledger_close_period(timestamptz, text, text), public.ledger_take_snapshots(uuid, int)';
    inner_use constant text :=
        'public.ledger_take_back(uuid, uuid, uuid, bigint, boolean), '
        'public.ledger_move_guarded(uuid, uuid, timestamptz, timestamptz), public.ledger_check_period()';
BEGIN
    EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, %I', tables, runtime);
    EXECUTE format('REVOKE ALL ON SEQUENCE %s FROM PUBLIC, %I', sequences, runtime);
    EXECUTE format('REVOKE ALL ON FUNCTION %s, %s FROM PUBLIC, %I', callable, inner_use, runtime);
    EXECUTE format('GRANT SELECT ON %s TO %I', tables, runtime);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', callable, runtime);
END $$
"""

DROP = """
DROP TRIGGER ledger_entry_period ON public.ledger_entry;
DROP FUNCTION public.ledger_check_period();
DROP FUNCTION public.ledger_close_period(timestamptz, text, text);
DROP FUNCTION public.ledger_take_snapshots(uuid, int);
DROP FUNCTION public.ledger_post(uuid, uuid, text, timestamptz, text, jsonb, bytea, jsonb, uuid, boolean);
DROP FUNCTION public.ledger_take_back(uuid, uuid, uuid, bigint, boolean);
DROP FUNCTION public.ledger_move_guarded(uuid, uuid, timestamptz, timestamptz);
DROP TABLE public.ledger_snapshot;
DROP TABLE public.ledger_period_close;
DROP TABLE public.ledger_reversal;
DROP TABLE public.ledger_statement_line;
DROP TABLE public.ledger_guarded_balance;
ALTER TABLE public.ledger_account DROP CONSTRAINT ledger_account_kind_known;
ALTER TABLE public.ledger_account ADD CONSTRAINT ledger_account_kind_known CHECK (kind IN (
    'psp_clearing', 'vendor_pending', 'vendor_available', 'vendor_reserved', 'payout_in_transit',
    'platform_fee', 'tax_payable:goods', 'tax_payable:fee', 'tax_payable:withholding', 'shipping_payable',
    'refund_clearing', 'chargeback', 'rounding', 'suspense', 'platform_bank')) NOT VALID;
"""
# The former check of transfers, and the former writer, for the way back.
FORMER_CHECK = """
CREATE OR REPLACE FUNCTION public.ledger_check_transfer() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM public.ledger_entry e
    WHERE e.book_id = NEW.book_id AND e.id = NEW.entry_id AND e.xid = pg_current_xact_id();
    IF NOT FOUND THEN
        RAISE EXCEPTION 'ledger transfer without an entry of this transaction'
            USING ERRCODE = 'check_violation', TABLE = 'ledger_transfer', CONSTRAINT = 'ledger_transfer_with_its_entry';
    END IF;
    RETURN NULL;
END $$;
"""

FORMER_POSTING = """
CREATE OR REPLACE FUNCTION public.ledger_post(
    p_book uuid, p_entry uuid, p_kind text, p_occurred_at timestamptz, p_source text,
    p_transfers jsonb, p_mac bytea, p_actor jsonb
) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_count    constant int := jsonb_array_length(p_transfers);
    v_recorded constant timestamptz := clock_timestamp();
    v_total    numeric;
    v_opened   int;
    v_missing  int;
    v_written  int;
    v_canon    bytea;
BEGIN
    SELECT sum((t ->> 4)::bigint), count(*) FILTER (WHERE d.id IS NULL OR c.id IS NULL) INTO v_total, v_missing
    FROM jsonb_array_elements(p_transfers) AS t
    LEFT JOIN public.ledger_account d ON d.book_id = p_book AND d.kind = t ->> 0 AND d.currency = t ->> 3
        AND d.provider = CASE t ->> 0 WHEN 'psp_clearing' THEN t ->> 2 ELSE '' END
    LEFT JOIN public.ledger_account c ON c.book_id = p_book AND c.kind = t ->> 1 AND c.currency = t ->> 3
        AND c.provider = CASE t ->> 1 WHEN 'psp_clearing' THEN t ->> 2 ELSE '' END;

    IF v_missing > 0 THEN
        -- In one order for everybody, so that two first sales of a vendor cannot wait for each other.
        INSERT INTO public.ledger_account (book_id, kind, provider, currency)
        SELECT DISTINCT p_book, k.kind, CASE k.kind WHEN 'psp_clearing' THEN t ->> 2 ELSE '' END AS provider, t ->> 3
        FROM jsonb_array_elements(p_transfers) AS t CROSS JOIN LATERAL (VALUES (t ->> 0), (t ->> 1)) AS k (kind)
        ORDER BY 1, 2, 3, 4
        ON CONFLICT ON CONSTRAINT ledger_account_once DO NOTHING;
    END IF;

    v_canon := convert_to(jsonb_build_object(
        'type', 'finance.ledger_entry.posted', 'id', p_entry, 'book', p_book, 'kind', p_kind, 'source', p_source,
        'occurred_at', to_char(p_occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'recorded_at', to_char(v_recorded AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'transfers', p_transfers, 'control_total', v_total, 'mac', encode(p_mac, 'hex'), 'actor', p_actor
    )::text, 'UTF8');

    WITH entry AS (
        INSERT INTO public.ledger_entry (book_id, id, kind, source_event, occurred_at, recorded_at, actor_kind,
                                         actor_id, transfer_count, control_total, mac)
        VALUES (p_book, p_entry, p_kind, p_source, p_occurred_at, v_recorded, p_actor ->> 'kind',
                p_actor ->> 'id', v_count, v_total::bigint, p_mac)
    ), leaf AS (
        INSERT INTO public.audit_event (id, occurred_at, type, outcome, actor_kind, actor_id, actor_role,
                                        target_type, target_id, session_id, request_id, canon, leaf_hash)
        VALUES (p_entry, v_recorded, 'finance.ledger_entry.posted', 'SUCCESS', p_actor ->> 'kind', p_actor ->> 'id',
                p_actor ->> 'role', 'ledger_entry', p_entry::text, p_actor ->> 'session', p_actor ->> 'request',
                v_canon, sha256('\\x00'::bytea || v_canon))
    ), pending AS (
        INSERT INTO public.audit_pending (id, occurred_at) VALUES (p_entry, v_recorded)
    )
    INSERT INTO public.ledger_transfer (book_id, entry_id, seq, debit, credit, currency, amount)
    SELECT p_book, p_entry, e.seq, d.id, c.id, e.t ->> 3, (e.t ->> 4)::bigint
    FROM jsonb_array_elements(p_transfers) WITH ORDINALITY AS e (t, seq)
    JOIN public.ledger_account d ON d.book_id = p_book AND d.kind = e.t ->> 0 AND d.currency = e.t ->> 3
        AND d.provider = CASE e.t ->> 0 WHEN 'psp_clearing' THEN e.t ->> 2 ELSE '' END
    JOIN public.ledger_account c ON c.book_id = p_book AND c.kind = e.t ->> 1 AND c.currency = e.t ->> 3
        AND c.provider = CASE e.t ->> 1 WHEN 'psp_clearing' THEN e.t ->> 2 ELSE '' END;
    GET DIAGNOSTICS v_written = ROW_COUNT;
    -- An account that another transaction opened is not seen by a repeatable-read snapshot: run again.
    IF v_written <> v_count THEN
        RAISE EXCEPTION 'ledger accounts changed during the posting' USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN p_entry;
END $$;
"""
