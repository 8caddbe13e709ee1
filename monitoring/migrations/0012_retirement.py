"""The end of a month of the trail: archived, decided, dropped; and a guard on what the database writes itself.

A month is dropped by one function, which its caller cannot persuade: it demands twelve whole months of age
(PCI DSS 10.5.1), an archive on record, a decision on record whose event has its leaf, no event that still
waits, and exactly as many events as were archived. The application may not call it, nor write these records.

Events of a trigger or of `ledger_post` carry no MAC, so the application must not be able to write any: only
who could put a trigger on the table, as the owner's functions can, may insert these types.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import migrations

LOCK_TIMEOUT = "SET LOCAL lock_timeout = '5s'"

TABLES = """
-- Each archive of a month: what its manifest says, signed by the log. Made anew when a file was lost.
CREATE TABLE public.audit_archive (
    id          uuid        PRIMARY KEY,
    month       date        NOT NULL CHECK (month = date_trunc('month', month)),
    events      bigint      NOT NULL CHECK (events >= 0),
    manifest    bytea       NOT NULL,
    note        text        NOT NULL CHECK (note <> ''),
    archived_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_archive_month ON public.audit_archive (month, archived_at DESC);

-- Months that two people gave up, with the event that says so.
CREATE TABLE public.audit_retirement (
    month      date        PRIMARY KEY,
    archive_id uuid        NOT NULL REFERENCES public.audit_archive (id),
    event_id   uuid        NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT now()
);
"""

PROTECTION = """
CREATE TRIGGER audit_archive_append_only BEFORE UPDATE OR DELETE ON public.audit_archive
    FOR EACH ROW EXECUTE FUNCTION public.audit_refuse_change();
CREATE TRIGGER audit_archive_no_truncate BEFORE TRUNCATE ON public.audit_archive
    FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_change();
ALTER TABLE public.audit_archive ENABLE ALWAYS TRIGGER audit_archive_append_only;
ALTER TABLE public.audit_archive ENABLE ALWAYS TRIGGER audit_archive_no_truncate;

CREATE TRIGGER audit_retirement_append_only BEFORE UPDATE OR DELETE ON public.audit_retirement
    FOR EACH ROW EXECUTE FUNCTION public.audit_refuse_change();
CREATE TRIGGER audit_retirement_no_truncate BEFORE TRUNCATE ON public.audit_retirement
    FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_change();
ALTER TABLE public.audit_retirement ENABLE ALWAYS TRIGGER audit_retirement_append_only;
ALTER TABLE public.audit_retirement ENABLE ALWAYS TRIGGER audit_retirement_no_truncate;

-- Drops a month that was archived and given up; returns how many events went, NULL when it was gone already.
CREATE FUNCTION public.audit_retire_month(retired date) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '2s' AS $$
DECLARE
    part     constant text := 'audit_event_' || to_char(retired, 'YYYYMM');
    until    constant timestamptz := retired + interval '1 month';
    archived bigint;
    decision uuid;
    held     bigint;
BEGIN
    IF retired IS NULL OR retired <> date_trunc('month', retired) THEN
        RAISE EXCEPTION 'a month is named by its first day' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF until + interval '12 months' > now() THEN
        RAISE EXCEPTION 'the month % is too young: twelve whole months stay', to_char(retired, 'YYYY-MM')
            USING ERRCODE = 'restrict_violation';
    END IF;
    SELECT a.events, r.event_id INTO archived, decision
    FROM public.audit_retirement r JOIN public.audit_archive a ON a.id = r.archive_id AND a.month = r.month
    WHERE r.month = retired;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the month % is not on record as archived and given up', to_char(retired, 'YYYY-MM')
            USING ERRCODE = 'restrict_violation';
    END IF;
    PERFORM FROM public.audit_leaf l WHERE l.event_id = decision;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the decision is not in the log yet' USING ERRCODE = 'restrict_violation';
    END IF;
    -- Two at once: the second waits and finds the month gone.
    PERFORM pg_advisory_xact_lock(hashtext('audit_ensure_partitions'));
    PERFORM FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'public.audit_event'::regclass AND c.relname = part;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    -- First the month alone, so that counting stops nobody but who writes into the past.
    EXECUTE format('LOCK TABLE ONLY public.%I IN SHARE MODE', part);
    PERFORM FROM public.audit_pending p WHERE p.occurred_at >= retired AND p.occurred_at < until;
    IF FOUND THEN
        RAISE EXCEPTION 'events of % still wait for their leaf', to_char(retired, 'YYYY-MM')
            USING ERRCODE = 'restrict_violation';
    END IF;
    EXECUTE format('SELECT count(*) FROM public.%I', part) INTO held;
    IF held <> archived THEN
        RAISE EXCEPTION 'the month % holds % events and its archive %', to_char(retired, 'YYYY-MM'), held, archived
            USING ERRCODE = 'restrict_violation';
    END IF;
    EXECUTE format('DROP TABLE public.%I', part);
    RETURN held;
END $$;

-- Personal values that triggers kept beside the events of a month that is gone: `most` at a time, until none
-- is left. Their event's id begins with its moment (UUIDv7), so the primary key finds them.
CREATE FUNCTION public.audit_forget_values(retired date, most int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '5s' AS $$
DECLARE
    until constant timestamptz := retired + interval '1 month';
    first constant uuid := rpad(lpad(to_hex((extract(epoch FROM retired::timestamptz) * 1000)::bigint), 12, '0'), 32, '0')::uuid;
    last  constant uuid := rpad(lpad(to_hex((extract(epoch FROM until) * 1000)::bigint), 12, '0'), 32, '0')::uuid;
    gone  bigint;
BEGIN
    PERFORM FROM public.audit_retirement r WHERE r.month = retired;
    IF NOT FOUND OR to_regclass(format('public.%I', 'audit_event_' || to_char(retired, 'YYYYMM'))) IS NOT NULL THEN
        RAISE EXCEPTION 'the month is not gone' USING ERRCODE = 'restrict_violation';
    END IF;
    PERFORM set_config('mestore.erasing', '*', true);
    DELETE FROM public.audit_personal p USING (
        SELECT v.event_id, v.name FROM public.audit_personal v
        WHERE v.event_id >= first AND v.event_id < last AND v.occurred_at >= retired AND v.occurred_at < until
        LIMIT most
    ) AS chosen WHERE p.event_id = chosen.event_id AND p.name = chosen.name;
    GET DIAGNOSTICS gone = ROW_COUNT;
    PERFORM set_config('mestore.erasing', '', true);
    RETURN gone;
END $$;

-- The condition is asked without a call, of the role whose rights count: inside of `audit_capture`, `ledger_post`
-- and `ledger_ensure_leaf` that is the owner.
CREATE FUNCTION public.audit_refuse_reserved() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'events of the type % are written by the database itself', NEW.type
        USING ERRCODE = 'insufficient_privilege', SCHEMA = 'public', TABLE = 'audit_event';
END $$;
CREATE TRIGGER audit_event_reserved BEFORE INSERT ON public.audit_event FOR EACH ROW
    WHEN ((NEW.type ^@ 'capture.' OR NEW.type = 'finance.ledger_entry.posted')
          AND NOT has_table_privilege('public.audit_event'::regclass, 'TRIGGER'))
    EXECUTE FUNCTION public.audit_refuse_reserved();
"""

# Each month has a trigger of its own: those that are there, and those that are made later.
ALWAYS = """
DO $$
DECLARE part text;
BEGIN
    ALTER TABLE public.audit_event ENABLE ALWAYS TRIGGER audit_event_reserved;
    FOR part IN SELECT i.inhrelid::regclass::text FROM pg_inherits i
                WHERE i.inhparent = 'public.audit_event'::regclass LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER audit_event_reserved', part);
    END LOOP;
END $$
"""

_ENSURE = """
CREATE OR REPLACE FUNCTION public.audit_ensure_partitions(months_ahead int) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET lock_timeout = '2s' AS $$
DECLARE
    parent  constant regclass := 'public.audit_event'::regclass;
    month   timestamptz;
    part    text;
    grantee name;
    guard   name;
    made    int := 0;
BEGIN
    IF months_ahead IS NULL OR months_ahead NOT BETWEEN 0 AND 36 THEN
        RAISE EXCEPTION 'months_ahead must be between 0 and 36' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Two workers at once: the second waits and finds the work done.
    PERFORM pg_advisory_xact_lock(hashtext('audit_ensure_partitions'));
    FOR step IN -1 .. months_ahead LOOP
        month := date_trunc('month', now()) + make_interval(months => step);
        part := 'audit_event_' || to_char(month, 'YYYYMM');
        CONTINUE WHEN to_regclass(format('public.%I', part)) IS NOT NULL;
        -- LIKE and ATTACH, not PARTITION OF: attaching does not block those who read and write the parent.
        EXECUTE format('CREATE TABLE public.%I (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part, parent);
        -- Default privileges may have opened the new table; rows are reached through the parent only.
        FOR grantee IN
            SELECT DISTINCT coalesce(r.rolname, 'public') FROM pg_class c
            CROSS JOIN LATERAL aclexplode(c.relacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
            WHERE c.oid = to_regclass(format('public.%I', part)) AND a.grantee <> c.relowner
        LOOP
            EXECUTE format('REVOKE ALL ON public.%I FROM %s', part,
                           CASE grantee WHEN 'public' THEN 'PUBLIC' ELSE quote_ident(grantee) END);
        END LOOP;
        EXECUTE format('ALTER TABLE %s ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
                       parent, part, month, month + interval '1 month');
        EXECUTE format('CREATE TRIGGER audit_event_no_truncate BEFORE TRUNCATE ON public.%I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_change()', part);
        -- Row triggers came with the parent; say ALWAYS once more, of them and of the one that does not come along.
        FOR guard IN SELECT t.tgname FROM pg_trigger t
                     WHERE t.tgrelid = to_regclass(format('public.%I', part)) AND NOT t.tgisinternal LOOP
            EXECUTE format('ALTER TABLE public.%I ENABLE ALWAYS TRIGGER %I', part, guard);
        END LOOP;
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;
"""

# The role's name is data: it reaches the statement through format('%I') only.
RUNTIME_ROLE = "SELECT set_config('mestore.runtime_role', %s, true)"
GRANTS = """
DO $$
DECLARE
    runtime   constant text := current_setting('mestore.runtime_role');
    functions constant text := 'public.audit_retire_month(date), public.audit_forget_values(date, int), '
        'public.audit_refuse_reserved()';
BEGIN
    EXECUTE format('REVOKE ALL ON public.audit_archive, public.audit_retirement FROM PUBLIC, %I', runtime);
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC, %I', functions, runtime);
    EXECUTE format('GRANT SELECT ON public.audit_archive, public.audit_retirement TO %I', runtime);
END $$
"""

DROP = """
DROP TRIGGER audit_event_reserved ON public.audit_event;
DROP FUNCTION public.audit_refuse_reserved();
DROP FUNCTION public.audit_forget_values(date, int);
DROP FUNCTION public.audit_retire_month(date);
DROP TABLE public.audit_retirement;
DROP TABLE public.audit_archive;
"""


def grant(_apps: Any, schema_editor: Any) -> None:
    """Let the runtime role read which months are archived and gone, and nothing else."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(RUNTIME_ROLE, [settings.DATABASES["default"]["USER"]])
        cursor.execute(GRANTS)


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0011_erase")]

    operations = [
        migrations.RunSQL(LOCK_TIMEOUT, LOCK_TIMEOUT),
        migrations.RunSQL(TABLES, DROP),
        migrations.RunSQL(PROTECTION, migrations.RunSQL.noop),
        migrations.RunSQL(ALWAYS, migrations.RunSQL.noop),
        # Backwards this stays: it does what the one before did, for whichever triggers there are.
        migrations.RunSQL(_ENSURE, migrations.RunSQL.noop),
        migrations.RunPython(grant, migrations.RunPython.noop),
    ]
