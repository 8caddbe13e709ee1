"""The signed log over the audit trail: leaves, tiles, the tree's state, checkpoints and cosignatures.

New tables only. Leaves, checkpoints and cosignatures are append-only; a tile may grow until it is full and
never changes otherwise. As for the trail itself, the database holds this, against our own code too.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import migrations

TABLES = """
-- One row: how far the log has come. `epoch` counts logs: a new one begins after a loss that was admitted.
CREATE TABLE public.audit_tree (
    id           smallint    PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    epoch        int         NOT NULL DEFAULT 1 CHECK (epoch > 0),
    size         bigint      NOT NULL DEFAULT 0 CHECK (size >= 0),
    frontier     bytea       NOT NULL DEFAULT '' CHECK (length(frontier) % 32 = 0),
    sequenced_at timestamptz,
    published_at timestamptz
);
INSERT INTO public.audit_tree DEFAULT VALUES;

-- Logs that ended, as they were: the next one began because a person admitted a loss.
CREATE TABLE public.audit_ended_log (
    epoch        int         PRIMARY KEY CHECK (epoch > 0),
    size         bigint      NOT NULL CHECK (size >= 0),
    frontier     bytea       NOT NULL CHECK (length(frontier) % 32 = 0),
    root         bytea       NOT NULL CHECK (length(root) = 32),
    sequenced_at timestamptz,
    published_at timestamptz,
    ended_at     timestamptz NOT NULL DEFAULT now(),
    reason       text        NOT NULL CHECK (reason <> ''),
    approved_by  text[]      NOT NULL CHECK (cardinality(approved_by) = 2)
);

-- Which event is which leaf. An event is in one log only.
CREATE TABLE public.audit_leaf (
    epoch       int         NOT NULL CHECK (epoch > 0),
    leaf_index  bigint      NOT NULL CHECK (leaf_index >= 0),
    event_id    uuid        NOT NULL,
    occurred_at timestamptz NOT NULL,
    PRIMARY KEY (epoch, leaf_index),
    CONSTRAINT audit_leaf_once UNIQUE (event_id)
);

CREATE TABLE public.audit_tile (
    epoch  int      NOT NULL CHECK (epoch > 0),
    level  smallint NOT NULL CHECK (level BETWEEN 0 AND 7),
    number bigint   NOT NULL CHECK (number >= 0),
    hashes bytea    NOT NULL CHECK (length(hashes) BETWEEN 32 AND 8192 AND length(hashes) % 32 = 0),
    PRIMARY KEY (epoch, level, number)
);
-- Hashes do not compress: do not try.
ALTER TABLE public.audit_tile ALTER COLUMN hashes SET STORAGE EXTERNAL;

CREATE TABLE public.audit_checkpoint (
    size      bigint      NOT NULL CHECK (size >= 0),
    epoch     int         NOT NULL,
    root      bytea       NOT NULL CHECK (length(root) = 32),
    note      text        NOT NULL,
    signed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (epoch, size)
);
CREATE INDEX audit_checkpoint_signed ON public.audit_checkpoint (signed_at DESC);

CREATE TABLE public.audit_cosignature (
    epoch        int         NOT NULL,
    size         bigint      NOT NULL,
    witness      text        NOT NULL,
    line         text        NOT NULL,
    cosigned_at  timestamptz NOT NULL,
    received_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (epoch, size, witness),
    FOREIGN KEY (epoch, size) REFERENCES public.audit_checkpoint (epoch, size)
);
CREATE INDEX audit_cosignature_newest ON public.audit_cosignature (witness, cosigned_at DESC);

-- Runs of the verifier: how far each came, and what it found.
CREATE TABLE public.audit_verification (
    id              uuid        PRIMARY KEY,
    mode            text        NOT NULL CHECK (mode IN ('tail', 'range', 'full')),
    epoch           int         NOT NULL CHECK (epoch > 0),
    first_leaf      bigint      NOT NULL CHECK (first_leaf >= 0),
    upto            bigint      NOT NULL CHECK (upto BETWEEN first_leaf AND size),
    size            bigint      NOT NULL CHECK (size >= 0),
    started_at      timestamptz NOT NULL DEFAULT now(),
    moved_at        timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz,
    faults          jsonb       NOT NULL DEFAULT '[]',
    notes           jsonb       NOT NULL DEFAULT '[]',
    rows_per_second int,
    actor           text        NOT NULL
);
CREATE INDEX audit_verification_newest ON public.audit_verification (started_at DESC);

-- Comparisons of receipts, as they left the machine, with the trail: what did not match.
CREATE TABLE public.audit_receipt_match (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    matched_at      timestamptz NOT NULL DEFAULT now(),
    receipts        bigint      NOT NULL CHECK (receipts >= 0),
    without_event   bigint      NOT NULL CHECK (without_event >= 0),
    without_receipt bigint      NOT NULL CHECK (without_receipt >= 0),
    broken          bigint      NOT NULL CHECK (broken >= 0)
);
CREATE INDEX audit_receipt_match_newest ON public.audit_receipt_match (matched_at DESC);
"""

PROTECTION = """
CREATE FUNCTION public.audit_tile_only_grows() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (NEW.epoch, NEW.level, NEW.number) IS DISTINCT FROM (OLD.epoch, OLD.level, OLD.number)
        OR length(NEW.hashes) <= length(OLD.hashes)
        OR substring(NEW.hashes FROM 1 FOR length(OLD.hashes)) <> OLD.hashes
    THEN
        RAISE EXCEPTION 'a tile of the audit log only grows' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER audit_tile_grows BEFORE UPDATE ON public.audit_tile
    FOR EACH ROW EXECUTE FUNCTION public.audit_tile_only_grows();
CREATE TRIGGER audit_tile_stays BEFORE DELETE ON public.audit_tile
    FOR EACH ROW EXECUTE FUNCTION public.audit_refuse_change();
CREATE TRIGGER audit_tile_no_truncate BEFORE TRUNCATE ON public.audit_tile
    FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_change();
ALTER TABLE public.audit_tile ENABLE ALWAYS TRIGGER audit_tile_grows;
ALTER TABLE public.audit_tile ENABLE ALWAYS TRIGGER audit_tile_stays;
ALTER TABLE public.audit_tile ENABLE ALWAYS TRIGGER audit_tile_no_truncate;

CREATE TRIGGER audit_ended_log_append_only BEFORE UPDATE OR DELETE ON public.audit_ended_log
    FOR EACH ROW EXECUTE FUNCTION public.audit_refuse_change();
CREATE TRIGGER audit_ended_log_no_truncate BEFORE TRUNCATE ON public.audit_ended_log
    FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_change();
ALTER TABLE public.audit_ended_log ENABLE ALWAYS TRIGGER audit_ended_log_append_only;
ALTER TABLE public.audit_ended_log ENABLE ALWAYS TRIGGER audit_ended_log_no_truncate;

CREATE TRIGGER audit_receipt_match_append_only BEFORE UPDATE OR DELETE ON public.audit_receipt_match
    FOR EACH ROW EXECUTE FUNCTION public.audit_refuse_change();
CREATE TRIGGER audit_receipt_match_no_truncate BEFORE TRUNCATE ON public.audit_receipt_match
    FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_change();
ALTER TABLE public.audit_receipt_match ENABLE ALWAYS TRIGGER audit_receipt_match_append_only;
ALTER TABLE public.audit_receipt_match ENABLE ALWAYS TRIGGER audit_receipt_match_no_truncate;

CREATE TRIGGER audit_leaf_append_only BEFORE UPDATE OR DELETE ON public.audit_leaf
    FOR EACH ROW EXECUTE FUNCTION public.audit_refuse_change();
CREATE TRIGGER audit_leaf_no_truncate BEFORE TRUNCATE ON public.audit_leaf
    FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_change();
ALTER TABLE public.audit_leaf ENABLE ALWAYS TRIGGER audit_leaf_append_only;
ALTER TABLE public.audit_leaf ENABLE ALWAYS TRIGGER audit_leaf_no_truncate;

CREATE TRIGGER audit_checkpoint_append_only BEFORE UPDATE OR DELETE ON public.audit_checkpoint
    FOR EACH ROW EXECUTE FUNCTION public.audit_refuse_change();
CREATE TRIGGER audit_checkpoint_no_truncate BEFORE TRUNCATE ON public.audit_checkpoint
    FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_change();
ALTER TABLE public.audit_checkpoint ENABLE ALWAYS TRIGGER audit_checkpoint_append_only;
ALTER TABLE public.audit_checkpoint ENABLE ALWAYS TRIGGER audit_checkpoint_no_truncate;

CREATE TRIGGER audit_cosignature_append_only BEFORE UPDATE OR DELETE ON public.audit_cosignature
    FOR EACH ROW EXECUTE FUNCTION public.audit_refuse_change();
CREATE TRIGGER audit_cosignature_no_truncate BEFORE TRUNCATE ON public.audit_cosignature
    FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_change();
ALTER TABLE public.audit_cosignature ENABLE ALWAYS TRIGGER audit_cosignature_append_only;
ALTER TABLE public.audit_cosignature ENABLE ALWAYS TRIGGER audit_cosignature_no_truncate;

-- The tree never shrinks within its epoch, and an epoch never comes back. The next one begins empty, and only
-- when what the last one was has been written down.
CREATE FUNCTION public.audit_tree_only_grows() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP <> 'UPDATE'
        OR (NEW.epoch = OLD.epoch AND NEW.size < OLD.size)
        OR (NEW.epoch <> OLD.epoch AND NOT (
            NEW.epoch = OLD.epoch + 1 AND NEW.size = 0 AND NEW.frontier = ''
            AND EXISTS (SELECT FROM public.audit_ended_log ended WHERE ended.epoch = OLD.epoch
                        AND ended.size = OLD.size AND ended.frontier = OLD.frontier)))
    THEN
        RAISE EXCEPTION 'the audit log only grows' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER audit_tree_grows BEFORE UPDATE OR DELETE ON public.audit_tree
    FOR EACH ROW EXECUTE FUNCTION public.audit_tree_only_grows();
CREATE TRIGGER audit_tree_no_truncate BEFORE TRUNCATE ON public.audit_tree
    FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_change();
ALTER TABLE public.audit_tree ENABLE ALWAYS TRIGGER audit_tree_grows;
ALTER TABLE public.audit_tree ENABLE ALWAYS TRIGGER audit_tree_no_truncate;

-- A run only gets on, and stays as it ended; what found nothing may go when it is a quarter old.
CREATE FUNCTION public.audit_verification_stands() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.finished_at IS NULL AND NEW.upto >= OLD.upto
        AND (NEW.id, NEW.mode, NEW.epoch, NEW.first_leaf, NEW.size, NEW.started_at, NEW.actor)
            IS NOT DISTINCT FROM (OLD.id, OLD.mode, OLD.epoch, OLD.first_leaf, OLD.size, OLD.started_at, OLD.actor)
        AND jsonb_array_length(NEW.faults) >= jsonb_array_length(OLD.faults)
    THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'DELETE' AND OLD.mode = 'tail' AND OLD.faults = '[]' AND OLD.moved_at < now() - interval '90 days' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'what the verifier found stands' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER audit_verification_stands BEFORE UPDATE OR DELETE ON public.audit_verification
    FOR EACH ROW EXECUTE FUNCTION public.audit_verification_stands();
CREATE TRIGGER audit_verification_no_truncate BEFORE TRUNCATE ON public.audit_verification
    FOR EACH STATEMENT EXECUTE FUNCTION public.audit_refuse_change();
ALTER TABLE public.audit_verification ENABLE ALWAYS TRIGGER audit_verification_stands;
ALTER TABLE public.audit_verification ENABLE ALWAYS TRIGGER audit_verification_no_truncate;

REVOKE ALL ON FUNCTION public.audit_tile_only_grows(), public.audit_tree_only_grows(),
    public.audit_verification_stands() FROM PUBLIC;
"""

RUNTIME_ROLE = "SELECT set_config('mestore.runtime_role', %s, true)"
GRANTS = """
DO $$
DECLARE runtime constant text := current_setting('mestore.runtime_role');
BEGIN
    EXECUTE format('REVOKE ALL ON public.audit_tree, public.audit_leaf, public.audit_tile, '
                   'public.audit_checkpoint, public.audit_cosignature, public.audit_ended_log, '
                   'public.audit_verification FROM PUBLIC, %I', runtime);
    EXECUTE format('REVOKE ALL ON FUNCTION public.audit_tile_only_grows(), public.audit_tree_only_grows(), '
                   'public.audit_verification_stands() FROM %I', runtime);
    EXECUTE format('GRANT SELECT, INSERT, DELETE, '
                   'UPDATE (upto, moved_at, finished_at, faults, notes, rows_per_second) '
                   'ON public.audit_verification TO %I', runtime);
    -- Another epoch is not for the application to begin, nor a log to be ended: the owner does.
    EXECUTE format('GRANT SELECT, UPDATE (size, frontier, sequenced_at, published_at) '
                   'ON public.audit_tree TO %I', runtime);
    EXECUTE format('GRANT SELECT ON public.audit_ended_log TO %I', runtime);
    EXECUTE format('REVOKE ALL ON public.audit_receipt_match FROM PUBLIC, %I', runtime);
    EXECUTE format('GRANT SELECT, INSERT ON public.audit_receipt_match TO %I', runtime);
    EXECUTE format('GRANT SELECT, INSERT ON public.audit_leaf, public.audit_checkpoint, '
                   'public.audit_cosignature TO %I', runtime);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE (hashes) ON public.audit_tile TO %I', runtime);
END $$
"""

DROP = """
DROP TABLE public.audit_verification;
DROP TABLE public.audit_receipt_match;
DROP TABLE public.audit_cosignature;
DROP TABLE public.audit_checkpoint;
DROP TABLE public.audit_tile;
DROP TABLE public.audit_leaf;
DROP TABLE public.audit_ended_log;
DROP TABLE public.audit_tree;
DROP FUNCTION public.audit_tile_only_grows();
DROP FUNCTION public.audit_tree_only_grows();
DROP FUNCTION public.audit_verification_stands();
"""


def grant(_apps: Any, schema_editor: Any) -> None:
    """Give the runtime role what the sequencer needs, and take the rest."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(RUNTIME_ROLE, [settings.DATABASES["default"]["USER"]])
        cursor.execute(GRANTS)


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0004_session_events")]

    operations = [
        migrations.RunSQL(TABLES, DROP),
        migrations.RunSQL(PROTECTION, migrations.RunSQL.noop),
        migrations.RunPython(grant, migrations.RunPython.noop),
    ]
