"""Erasing a person from the audit trail: their data key, and the values that triggers kept beside events.

Events, hashes and proofs stay: they hold commitments to personal values, never the values.

Erasing and writing meet at an advisory lock, one of 64 by the person's name: whoever keeps a value holds it
shared until the commit, erasing holds it alone. So a value that was being written is erased too, and none is
written behind the erasure's back. 64, because a bulk change of all people must not fill the lock table.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import migrations

LOCK_TIMEOUT = "SET LOCAL lock_timeout = '5s'"

FUNCTIONS = """
CREATE FUNCTION public.audit_erase(subject text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    gone bigint;
BEGIN
    -- '*' would let go of everybody's values.
    IF coalesce(subject, '') IN ('', '*') THEN
        RAISE EXCEPTION 'no person has this name' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('mestore.audit.erase'), hashtext(audit_erase.subject) & 63);
    -- A row without a key says that none is ever made again.
    INSERT INTO public.subject_key AS k (subject, wrapped, destroyed_at)
    VALUES (audit_erase.subject, NULL, clock_timestamp())
    ON CONFLICT ON CONSTRAINT subject_key_pkey DO UPDATE SET wrapped = NULL, destroyed_at = clock_timestamp()
    WHERE k.wrapped IS NOT NULL;
    PERFORM set_config('mestore.erasing', audit_erase.subject, true);
    DELETE FROM public.audit_personal p WHERE p.subject = audit_erase.subject;
    GET DIAGNOSTICS gone = ROW_COUNT;
    PERFORM set_config('mestore.erasing', '', true);
    RETURN gone;
END $$;

CREATE FUNCTION public.audit_personal_unless_erased() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtext('mestore.audit.erase'), hashtext(NEW.subject) & 63);
    -- A statement of its own: it sees what was committed while the lock was waited for.
    IF EXISTS (SELECT FROM public.subject_key k WHERE k.subject = NEW.subject AND k.wrapped IS NULL) THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER audit_personal_unless_erased BEFORE INSERT ON public.audit_personal
    FOR EACH ROW EXECUTE FUNCTION public.audit_personal_unless_erased();
ALTER TABLE public.audit_personal ENABLE ALWAYS TRIGGER audit_personal_unless_erased;
"""

# The role's name is data: it reaches the statement through format('%I') only.
RUNTIME_ROLE = "SELECT set_config('mestore.runtime_role', %s, true)"
GRANTS = """
DO $$
DECLARE runtime constant text := current_setting('mestore.runtime_role');
BEGIN
    EXECUTE format('REVOKE ALL ON FUNCTION public.audit_erase(text), public.audit_personal_unless_erased() '
                   'FROM PUBLIC, %I', runtime);
    EXECUTE format('GRANT EXECUTE ON FUNCTION public.audit_erase(text) TO %I', runtime);
END $$
"""

DROP = """
DROP TRIGGER audit_personal_unless_erased ON public.audit_personal;
DROP FUNCTION public.audit_personal_unless_erased();
DROP FUNCTION public.audit_erase(text);
"""


def grant(_apps: Any, schema_editor: Any) -> None:
    """Let the runtime role erase through the function, and in no other way."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(RUNTIME_ROLE, [settings.DATABASES["default"]["USER"]])
        cursor.execute(GRANTS)


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0010_saved_filter")]

    operations = [
        migrations.RunSQL(LOCK_TIMEOUT, LOCK_TIMEOUT),
        migrations.RunSQL(FUNCTIONS, DROP),
        migrations.RunPython(grant, migrations.RunPython.noop),
    ]
