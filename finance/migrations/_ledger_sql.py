"""The ledger as SQL, for the first migration. Frozen: change it with a new migration, never here.

Why SQL: what must hold against our own code, injected SQL and a superuser in replica mode is held by the
database. An amount is one row from one account to another, so nothing can be out of balance; every key
begins with the book, so one vendor's books can be verified, exported or moved alone.
"""

TABLES = """
CREATE TABLE public.ledger_account (
    book_id   uuid        NOT NULL,
    id        bigint      GENERATED ALWAYS AS IDENTITY,
    kind      text        NOT NULL,
    provider  text        NOT NULL DEFAULT '',
    currency  text        NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (book_id, id),
    CONSTRAINT ledger_account_currency_key UNIQUE (book_id, id, currency),
    CONSTRAINT ledger_account_once UNIQUE (book_id, kind, provider, currency),
    CONSTRAINT ledger_account_currency_code CHECK (currency ~ '^[A-Z]{3}$'),
    CONSTRAINT ledger_account_kind_known CHECK (kind IN (
        'psp_clearing', 'vendor_pending', 'vendor_available', 'vendor_reserved', 'payout_in_transit',
        'platform_fee', 'tax_payable:goods', 'tax_payable:fee', 'tax_payable:withholding', 'shipping_payable',
        'refund_clearing', 'chargeback', 'rounding', 'suspense', 'platform_bank')),
    -- Clearing is kept per provider; no other kind is.
    CONSTRAINT ledger_account_provider_where_it_matters CHECK ((kind = 'psp_clearing') = (provider <> ''))
);
CREATE INDEX ledger_account_by_id ON public.ledger_account (id);

CREATE TABLE public.ledger_entry (
    book_id        uuid        NOT NULL,
    id             uuid        NOT NULL,
    kind           text        NOT NULL,
    source_event   text        NOT NULL,
    occurred_at    timestamptz NOT NULL,
    recorded_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor_kind     text        NOT NULL,
    actor_id       text,
    reverses       uuid,
    transfer_count int         NOT NULL,
    control_total  bigint      NOT NULL,
    mac            bytea       NOT NULL,
    xid            xid8        NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (book_id, id),
    -- The natural key of what happened: an event that arrives twice posts once.
    CONSTRAINT ledger_entry_source_event_once UNIQUE (book_id, source_event),
    CONSTRAINT ledger_entry_reversed_once UNIQUE (book_id, reverses),
    CONSTRAINT ledger_entry_reverses_own_book FOREIGN KEY (book_id, reverses)
        REFERENCES public.ledger_entry (book_id, id) NOT DEFERRABLE,
    CONSTRAINT ledger_entry_reverses_another CHECK (reverses <> id),
    CONSTRAINT ledger_entry_kind_named CHECK (kind ~ '^[a-z][a-z_]{1,39}$'),
    CONSTRAINT ledger_entry_source_named CHECK (length(source_event) BETWEEN 1 AND 200),
    CONSTRAINT ledger_entry_counts CHECK (transfer_count BETWEEN 1 AND 1000 AND control_total > 0),
    CONSTRAINT ledger_entry_mac_length CHECK (length(mac) = 32)
);
-- Newest first over all books: identifiers are time-ordered.
CREATE INDEX ledger_entry_by_id ON public.ledger_entry (id);

CREATE TABLE public.ledger_transfer (
    book_id    uuid     NOT NULL,
    id         bigint   GENERATED ALWAYS AS IDENTITY,
    entry_id   uuid     NOT NULL,
    seq        smallint NOT NULL,
    debit      bigint   NOT NULL,
    credit     bigint   NOT NULL,
    currency   text     NOT NULL,
    amount     bigint   NOT NULL,
    phase      text     NOT NULL DEFAULT 'single',
    pending_id bigint,
    xid        xid8     NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (book_id, id),
    CONSTRAINT ledger_transfer_seq_once UNIQUE (book_id, entry_id, seq),
    CONSTRAINT ledger_transfer_entry FOREIGN KEY (book_id, entry_id)
        REFERENCES public.ledger_entry (book_id, id) NOT DEFERRABLE,
    CONSTRAINT ledger_transfer_debit FOREIGN KEY (book_id, debit, currency)
        REFERENCES public.ledger_account (book_id, id, currency) NOT DEFERRABLE,
    CONSTRAINT ledger_transfer_credit FOREIGN KEY (book_id, credit, currency)
        REFERENCES public.ledger_account (book_id, id, currency) NOT DEFERRABLE,
    CONSTRAINT ledger_transfer_pending FOREIGN KEY (book_id, pending_id)
        REFERENCES public.ledger_transfer (book_id, id) NOT DEFERRABLE,
    CONSTRAINT ledger_transfer_amount CHECK (amount BETWEEN 1 AND 1000000000000000),
    CONSTRAINT ledger_transfer_two_accounts CHECK (debit <> credit),
    CONSTRAINT ledger_transfer_seq_counts CHECK (seq > 0),
    CONSTRAINT ledger_transfer_phase_known CHECK (phase IN ('single', 'pending', 'post', 'void')),
    CONSTRAINT ledger_transfer_phase_resolves CHECK ((phase IN ('post', 'void')) = (pending_id IS NOT NULL))
);
CREATE INDEX ledger_transfer_by_id ON public.ledger_transfer (id);
-- Balances are derived: one index-only range per side of an account.
CREATE INDEX ledger_transfer_debits ON public.ledger_transfer (book_id, debit) INCLUDE (amount, xid, phase);
CREATE INDEX ledger_transfer_credits ON public.ledger_transfer (book_id, credit) INCLUDE (amount, xid, phase);
-- A reservation resolves at most once.
CREATE UNIQUE INDEX ledger_transfer_resolved_once ON public.ledger_transfer (book_id, pending_id)
    WHERE phase IN ('post', 'void');
"""

PROTECTION = """
CREATE FUNCTION public.ledger_refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% on % is refused: the ledger is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;

-- Second line, at commit: the entry's own count and total against the rows that are there, and both accounts of
-- each row in the entry's book and currency. Foreign keys sleep in replica mode; this trigger does not.
CREATE FUNCTION public.ledger_check_entry() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    present bigint;
    sound   bigint;
    total   numeric;
BEGIN
    SELECT count(*), count(d.id + c.id), coalesce(sum(t.amount), 0) INTO present, sound, total
    FROM public.ledger_transfer t
    LEFT JOIN public.ledger_account d ON d.book_id = t.book_id AND d.id = t.debit AND d.currency = t.currency
    LEFT JOIN public.ledger_account c ON c.book_id = t.book_id AND c.id = t.credit AND c.currency = t.currency
    WHERE t.book_id = NEW.book_id AND t.entry_id = NEW.id;
    IF present <> NEW.transfer_count OR sound <> present OR total <> NEW.control_total THEN
        RAISE EXCEPTION 'ledger entry % does not match its transfers', NEW.id
            USING ERRCODE = 'check_violation', TABLE = 'ledger_entry', CONSTRAINT = 'ledger_entry_control_total';
    END IF;
    RETURN NULL;
END $$;

-- A transfer is written with its entry or not at all: none joins an entry of an earlier transaction.
CREATE FUNCTION public.ledger_check_transfer() RETURNS trigger
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

CREATE TRIGGER ledger_account_append_only BEFORE UPDATE OR DELETE ON public.ledger_account
    FOR EACH ROW EXECUTE FUNCTION public.ledger_refuse_change();
CREATE TRIGGER ledger_account_no_truncate BEFORE TRUNCATE ON public.ledger_account
    FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_refuse_change();
CREATE TRIGGER ledger_entry_append_only BEFORE UPDATE OR DELETE ON public.ledger_entry
    FOR EACH ROW EXECUTE FUNCTION public.ledger_refuse_change();
CREATE TRIGGER ledger_entry_no_truncate BEFORE TRUNCATE ON public.ledger_entry
    FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_refuse_change();
CREATE TRIGGER ledger_transfer_append_only BEFORE UPDATE OR DELETE ON public.ledger_transfer
    FOR EACH ROW EXECUTE FUNCTION public.ledger_refuse_change();
CREATE TRIGGER ledger_transfer_no_truncate BEFORE TRUNCATE ON public.ledger_transfer
    FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_refuse_change();
CREATE CONSTRAINT TRIGGER ledger_entry_control_total AFTER INSERT ON public.ledger_entry
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.ledger_check_entry();
CREATE TRIGGER ledger_transfer_with_its_entry AFTER INSERT ON public.ledger_transfer
    FOR EACH ROW EXECUTE FUNCTION public.ledger_check_transfer();

-- ALWAYS: session_replication_role = replica does not silence them, not even for a superuser.
ALTER TABLE public.ledger_account ENABLE ALWAYS TRIGGER ledger_account_append_only;
ALTER TABLE public.ledger_account ENABLE ALWAYS TRIGGER ledger_account_no_truncate;
ALTER TABLE public.ledger_entry ENABLE ALWAYS TRIGGER ledger_entry_append_only;
ALTER TABLE public.ledger_entry ENABLE ALWAYS TRIGGER ledger_entry_no_truncate;
ALTER TABLE public.ledger_entry ENABLE ALWAYS TRIGGER ledger_entry_control_total;
ALTER TABLE public.ledger_transfer ENABLE ALWAYS TRIGGER ledger_transfer_append_only;
ALTER TABLE public.ledger_transfer ENABLE ALWAYS TRIGGER ledger_transfer_no_truncate;
ALTER TABLE public.ledger_transfer ENABLE ALWAYS TRIGGER ledger_transfer_with_its_entry;
"""

# The only writer. It takes the book first, opens missing accounts, and writes the entry, its transfers and the
# entry's leaf in the audit trail (the leaf has the entry's id). p_transfers is a list of
# [debit kind, credit kind, provider, currency, amount]; the caller's identity comes in p_actor.
POSTING = """
CREATE FUNCTION public.ledger_post(
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

# The role's name is data: it reaches the statements through format('%I') only.
RUNTIME_ROLE = "SELECT set_config('mestore.runtime_role', %s, true)"
GRANTS = """
DO $$
DECLARE
    runtime  constant text := current_setting('mestore.runtime_role');
    tables   constant text := 'public.ledger_account, public.ledger_entry, public.ledger_transfer';
    posting  constant text := 'public.ledger_post(uuid, uuid, text, timestamptz, text, jsonb, bytea, jsonb)';
    triggers constant text :=
        'public.ledger_refuse_change(), public.ledger_check_entry(), public.ledger_check_transfer()';
BEGIN
    EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, %I', tables, runtime);
    EXECUTE format('REVOKE ALL ON SEQUENCE public.ledger_account_id_seq, public.ledger_transfer_id_seq '
                   'FROM PUBLIC, %I', runtime);
    EXECUTE format('REVOKE ALL ON FUNCTION %s, %s FROM PUBLIC, %I', posting, triggers, runtime);
    EXECUTE format('GRANT SELECT ON %s TO %I', tables, runtime);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', posting, runtime);
END $$
"""

DROP = """
DROP FUNCTION public.ledger_post(uuid, uuid, text, timestamptz, text, jsonb, bytea, jsonb);
DROP TABLE public.ledger_transfer;
DROP TABLE public.ledger_entry;
DROP TABLE public.ledger_account;
DROP FUNCTION public.ledger_refuse_change();
DROP FUNCTION public.ledger_check_entry();
DROP FUNCTION public.ledger_check_transfer();
"""
