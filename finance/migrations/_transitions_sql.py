"""Status transitions and frozen amounts of orders and commissions, for the first migration. Frozen.

The pairs repeat `finance/states.py`; a test holds them together.
"""

GUARDS = """
CREATE FUNCTION public.finance_guard_order() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.status <> NEW.status AND (OLD.status, NEW.status) NOT IN (
        ('pending', 'confirmed'), ('pending', 'cancelled'),
        ('confirmed', 'processing'), ('confirmed', 'cancelled'),
        ('processing', 'shipped'), ('processing', 'cancelled'),
        ('shipped', 'delivered'), ('shipped', 'cancelled'),
        ('delivered', 'refunded')
    ) THEN
        RAISE EXCEPTION 'an order cannot go from % to %', OLD.status, NEW.status
            USING ERRCODE = 'check_violation', TABLE = 'finance_order', CONSTRAINT = 'order_transition_allowed';
    END IF;
    IF (OLD.id, OLD.order_number, OLD.source, OLD.external_reference, OLD.currency, OLD.subtotal_minor,
        OLD.tax_minor, OLD.shipping_minor, OLD.discount_minor, OLD.total_minor)
       IS DISTINCT FROM
       (NEW.id, NEW.order_number, NEW.source, NEW.external_reference, NEW.currency, NEW.subtotal_minor,
        NEW.tax_minor, NEW.shipping_minor, NEW.discount_minor, NEW.total_minor) THEN
        RAISE EXCEPTION 'identity and amounts of an order never change'
            USING ERRCODE = 'check_violation', TABLE = 'finance_order', CONSTRAINT = 'order_amounts_frozen';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION public.finance_guard_commission() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.status <> NEW.status AND (OLD.status, NEW.status) NOT IN (
        ('PENDING', 'APPROVED'), ('PENDING', 'CANCELLED'), ('PENDING', 'DISPUTED'),
        ('APPROVED', 'PAID'), ('APPROVED', 'DISPUTED'), ('APPROVED', 'CANCELLED'),
        ('DISPUTED', 'APPROVED'), ('DISPUTED', 'CANCELLED'),
        ('PAID', 'REFUNDED')
    ) THEN
        RAISE EXCEPTION 'a commission cannot go from % to %', OLD.status, NEW.status
            USING ERRCODE = 'check_violation', TABLE = 'finance_commission',
                  CONSTRAINT = 'commission_transition_allowed';
    END IF;
    IF (OLD.id, OLD.commission_number, OLD.order_id, OLD.vendor_id, OLD.currency, OLD.order_amount_minor, OLD.rate_ppm,
        OLD.commission_amount_minor, OLD.vendor_amount_minor, OLD.commission_type, OLD.entry_id, OLD.calculated_at)
       IS DISTINCT FROM
       (NEW.id, NEW.commission_number, NEW.order_id, NEW.vendor_id, NEW.currency, NEW.order_amount_minor, NEW.rate_ppm,
        NEW.commission_amount_minor, NEW.vendor_amount_minor, NEW.commission_type, NEW.entry_id, NEW.calculated_at)
    THEN
        RAISE EXCEPTION 'identity and amounts of a commission never change'
            USING ERRCODE = 'check_violation', TABLE = 'finance_commission',
                  CONSTRAINT = 'commission_amounts_frozen';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER finance_order_guard BEFORE UPDATE ON public.finance_order
    FOR EACH ROW EXECUTE FUNCTION public.finance_guard_order();
CREATE TRIGGER finance_commission_guard BEFORE UPDATE ON public.finance_commission
    FOR EACH ROW EXECUTE FUNCTION public.finance_guard_commission();
ALTER TABLE public.finance_order ENABLE ALWAYS TRIGGER finance_order_guard;
ALTER TABLE public.finance_commission ENABLE ALWAYS TRIGGER finance_commission_guard;
"""

DROP = """
DROP TRIGGER finance_order_guard ON public.finance_order;
DROP TRIGGER finance_commission_guard ON public.finance_commission;
DROP FUNCTION public.finance_guard_order();
DROP FUNCTION public.finance_guard_commission();
"""
