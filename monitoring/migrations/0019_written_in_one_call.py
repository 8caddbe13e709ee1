"""What an event tells of a new row is found in the queue, by its hash; events of the service in one call.

The trigger of a told row (0016) looked for the event in the trail, in every month of it: each month more made
each sale dearer. `audit_write` writes events of the service and leaves in the queue, which the database alone
may write there, the hash of what each tells of a row; the trigger makes the hash of the row and looks for that.

The service may still write events by itself, as a release before this one does: rows that those tell of are
captured as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any, LiteralString

from django.conf import settings
from django.db import migrations, transaction

from mestore.lib import sql

_FORMER = import_module("monitoring.migrations.0016_told")

# A lock that is not had soon makes everybody behind it wait.
BRIEFLY = "SET lock_timeout = '5s'"
PATIENTLY = "SET lock_timeout = 0"
AS_BEFORE = "RESET lock_timeout"
COLUMN = "ALTER TABLE public.audit_pending ADD COLUMN IF NOT EXISTS told bytea"
DROP_COLUMN = "ALTER TABLE public.audit_pending DROP COLUMN IF EXISTS told"
DROP_INDEX = "DROP INDEX CONCURRENTLY IF EXISTS public.audit_pending_told"
INDEX = "CREATE INDEX CONCURRENTLY audit_pending_told ON public.audit_pending (told) WHERE told IS NOT NULL"

# What a caller passes is the service's own: it carries the service's MAC and none of the database's types.
OWN_TYPE = """
CREATE OR REPLACE FUNCTION public.audit_own_type(p_type text, p_mac text) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF p_mac IS NULL OR p_type ^@ 'capture.' OR p_type = 'finance.ledger_entry.posted' THEN
        RAISE EXCEPTION 'events of the type % are written by the database itself, others carry a MAC', p_type
            USING ERRCODE = 'insufficient_privilege', SCHEMA = 'public', TABLE = 'audit_event';
    END IF;
    RETURN p_type;
END $$;
"""
DROP_OWN_TYPE = "DROP FUNCTION IF EXISTS public.audit_own_type(text, text)"

# Personal values of a person whose key was destroyed are not written: the count tells, and the event is
# written without them. `subject` NULL: nothing personal, nothing to look up. One look per event by its key,
# as a subquery: an anti-join reads the whole table of keys where the planner takes it for small. Only what
# names a row at all is read as JSON. `canon` keeps its bytes: the type json holds its text as it came.
WRITE = """
CREATE OR REPLACE FUNCTION public.audit_write(p_events json) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_written bigint;
BEGIN
    WITH event AS (
        INSERT INTO public.audit_event (id, occurred_at, type, outcome, actor_kind, actor_id, actor_role,
                                        target_type, target_id, session_id, request_id, canon, pii_ct,
                                        writer_mac, leaf_hash)
        SELECT n.id, n.occurred_at, public.audit_own_type(n.type, n.writer_mac), n.outcome, n.actor_kind,
               n.actor_id, n.actor_role, n.target_type, n.target_id, n.session_id, n.request_id,
               convert_to(n.canon::text, 'UTF8'), decode(n.pii_ct, 'hex'), decode(n.writer_mac, 'hex'),
               sha256('\\x00'::bytea || convert_to(n.canon::text, 'UTF8'))
        FROM json_to_recordset(p_events) AS n (
            id uuid, occurred_at timestamptz, type text, outcome text, actor_kind text, actor_id text,
            actor_role text, target_type text, target_id text, session_id text, request_id text, canon json,
            pii_ct text, writer_mac text, subject text)
        WHERE (SELECT k.wrapped IS NULL FROM public.subject_key k WHERE k.subject = n.subject) IS NOT TRUE
        RETURNING id, occurred_at, type, target_type, target_id, convert_from(canon, 'UTF8') AS canon
    ), pending AS (
        INSERT INTO public.audit_pending (id, occurred_at, told)
        SELECT e.id, e.occurred_at, CASE WHEN strpos(e.canon, '"row":') > 0 THEN sha256(convert_to(
                   jsonb_build_array(e.type, e.target_type, e.target_id, e.canon::jsonb #> '{data,row}')::text,
                   'UTF8')) END
        FROM event e
    )
    SELECT count(*) INTO v_written FROM event;
    RETURN v_written;
END $$;
REVOKE ALL ON FUNCTION public.audit_own_type(text, text), public.audit_write(json) FROM PUBLIC;
"""
DROP_WRITE = "DROP FUNCTION IF EXISTS public.audit_write(json)"

CAPTURE = """
CREATE OR REPLACE FUNCTION public.audit_capture() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET enable_seqscan = off AS $$
DECLARE
    v_spec constant jsonb := TG_ARGV[0]::jsonb;
    v_new  jsonb;
BEGIN
    IF TG_OP IN ('INSERT', 'UPDATE') THEN v_new := to_jsonb(NEW); END IF;
    -- Asked before anything is put together: does an event of the service in this transaction tell of the new
    -- row, column by column, as it is here? One look at the queue, never a scan, whatever statistics say.
    IF TG_OP = 'INSERT' AND v_spec ? 'told' THEN
        PERFORM FROM public.audit_pending p
        WHERE p.told = sha256(convert_to(jsonb_build_array(
                  v_spec #>> '{told,event}', v_spec #>> '{told,target}', v_new ->> (v_spec -> 'key' ->> 0),
                  jsonb_strip_nulls(v_new - (v_spec #>> '{told,hidden}')::text[]))::text, 'UTF8'))
          AND p.xid = pg_current_xact_id()
          -- An event of another time would be looked for where nobody compares receipts with it.
          AND p.occurred_at >= transaction_timestamp() - interval '1 day'
          AND p.occurred_at < transaction_timestamp() + interval '1 day';
        IF FOUND THEN RETURN NULL; END IF;
    END IF;

    DECLARE
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
        v_side     text := ': {"before": ';
        v_old      jsonb;
        v_row      jsonb;
        v_large    boolean;
        v_key      text;
        v_subject  text;
        v_changes  text;
        v_secret   text;
        v_personal text[];
        v_hashes   jsonb;
        v_names    text[];
        v_nonces   bytea[];
        v_values   text[];
        v_address  text := v_told ->> 'address';
        v_nonce    bytea;
        v_commit   text;
        v_canon    bytea;
    BEGIN
        IF TG_OP <> 'TRUNCATE' THEN
            IF TG_OP = 'INSERT' THEN
                v_row := v_new;
                v_side := ': {"after": ';
            ELSE
                v_old := to_jsonb(OLD);
                v_row := v_old;
            END IF;
            v_key := v_row ->> (v_spec -> 'key' ->> 0);
            FOR place IN 1 .. jsonb_array_length(v_spec -> 'key') - 1 LOOP
                v_key := v_key || '/' || (v_row ->> (v_spec -> 'key' ->> place));
            END LOOP;
            v_large := pg_column_size(v_row) > 8192 OR pg_column_size(v_new) > 8192;

            -- NULL in a row that came or went says nothing; in an update it is one side of a change.
            SELECT string_agg(CASE
                       WHEN v_large AND (pg_column_size(c.value) > 8192 OR pg_column_size(v_new -> c.key) > 8192)
                       THEN concat(to_json(c.key), ': ', jsonb_strip_nulls(jsonb_build_object(
                           'before_sha256', encode(sha256(convert_to((v_old -> c.key)::text, 'UTF8')), 'hex'),
                           'after_sha256', encode(sha256(convert_to((v_new -> c.key)::text, 'UTF8')), 'hex'))))
                       WHEN TG_OP = 'UPDATE'
                       THEN concat(to_json(c.key), ': {"after": ', v_new -> c.key, ', "before": ', c.value, '}')
                       ELSE concat(to_json(c.key), v_side, c.value, '}') END, ', '
                   ) FILTER (WHERE c.class = 'plain'),
                   string_agg(to_json(c.key)::text, ', ')
                       FILTER (WHERE c.class NOT IN ('plain', 'personal', 'ignored')),
                   array_agg(c.key) FILTER (WHERE c.class = 'personal')
            INTO v_changes, v_secret, v_personal
            FROM (SELECT e.key, e.value, coalesce(v_columns ->> e.key, 'secret') AS class
                  FROM jsonb_each(v_row) AS e OFFSET 0) AS c
            WHERE CASE TG_OP WHEN 'UPDATE' THEN c.value IS DISTINCT FROM v_new -> c.key ELSE c.value <> 'null' END;

            IF TG_OP = 'UPDATE' AND v_changes IS NULL AND v_secret IS NULL AND v_personal IS NULL THEN
                RETURN NULL;
            END IF;
            IF v_personal IS NOT NULL THEN
                v_subject := coalesce(v_row ->> (v_spec ->> 'subject'), TG_TABLE_NAME || ':' || v_key);
                SELECT array_agg(p.name), array_agg(p.nonce), array_agg(p.value),
                       jsonb_object_agg(p.name, encode(sha256(p.nonce || convert_to(p.value, 'UTF8')), 'hex'))
                INTO v_names, v_nonces, v_values, v_hashes
                FROM (
                    SELECT n.name || s.side AS name, s.value::text AS value, uuid_send(gen_random_uuid()) AS nonce
                    FROM unnest(v_personal) AS n (name) CROSS JOIN LATERAL
                         (VALUES ('.before', v_old -> n.name), ('.after', v_new -> n.name)) AS s (side, value)
                    WHERE s.value <> 'null' OFFSET 0
                ) AS p;
            END IF;
        END IF;

        IF v_address IS NOT NULL THEN
            v_nonce := uuid_send(gen_random_uuid());
            v_address := to_jsonb(v_address)::text;
            v_commit := encode(sha256(v_nonce || convert_to(v_address, 'UTF8')), 'hex');
        END IF;

        -- As jsonb writes it: the four shortest names, then the others as jsonb itself orders them.
        v_canon := convert_to(concat(
            '{"v": 1, "at": "', to_char(v_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '", "id": "', v_id, '", "data": {',
            concat_ws(', ', '"secret": [' || v_secret || ']', '"changes": {' || v_changes || '}',
                      '"personal": ' || v_hashes::text),
            '}, ', substr(jsonb_strip_nulls(jsonb_build_object(
                'event', v_code, 'event_version', 1, 'outcome', 'SUCCESS',
                'actor', jsonb_build_object(
                    'kind', v_kind, 'id', v_actor, 'role', v_told -> 'role', 'name', v_told -> 'name',
                    'impersonator', v_told -> 'impersonator', 'address_commit', v_commit),
                'database', jsonb_build_object(
                    'role', session_user, 'application', current_setting('application_name')),
                'target', jsonb_build_object('type', TG_TABLE_NAME, 'id', v_key),
                'session', v_told -> 'session', 'request', v_told -> 'request', 'subject', v_subject
            ))::text, 2)), 'UTF8');

        INSERT INTO public.audit_event (id, occurred_at, type, outcome, actor_kind, actor_id, actor_role, target_type,
                                        target_id, session_id, request_id, canon, leaf_hash)
        VALUES (v_id, v_at, v_code, 'SUCCESS', v_kind, v_actor, v_told ->> 'role', TG_TABLE_NAME, v_key,
                v_told ->> 'session', v_told ->> 'request', v_canon, sha256('\\x00'::bytea || v_canon));
        INSERT INTO public.audit_pending (id, occurred_at, leaf) VALUES (v_id, v_at, sha256('\\x00'::bytea || v_canon));

        -- Of a person whose key was destroyed the table keeps no value; the commitment stays.
        IF v_address IS NOT NULL THEN
            INSERT INTO public.audit_personal (event_id, name, subject, nonce, value, occurred_at)
            VALUES (v_id, 'actor.address', coalesce(v_actor, 'anonymous-' || to_char(v_at, 'YYYY-MM')), v_nonce,
                    v_address, v_at);
        END IF;
        IF v_names IS NOT NULL THEN
            INSERT INTO public.audit_personal (event_id, name, subject, nonce, value, occurred_at)
            SELECT v_id, p.name, v_subject, p.nonce, p.value, v_at
            FROM unnest(v_names, v_nonces, v_values) AS p (name, nonce, value);
        END IF;
        RETURN NULL;
    END;
END $$;
"""

# As in 0016, in whatever order the queue gives them: a sort of one row costs as much as finding it.
CAPTURED = """
CREATE OR REPLACE FUNCTION public.audit_captured() RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    v_here  constant xid8 := pg_current_xact_id_if_assigned();
    v_found text;
BEGIN
    IF v_here IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT string_agg(p.id || ' ' || encode(p.leaf, 'hex'), ',') INTO v_found
    FROM public.audit_pending p WHERE p.xid = v_here AND p.leaf IS NOT NULL;
    RETURN v_found;
END $$;
"""

# The role's name is data: it reaches the statement through format('%I') only.
RUNTIME_ROLE = "SELECT set_config('mestore.runtime_role', %s, true)"
# Leaf and hash are written by functions of the owner alone, and nobody else says what was migrated.
GRANT = """
DO $$
DECLARE runtime constant text := current_setting('mestore.runtime_role');
BEGIN
    EXECUTE format('REVOKE INSERT ON public.audit_pending FROM %I', runtime);
    EXECUTE format('GRANT INSERT (id, occurred_at) ON public.audit_pending TO %I', runtime);
    EXECUTE format('GRANT EXECUTE ON FUNCTION public.audit_write(json) TO %I', runtime);
    -- Whether a later release migrated the database is read there, and some guards then leave the word to it.
    EXECUTE format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON public.django_migrations FROM PUBLIC, %I', runtime);
END $$
"""
TAKE_BACK = """
DO $$
BEGIN
    EXECUTE format('GRANT INSERT ON public.audit_pending TO %I', current_setting('mestore.runtime_role'));
END $$
"""


def add(_apps: Any, schema_editor: Any) -> None:
    """Add the column, empty, and its index; writers wait for no more than a moment."""
    _run(schema_editor, (BRIEFLY, COLUMN, PATIENTLY, DROP_INDEX, INDEX))


def remove(_apps: Any, schema_editor: Any) -> None:
    """Take both away."""
    _run(schema_editor, (PATIENTLY, DROP_INDEX, BRIEFLY, DROP_COLUMN))


def grant(_apps: Any, schema_editor: Any) -> None:
    """Let the runtime role call the function, and write no more of the queue than it must."""
    _as_runtime(schema_editor, GRANT)


def take_back(_apps: Any, schema_editor: Any) -> None:
    """Let it write what it wrote before."""
    _as_runtime(schema_editor, TAKE_BACK)


def _as_runtime(schema_editor: Any, statement: LiteralString) -> None:
    alias = schema_editor.connection.alias
    with transaction.atomic(using=alias):
        sql.execute(RUNTIME_ROLE, [settings.DATABASES["default"]["USER"]], using=alias)
        sql.execute(statement, using=alias)


def _run(schema_editor: Any, statements: Iterable[LiteralString]) -> None:
    alias = schema_editor.connection.alias
    try:
        for statement in statements:
            sql.execute(statement, using=alias)
    finally:
        sql.execute(AS_BEFORE, using=alias)


class Migration(migrations.Migration):
    atomic = False  # each lock is held for its own moment

    dependencies = [("monitoring", "0018_forget_reconciliations")]

    operations = [
        migrations.RunPython(add, remove),
        migrations.RunSQL(OWN_TYPE, DROP_OWN_TYPE),
        migrations.RunSQL(WRITE, DROP_WRITE),
        migrations.RunPython(grant, take_back),
        migrations.RunSQL(CAPTURE, _FORMER.CAPTURE),
        migrations.RunSQL(CAPTURED, _FORMER.CAPTURED),
    ]
