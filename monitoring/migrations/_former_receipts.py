"""What tells of captured rows as it was before 0016_told, for the way back. Frozen."""

CAPTURED = """
CREATE OR REPLACE FUNCTION public.audit_captured() RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    v_here  constant xid8 := pg_current_xact_id_if_assigned();
    v_since constant timestamptz := transaction_timestamp() - interval '1 day';
    v_until constant timestamptz := clock_timestamp() + interval '1 day';
    v_found text;
BEGIN
    IF v_here IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT string_agg(found.named, ',' ORDER BY found.named) INTO v_found
    FROM public.audit_pending p CROSS JOIN LATERAL (
        SELECT e.id || ' ' || encode(e.leaf_hash, 'hex') AS named FROM public.audit_event e
        WHERE e.id = p.id AND e.occurred_at = p.occurred_at AND e.writer_mac IS NULL
          AND e.occurred_at >= v_since AND e.occurred_at < v_until OFFSET 0
    ) AS found
    WHERE p.xid = v_here;
    RETURN v_found;
END $$;
"""
