"""Was a guard touched since the last look, even if it is as it was by now?

Whoever switches a trigger off, changes a row and switches it on again leaves everything as it was, except the
number of the transaction that last wrote the trigger's row in the catalog, which nobody sets by SQL. A worker
remembers these numbers in its own memory, which the owner of the database does not reach.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from django.utils.translation import gettext_lazy as _

from mestore.lib import sql
from monitoring import alerts, guards, readiness

SHOWN: Final = 20
TOUCHED: Final = alerts.declare(
    alerts.Rule(
        "audit.guards_touched",
        _("Guards of the audit trail were switched or replaced, and no release of ours did it"),
        alerts.Severity.CRITICAL,
        "audit-guards-touched",
    )
)
_WRITTEN = """
SELECT c.relname || '.' || t.tgname, t.oid::text || '/' || t.xmin::text FROM pg_trigger t
JOIN pg_class c ON c.oid = t.tgrelid
WHERE NOT t.tgisinternal AND c.relnamespace = 'public'::regnamespace
  AND (c.relname = ANY(%(tables)s) OR c.relname ~ '^audit_event_[0-9]{6}$')
UNION ALL
SELECT f.oid::regprocedure::text, f.oid::text || '/' || f.xmin::text FROM pg_proc f
WHERE f.pronamespace = 'public'::regnamespace AND f.proname = ANY(%(functions)s)
"""
_APPLIED = "SELECT app, name FROM django_migrations"


@dataclass(slots=True)
class Watch:
    """What one process has seen of the guards."""

    _seen: dict[str, str] = field(default_factory=dict)
    _applied: frozenset[tuple[str, str]] = frozenset()

    def look(self) -> list[str]:
        """Return which guards were written since the last look by something else than a migration of ours.

        Raises the signal for them, too. The first look returns none. Raises django.db.Error.
        """
        values = {"tables": guards.tables(), "functions": sorted(guards.expected_bodies())}
        now = {str(name): str(at) for name, at in sql.fetch_all(_WRITTEN, values)}
        applied = frozenset((str(app), str(name)) for app, name in sql.fetch_all(_APPLIED))
        touched = sorted(name for name, at in now.items() if self._seen.get(name, at) != at)
        is_ours = applied > self._applied and applied - self._applied <= readiness.migrations_on_disk()
        # What is gone is remembered: it may come back as another one.
        self._seen, self._applied = self._seen | now, applied
        if not touched or is_ours:
            return []
        alerts.raise_signal(
            TOUCHED,
            entity=("audit_log", "guards"),
            evidence={"many": len(touched), "guards": touched[:SHOWN]},
            using="audit",
        )
        return touched
