"""What people agreed to, what they ask about their own data, and the archives that answer. New tables: nothing
waits for them.
"""

import datetime as dt
from typing import Any

import django.contrib.postgres.fields
import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import mestore.lib.fields
import mestore.lib.ids
from monitoring.capture import CaptureTable

# Who could change or delete a consent could say that somebody had agreed, or had not.
PROTECTION = """
CREATE FUNCTION public.consent_refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% on % is refused: what was decided stays; decide anew', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;
REVOKE ALL ON FUNCTION public.consent_refuse_change() FROM PUBLIC;
CREATE TRIGGER consent_append_only BEFORE UPDATE OR DELETE ON public.accounts_consent
    FOR EACH ROW EXECUTE FUNCTION public.consent_refuse_change();
CREATE TRIGGER consent_no_truncate BEFORE TRUNCATE ON public.accounts_consent
    FOR EACH STATEMENT EXECUTE FUNCTION public.consent_refuse_change();
-- ALWAYS: session_replication_role = replica does not silence them, not even for a superuser.
ALTER TABLE public.accounts_consent ENABLE ALWAYS TRIGGER consent_append_only;
ALTER TABLE public.accounts_consent ENABLE ALWAYS TRIGGER consent_no_truncate;
"""
UNPROTECTED = """
DROP TRIGGER consent_append_only ON public.accounts_consent;
DROP TRIGGER consent_no_truncate ON public.accounts_consent;
DROP FUNCTION public.consent_refuse_change();
"""
# The role's name is data: it reaches the statement through format('%I') only.
RUNTIME_ROLE = "SELECT set_config('mestore.runtime_role', %s, true)"
APPEND_ONLY = """
DO $$
DECLARE runtime constant text := current_setting('mestore.runtime_role');
BEGIN
    EXECUTE format('REVOKE ALL ON public.accounts_consent FROM PUBLIC, %I', runtime);
    EXECUTE format('GRANT SELECT, INSERT ON public.accounts_consent TO %I', runtime);
    EXECUTE format('REVOKE ALL ON FUNCTION public.consent_refuse_change() FROM %I', runtime);
END $$
"""


def append_only(_apps: Any, schema_editor: Any) -> None:
    """Let the runtime role add decisions and read them, nothing else."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(RUNTIME_ROLE, [settings.DATABASES["default"]["USER"]])
        cursor.execute(APPEND_ONLY)


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0014_capture"),
        ("monitoring", "0011_erase"),
    ]

    operations = [
        migrations.CreateModel(
            name="Consent",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("person_id", models.UUIDField(verbose_name="account")),
                ("document", models.CharField(max_length=32, verbose_name="text")),
                ("version", models.CharField(max_length=16, verbose_name="version")),
                ("language", models.CharField(max_length=8, verbose_name="language")),
                ("text_sha256", models.CharField(max_length=64, verbose_name="SHA-256")),
                (
                    "purposes",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=32), size=None, verbose_name="purposes"
                    ),
                ),
                ("given", models.BooleanField(verbose_name="given")),
                ("at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="when")),
                (
                    "channel",
                    models.CharField(
                        choices=[
                            ("registration", "registration"),
                            ("vendor_registration", "registration of a vendor"),
                            ("api", "own account"),
                        ],
                        max_length=20,
                        verbose_name="how",
                    ),
                ),
                ("session_id", models.UUIDField(null=True, verbose_name="session")),
                ("event_id", models.UUIDField(verbose_name="audit event")),
            ],
            options={
                "verbose_name": "consent",
                "verbose_name_plural": "consents",
                "indexes": [models.Index(fields=["person_id", "document", "-id"], name="consent_of_person")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("text_sha256__regex", "^[0-9a-f]{64}$")),
                        name="consent_text_has_digest",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("channel__in", ["registration", "vendor_registration", "api"])),
                        name="consent_channel_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("document", ""), _negated=True),
                            models.Q(("version", ""), _negated=True),
                            models.Q(("language", ""), _negated=True),
                        ),
                        name="consent_names_its_text",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="DataRequest",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("person_id", models.UUIDField(verbose_name="account")),
                (
                    "kind",
                    models.CharField(
                        choices=[("export", "copy of own data"), ("erasure", "to be forgotten")],
                        max_length=8,
                        verbose_name="what",
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "waiting for an answer"),
                            ("building", "archive is being made"),
                            ("ready", "archive is ready"),
                            ("done", "done"),
                            ("rejected", "refused"),
                            ("cancelled", "cancelled"),
                        ],
                        default="waiting",
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                (
                    "reason",
                    models.CharField(blank=True, max_length=500, verbose_name="in the person's words"),
                ),
                ("asked_at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="asked")),
                ("due_on", models.DateField(verbose_name="to be answered until")),
                ("decided_by_id", models.UUIDField(null=True, verbose_name="decided by")),
                ("decided_by_label", models.CharField(blank=True, max_length=254, verbose_name="decided by")),
                ("decided_at", models.DateTimeField(null=True, verbose_name="decided")),
                (
                    "urgent_on",
                    models.GeneratedField(
                        db_persist=True,
                        expression=models.Case(
                            models.When(state__in=["waiting", "building"], then=models.F("due_on")),
                            default=models.Value(dt.date(9999, 12, 31)),
                        ),
                        output_field=models.DateField(),
                    ),
                ),
                ("answer", models.CharField(blank=True, max_length=500, verbose_name="answer")),
                (
                    "kept",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=64),
                        default=list,
                        size=None,
                        verbose_name="must be kept",
                    ),
                ),
                ("ready_at", models.DateTimeField(null=True, verbose_name="archive made")),
                ("expires_at", models.DateTimeField(null=True, verbose_name="archive kept until")),
                ("ended_at", models.DateTimeField(null=True, verbose_name="over since")),
                ("archive_bytes", models.BigIntegerField(null=True, verbose_name="size of the archive")),
                ("archive_parts", models.IntegerField(null=True, verbose_name="parts of the archive")),
                ("archive_sha256", models.CharField(blank=True, max_length=64, verbose_name="SHA-256")),
                ("downloads", models.PositiveSmallIntegerField(default=0, verbose_name="downloads")),
            ],
            options={
                "verbose_name": "request about own data",
                "verbose_name_plural": "requests about own data",
                "indexes": [
                    models.Index(fields=["person_id", "-id"], name="data_request_of_person"),
                    models.Index(fields=["urgent_on", "id"], name="data_request_by_urgency"),
                    models.Index(
                        condition=models.Q(("state__in", ["waiting", "building", "ready"])),
                        fields=["state", "id"],
                        name="data_request_open",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("state__in", ["waiting", "building"])),
                        fields=("person_id", "kind"),
                        name="data_request_one_open",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("state__in", ["waiting", "building", "ready", "done", "rejected", "cancelled"])
                        ),
                        name="data_request_state_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("kind", "export"),
                            models.Q(
                                ("kind", "erasure"),
                                models.Q(("state__in", ["building", "ready"]), _negated=True),
                            ),
                            _connector="OR",
                        ),
                        name="data_request_kind_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("state__in", ["building", "ready", "rejected"]), _negated=True),
                            ("decided_at__isnull", False),
                            _connector="OR",
                        ),
                        name="data_request_was_decided",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("state", "ready"), _negated=True),
                            models.Q(
                                ("archive_bytes__gt", 0),
                                ("archive_parts__gt", 0),
                                ("expires_at__gt", models.F("ready_at")),
                            ),
                            _connector="OR",
                        ),
                        name="data_request_archive_ends",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="ArchivePart",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("number", models.IntegerField()),
                ("content", mestore.lib.fields.EncryptedField(editable=False)),
                (
                    "request",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="accounts.datarequest",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("request", "number"), name="archive_part_once"),
                    models.CheckConstraint(
                        condition=models.Q(("number__gte", 0)), name="archive_part_numbered"
                    ),
                ],
            },
        ),
        migrations.RunSQL(PROTECTION, UNPROTECTED),
        migrations.RunPython(append_only, migrations.RunPython.noop),
        CaptureTable(
            "accounts_consent",
            plain=[
                "id",
                "person_id",
                "document",
                "version",
                "language",
                "text_sha256",
                "purposes",
                "given",
                "at",
                "channel",
                "session_id",
                "event_id",
            ],
        ),
        CaptureTable(
            "accounts_datarequest",
            subject="person_id",
            plain=[
                "id",
                "person_id",
                "kind",
                "state",
                "asked_at",
                "due_on",
                "urgent_on",
                "decided_by_id",
                "decided_at",
                "kept",
                "ready_at",
                "expires_at",
                "ended_at",
                "archive_bytes",
                "archive_parts",
                "archive_sha256",
                "downloads",
            ],
            personal=["reason", "answer"],
            secret=["decided_by_label"],
        ),
    ]
