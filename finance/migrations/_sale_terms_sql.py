"""The rules in force for a sale, and what its vendors sold before it: one call inside the sale's own query. Frozen.

A vendor is counted from when a rule with tiers holds for it to the month's end. The row of the month is its
lock: sales of one vendor that are counted wait for each other, all others do not. The first sale of a month
finds the row missing and begins with what was committed before.
"""

CREATE = """
CREATE FUNCTION public.finance_sale_terms(
    p_currency text, p_at timestamptz, p_month date, p_since timestamptz, p_vendors uuid[], p_bases bigint[],
    p_products text[], p_categories text[], p_order text, p_is_sold boolean, OUT rules jsonb, OUT volumes jsonb)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_part   record;
    v_before bigint;
BEGIN
    IF NOT p_is_sold THEN
        RETURN;
    END IF;
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'id', r.id, 'name', r.name, 'currency', r.currency, 'vendor', r.vendor_id, 'category', r.category,
        'product', r.product_id, 'order', r.order_reference, 'priority', r.priority, 'type', r.commission_type,
        'rate_ppm', r.rate_ppm, 'fixed_minor', r.fixed_minor, 'floor_minor', r.floor_minor, 'cap_minor', r.cap_minor,
        'tiers', r.tiers, 'starts', lower(r.valid))), '[]')
    INTO rules
    FROM (
        SELECT own.* FROM public.finance_commissionrule own
        WHERE own.vendor_id = ANY (p_vendors) AND own.currency = p_currency AND own.status = 'ACTIVE'
          AND own.product_id = ANY (p_products || ''::text) AND own.category = ANY (p_categories || ''::text)
          AND own.order_reference IN ('', p_order) AND own.valid @> p_at
        UNION ALL
        SELECT every.* FROM public.finance_commissionrule every
        WHERE every.vendor_id IS NULL AND every.currency = p_currency AND every.status = 'ACTIVE'
          AND every.product_id = ANY (p_products || ''::text) AND every.category = ANY (p_categories || ''::text)
          AND every.order_reference IN ('', p_order) AND every.valid @> p_at
    ) r;
    volumes := '{}';
    FOR v_part IN
        SELECT s.vendor, s.base FROM unnest(p_vendors, p_bases) AS s (vendor, base)
        WHERE EXISTS (
            SELECT FROM public.finance_commissionrule t
            WHERE t.status = 'ACTIVE' AND t.tiers <> '[]'::jsonb
              AND t.currency = p_currency AND (t.vendor_id IS NULL OR t.vendor_id = s.vendor) AND t.valid @> p_at)
           -- Counted once in a month is counted until its end: another rule with tiers may begin in it.
           OR EXISTS (SELECT FROM public.finance_vendorvolume m
                      WHERE m.vendor_id = s.vendor AND m.currency = p_currency AND m.month = p_month)
        ORDER BY s.vendor
    LOOP
        UPDATE public.finance_vendorvolume v SET sold_minor = v.sold_minor + v_part.base
        WHERE v.vendor_id = v_part.vendor AND v.currency = p_currency AND v.month = p_month
        RETURNING v.sold_minor - v_part.base INTO v_before;
        IF NOT FOUND THEN
            INSERT INTO public.finance_vendorvolume (vendor_id, currency, month, sold_minor)
            SELECT v_part.vendor, p_currency, p_month, coalesce(sum(c.order_amount_minor), 0)
            FROM public.finance_commission c
            WHERE c.vendor_id = v_part.vendor AND c.currency = p_currency
              AND c.calculated_at >= p_since AND c.calculated_at <= p_at
            ON CONFLICT ON CONSTRAINT vendor_volume_once DO NOTHING;
            UPDATE public.finance_vendorvolume v SET sold_minor = v.sold_minor + v_part.base
            WHERE v.vendor_id = v_part.vendor AND v.currency = p_currency AND v.month = p_month
            RETURNING v.sold_minor - v_part.base INTO v_before;
        END IF;
        volumes := volumes || jsonb_build_object(v_part.vendor::text, v_before);
    END LOOP;
END $$;
"""
DROP = """
DROP FUNCTION public.finance_sale_terms(
    text, timestamptz, date, timestamptz, uuid[], bigint[], text[], text[], text, boolean);
"""
RUNTIME_ROLE = "SELECT set_config('mestore.runtime_role', %s, true)"
GRANTS = """
DO $$
DECLARE
    runtime constant text := current_setting('mestore.runtime_role');
    terms   constant text := 'public.finance_sale_terms(text, timestamptz, date, timestamptz, uuid[], bigint[], '
                             'text[], text[], text, boolean)';
BEGIN
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC, %I', terms, runtime);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', terms, runtime);
END $$
"""
