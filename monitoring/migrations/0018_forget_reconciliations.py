"""Records of reconciliations that nobody needs any more may go; until then nobody removes one, nor ever changes one.

What stays, whoever asks, the owner included: 400 days, so that who comes once a year sees each night of it, and
a comparison (which looks back 300 days at most) finds what it compares with; the newest sixty, among which the
next comparison looks for that; and the newest that found nothing, however old.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import migrations

LOCK_TIMEOUT = "SET LOCAL lock_timeout = '5s'"

FUNCTIONS = """
CREATE FUNCTION public.audit_reconciliation_stays() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' AND OLD.taken_at < now() - interval '400 days'
        AND (SELECT count(*) FROM (SELECT FROM public.audit_reconciliation r
                                   WHERE r.taken_at > OLD.taken_at LIMIT 60) AS newer) = 60
        AND (OLD.differences > 0 OR EXISTS (SELECT FROM public.audit_reconciliation r
                                            WHERE r.taken_at > OLD.taken_at AND r.differences = 0))
    THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION '% on % is refused: records of reconciliations stand for 400 days', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;

-- Removes at most `most` of those that may go, the oldest first; returns how many.
CREATE FUNCTION public.audit_forget_reconciliations(most int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    gone bigint;
BEGIN
    IF most IS NULL OR most NOT BETWEEN 1 AND 1000 THEN
        RAISE EXCEPTION 'most must be between 1 and 1000' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    DELETE FROM public.audit_reconciliation r USING (
        SELECT o.id FROM public.audit_reconciliation o
        WHERE o.taken_at < now() - interval '400 days'
          AND o.taken_at < (SELECT n.taken_at FROM public.audit_reconciliation n
                            ORDER BY n.taken_at DESC OFFSET 59 LIMIT 1)
          AND (o.differences > 0 OR o.taken_at < (SELECT max(g.taken_at) FROM public.audit_reconciliation g
                                                  WHERE g.differences = 0))
        ORDER BY o.taken_at LIMIT most FOR UPDATE SKIP LOCKED
    ) AS aged WHERE r.id = aged.id;
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END $$;
"""

TRIGGER = """
CREATE OR REPLACE TRIGGER audit_reconciliation_append_only BEFORE UPDATE OR DELETE ON public.audit_reconciliation
    FOR EACH ROW EXECUTE FUNCTION public.audit_reconciliation_stays();
ALTER TABLE public.audit_reconciliation ENABLE ALWAYS TRIGGER audit_reconciliation_append_only;
"""
TRIGGER_BEFORE = """
CREATE OR REPLACE TRIGGER audit_reconciliation_append_only BEFORE UPDATE OR DELETE ON public.audit_reconciliation
    FOR EACH ROW EXECUTE FUNCTION public.audit_refuse_change();
ALTER TABLE public.audit_reconciliation ENABLE ALWAYS TRIGGER audit_reconciliation_append_only;
"""

# The role's name is data: it reaches the statement through format('%I') only.
RUNTIME_ROLE = "SELECT set_config('mestore.runtime_role', %s, true)"
GRANTS = """
DO $$
DECLARE runtime constant text := current_setting('mestore.runtime_role');
BEGIN
    EXECUTE format('REVOKE ALL ON FUNCTION public.audit_reconciliation_stays(), '
                   'public.audit_forget_reconciliations(int) FROM PUBLIC, %I', runtime);
    EXECUTE format('GRANT EXECUTE ON FUNCTION public.audit_forget_reconciliations(int) TO %I', runtime);
END $$
"""

DROP = """
DROP FUNCTION public.audit_forget_reconciliations(int);
DROP FUNCTION public.audit_reconciliation_stays();
"""


def grant(_apps: Any, schema_editor: Any) -> None:
    """Let the runtime role forget through the function, and in no other way."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(RUNTIME_ROLE, [settings.DATABASES["default"]["USER"]])
        cursor.execute(GRANTS)


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0017_reconciliation")]

    operations = [
        migrations.RunSQL(LOCK_TIMEOUT, LOCK_TIMEOUT),
        migrations.RunSQL(FUNCTIONS, DROP),
        migrations.RunSQL(TRIGGER, TRIGGER_BEFORE),
        migrations.RunPython(grant, migrations.RunPython.noop),
    ]
