"""The append-only audit table, its month partitions, the queue of unsequenced events and the subject keys.

Why so much of it is SQL: what must hold against our own code, against injected SQL and against a superuser
in replica mode has to be held by the database (grants, and triggers that are ENABLE ALWAYS).
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import migrations, models

# A migration that waits for a lock makes everybody behind it wait: give up early and be run again.
LOCK_TIMEOUT = "SET LOCAL lock_timeout = '5s'"

TABLES = """
CREATE TABLE public.audit_event (
    id          uuid        NOT NULL,
    occurred_at timestamptz NOT NULL,
    type        text        NOT NULL,
    outcome     text        NOT NULL,
    actor_kind  text        NOT NULL,
    actor_id    text,
    actor_role  text,
    target_type text,
    target_id   text,
    session_id  text,
    request_id  text,
    canon       bytea       NOT NULL,
    pii_ct      bytea,
    writer_mac  bytea,
    xid         xid8        NOT NULL DEFAULT pg_current_xact_id(),
    leaf_hash   bytea       NOT NULL,
    PRIMARY KEY (id, occurred_at),
    -- A leaf that is not the hash of its own bytes could never be proved: refuse it at the door.
    CONSTRAINT audit_event_leaf_hash CHECK (leaf_hash = sha256('\\x00'::bytea || canon)),
    CONSTRAINT audit_event_outcome CHECK (
        outcome IN ('SUCCESS', 'FAILURE', 'PARTIAL', 'BLOCKED', 'PENDING', 'CANCELLED', 'TIMEOUT'))
) PARTITION BY RANGE (occurred_at);
-- No DEFAULT partition, on purpose: while one holds rows, a partition for their month cannot be attached, and
-- every attach scans it under a lock. A moment outside the prepared months is a broken clock, and is refused.

-- Newest first, page after page, without OFFSET.
CREATE INDEX audit_event_newest ON public.audit_event (occurred_at DESC, id DESC);
CREATE INDEX audit_event_actor ON public.audit_event (actor_id, occurred_at DESC, id DESC) WHERE actor_id IS NOT NULL;
CREATE INDEX audit_event_target ON public.audit_event (target_type, target_id, occurred_at DESC, id DESC)
    WHERE target_id IS NOT NULL;

CREATE TABLE public.audit_pending (
    id          uuid        PRIMARY KEY,
    occurred_at timestamptz NOT NULL
);

CREATE TABLE public.subject_key (
    subject      text        PRIMARY KEY CHECK (subject <> ''),
    wrapped      bytea,
    created_at   timestamptz NOT NULL DEFAULT now(),
    destroyed_at timestamptz,
    CONSTRAINT subject_key_destroyed CHECK ((wrapped IS NULL) = (destroyed_at IS NOT NULL))
);
"""

PROTECTION = """
CREATE FUNCTION public.audit_refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% on % is refused: the audit trail is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER audit_event_append_only BEFORE UPDATE OR DELETE ON public.audit_event
    FOR EACH ROW EXECUTE FUNCTION public.audit_refuse_change();
CREATE TRIGGER audit_event_no_truncate BEFORE TRUNCATE ON public.audit_event
    FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_change();
-- ALWAYS: session_replication_role = replica does not silence them, not even for a superuser.
ALTER TABLE public.audit_event ENABLE ALWAYS TRIGGER audit_event_append_only;
ALTER TABLE public.audit_event ENABLE ALWAYS TRIGGER audit_event_no_truncate;

-- Makes the partitions of last month (a clock may lag at midnight), this month and the next `months_ahead`;
-- returns how many were missing. The caller needs no right on the schema: the function runs as its owner, with a search path that nobody can bend.
CREATE FUNCTION public.audit_ensure_partitions(months_ahead int) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
SET lock_timeout = '2s' AS $$
DECLARE
    parent  constant regclass := 'public.audit_event'::regclass;
    month   timestamptz;
    part    text;
    grantee name;
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
        -- Row triggers came with the parent; say ALWAYS once more, and add the one that does not come along.
        EXECUTE format('ALTER TABLE public.%I ENABLE ALWAYS TRIGGER audit_event_append_only', part);
        EXECUTE format('CREATE TRIGGER audit_event_no_truncate BEFORE TRUNCATE ON public.%I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_change()', part);
        EXECUTE format('ALTER TABLE public.%I ENABLE ALWAYS TRIGGER audit_event_no_truncate', part);
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;
REVOKE ALL ON FUNCTION public.audit_ensure_partitions(int), public.audit_refuse_change() FROM PUBLIC;
SELECT public.audit_ensure_partitions(12);
"""

# The role's name is data: it reaches the statement through format('%I') only.
RUNTIME_ROLE = "SELECT set_config('mestore.runtime_role', %s, true)"
GRANTS = """
DO $$
DECLARE runtime constant text := current_setting('mestore.runtime_role');
BEGIN
    EXECUTE format('REVOKE ALL ON public.audit_event, public.audit_pending, public.subject_key '
                   'FROM PUBLIC, %I', runtime);
    EXECUTE format('REVOKE ALL ON FUNCTION public.audit_refuse_change() FROM %I', runtime);
    EXECUTE format('GRANT SELECT, INSERT ON public.audit_event TO %I', runtime);
    EXECUTE format('GRANT SELECT, INSERT, DELETE ON public.audit_pending TO %I', runtime);
    EXECUTE format('GRANT SELECT, INSERT ON public.subject_key TO %I', runtime);
    EXECUTE format('GRANT EXECUTE ON FUNCTION public.audit_ensure_partitions(int) TO %I', runtime);
END $$
"""

DROP = """
DROP TABLE public.audit_event;
DROP TABLE public.audit_pending;
DROP TABLE public.subject_key;
DROP FUNCTION public.audit_ensure_partitions(int);
DROP FUNCTION public.audit_refuse_change();
"""


def grant(_apps: Any, schema_editor: Any) -> None:
    """Give the runtime role what it needs on the audit trail, and take the rest."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(RUNTIME_ROLE, [settings.DATABASES["default"]["USER"]])
        cursor.execute(GRANTS)


def _uuid(**options: Any) -> models.UUIDField[Any, Any]:
    return models.UUIDField(editable=False, **options)


def _moment(**options: Any) -> models.DateTimeField[Any, Any]:
    return models.DateTimeField(editable=False, **options)


def _text(**options: Any) -> models.TextField[Any, Any]:
    return models.TextField(editable=False, **options)


def _bytes(**options: Any) -> models.BinaryField[Any, Any]:
    return models.BinaryField(editable=False, **options)


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.RunSQL(LOCK_TIMEOUT, LOCK_TIMEOUT),
        migrations.RunSQL(
            TABLES,
            DROP,
            state_operations=[
                migrations.CreateModel(
                    name="AuditEvent",
                    fields=[
                        ("id", _uuid(primary_key=True, serialize=False)),
                        ("occurred_at", _moment()),
                        ("type", _text()),
                        ("outcome", _text()),
                        ("actor_kind", _text()),
                        ("actor_id", _text(null=True)),
                        ("actor_role", _text(null=True)),
                        ("target_type", _text(null=True)),
                        ("target_id", _text(null=True)),
                        ("session_id", _text(null=True)),
                        ("request_id", _text(null=True)),
                        ("canon", _bytes()),
                        ("pii_ct", _bytes(null=True)),
                        ("writer_mac", _bytes(null=True)),
                        ("leaf_hash", _bytes()),
                    ],
                    options={
                        "managed": False,
                        "db_table": "audit_event",
                        "verbose_name": "audit event",
                        "verbose_name_plural": "audit events",
                    },
                ),
                migrations.CreateModel(
                    name="AuditPending",
                    fields=[("id", _uuid(primary_key=True, serialize=False)), ("occurred_at", _moment())],
                    options={"managed": False, "db_table": "audit_pending"},
                ),
                migrations.CreateModel(
                    name="SubjectKey",
                    fields=[
                        ("subject", _text(primary_key=True, serialize=False)),
                        ("wrapped", _bytes(null=True)),
                        ("created_at", _moment()),
                        ("destroyed_at", _moment(null=True)),
                    ],
                    options={"managed": False, "db_table": "subject_key"},
                ),
            ],
        ),
        migrations.RunSQL(PROTECTION, migrations.RunSQL.noop),
        migrations.RunPython(grant, migrations.RunPython.noop),
    ]
