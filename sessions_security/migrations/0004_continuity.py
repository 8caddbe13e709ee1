"""Where a session may be used, attempts to sign in, keys of machines, ends of all sessions. Only adds."""

from typing import Any

import django.contrib.postgres.fields
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import mestore.lib.ids

# Who could change or delete an end of all sessions could bring those sessions back.
PROTECTION = """
CREATE FUNCTION public.session_cutoff_refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% on % is refused: what ended stays ended', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;
REVOKE ALL ON FUNCTION public.session_cutoff_refuse_change() FROM PUBLIC;
CREATE TRIGGER session_cutoff_append_only BEFORE UPDATE OR DELETE ON public.sessions_security_sessioncutoff
    FOR EACH ROW EXECUTE FUNCTION public.session_cutoff_refuse_change();
CREATE TRIGGER session_cutoff_no_truncate BEFORE TRUNCATE ON public.sessions_security_sessioncutoff
    FOR EACH STATEMENT EXECUTE FUNCTION public.session_cutoff_refuse_change();
-- ALWAYS: session_replication_role = replica does not silence them, not even for a superuser.
ALTER TABLE public.sessions_security_sessioncutoff ENABLE ALWAYS TRIGGER session_cutoff_append_only;
ALTER TABLE public.sessions_security_sessioncutoff ENABLE ALWAYS TRIGGER session_cutoff_no_truncate;
"""
UNPROTECTED = """
DROP TRIGGER session_cutoff_append_only ON public.sessions_security_sessioncutoff;
DROP TRIGGER session_cutoff_no_truncate ON public.sessions_security_sessioncutoff;
DROP FUNCTION public.session_cutoff_refuse_change();
"""
# The role's name is data: it reaches the statement through format('%I') only.
RUNTIME_ROLE = "SELECT set_config('mestore.runtime_role', %s, true)"
APPEND_ONLY = """
DO $$
DECLARE runtime constant text := current_setting('mestore.runtime_role');
BEGIN
    EXECUTE format('REVOKE ALL ON public.sessions_security_sessioncutoff FROM PUBLIC, %I', runtime);
    EXECUTE format('GRANT SELECT, INSERT ON public.sessions_security_sessioncutoff TO %I', runtime);
    EXECUTE format('REVOKE ALL ON FUNCTION public.session_cutoff_refuse_change() FROM %I', runtime);
END $$
"""


def append_only(_apps: Any, schema_editor: Any) -> None:
    """Let the runtime role add ends of all sessions and read them, nothing else."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(RUNTIME_ROLE, [settings.DATABASES["default"]["USER"]])
        cursor.execute(APPEND_ONLY)


class Migration(migrations.Migration):
    dependencies = [
        ("sessions_security", "0003_impersonation"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="SessionSample",
            fields=[
                ("at", models.DateTimeField(editable=False, primary_key=True, serialize=False)),
                ("live", models.JSONField()),
                ("ages", models.JSONField()),
            ],
            options={
                "verbose_name": "count of sessions",
                "verbose_name_plural": "counts of sessions",
            },
        ),
        migrations.AddField(
            model_name="machineclient",
            name="method",
            field=models.CharField(
                choices=[("key", "client key"), ("private_key_jwt", "signed assertion")],
                db_default="key",
                default="key",
                max_length=16,
                verbose_name="signs in with",
            ),
        ),
        migrations.AddField(
            model_name="machineclient",
            name="previous_key_hash",
            field=models.BinaryField(max_length=32, null=True),
        ),
        migrations.AddField(
            model_name="machineclient",
            name="previous_key_until",
            field=models.DateTimeField(editable=False, null=True, verbose_name="earlier key works until"),
        ),
        migrations.AddField(
            model_name="machineclient",
            name="requires_dpop",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="Each request must carry a proof of possession (DPoP, RFC 9449).",
                verbose_name="tokens bound to a key",
            ),
        ),
        migrations.AddField(
            model_name="machineclient",
            name="rotated_at",
            field=models.DateTimeField(editable=False, null=True, verbose_name="key replaced"),
        ),
        migrations.AddField(
            model_name="usersession",
            name="confirmed_networks",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=49),
                db_default=[],
                default=list,
                size=None,
                verbose_name="confirmed networks",
            ),
        ),
        migrations.AddField(
            model_name="usersession",
            name="country",
            field=models.CharField(
                blank=True, db_default="", default="", max_length=2, verbose_name="country"
            ),
        ),
        migrations.AddField(
            model_name="usersession",
            name="device_id",
            field=models.UUIDField(editable=False, null=True, verbose_name="known device"),
        ),
        migrations.CreateModel(
            name="NetworkReputation",
            fields=[
                (
                    "network",
                    models.CharField(
                        max_length=49, primary_key=True, serialize=False, verbose_name="network"
                    ),
                ),
                ("score", models.PositiveSmallIntegerField(verbose_name="reputation")),
                ("updated_at", models.DateTimeField(verbose_name="updated")),
                ("expires_at", models.DateTimeField()),
            ],
            options={
                "verbose_name": "network's reputation",
                "verbose_name_plural": "networks' reputations",
                "indexes": [models.Index(fields=["expires_at"], name="network_reputation_end")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("score__lte", 100)), name="network_reputation_bounded"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="SessionCutoff",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("at", models.DateTimeField(verbose_name="ended everything before")),
                ("reason", models.CharField(max_length=500, verbose_name="reason")),
                ("asked_by", models.CharField(max_length=64, verbose_name="asked by")),
                ("approved_by", models.CharField(max_length=64, verbose_name="approved by")),
            ],
            options={
                "verbose_name": "end of all sessions",
                "verbose_name_plural": "ends of all sessions",
                "indexes": [models.Index(fields=["-at"], name="session_cutoff_newest")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("reason", ""), _negated=True), name="session_cutoff_has_reason"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("asked_by", models.F("approved_by")), _negated=True),
                        name="session_cutoff_two_people",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="SignInAttempt",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("at", models.DateTimeField(verbose_name="at")),
                ("account_key", models.BinaryField(max_length=32)),
                ("user_id", models.UUIDField(null=True, verbose_name="account")),
                ("device_id", models.UUIDField(null=True, verbose_name="known device")),
                ("network", models.CharField(blank=True, max_length=49, verbose_name="network")),
                ("agent_key", models.BinaryField(max_length=16)),
                ("country", models.CharField(blank=True, max_length=2, verbose_name="country")),
                ("latitude", models.FloatField(null=True)),
                ("longitude", models.FloatField(null=True)),
                ("purpose", models.CharField(max_length=8, verbose_name="entrance")),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("accepted", "accepted"),
                            ("wrong", "wrong credentials"),
                            ("refused", "refused by a rule"),
                        ],
                        max_length=8,
                        verbose_name="outcome",
                    ),
                ),
                ("score", models.PositiveSmallIntegerField(default=0, verbose_name="risk")),
            ],
            options={
                "verbose_name": "attempt to sign in",
                "verbose_name_plural": "attempts to sign in",
                "indexes": [
                    models.Index(fields=["account_key", "-at"], name="attempt_of_account"),
                    models.Index(fields=["network", "-at"], name="attempt_of_network"),
                    models.Index(fields=["agent_key", "-at"], name="attempt_of_agent"),
                    models.Index(
                        condition=models.Q(("outcome", "accepted")),
                        fields=["user_id", "-at"],
                        name="attempt_of_user",
                    ),
                    models.Index(fields=["at"], name="attempt_by_time"),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("outcome__in", ["accepted", "wrong", "refused"])),
                        name="attempt_outcome_known",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="UsedProof",
            fields=[
                ("proof_hash", models.BinaryField(max_length=32, primary_key=True, serialize=False)),
                ("expires_at", models.DateTimeField()),
            ],
            options={
                "indexes": [models.Index(fields=["expires_at"], name="used_proof_end")],
            },
        ),
        migrations.CreateModel(
            name="ClientKey",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("kid", models.CharField(max_length=64, verbose_name="key id")),
                ("algorithm", models.CharField(max_length=8, verbose_name="algorithm")),
                ("public_jwk", models.JSONField(verbose_name="public key")),
                ("created_at", models.DateTimeField(verbose_name="registered")),
                ("revoked_at", models.DateTimeField(null=True, verbose_name="revoked")),
                (
                    "client",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="keys",
                        to="sessions_security.machineclient",
                        verbose_name="machine client",
                    ),
                ),
            ],
            options={
                "verbose_name": "client's public key",
                "verbose_name_plural": "clients' public keys",
                "constraints": [
                    models.UniqueConstraint(fields=("client", "kid"), name="client_key_id"),
                    models.CheckConstraint(
                        condition=models.Q(("algorithm__in", ["EdDSA", "ES256"])),
                        name="client_key_algorithm_known",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="SignInNotice",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=mestore.lib.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("session_id", models.UUIDField()),
                ("device_id", models.UUIDField(null=True)),
                ("token_hash", models.BinaryField(max_length=32)),
                ("created_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField()),
                ("used_at", models.DateTimeField(null=True)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["expires_at"], name="sign_in_notice_end")],
                "constraints": [models.UniqueConstraint(fields=("token_hash",), name="sign_in_notice_hash")],
            },
        ),
        migrations.RunSQL(PROTECTION, UNPROTECTED),
        migrations.RunPython(append_only, migrations.RunPython.noop),
    ]
