"""The capturing function as it was before 0014_faster, for the way back. Frozen."""

BEFORE = """
CREATE OR REPLACE FUNCTION public.audit_capture() RETURNS trigger
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
"""
