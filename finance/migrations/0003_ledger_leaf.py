"""An entry that did not come through `ledger_post` gets its leaf in the audit trail at commit.

`ledger_post` writes the leaf of each entry itself. Whoever has the right to insert around it (the owner, a
superuser, a restored dump) would leave money that the signed log knows nothing of: this trigger writes the
leaf then, in the name of the database's role, with the transfers as they stand.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import migrations

LOCK_TIMEOUT = "SET LOCAL lock_timeout = '5s'"

TRIGGER = """
CREATE FUNCTION public.ledger_ensure_leaf() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    v_at        constant timestamptz := clock_timestamp();
    v_id        uuid := NEW.id;
    v_transfers jsonb;
    v_canon     bytea;
BEGIN
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
    INSERT INTO public.audit_pending (id, occurred_at) VALUES (v_id, v_at);
    RETURN NULL;
END $$;

-- Deferred: the transfers are written after their entry.
CREATE CONSTRAINT TRIGGER ledger_entry_leaf AFTER INSERT ON public.ledger_entry
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.ledger_ensure_leaf();
ALTER TABLE public.ledger_entry ENABLE ALWAYS TRIGGER ledger_entry_leaf;
"""

DROP = """
DROP TRIGGER ledger_entry_leaf ON public.ledger_entry;
DROP FUNCTION public.ledger_ensure_leaf();
"""

# The role's name is data: it reaches the statement through format('%I') only.
RUNTIME_ROLE = "SELECT set_config('mestore.runtime_role', %s, true)"
GRANTS = """
DO $$
BEGIN
    EXECUTE format('REVOKE ALL ON FUNCTION public.ledger_ensure_leaf() FROM PUBLIC, %I',
                   current_setting('mestore.runtime_role'));
END $$
"""


def restrict(_apps: Any, schema_editor: Any) -> None:
    """Nobody calls the trigger's function by hand."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(RUNTIME_ROLE, [settings.DATABASES["default"]["USER"]])
        cursor.execute(GRANTS)


class Migration(migrations.Migration):
    dependencies = [("finance", "0002_capture")]

    operations = [
        migrations.RunSQL(LOCK_TIMEOUT, LOCK_TIMEOUT),
        migrations.RunSQL(TRIGGER, DROP),
        migrations.RunPython(restrict, migrations.RunPython.noop),
    ]
