from __future__ import annotations

from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    name = "monitoring"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Say where people's data keys stand, for the rotation of the master key, and note who reads.

        The sequencer, the watches over guards and nightly runs, and the reconciliation of rows run in the
        worker alone; what they raise is looked at elsewhere, so their rules are declared in every process.
        """
        from mestore.lib import resealing
        from mestore.lib.console import reading as pages
        from monitoring import guard_watch as _guard_watch  # noqa: F401  # declares a rule
        from monitoring import guards_seen as _guards_seen  # noqa: F401  # declares a rule
        from monitoring import overdue as _overdue  # noqa: F401  # declares rules
        from monitoring import own_trail, reading, subjects
        from monitoring import row_reconciliation as _row_reconciliation  # noqa: F401  # declares a rule
        from monitoring import sequencer as _sequencer  # noqa: F401  # declares rules

        resealing.register(subjects.SEALED)
        pages.register(reading.note)
        own_trail.register_sections()
