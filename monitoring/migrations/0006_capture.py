"""Capture: whatever changes a watched row, and however, leaves an event of its own in the audit trail.

One trigger function serves every watched table; what each column may show comes as the trigger's argument
(`CaptureTable` in `monitoring/capture.py` declares it). A column that nobody declared counts as secret.

The event's bytes are the text of the trigger's own jsonb, hashed as they are stored. Personal values are not
in them: only SHA-256 of a nonce and the value; both stand in `audit_personal`, from where they can be erased
while event, hash and proofs stay.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import migrations

LOCK_TIMEOUT = "SET LOCAL lock_timeout = '5s'"

TABLES = """
CREATE TABLE public.audit_personal (
    event_id    uuid        NOT NULL,
    name        text        NOT NULL,
    subject     text        NOT NULL,
    nonce       bytea       NOT NULL,
    value       text        NOT NULL,
    occurred_at timestamptz NOT NULL,
    PRIMARY KEY (event_id, name)
);
CREATE INDEX audit_personal_subject ON public.audit_personal (subject);
"""

PROTECTION = """
-- A value goes only with its person (or, '*', with its month): the functions that may do so say whose.
CREATE FUNCTION public.audit_personal_stays() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' AND coalesce(current_setting('mestore.erasing', true), '') IN (OLD.subject, '*') THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION '% on % is refused: values go by erasure only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER audit_personal_append_only BEFORE UPDATE OR DELETE ON public.audit_personal
    FOR EACH ROW EXECUTE FUNCTION public.audit_personal_stays();
CREATE TRIGGER audit_personal_no_truncate BEFORE TRUNCATE ON public.audit_personal
    FOR EACH STATEMENT EXECUTE FUNCTION public.audit_personal_stays();
ALTER TABLE public.audit_personal ENABLE ALWAYS TRIGGER audit_personal_append_only;
ALTER TABLE public.audit_personal ENABLE ALWAYS TRIGGER audit_personal_no_truncate;

-- The time zone makes a moment's text the same whoever asks. Few statements, and plain ones: this runs once for
-- each row, and starting a statement costs more than what it does.
CREATE FUNCTION public.audit_capture() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    v_spec     constant jsonb := TG_ARGV[0]::jsonb;
    v_columns  constant jsonb := v_spec -> 'columns';
    v_told     constant jsonb := nullif(current_setting('mestore.ctx', true), '')::jsonb;
    v_kind     constant text := coalesce(v_told ->> 'kind', 'database');
    v_actor    constant text := CASE WHEN v_told IS NULL THEN session_user ELSE v_told ->> 'id' END;
    v_code     constant text := 'capture.' || lower(TG_OP);
    v_at       constant timestamptz := clock_timestamp();
    v_micros   constant bigint := extract(epoch FROM v_at) * 1000000;
    -- RFC 9562, version 7: milliseconds, then the fraction of one in 4096 parts, then 62 random bits.
    v_id       constant uuid := encode(
        int8send(((v_micros / 1000) << 16) | 28672 | ((v_micros % 1000) * 4096 / 1000))
        || substring(uuid_send(gen_random_uuid()) FROM 9), 'hex')::uuid;
    v_old      jsonb;
    v_new      jsonb;
    v_row      jsonb;
    v_key      text;
    v_subject  text;
    v_changes  jsonb;
    v_secret   jsonb;
    v_personal text[];
    v_hashes   jsonb;
    v_names    text[] := '{}';
    v_subjects text[] := '{}';
    v_nonces   bytea[] := '{}';
    v_values   text[] := '{}';
    v_address  text := v_told ->> 'address';
    v_nonce    bytea;
    v_commit   text;
    v_data     jsonb := '{}';
    v_canon    bytea;
BEGIN
    IF TG_OP <> 'TRUNCATE' THEN
        IF TG_OP <> 'INSERT' THEN v_old := to_jsonb(OLD); END IF;
        IF TG_OP <> 'DELETE' THEN v_new := to_jsonb(NEW); END IF;
        v_row := coalesce(v_old, v_new);
        v_key := v_row ->> (v_spec -> 'key' ->> 0);
        FOR place IN 1 .. jsonb_array_length(v_spec -> 'key') - 1 LOOP
            v_key := v_key || '/' || (v_row ->> (v_spec -> 'key' ->> place));
        END LOOP;

        -- NULL in a row that came or went says nothing; in an update it is one side of a change.
        SELECT jsonb_object_agg(c.key, CASE
                   WHEN pg_column_size(c.value) > 8192 OR pg_column_size(v_new -> c.key) > 8192
                   THEN jsonb_strip_nulls(jsonb_build_object(
                       'before_sha256', encode(sha256(convert_to((v_old -> c.key)::text, 'UTF8')), 'hex'),
                       'after_sha256', encode(sha256(convert_to((v_new -> c.key)::text, 'UTF8')), 'hex')))
                   WHEN TG_OP = 'INSERT' THEN jsonb_build_object('after', c.value)
                   WHEN TG_OP = 'DELETE' THEN jsonb_build_object('before', c.value)
                   ELSE jsonb_build_object('before', c.value, 'after', v_new -> c.key) END
               ) FILTER (WHERE v_columns ->> c.key = 'plain'),
               jsonb_agg(c.key) FILTER (WHERE coalesce(v_columns ->> c.key, 'secret')
                                              NOT IN ('plain', 'personal', 'ignored')),
               array_agg(c.key) FILTER (WHERE v_columns ->> c.key = 'personal')
        INTO v_changes, v_secret, v_personal
        FROM jsonb_each(v_row) AS c
        WHERE CASE TG_OP WHEN 'UPDATE' THEN c.value IS DISTINCT FROM v_new -> c.key ELSE c.value <> 'null' END;

        IF v_changes IS NULL AND v_secret IS NULL AND v_personal IS NULL AND TG_OP = 'UPDATE' THEN
            RETURN NULL;
        END IF;
        IF v_personal IS NOT NULL THEN
            v_subject := coalesce(v_row ->> (v_spec ->> 'subject'), TG_TABLE_NAME || ':' || v_key);
            SELECT array_agg(p.name), array_agg(v_subject), array_agg(p.nonce), array_agg(p.value),
                   jsonb_object_agg(p.name, encode(sha256(p.nonce || convert_to(p.value, 'UTF8')), 'hex'))
            INTO v_names, v_subjects, v_nonces, v_values, v_hashes
            FROM (
                SELECT n.name || s.side AS name, s.value::text AS value, uuid_send(gen_random_uuid()) AS nonce
                FROM unnest(v_personal) AS n (name) CROSS JOIN LATERAL
                     (VALUES ('.before', v_old -> n.name), ('.after', v_new -> n.name)) AS s (side, value)
                WHERE s.value <> 'null' OFFSET 0
            ) AS p;
            v_data := jsonb_build_object('personal', v_hashes);
        END IF;
        IF v_changes IS NOT NULL THEN v_data := v_data || jsonb_build_object('changes', v_changes); END IF;
        IF v_secret IS NOT NULL THEN v_data := v_data || jsonb_build_object('secret', v_secret); END IF;
    END IF;

    IF v_address IS NOT NULL THEN
        v_nonce := uuid_send(gen_random_uuid());
        v_address := to_jsonb(v_address)::text;
        v_commit := encode(sha256(v_nonce || convert_to(v_address, 'UTF8')), 'hex');
        v_names := v_names || 'actor.address'::text;
        v_nonces := v_nonces || v_nonce;
        v_values := v_values || v_address;
        v_subjects := v_subjects || coalesce(v_actor, 'anonymous-' || to_char(v_at, 'YYYY-MM'));
    END IF;

    v_canon := convert_to((jsonb_strip_nulls(jsonb_build_object(
        'v', 1, 'id', v_id, 'at', to_char(v_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'event', v_code, 'event_version', 1, 'outcome', 'SUCCESS',
        'actor', jsonb_build_object(
            'kind', v_kind, 'id', v_actor, 'role', v_told -> 'role', 'name', v_told -> 'name',
            'impersonator', v_told -> 'impersonator', 'address_commit', v_commit),
        'database', jsonb_build_object('role', session_user, 'application', current_setting('application_name')),
        'target', jsonb_build_object('type', TG_TABLE_NAME, 'id', v_key),
        'session', v_told -> 'session', 'request', v_told -> 'request', 'subject', v_subject
    )) || jsonb_build_object('data', v_data))::text, 'UTF8');

    INSERT INTO public.audit_event (id, occurred_at, type, outcome, actor_kind, actor_id, actor_role, target_type,
                                    target_id, session_id, request_id, canon, leaf_hash)
    VALUES (v_id, v_at, v_code, 'SUCCESS', v_kind, v_actor, v_told ->> 'role', TG_TABLE_NAME, v_key,
            v_told ->> 'session', v_told ->> 'request', v_canon, sha256('\\x00'::bytea || v_canon));
    INSERT INTO public.audit_pending (id, occurred_at) VALUES (v_id, v_at);

    -- Of a person whose key was destroyed no value is kept any more; the commitment stays.
    IF v_names <> '{}' THEN
        INSERT INTO public.audit_personal (event_id, name, subject, nonce, value, occurred_at)
        SELECT v_id, p.name, p.subject, p.nonce, p.value, v_at
        FROM unnest(v_names, v_subjects, v_nonces, v_values) AS p (name, subject, nonce, value)
        WHERE NOT EXISTS (SELECT FROM public.subject_key k WHERE k.subject = p.subject AND k.wrapped IS NULL);
    END IF;
    RETURN NULL;
END $$;

-- Puts a table under watch, or changes how its columns are declared. ALWAYS: session_replication_role = replica
-- does not silence the triggers, not even for a superuser.
CREATE FUNCTION public.audit_watch(watched regclass, spec jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ignored constant text[] := ARRAY(SELECT key FROM jsonb_each_text(spec -> 'columns') WHERE value = 'ignored');
    changed text := 'OLD.* IS DISTINCT FROM NEW.*';
BEGIN
    IF cardinality(ignored) > 0 THEN
        -- Asked before the function is called: what changes with every use costs nearly nothing.
        changed := format('to_jsonb(OLD) - %1$L::text[] IS DISTINCT FROM to_jsonb(NEW) - %1$L::text[]', ignored);
    END IF;
    EXECUTE format('CREATE OR REPLACE TRIGGER audit_capture_insert AFTER INSERT ON %s FOR EACH ROW '
                   'EXECUTE FUNCTION public.audit_capture(%L)', watched, spec);
    EXECUTE format('CREATE OR REPLACE TRIGGER audit_capture_update AFTER UPDATE ON %s FOR EACH ROW WHEN (%s) '
                   'EXECUTE FUNCTION public.audit_capture(%L)', watched, changed, spec);
    EXECUTE format('CREATE OR REPLACE TRIGGER audit_capture_delete AFTER DELETE ON %s FOR EACH ROW '
                   'EXECUTE FUNCTION public.audit_capture(%L)', watched, spec);
    EXECUTE format('CREATE OR REPLACE TRIGGER audit_capture_truncate AFTER TRUNCATE ON %s FOR EACH STATEMENT '
                   'EXECUTE FUNCTION public.audit_capture(%L)', watched, spec);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER audit_capture_insert, '
                   'ENABLE ALWAYS TRIGGER audit_capture_update, ENABLE ALWAYS TRIGGER audit_capture_delete, '
                   'ENABLE ALWAYS TRIGGER audit_capture_truncate', watched);
END $$;

CREATE FUNCTION public.audit_unwatch(watched regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format('DROP TRIGGER IF EXISTS audit_capture_insert ON %s', watched);
    EXECUTE format('DROP TRIGGER IF EXISTS audit_capture_update ON %s', watched);
    EXECUTE format('DROP TRIGGER IF EXISTS audit_capture_delete ON %s', watched);
    EXECUTE format('DROP TRIGGER IF EXISTS audit_capture_truncate ON %s', watched);
END $$;
"""

# The role's name is data: it reaches the statement through format('%I') only.
RUNTIME_ROLE = "SELECT set_config('mestore.runtime_role', %s, true)"
GRANTS = """
DO $$
DECLARE
    runtime   constant text := current_setting('mestore.runtime_role');
    functions constant text := 'public.audit_capture(), public.audit_personal_stays(), '
        'public.audit_watch(regclass, jsonb), public.audit_unwatch(regclass)';
BEGIN
    EXECUTE format('REVOKE ALL ON public.audit_personal FROM PUBLIC, %I', runtime);
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC, %I', functions, runtime);
    EXECUTE format('GRANT SELECT ON public.audit_personal TO %I', runtime);
END $$
"""

DROP = """
DROP FUNCTION public.audit_unwatch(regclass);
DROP FUNCTION public.audit_watch(regclass, jsonb);
DROP FUNCTION public.audit_capture();
DROP TABLE public.audit_personal;
DROP FUNCTION public.audit_personal_stays();
"""


def grant(_apps: Any, schema_editor: Any) -> None:
    """Let the runtime role read personal values, and nothing else."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(RUNTIME_ROLE, [settings.DATABASES["default"]["USER"]])
        cursor.execute(GRANTS)


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0005_log")]

    operations = [
        migrations.RunSQL(LOCK_TIMEOUT, LOCK_TIMEOUT),
        migrations.RunSQL(TABLES, DROP),
        migrations.RunSQL(PROTECTION, migrations.RunSQL.noop),
        migrations.RunPython(grant, migrations.RunPython.noop),
    ]
