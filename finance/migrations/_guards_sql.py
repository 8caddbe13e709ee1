"""What the database itself holds of rules, refunds, payouts, approvals and disputes. Frozen.

The pairs of states repeat `finance/states.py`; a test holds them together. Each function says in
`CONSTRAINT` which rule refused, so that the application can tell it to people.
"""

EXCLUSION = """
CREATE EXTENSION IF NOT EXISTS btree_gist;
ALTER TABLE public.finance_commissionrule ADD CONSTRAINT commission_rule_no_overlap EXCLUDE USING gist (
    currency WITH =, (coalesce(vendor_id::text, '')) WITH =, category WITH =, product_id WITH =,
    order_reference WITH =, valid WITH &&
) WHERE (status = 'ACTIVE');
"""
# The extension stays: something else may use it by then.
NO_EXCLUSION = "ALTER TABLE public.finance_commissionrule DROP CONSTRAINT commission_rule_no_overlap"

BOUNDS = """
ALTER TABLE public.finance_order ADD CONSTRAINT order_refunds_within_total
    CHECK (refunded_minor BETWEEN 0 AND total_minor) NOT VALID;
ALTER TABLE public.finance_commission ADD CONSTRAINT commission_reversals_within_bounds
    CHECK (refunded_minor BETWEEN 0 AND order_amount_minor AND reversed_minor BETWEEN 0 AND commission_amount_minor
           AND fee_tax_minor >= 0 AND withheld_minor >= 0) NOT VALID;
ALTER TABLE public.finance_orderitem ADD CONSTRAINT order_item_vendor_status_known
    CHECK (vendor_status IN ('pending', 'preparing', 'ready_to_ship')
           AND (commission_minor IS NULL OR commission_minor BETWEEN 0 AND line_total_minor)) NOT VALID;
"""
NO_BOUNDS = """
ALTER TABLE public.finance_order DROP CONSTRAINT order_refunds_within_total;
ALTER TABLE public.finance_commission DROP CONSTRAINT commission_reversals_within_bounds;
ALTER TABLE public.finance_orderitem DROP CONSTRAINT order_item_vendor_status_known;
"""
VALIDATE = (
    "ALTER TABLE public.finance_order VALIDATE CONSTRAINT order_refunds_within_total",
    "ALTER TABLE public.finance_commission VALIDATE CONSTRAINT commission_reversals_within_bounds",
    "ALTER TABLE public.finance_orderitem VALIDATE CONSTRAINT order_item_vendor_status_known",
    "ALTER TABLE public.ledger_account VALIDATE CONSTRAINT ledger_account_kind_known",
)

GUARDS = """
-- The sums of refunds are kept by triggers; nobody else writes them (a trigger's own UPDATE is one level deeper).
CREATE FUNCTION public.finance_guard_sums() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pg_trigger_depth() < 2 THEN
        RAISE EXCEPTION 'sums of refunds are kept by the database'
            USING ERRCODE = 'check_violation', TABLE = TG_TABLE_NAME, CONSTRAINT = 'refund_sums_kept_by_database';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER finance_order_sums BEFORE UPDATE ON public.finance_order
    FOR EACH ROW WHEN (OLD.refunded_minor <> NEW.refunded_minor) EXECUTE FUNCTION public.finance_guard_sums();
CREATE TRIGGER finance_commission_sums BEFORE UPDATE ON public.finance_commission
    FOR EACH ROW WHEN (OLD.refunded_minor <> NEW.refunded_minor OR OLD.reversed_minor <> NEW.reversed_minor)
    EXECUTE FUNCTION public.finance_guard_sums();
ALTER TABLE public.finance_order ENABLE ALWAYS TRIGGER finance_order_sums;
ALTER TABLE public.finance_commission ENABLE ALWAYS TRIGGER finance_commission_sums;

-- By which terms a commission was charged never changes either.
CREATE FUNCTION public.finance_guard_terms() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'the terms of a charge never change'
        USING ERRCODE = 'check_violation', TABLE = TG_TABLE_NAME, CONSTRAINT = 'commission_terms_frozen';
END $$;
CREATE TRIGGER finance_commission_terms BEFORE UPDATE ON public.finance_commission FOR EACH ROW
    WHEN ((OLD.rule_id, OLD.rule_hash, OLD.rule_snapshot, OLD.rounding, OLD.fee_tax_minor, OLD.withheld_minor)
          IS DISTINCT FROM
          (NEW.rule_id, NEW.rule_hash, NEW.rule_snapshot, NEW.rounding, NEW.fee_tax_minor, NEW.withheld_minor))
    EXECUTE FUNCTION public.finance_guard_terms();
CREATE TRIGGER finance_orderitem_terms BEFORE UPDATE ON public.finance_orderitem FOR EACH ROW
    WHEN ((OLD.order_id, OLD.line, OLD.product_id, OLD.vendor_id, OLD.unit_price_minor, OLD.quantity,
           OLD.line_total_minor, OLD.shipping_minor)
          IS DISTINCT FROM
          (NEW.order_id, NEW.line, NEW.product_id, NEW.vendor_id, NEW.unit_price_minor, NEW.quantity,
           NEW.line_total_minor, NEW.shipping_minor)
          -- Set once, when the order is confirmed.
          OR (OLD.rule_hash IS NOT NULL
              AND (OLD.commission_minor, OLD.rate_ppm, OLD.rule_hash, OLD.rounding)
                  IS DISTINCT FROM (NEW.commission_minor, NEW.rate_ppm, NEW.rule_hash, NEW.rounding)))
    EXECUTE FUNCTION public.finance_guard_terms();
ALTER TABLE public.finance_commission ENABLE ALWAYS TRIGGER finance_commission_terms;
ALTER TABLE public.finance_orderitem ENABLE ALWAYS TRIGGER finance_orderitem_terms;

CREATE FUNCTION public.finance_guard_rule() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (OLD.id, OLD.name, OLD.currency, OLD.vendor_id, OLD.category, OLD.product_id, OLD.order_reference, OLD.priority,
        OLD.commission_type, OLD.rate_ppm, OLD.fixed_minor, OLD.floor_minor, OLD.cap_minor, OLD.tiers, OLD.rule_hash,
        OLD.proposed_by, lower(OLD.valid))
       IS DISTINCT FROM
       (NEW.id, NEW.name, NEW.currency, NEW.vendor_id, NEW.category, NEW.product_id, NEW.order_reference, NEW.priority,
        NEW.commission_type, NEW.rate_ppm, NEW.fixed_minor, NEW.floor_minor, NEW.cap_minor, NEW.tiers, NEW.rule_hash,
        NEW.proposed_by, lower(NEW.valid))
       OR (OLD.status <> 'PROPOSED' AND OLD.approved_by IS DISTINCT FROM NEW.approved_by) THEN
        RAISE EXCEPTION 'the terms of a rule never change'
            USING ERRCODE = 'check_violation', TABLE = 'finance_commissionrule', CONSTRAINT = 'commission_rule_frozen';
    END IF;
    -- A rule may end earlier than was said, never in the past, and never later.
    IF upper(OLD.valid) IS DISTINCT FROM upper(NEW.valid)
       AND NOT (upper(NEW.valid) >= now() AND (upper_inf(OLD.valid) OR upper(NEW.valid) < upper(OLD.valid))) THEN
        RAISE EXCEPTION 'a rule ends now or later, and not later than was said'
            USING ERRCODE = 'check_violation', TABLE = 'finance_commissionrule', CONSTRAINT = 'commission_rule_end';
    END IF;
    IF OLD.status <> NEW.status AND (OLD.status, NEW.status) NOT IN (
        ('PROPOSED', 'ACTIVE'), ('PROPOSED', 'WITHDRAWN'), ('ACTIVE', 'WITHDRAWN')) THEN
        RAISE EXCEPTION 'a rule cannot go from % to %', OLD.status, NEW.status
            USING ERRCODE = 'check_violation', TABLE = 'finance_commissionrule',
                  CONSTRAINT = 'commission_rule_transition_allowed';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER finance_commissionrule_guard BEFORE UPDATE ON public.finance_commissionrule
    FOR EACH ROW EXECUTE FUNCTION public.finance_guard_rule();
ALTER TABLE public.finance_commissionrule ENABLE ALWAYS TRIGGER finance_commissionrule_guard;

-- Refunds of an order never exceed it: the order's row counts them, under its own lock.
CREATE FUNCTION public.finance_count_refund() RETURNS trigger
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
CREATE FUNCTION public.finance_guard_refund() RETURNS trigger
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
CREATE FUNCTION public.finance_count_refund_part() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.commission_id IS NOT NULL THEN
        UPDATE public.finance_commission c SET refunded_minor = c.refunded_minor + NEW.base_minor,
                                               reversed_minor = c.reversed_minor + NEW.commission_minor
        FROM public.finance_refund r
        WHERE c.id = NEW.commission_id AND c.vendor_id = NEW.vendor_id AND r.id = NEW.refund_id
          AND r.order_id = c.order_id;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'a refund takes back commission of its own order and vendor'
                USING ERRCODE = 'check_violation', TABLE = 'finance_refundpart', CONSTRAINT = 'refund_part_of_its_sale';
        END IF;
    END IF;
    RETURN NULL;
END $$;
-- At commit: the parts are the whole.
CREATE FUNCTION public.finance_check_refund() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.amount_minor <> (SELECT coalesce(sum(p.goods_minor + p.tax_minor + p.shipping_minor), 0)
                            FROM public.finance_refundpart p WHERE p.refund_id = NEW.id) THEN
        RAISE EXCEPTION 'the parts of refund % do not add up to it', NEW.id
            USING ERRCODE = 'check_violation', TABLE = 'finance_refund', CONSTRAINT = 'refund_parts_add_up';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER finance_refund_counted AFTER INSERT ON public.finance_refund
    FOR EACH ROW EXECUTE FUNCTION public.finance_count_refund();
CREATE TRIGGER finance_refund_guard BEFORE UPDATE ON public.finance_refund
    FOR EACH ROW EXECUTE FUNCTION public.finance_guard_refund();
CREATE CONSTRAINT TRIGGER finance_refund_parts AFTER INSERT ON public.finance_refund
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.finance_check_refund();
CREATE TRIGGER finance_refund_stays BEFORE DELETE ON public.finance_refund
    FOR EACH ROW EXECUTE FUNCTION public.ledger_refuse_change();
CREATE TRIGGER finance_refundpart_counted AFTER INSERT ON public.finance_refundpart
    FOR EACH ROW EXECUTE FUNCTION public.finance_count_refund_part();
CREATE TRIGGER finance_refundpart_append_only BEFORE UPDATE OR DELETE ON public.finance_refundpart
    FOR EACH ROW EXECUTE FUNCTION public.ledger_refuse_change();
ALTER TABLE public.finance_refund ENABLE ALWAYS TRIGGER finance_refund_counted;
ALTER TABLE public.finance_refund ENABLE ALWAYS TRIGGER finance_refund_guard;
ALTER TABLE public.finance_refund ENABLE ALWAYS TRIGGER finance_refund_parts;
ALTER TABLE public.finance_refund ENABLE ALWAYS TRIGGER finance_refund_stays;
ALTER TABLE public.finance_refundpart ENABLE ALWAYS TRIGGER finance_refundpart_counted;
ALTER TABLE public.finance_refundpart ENABLE ALWAYS TRIGGER finance_refundpart_append_only;

-- What an approval of a payout is bound to: amount, currency, vendor and the account, each of a fixed shape.
CREATE FUNCTION public.finance_payout_content(p_payout uuid, p_vendor uuid, p_currency text, p_amount bigint,
                                              p_fingerprint bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256(convert_to('payout/v1|' || p_payout || '|' || p_vendor || '|' || p_currency || '|' || p_amount || '|'
                             || encode(p_fingerprint, 'hex'), 'UTF8'))
$$;
CREATE FUNCTION public.finance_guard_payout() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_account   record;
    v_approvals int;
    v_leads     int;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF (OLD.id, OLD.payout_number, OLD.vendor_id, OLD.bank_account_id, OLD.currency, OLD.amount_minor, OLD.origin,
            OLD.content_hash, OLD.requested_by, OLD.requested_at, OLD.reserve_entry_id)
           IS DISTINCT FROM
           (NEW.id, NEW.payout_number, NEW.vendor_id, NEW.bank_account_id, NEW.currency, NEW.amount_minor, NEW.origin,
            NEW.content_hash, NEW.requested_by, NEW.requested_at, NEW.reserve_entry_id)
           OR NEW.approvals_needed < OLD.approvals_needed OR (OLD.needs_lead AND NOT NEW.needs_lead) THEN
            RAISE EXCEPTION 'what a payout is about never changes'
                USING ERRCODE = 'check_violation', TABLE = 'finance_payout', CONSTRAINT = 'payout_frozen';
        END IF;
        IF OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
            ('requested', 'screened'), ('requested', 'held'), ('requested', 'rejected'), ('requested', 'cancelled'),
            ('screened', 'approved'), ('screened', 'held'), ('screened', 'rejected'), ('screened', 'cancelled'),
            ('held', 'screened'), ('held', 'rejected'), ('held', 'cancelled'),
            ('approved', 'submitting'), ('approved', 'screened'), ('approved', 'held'), ('approved', 'rejected'),
            ('approved', 'cancelled'),
            ('submitting', 'in_transit'), ('submitting', 'unknown'), ('submitting', 'rejected'),
            ('in_transit', 'paid'), ('in_transit', 'returned'), ('in_transit', 'unknown'),
            ('unknown', 'in_transit'), ('unknown', 'paid'), ('unknown', 'returned'), ('unknown', 'rejected'),
            ('paid', 'returned')
        ) THEN
            RAISE EXCEPTION 'a payout cannot go from % to %', OLD.state, NEW.state
                USING ERRCODE = 'check_violation', TABLE = 'finance_payout', CONSTRAINT = 'payout_transition_allowed';
        END IF;
    END IF;
    IF TG_OP = 'INSERT' AND NEW.state <> 'requested' THEN
        RAISE EXCEPTION 'a payout begins as requested'
            USING ERRCODE = 'check_violation', TABLE = 'finance_payout', CONSTRAINT = 'payout_transition_allowed';
    END IF;
    SELECT b.vendor_id, b.currency, b.fingerprint, b.usable_from, b.removed_at INTO v_account
    FROM public.finance_bankaccount b WHERE b.id = NEW.bank_account_id;
    IF v_account.vendor_id IS DISTINCT FROM NEW.vendor_id OR v_account.currency IS DISTINCT FROM NEW.currency
       OR NEW.content_hash IS DISTINCT FROM public.finance_payout_content(
           NEW.id, NEW.vendor_id, NEW.currency, NEW.amount_minor, v_account.fingerprint) THEN
        RAISE EXCEPTION 'the hash of a payout is that of its content'
            USING ERRCODE = 'check_violation', TABLE = 'finance_payout', CONSTRAINT = 'payout_content_hash';
    END IF;
    -- Looked at again when it is sent: approvals grow old, and so do accounts.
    IF NEW.state IN ('approved', 'submitting') AND (TG_OP = 'INSERT' OR OLD.state <> NEW.state) THEN
        SELECT count(DISTINCT a.approver_id), count(DISTINCT a.approver_id) FILTER (WHERE a.as_lead)
        INTO v_approvals, v_leads FROM public.finance_payoutapproval a
        WHERE a.payout_id = NEW.id AND a.content_hash = NEW.content_hash
          AND a.approved_at > now() - interval '24 hours';
        IF v_approvals < NEW.approvals_needed OR (NEW.needs_lead AND v_leads < 1) THEN
            RAISE EXCEPTION 'payout % lacks approvals', NEW.id
                USING ERRCODE = 'check_violation', TABLE = 'finance_payout', CONSTRAINT = 'payout_approved_by_enough';
        END IF;
        IF v_account.removed_at IS NOT NULL OR v_account.usable_from > now() THEN
            RAISE EXCEPTION 'the bank account of payout % is not usable', NEW.id
                USING ERRCODE = 'check_violation', TABLE = 'finance_payout', CONSTRAINT = 'payout_account_usable';
        END IF;
    END IF;
    RETURN NEW;
END $$;
-- One row per change, with who acts according to the transaction; nobody writes it by hand.
CREATE FUNCTION public.finance_note_payout() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE v_told constant jsonb := nullif(current_setting('mestore.ctx', true), '')::jsonb;
BEGIN
    IF TG_OP = 'INSERT' OR OLD.state <> NEW.state THEN
        INSERT INTO public.finance_payoutchange (payout_id, before, after, reason, changed_by, changed_at)
        VALUES (NEW.id, CASE TG_OP WHEN 'INSERT' THEN '' ELSE OLD.state END, NEW.state, NEW.state_reason,
                coalesce(CASE WHEN v_told IS NULL THEN session_user ELSE v_told ->> 'id' END, ''), clock_timestamp());
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION public.finance_guard_approval() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE v_payout record;
BEGIN
    SELECT p.vendor_id, p.requested_by, p.content_hash, p.state, b.created_by INTO v_payout
    FROM public.finance_payout p JOIN public.finance_bankaccount b ON b.id = p.bank_account_id
    WHERE p.id = NEW.payout_id FOR UPDATE OF p;
    IF NEW.approver_id IN (v_payout.requested_by, v_payout.created_by, v_payout.vendor_id) THEN
        RAISE EXCEPTION 'who asks for a payout, gets it or entered its account does not approve it'
            USING ERRCODE = 'check_violation', TABLE = 'finance_payoutapproval',
                  CONSTRAINT = 'payout_approval_by_another';
    END IF;
    IF NEW.content_hash IS DISTINCT FROM v_payout.content_hash OR v_payout.state <> 'screened' THEN
        RAISE EXCEPTION 'an approval is of what the payout is about now'
            USING ERRCODE = 'check_violation', TABLE = 'finance_payoutapproval',
                  CONSTRAINT = 'payout_approval_of_content';
    END IF;
    -- When it was given is not said by who gives it. The payout's row is held, so two at once are not both the first.
    NEW.approved_at := clock_timestamp();
    PERFORM FROM public.finance_payoutapproval a
    WHERE a.payout_id = NEW.payout_id AND a.approver_id = NEW.approver_id AND a.content_hash = NEW.content_hash
      AND a.approved_at > now() - interval '24 hours';
    IF FOUND THEN
        RAISE EXCEPTION 'this approval was given already'
            USING ERRCODE = 'unique_violation', TABLE = 'finance_payoutapproval', CONSTRAINT = 'payout_approval_once';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER finance_payout_guard BEFORE INSERT OR UPDATE ON public.finance_payout
    FOR EACH ROW EXECUTE FUNCTION public.finance_guard_payout();
CREATE TRIGGER finance_payout_noted AFTER INSERT OR UPDATE ON public.finance_payout
    FOR EACH ROW EXECUTE FUNCTION public.finance_note_payout();
CREATE TRIGGER finance_payout_stays BEFORE DELETE ON public.finance_payout
    FOR EACH ROW EXECUTE FUNCTION public.ledger_refuse_change();
CREATE TRIGGER finance_payoutchange_append_only BEFORE UPDATE OR DELETE ON public.finance_payoutchange
    FOR EACH ROW EXECUTE FUNCTION public.ledger_refuse_change();
CREATE TRIGGER finance_payoutapproval_guard BEFORE INSERT ON public.finance_payoutapproval
    FOR EACH ROW EXECUTE FUNCTION public.finance_guard_approval();
CREATE TRIGGER finance_payoutapproval_append_only BEFORE UPDATE OR DELETE ON public.finance_payoutapproval
    FOR EACH ROW EXECUTE FUNCTION public.ledger_refuse_change();
ALTER TABLE public.finance_payout ENABLE ALWAYS TRIGGER finance_payout_guard;
ALTER TABLE public.finance_payout ENABLE ALWAYS TRIGGER finance_payout_noted;
ALTER TABLE public.finance_payout ENABLE ALWAYS TRIGGER finance_payout_stays;
ALTER TABLE public.finance_payoutchange ENABLE ALWAYS TRIGGER finance_payoutchange_append_only;
ALTER TABLE public.finance_payoutapproval ENABLE ALWAYS TRIGGER finance_payoutapproval_guard;
ALTER TABLE public.finance_payoutapproval ENABLE ALWAYS TRIGGER finance_payoutapproval_append_only;

-- Sealed values and the blind index are rewritten when keys rotate; what was approved is not.
CREATE FUNCTION public.finance_guard_account() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'another bank account is another row'
        USING ERRCODE = 'check_violation', TABLE = 'finance_bankaccount', CONSTRAINT = 'bank_account_frozen';
END $$;
CREATE TRIGGER finance_bankaccount_guard BEFORE UPDATE ON public.finance_bankaccount FOR EACH ROW
    WHEN ((OLD.id, OLD.vendor_id, OLD.currency, OLD.bank_name, OLD.bank_code, OLD.account_type,
           OLD.holder_document_type, OLD.last_four, OLD.fingerprint, OLD.created_by, OLD.created_at, OLD.usable_from)
          IS DISTINCT FROM
          (NEW.id, NEW.vendor_id, NEW.currency, NEW.bank_name, NEW.bank_code, NEW.account_type,
           NEW.holder_document_type, NEW.last_four, NEW.fingerprint, NEW.created_by, NEW.created_at, NEW.usable_from)
          OR (OLD.removed_at IS NOT NULL AND NEW.removed_at IS DISTINCT FROM OLD.removed_at))
    EXECUTE FUNCTION public.finance_guard_account();
ALTER TABLE public.finance_bankaccount ENABLE ALWAYS TRIGGER finance_bankaccount_guard;

CREATE FUNCTION public.finance_guard_dispute() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (OLD.id, OLD.commission_id, OLD.vendor_id, OLD.subject, OLD.description, OLD.commission_status, OLD.opened_at)
       IS DISTINCT FROM
       (NEW.id, NEW.commission_id, NEW.vendor_id, NEW.subject, NEW.description, NEW.commission_status, NEW.opened_at)
       OR (OLD.status <> NEW.status AND (OLD.status, NEW.status) NOT IN (
           ('ABIERTO', 'EN_REVISION'), ('ABIERTO', 'RESUELTO'), ('ABIERTO', 'RECHAZADO'),
           ('EN_REVISION', 'RESUELTO'), ('EN_REVISION', 'RECHAZADO'))) THEN
        RAISE EXCEPTION 'a dispute cannot go from % to %', OLD.status, NEW.status
            USING ERRCODE = 'check_violation', TABLE = 'finance_dispute', CONSTRAINT = 'dispute_transition_allowed';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER finance_dispute_guard BEFORE UPDATE ON public.finance_dispute
    FOR EACH ROW EXECUTE FUNCTION public.finance_guard_dispute();
ALTER TABLE public.finance_dispute ENABLE ALWAYS TRIGGER finance_dispute_guard;
"""

RUNTIME_ROLE = "SELECT set_config('mestore.runtime_role', %s, true)"
GRANTS = """
DO $$
DECLARE
    runtime  constant text := current_setting('mestore.runtime_role');
    triggers constant text :=
        'public.finance_guard_sums(), public.finance_guard_terms(), public.finance_guard_rule(), '
        'public.finance_count_refund(), public.finance_guard_refund(), public.finance_count_refund_part(), '
        'public.finance_check_refund(), public.finance_guard_payout(), public.finance_note_payout(), '
        'public.finance_guard_approval(), public.finance_guard_account(), public.finance_guard_dispute(), '
        'public.finance_payout_content(uuid, uuid, text, bigint, bytea)';
BEGIN
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC, %I', triggers, runtime);
    EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON public.finance_refundpart, public.finance_payoutapproval '
                   'FROM PUBLIC, %I', runtime);
    EXECUTE format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON public.finance_payoutchange FROM PUBLIC, %I', runtime);
    EXECUTE format('REVOKE DELETE, TRUNCATE ON public.finance_refund, public.finance_payout, '
                   'public.finance_commissionrule, public.finance_dispute FROM PUBLIC, %I', runtime);
END $$
"""

DROP = """
DROP TRIGGER finance_order_sums ON public.finance_order;
DROP TRIGGER finance_commission_sums ON public.finance_commission;
DROP TRIGGER finance_commission_terms ON public.finance_commission;
DROP TRIGGER finance_orderitem_terms ON public.finance_orderitem;
DROP TRIGGER finance_commissionrule_guard ON public.finance_commissionrule;
DROP TRIGGER finance_refund_counted ON public.finance_refund;
DROP TRIGGER finance_refund_guard ON public.finance_refund;
DROP TRIGGER finance_refund_parts ON public.finance_refund;
DROP TRIGGER finance_refund_stays ON public.finance_refund;
DROP TRIGGER finance_refundpart_counted ON public.finance_refundpart;
DROP TRIGGER finance_refundpart_append_only ON public.finance_refundpart;
DROP TRIGGER finance_payout_guard ON public.finance_payout;
DROP TRIGGER finance_payout_noted ON public.finance_payout;
DROP TRIGGER finance_payout_stays ON public.finance_payout;
DROP TRIGGER finance_payoutchange_append_only ON public.finance_payoutchange;
DROP TRIGGER finance_payoutapproval_guard ON public.finance_payoutapproval;
DROP TRIGGER finance_payoutapproval_append_only ON public.finance_payoutapproval;
DROP TRIGGER finance_bankaccount_guard ON public.finance_bankaccount;
DROP TRIGGER finance_dispute_guard ON public.finance_dispute;
DROP FUNCTION public.finance_guard_sums();
DROP FUNCTION public.finance_guard_terms();
DROP FUNCTION public.finance_guard_rule();
DROP FUNCTION public.finance_count_refund();
DROP FUNCTION public.finance_guard_refund();
DROP FUNCTION public.finance_count_refund_part();
DROP FUNCTION public.finance_check_refund();
DROP FUNCTION public.finance_guard_payout();
DROP FUNCTION public.finance_note_payout();
DROP FUNCTION public.finance_guard_approval();
DROP FUNCTION public.finance_guard_account();
DROP FUNCTION public.finance_guard_dispute();
DROP FUNCTION public.finance_payout_content(uuid, uuid, text, bigint, bytea);
"""
