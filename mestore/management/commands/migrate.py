"""`manage.py migrate`: change the schema as its owner, and see that the runtime role may use what appears.

The runtime role gets ordinary rights on new tables and sequences by default privileges. It gets nothing on
functions: PostgreSQL would let everybody execute them, and a SECURITY DEFINER function is a door, so each
migration opens its own.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import migrate
from django.db import connections
from psycopg import sql

ALIAS = "owner"
# One schema change at a time, whoever starts it and from wherever. The number only has to be our own.
LOCK_KEY = 0x6D65_7374_6F72_65
LOCK_TIMEOUT = "5s"

BEFORE = (
    "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    "GRANT USAGE ON SCHEMA public TO {runtime}",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
    """ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public
       GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {runtime}""",
    """ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public
       GRANT USAGE, SELECT ON SEQUENCES TO {runtime}""",
)
# The queue's functions come with its own migrations, which know nothing of our roles.
QUEUE_FUNCTIONS = """
    SELECT p.oid::regprocedure::text
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = 'public' AND p.proname LIKE 'procrastinate\\_%%' AND pg_get_userbyid(p.proowner) = %s
      AND NOT has_function_privilege(%s, p.oid, 'EXECUTE')
"""


class Command(migrate.Command):
    help = "Update the database schema through the owner's connection. Example: manage.py migrate"

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(database=ALIAS)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run Django's command with our privileges around it. Raises CommandError without an owner's URL."""
        options["database"] = ALIAS
        if options["plan"] or options["check_unapplied"]:
            super().handle(*args, **options)
            return
        owner, runtime = settings.DATABASES[ALIAS]["USER"], settings.RUNTIME_ROLE
        if owner == runtime:
            raise CommandError(
                "MIGRATION_DATABASE_URL must name the role that owns the tables, "
                "not the runtime role of DATABASE_URL."
            )
        with connections[ALIAS].cursor() as cursor:
            # Wait for another migration as long as it takes, but never queue behind the traffic for long: a
            # waiting ALTER TABLE stops every reader that comes after it.
            cursor.execute("SET lock_timeout = 0")
            cursor.execute("SET idle_in_transaction_session_timeout = 0")
            cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
            cursor.execute("SELECT set_config('lock_timeout', %s, false)", [LOCK_TIMEOUT])
            for statement in BEFORE:
                cursor.execute(_with_roles(statement, owner, runtime))
        super().handle(*args, **options)
        with connections[ALIAS].cursor() as cursor:
            cursor.execute(QUEUE_FUNCTIONS, [owner, runtime])
            for (signature,) in cursor.fetchall():
                cursor.execute(
                    _with_roles(f"GRANT EXECUTE ON FUNCTION {signature} TO {{runtime}}", owner, runtime)
                )
            cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK_KEY])


def _with_roles(statement: str, owner: str, runtime: str) -> sql.Composed:
    return sql.SQL(statement).format(owner=sql.Identifier(owner), runtime=sql.Identifier(runtime))
